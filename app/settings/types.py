"""The types of settings, and functions that check a value. Those of URLs and addresses are in `urls.py`.

A ValueError's text is shown to the admin: what to write instead. It never repeats the value, which may be a
secret.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any, Literal, get_args

import limits
from babel import Locale, UnknownLocaleError
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

PICTURES = ("svg", "png", "webp", "jpg", "jpeg")  # by their endings
DURATION_DAYS_MAX = 366
IN_UNITS = 'a number and a unit (seconds, minutes, hours, days, weeks), such as "30 minutes"'
DURATION = r"(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week)s?"


def must(words: str, is_good: Callable[[Any], object]) -> AfterValidator:
    """Return a validator that refuses a value with these words if `is_good` is false for it, or fails."""

    def validate(value: Any) -> Any:
        with suppress(ValueError, TypeError, LookupError):
            if is_good(value):
                return value
        raise ValueError(words)

    return AfterValidator(validate)


def give(words: str, is_good: Callable[[Any], object]) -> tuple[Any, ...]:
    """Return annotations of a type that is described, and whose bad values are refused, with these words."""
    return must(f"give {words}", is_good), Field(description=words)


def or_nothing(validate: Callable[[str], str]) -> AfterValidator:
    """Return a validator that lets an empty text pass."""
    return AfterValidator(lambda value: value and validate(value))


# --- Text, lists and tables ---


def one_line(value: str) -> str:
    if "=?" in value:
        raise ValueError("no encoded words (=?...?=): mail decodes them, line ends among them")
    if any(ord(character) < 32 for character in value) or len(value.splitlines()) > 1:
        raise ValueError("one line, without control characters")
    return value


def parse_json_text(value: Any) -> Any:
    """The environment has text only: lists and tables are written as JSON there."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("write it as JSON in the environment") from None


def language(value: str) -> str:
    """Return Babel's name for a language: pt_BR for pt-br. Raises ValueError."""
    try:
        return str(Locale.parse(value, sep="-" if "-" in value else "_"))
    except (UnknownLocaleError, ValueError):
        raise ValueError("give a language such as de, or one of a country, such as pt_BR") from None


Line = Annotated[str, AfterValidator(one_line)]
JsonText = BeforeValidator(parse_json_text)
Words = Annotated[list[str], JsonText]
Items = Annotated[list[Any], JsonText]
Table = Annotated[dict[str, Any], JsonText]
Once = must("each at most once", lambda items: len(items) == len(set(items)))
Identity = Literal["email", "username", "us_phone_number"]  # what an account may be asked for by
IDENTITIES: tuple[str, ...] = get_args(Identity)
Language = Annotated[str, AfterValidator(language)]
Rates = Annotated[
    str,
    *give(
        'rates, such as "30 per minute; 300 per hour"',
        lambda text: all(rate.amount > 0 for rate in limits.parse_many(text)),
    ),
]


# --- Durations ---


def parse_duration(value: Any) -> timedelta:
    """Return a duration as admins write it. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(DURATION, str(value).strip())
    if not match:
        raise ValueError(f"give {IN_UNITS}")
    number, unit = float(match[1]), timedelta(**{f"{match[2]}s": 1})
    if number > timedelta(days=DURATION_DAYS_MAX) / unit:
        raise ValueError(f"at most {DURATION_DAYS_MAX} days")
    return number * unit


def at_most(longest: str, why: str) -> tuple[Any, ...]:
    """Return annotations of a Duration of more than nothing and at most this one."""
    words, limit = f"more than nothing, at most {longest} ({why})", parse_duration(longest)
    return must(words, lambda value: timedelta(0) < value <= limit), Field(description=f"{IN_UNITS}; {words}")


def at_least(shortest: str, why: str) -> tuple[Any, ...]:
    """Return annotations of a Duration of this one or more."""
    words, limit = f"at least {shortest} ({why})", parse_duration(shortest)
    return must(words, lambda value: value >= limit), Field(description=f"{IN_UNITS}; {words}")


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{DURATION}$"}),
    Field(description=IN_UNITS),
]
PositiveDuration = Annotated[Duration, must("more than nothing", lambda value: value > timedelta(0))]


# --- Files ---


def readable_file(path: str) -> str:
    if not (os.path.isfile(path) and os.access(path, os.R_OK)):
        raise ValueError("no such file, or it can not be read")
    return path


def picture(path: str) -> str:
    if readable_file(path).rpartition(".")[2].lower() not in PICTURES:
        raise ValueError(f"give a picture that browsers show: one of {', '.join(PICTURES)}")
    return path


def certificates(path: str) -> str:
    try:
        ssl.create_default_context(cafile=readable_file(path))
    except ssl.SSLError:
        raise ValueError("the file holds no certificates (PEM)") from None
    return path


def directory(path: str) -> str:
    path = os.path.abspath(path)
    if not (os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)):
        raise ValueError(f"there is no directory {path}, or it can not be read")
    return path


ReadableFile = Annotated[str, or_nothing(readable_file)]
Directory = Annotated[str, or_nothing(directory)]
