"""Settings of Flask, Flask-Security and other libraries: which may be set, and of which type."""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any

import flask_security.core
from pydantic import TypeAdapter, ValidationError

from . import types
from .forced import FORCED
from .problems import in_words
from .schema import declared
from .secrets import FernetKeys
from .types import Duration, at_most

# Settings that are handed on, and whose type no default of Flask-Security tells.
LIBRARY_SETTINGS: dict[str, Any] = {
    "MAIL_SSL_CERTFILE": types.ReadableFile,
    "MAIL_SSL_KEYFILE": types.ReadableFile,
    "PERMANENT_SESSION_LIFETIME": Annotated[Duration, *at_most("30 days", "NIST SP 800-63B-4")],
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS": FernetKeys,
    "SECURITY_US_TOKEN_VALIDITY": Annotated[
        int, types.must("in seconds, from 30 to 600", lambda value: 30 <= value <= 600)
    ],
    "SQLALCHEMY_ECHO": bool,
    "SQLALCHEMY_ENGINE_OPTIONS": types.Table,
    "TESTING": bool,
}


def flask_security_defaults() -> dict[str, Any]:
    """Return Flask-Security's own settings, with its defaults."""
    return {f"SECURITY_{key}": default for key, default in flask_security.core._default_config.items()}


def library_types() -> dict[str, Any]:
    """Return the type of every setting of a library that may be set."""
    defaults = flask_security_defaults().items()
    theirs = {name: type_like(default) for name, default in defaults if not _why_fixed(name, default)}
    return {name: kind for name, kind in {**theirs, **LIBRARY_SETTINGS}.items() if name not in declared()}


def validate_library_setting(name: str, value: Any) -> Any:
    """Return the value for the library. Raises ValueError for a bad one."""
    default = flask_security_defaults().get(name)
    if reason := _why_fixed(name, default):
        if name in FORCED and _equals(FORCED[name][0], value):
            return FORCED[name][0]
        raise ValueError(reason)
    known = library_types()
    if name not in known:
        aside = "; settings stand outside of [sections]" if isinstance(value, dict) else ""
        raise ValueError(unknown(name) + aside)
    if name.endswith(("_URL", "_URL_PREFIX")) and value and not str(value).startswith("/"):
        raise ValueError("must start with a slash")
    return validate(known[name], value)


def _why_fixed(name: str, default: Any) -> str:
    """Return why an admin can not set it, or an empty text."""
    if name in FORCED:
        return f"can not be set: {FORCED[name][1]}"
    if re.search(r"^SECURITY_.*_TEMPLATE(_|$)", name):
        return "can not be set: put a file into RECOVERY_TEMPLATE_DIR instead"
    return "a function of Flask-Security's: can not be set" if callable(default) else ""


def _equals(forced: Any, value: Any) -> bool:
    """True if the value, which the environment gives as text, is the forced one."""
    with suppress(ValueError):
        return bool(validate(type_like(forced), value) == validate(type_like(forced), forced))
    return False


def unknown(name: str) -> str:
    """Return what to say of an unknown setting: the nearest known one."""
    known = [*declared(), *LIBRARY_SETTINGS, *flask_security_defaults()]
    near = difflib.get_close_matches(name.upper(), known, 1, cutoff=0.75)
    return "unknown setting" + (f"; did you mean {near[0]}?" if near else "")


def type_like(default: Any) -> Any:
    """Return the type of Flask-Security's own default, or Any if the default does not tell it."""
    if isinstance(default, timedelta):
        return Duration
    if isinstance(default, dict):
        return types.Table
    if isinstance(default, (list, set, tuple)):
        return types.Items
    return type(default) if type(default) in (bool, int, str) else Any


def validate(kind: Any, value: Any) -> Any:
    """Return the value as this type. Raises ValueError in plain words."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        [first, *_] = error.errors(include_input=False)
        raise ValueError(in_words(first)) from None
