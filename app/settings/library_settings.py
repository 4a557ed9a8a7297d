"""Library settings: those of Flask, Flask-Security and others that may be set, with their types."""

import difflib
import re
import tomllib
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import flask_security.core
from email_validator import validate_email
from pydantic import Field, create_model

from . import secrets, types, urls
from .forced import FORCED
from .schema import Settings, declared

ONE_LINE = types.must("one line of text", lambda value: types.check_one_line(f"{value}") is not None)
# Settings whose type no default of Flask-Security tells.
LIBRARY_SETTINGS: dict[str, Any] = {
    "MAIL_SSL_CERTFILE": types.File,
    "MAIL_SSL_KEYFILE": types.File,
    "PERMANENT_SESSION_LIFETIME": Annotated[types.Duration, *types.at_most("30 days", "NIST SP 800-63B-4")],
    "SECURITY_EMAIL_VALIDATOR_ARGS": Annotated[
        types.Table,
        types.must(
            "give arguments of email-validator, such as {allow_quoted_local = true}; DNS is never asked",
            lambda arguments: validate_email("a@example.com", check_deliverability=False, **arguments),
        ),
    ],
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS": secrets.FernetKeys,
    "SECURITY_REDIRECT_BEHAVIOR": Literal["spa"],
    "SECURITY_REDIRECT_HOST": Annotated[
        str, types.must("give a host, as in app.example.com:8080", urls.is_address)
    ],
    "SECURITY_USERNAME_MAX_LENGTH": Annotated[int, Field(ge=1, le=64)],  # of ResetLink.username
    "SECURITY_US_TOKEN_VALIDITY": Annotated[int, Field(ge=30, le=600)],  # seconds
    "SQLALCHEMY_ECHO": bool,
    "SQLALCHEMY_ENGINE_OPTIONS": types.Table,
    "TESTING": bool,
}
_BY_REASON = tomllib.loads(Path(__file__).with_name("unsupported.toml").read_text(encoding="utf-8"))
REFUSED: dict[str, str] = {name: reason for reason, names in _BY_REASON.items() for name in names}


@cache
def flask_security_defaults() -> dict[str, Any]:
    """Return Flask-Security's settings with its defaults, by name."""
    return {f"SECURITY_{key}": default for key, default in flask_security.core._default_config.items()}


@cache
def library_types() -> dict[str, Any]:
    """Return the types of the library settings that may be set, by name."""
    kinds = {name: _type_of(name, default) for name, default in flask_security_defaults().items()}
    kinds |= LIBRARY_SETTINGS
    return {name: kind for name, kind in kinds.items() if name not in declared() and not reason_refused(name)}


@cache
def all_settings() -> type[Settings]:
    """Return the model of all settings that may be set: Sparekey's own and those of libraries."""
    fields: dict[str, Any] = {name: (kind, None) for name, kind in library_types().items()}
    return create_model("Settings of Sparekey", __base__=Settings, **fields)


def is_forced_value(name: str, value: Any) -> bool:
    """True if the value is the one that is forced anyway. The environment gives it as text."""
    return name in FORCED and str(value).lower() == str(FORCED[name][0]).lower()


def refusal_message(name: str, value: Any) -> str:
    """Return the message for a setting that cannot be set."""
    if reason := reason_refused(name):
        return f"cannot be set: {reason}"
    hint = "; settings stand outside of [sections]" if isinstance(value, dict) else ""
    return describe_unknown(name) + hint


def reason_refused(name: str) -> str:
    """Return the reason why the setting cannot be set, or an empty text."""
    if name in FORCED:
        return FORCED[name][1]
    if re.search(r"^SECURITY_.*_TEMPLATE(_|$)", name):
        return "put a file into RECOVERY_TEMPLATE_DIR instead"
    return REFUSED.get(name, "")


def describe_unknown(name: str) -> str:
    """Return the message for an unknown setting, with the nearest known name."""
    known = [*declared(), *LIBRARY_SETTINGS, *flask_security_defaults()]
    near = difflib.get_close_matches(name.upper(), known, 1, cutoff=0.75)
    return "unknown setting" + (f"; did you mean {near[0]}?" if near else "")


def _type_of(name: str, default: Any) -> Any:
    """Return the type of Flask-Security's default, or Any if the default does not tell it."""
    if name.endswith(("_URL", "_URL_PREFIX")):
        path = types.must("must start with a slash", lambda value: not value or str(value).startswith("/"))
        return Annotated[type(default) if default else Any, path, ONE_LINE]
    if name.endswith("_VIEW"):
        return urls.View
    if isinstance(default, (list, set, tuple)):
        return types.AnyList
    kinds = {bool: bool, int: int, str: str, dict: types.Table, timedelta: types.Duration}
    return Annotated[kinds.get(type(default), Any), ONE_LINE]
