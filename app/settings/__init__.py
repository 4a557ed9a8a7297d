"""The settings: what an admin may set, checked once, each value knowing where it came from.

A default stands in `config/default.toml` and nowhere else, with its meaning. Types and limits are
declared below. Other SECURITY_* names go to Flask-Security, typed by its own defaults. All that is
wrong is reported at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import current_app
from pydantic import ValidationError

from . import rules, sources, types
from .library_settings import validate, validate_library_setting
from .problems import Problem, SettingsError
from .schema import Settings, declared
from .urls import is_loopback
from .validators import MAKE_ONE

EXIT_REFUSED = 3  # gunicorn stops at this code; at any other it would start the worker again


@dataclass(frozen=True)
class Reading:
    """Everything a look at the configuration finds; `settings` only when nothing is wrong."""

    found: sources.Layers
    problems: list[Problem]
    settings: Settings | None


def current() -> Settings:
    """The settings of the app whose context is active."""
    settings: Settings = current_app.extensions["recovery_settings"]
    return settings


def load(environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """The checked settings. Raises SettingsError with every problem found."""
    reading = examine(environ, **overrides)
    if reading.settings is None:
        raise SettingsError(reading.problems)
    return reading.settings


@contextmanager
def in_plain_words(code: int = EXIT_REFUSED) -> Iterator[None]:
    """For command lines and WSGI servers: a refused configuration is a few plain lines, and an exit code."""
    try:
        yield
    except SettingsError as error:
        print("Sparekey can not start:", file=sys.stderr)
        for problem in error.problems:
            # Some of it was written by others, and may move a terminal's cursor.
            print("  " + "".join(c if c.isprintable() else "�" for c in str(problem)), file=sys.stderr)
        sys.exit(code)


def examine(environ: Mapping[str, str] = os.environ, **overrides: Any) -> Reading:
    """Merge the layers and check every value. Never raises for what an admin wrote."""
    found = sources.read(environ, overrides)
    problems = list(found.problems)
    ours, handed_on = {}, {}
    for name, value in found.values.items():
        if name in declared():
            ours[name] = value
            continue
        try:
            handed_on[name] = validate_library_setting(name, value)
        except ValueError as error:
            problems.append(Problem(name, found.origin_of(name), str(error)))
    settings = None
    try:
        settings = Settings(**ours, handed_on=handed_on, origins=found.origins)
        if not found.problems:  # or half of a pair may be what could not be read
            problems += _contradictions(settings, found)
        problems += _debugging(settings, environ)
    except ValidationError as error:
        problems += _problems_in(error, found)
    problems.sort(key=lambda problem: problem.name)
    return Reading(found, problems, None if problems else settings)


def _problems_in(error: ValidationError, found: sources.Layers) -> Iterator[Problem]:
    for detail in error.errors(include_input=False, include_url=False):
        name = str(detail["loc"][0])
        if name == "RECOVERY_CLIENTS":
            place = ".".join(str(part) for part in detail["loc"] if part != "[key]")
            yield Problem(place, found.origin_of(name), types.in_words(detail))
        elif detail["type"] != "missing":
            yield Problem(name, found.origin_of(name), types.in_words(detail))
        elif not found.problems:  # or it may stand in the file that could not be read
            yield Problem(name, "not set", _needed(name))


def _needed(name: str) -> str:
    if name in ("SECRET_KEY", "SECURITY_PASSWORD_SALT"):
        return f"needed: name a file with it in FLASK_{name}_FILE, or give it as FLASK_{name}; {MAKE_ONE}"
    return f"needed: set it in your file, or as FLASK_{name}"


def normal(name: str, value: Any) -> Any:
    """The value as the app has it, whatever layer it came from; as it is, when it is a wrong one."""
    with suppress(ValueError):
        if name in declared():
            return validate(Settings.model_fields[name].rebuild_annotation(), value)
        return validate_library_setting(name, value)
    return value


def is_debugging(environ: Mapping[str, str] = os.environ) -> bool:
    """As Flask reads it."""
    return environ.get("FLASK_DEBUG", "").lower() not in ("", "0", "false", "no")


def _debugging(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Flask's own variable, which is no setting."""
    if is_debugging(environ) and not is_loopback(urlsplit(settings.RECOVERY_PUBLIC_URL).hostname or ""):
        message = "shows errors to everybody: only with a RECOVERY_PUBLIC_URL on this machine"
        yield Problem("FLASK_DEBUG", "FLASK_DEBUG", message)


def _contradictions(settings: Settings, found: sources.Layers) -> Iterator[Problem]:
    for (name, message), is_broken in rules.among(settings).items():
        if is_broken:
            yield Problem(name, found.origin_of(name), message)
