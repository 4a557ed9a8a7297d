"""Settings of Flask, Flask-Security and other libraries: which may be set, and of which type."""

from __future__ import annotations

import difflib
import json
import re
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any

import flask_security.core
from pydantic import TypeAdapter, ValidationError

from . import types
from .durations import AtMost
from .forced import FORCED
from .schema import declared
from .validators import parse_json_text

# Settings of Flask and its extensions that are handed on, and their kinds.
LIBRARY_SETTINGS: dict[str, Any] = {
    "MAIL_SSL_CERTFILE": types.ReadableFile,
    "MAIL_SSL_KEYFILE": types.ReadableFile,
    "PERMANENT_SESSION_LIFETIME": Annotated[types.Pause, AtMost("30 days", "NIST SP 800-63B-4")],
    "SQLALCHEMY_ECHO": bool,
    "SQLALCHEMY_ENGINE_OPTIONS": types.Table,
    "TESTING": bool,
}
# A list that Flask-Security has no default for.
AS_JSON = ("SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS",)
_TEMPLATE = re.compile(r"_TEMPLATE(_|$)")


def of_flask_security() -> dict[str, Any]:
    """Flask-Security's own settings, with its defaults."""
    return {f"SECURITY_{key}": default for key, default in flask_security.core._default_config.items()}


def validate_library_setting(name: str, value: Any) -> Any:
    """A setting that is not ours: the value for its library. Raises ValueError for a bad one."""
    if name in FORCED:
        if _plain(value) != _plain(FORCED[name][0]):
            raise ValueError(f"can not be set: {FORCED[name][1]}")
        return FORCED[name][0]
    if name in LIBRARY_SETTINGS:
        return validate(LIBRARY_SETTINGS[name], value)
    of_fst = of_flask_security()
    if name not in of_fst:
        aside = "; settings stand outside of [sections]" if isinstance(value, dict) else ""
        raise ValueError(unknown(name) + aside)
    if name in AS_JSON:
        value = parse_json_text(value)
    return _of_flask_security(name, of_fst[name], value)


def _of_flask_security(name: str, default: Any, value: Any) -> Any:
    if _TEMPLATE.search(name):
        raise ValueError("can not be set: put a file into RECOVERY_TEMPLATE_DIR instead")
    if name.endswith(("_URL", "_URL_PREFIX")) and value and not str(value).startswith("/"):
        raise ValueError("must start with a slash")
    if callable(default):
        raise ValueError("a function of Flask-Security's: can not be set")
    return validate(kind_like(default), value)


def unknown(name: str) -> str:
    """What to say of a setting that there is not: the nearest that there is."""
    known = [*declared(), *LIBRARY_SETTINGS, *of_flask_security()]
    near = difflib.get_close_matches(name.upper(), known, 1, cutoff=0.75)
    return "unknown setting" + (f"; did you mean {near[0]}?" if near else "")


def kind_like(default: Any) -> Any:
    """The kind of value that Flask-Security's own default is of; anything where that tells nothing."""
    if isinstance(default, timedelta):
        return types.Duration
    if isinstance(default, dict):
        return types.Table
    if isinstance(default, (list, set, tuple)):
        return types.Items
    return type(default) if type(default) in (bool, int, str) else Any


def validate(kind: Any, value: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        [first, *_] = error.errors(include_input=False)
        raise ValueError(types.in_words(first)) from None


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value.lower() if value.lower() in ("true", "false") else value)
    return list(value) if isinstance(value, tuple) else value
