"""Settings of Flask, Flask-Security and other libraries: which may be set, and of which type."""

from __future__ import annotations

import difflib
import re
from datetime import timedelta
from functools import cache
from typing import Annotated, Any

import flask_security.core
from pydantic import create_model

from . import types
from .forced import FORCED
from .schema import Settings, declared
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


@cache
def flask_security_defaults() -> dict[str, Any]:
    """Return Flask-Security's own settings, with its defaults."""
    return {f"SECURITY_{key}": default for key, default in flask_security.core._default_config.items()}


@cache
def library_types() -> dict[str, Any]:
    """Return the type of every setting of a library that may be set."""
    kinds = {name: _type_like(name, default) for name, default in flask_security_defaults().items()}
    kinds |= LIBRARY_SETTINGS
    return {name: kind for name, kind in kinds.items() if name not in declared() and not _why_fixed(name)}


@cache
def all_settings() -> type[Settings]:
    """Return the model of Sparekey's settings and those of libraries."""
    fields: dict[str, Any] = {name: (kind, None) for name, kind in library_types().items()}
    return create_model("AllSettings", __base__=Settings, **fields)


def is_forced(name: str, value: Any) -> bool:
    """True if an admin sets a value that is forced anyway."""
    return name in FORCED and str(value).lower() == str(FORCED[name][0]).lower()


def why_refused(name: str, value: Any) -> str:
    """Return what to say of a setting that can not be set."""
    if reason := _why_fixed(name):
        return f"can not be set: {reason}"
    return unknown(name) + ("; settings stand outside of [sections]" if isinstance(value, dict) else "")


def _why_fixed(name: str) -> str:
    """Return why an admin can not set it, or an empty text."""
    if name in FORCED:
        return FORCED[name][1]
    if re.search(r"^SECURITY_.*_TEMPLATE(_|$)", name):
        return "put a file into RECOVERY_TEMPLATE_DIR instead"
    return "Flask-Security computes it" if callable(flask_security_defaults().get(name)) else ""


def unknown(name: str) -> str:
    """Return what to say of an unknown setting: the nearest known one."""
    known = [*declared(), *LIBRARY_SETTINGS, *flask_security_defaults()]
    near = difflib.get_close_matches(name.upper(), known, 1, cutoff=0.75)
    return "unknown setting" + (f"; did you mean {near[0]}?" if near else "")


def _type_like(name: str, default: Any) -> Any:
    """Return the type of Flask-Security's own default, or Any if the default does not tell it."""
    if name.endswith(("_URL", "_URL_PREFIX")):
        path = types.must("must start with a slash", lambda value: not value or str(value).startswith("/"))
        return Annotated[type(default) if default else Any, path]
    if isinstance(default, (list, set, tuple)):
        return types.Items
    kinds = {bool: bool, int: int, str: str, dict: types.Table, timedelta: Duration}
    return kinds.get(type(default), Any)
