"""The settings: what an admin may set, checked once, each value knowing where it came from.

A default stands in `config/default.toml` and nowhere else, with its meaning. Types and limits are in
`schema.py`. Other SECURITY_* names go to Flask-Security, typed by its own defaults. All problems are reported
at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from flask import current_app
from pydantic import TypeAdapter, ValidationError

from . import rules, sources
from .library_settings import all_settings, is_forced, why_refused
from .problems import Problem, SettingsError, in_words
from .schema import Settings
from .secrets import MAKE_ONE

EXIT_REFUSED = 3  # gunicorn stops at this code; at any other it would start the worker again


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
def in_plain_words(code: int = EXIT_REFUSED) -> Iterator[None]:
    """Turn a SettingsError into a few plain lines and an exit code, for command lines and WSGI servers."""
    try:
        yield
    except SettingsError as error:
        print("Sparekey can not start:", file=sys.stderr)
        for problem in error.problems:
            # Some of it was written by others, and may move a terminal's cursor.
            print("  " + "".join(c if c.isprintable() else "�" for c in str(problem)), file=sys.stderr)
        sys.exit(code)


def examine(environ: Mapping[str, str] = os.environ, **overrides: Any) -> sources.Reading:
    """Merge the sources and check every value. Never raises for what an admin wrote."""
    reading = sources.read(environ, overrides)
    problems, settings = list(reading.problems), None
    values = {name: value for name, value in reading.values.items() if not is_forced(name, value)}
    try:
        settings = all_settings().model_validate({**values, "origins": reading.origins})
    except ValidationError as error:
        problems += _problems_in(error, reading)
    else:
        if not reading.problems:  # or half of a pair may be what could not be read
            problems += [reading.problem(name, reason) for name, reason in rules.broken(settings)]
        if is_debugging(environ) and not settings.is_on_this_machine:
            problems.append(Problem("FLASK_DEBUG", "FLASK_DEBUG", rules.SHOWS_ERRORS))
    reading.problems = sorted(set(problems), key=str)
    reading.settings = None if problems else settings
    return reading


def _problems_in(error: ValidationError, reading: sources.Reading) -> Iterator[Problem]:
    for detail in error.errors(include_input=False, include_url=False):
        name = str(detail["loc"][0])
        if detail["type"] != "missing":
            place = [str(part) for part in detail["loc"] if part != "[key]"]
            shown = ".".join(place) if name == "RECOVERY_CLIENTS" else name
            is_unknown = place == [name] and detail["type"] == "extra_forbidden"
            message = why_refused(name, reading.values[name]) if is_unknown else in_words(detail)
            yield Problem(shown, reading.origin_of(name), message)
        elif not reading.problems:  # or it may stand in the file that could not be read
            hint = f"; {MAKE_ONE}" if name in ("SECRET_KEY", "SECURITY_PASSWORD_SALT") else ""
            how = (
                f"needed: set it in your file, as FLASK_{name}, or in a file named by FLASK_{name}_FILE{hint}"
            )
            yield reading.problem(name, how)


def normal(name: str, value: Any) -> Any:
    """Return the value as the app has it, whatever its source; a wrong one is returned as it is."""
    with suppress(KeyError, ValidationError):
        kind = all_settings().model_fields[name].rebuild_annotation()
        return TypeAdapter(kind).validate_python(value)
    return value


def is_debugging(environ: Mapping[str, str] = os.environ) -> bool:
    """True if FLASK_DEBUG is on, as Flask reads it."""
    return environ.get("FLASK_DEBUG", "").lower() not in ("", "0", "false", "no")
