"""Settings: read from all sources, checked once, every problem reported at once with its origin.

Defaults and meanings are in `config/default.toml`, types and limits in `schema.py`. Other SECURITY_* names go
to Flask-Security, typed by its own defaults.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from flask import current_app
from flask.helpers import get_debug_flag
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from . import rules, sources
from .accounts import implied_settings
from .library_settings import all_settings, is_forced_value, refusal_message
from .problems import Problem, SettingsError
from .schema import Settings
from .secrets import HOW_TO_GENERATE

# A problem names the place in them.
NESTED = ("RECOVERY_ACCOUNTS", "RECOVERY_CLIENTS", "SECURITY_USER_IDENTITY_ATTRIBUTES")
EXIT_REFUSED = 3  # gunicorn stops at this code, and restarts the worker at any other
# Messages for pydantic's errors, by the first word of their type.
MESSAGES = {
    "bool": "give true or false",
    "int": "give a whole number",
    "string": "give text, in quotes",
    "list": "give a list",
    "dict": "give a table",
    "model": "give a table",
    "extra": "unknown setting",
    "literal": "give {expected}",
    "too": "give at least {min_length}",
    "greater": "at least {ge}",
    "less": "at most {le}",
}


def current() -> Settings:
    """Return the settings of the app whose context is active."""
    settings: Settings = current_app.extensions["recovery_settings"]
    return settings


def load(environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """Return the checked settings. Raises SettingsError with every problem."""
    reading = examine(environ, **overrides)
    if reading.settings is None:
        raise SettingsError(reading.problems)
    return reading.settings


@contextmanager
def exit_on_settings_error(code: int = EXIT_REFUSED) -> Iterator[None]:
    """Print a SettingsError in a few plain lines and exit, for command lines and WSGI servers."""
    try:
        yield
    except SettingsError as error:
        print("Sparekey cannot start:", file=sys.stderr)
        for problem in error.problems:
            # A value from elsewhere may hold control characters that move a terminal's cursor.
            print("  " + "".join(c if c.isprintable() else "�" for c in str(problem)), file=sys.stderr)
        sys.exit(code)


def examine(environ: Mapping[str, str] = os.environ, **overrides: Any) -> sources.Reading:
    """Merge the sources and check every value. Never raises for bad settings."""
    reading = sources.read(environ, overrides)
    problems, settings = list(reading.problems), None
    for name, value in implied_settings(reading.values["RECOVERY_ACCOUNTS"]).items():
        if reading.origins[name] == sources.DEFAULT_ORIGIN:
            reading.put("RECOVERY_ACCOUNTS", {name: value})
    values = {name: value for name, value in reading.values.items() if not is_forced_value(name, value)}
    try:
        settings = all_settings().model_validate({**values, "(origins)": reading.origins})
        reading.readable = settings
    except ValidationError as error:
        problems += _problems_in(error, reading)
        # Without those that are wrong, because a rule that reads one ends there.
        wrong = {str(detail["loc"][0]) for detail in error.errors()} & all_settings().model_fields.keys()
        valid = {name: normalize(name, value) for name, value in values.items() if name not in wrong}
        settings = all_settings().model_construct({*valid, *wrong}, **valid)
        for name in wrong:
            settings.__dict__.pop(name, None)  # its default
    if not reading.problems:  # an unreadable source may hold half of a pair
        problems += [reading.problem(name, reason) for name, reason in rules.find_violations(settings)]
    if get_debug_flag() and not getattr(settings, "is_local", True):
        problems.append(Problem("FLASK_DEBUG", "FLASK_DEBUG", rules.SHOWS_ERRORS))
    reading.problems = sorted(set(problems), key=str)
    reading.settings = None if problems else settings
    return reading


def _problems_in(error: ValidationError, reading: sources.Reading) -> Iterator[Problem]:
    for detail in error.errors(include_input=False, include_url=False):
        name = str(detail["loc"][0])
        if detail["type"] != "missing":
            place = ".".join(str(part) for part in detail["loc"] if part != "[key]")
            shown = place if name in NESTED else name
            yield Problem(shown, reading.origin_of(name), _message(detail, place, reading))
        elif not reading.problems:  # an unreadable file may hold it
            hint = f"; {HOW_TO_GENERATE}" if name in ("SECRET_KEY", "SECURITY_PASSWORD_SALT") else ""
            how = f"set it in your file or in FLASK_{name}, or name a file in FLASK_{name}_FILE"
            yield reading.problem(name, f"needed: {how}{hint}")


def _message(detail: ErrorDetails, place: str, reading: sources.Reading) -> str:
    """Return the message for an error of pydantic's. `place` is a setting's name, or a dotted path in it."""
    if detail["type"] == "extra_forbidden" and place in reading.values:
        return refusal_message(place, reading.values[place])
    if detail["type"] == "string_pattern_mismatch":
        return f"give {Settings.model_fields[place].description}"
    if message := MESSAGES.get(detail["type"].partition("_")[0]):
        return message.format(**detail.get("ctx", {}))
    return detail["msg"].removeprefix("Value error, ")


def normalize(name: str, value: Any) -> Any:
    """Return a value with its setting's type. A bad one is returned unchanged."""
    with suppress(KeyError, ValidationError):
        kind = all_settings().model_fields[name].rebuild_annotation()
        return TypeAdapter(kind).validate_python(value)
    return value
