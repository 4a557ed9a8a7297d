"""Setting types: text, lists, durations and files. URLs and secrets have modules of their own.

The text of a ValueError is the error message for the admin. It says what to write, and never repeats the
value, because that may be a secret.
"""

import json
import os
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any, Literal

import limits
from babel import Locale, UnknownLocaleError
from babel.dates import get_timezone
from email_validator import SPECIAL_USE_DOMAIN_NAMES
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

IMAGE_SUFFIXES = ("svg", "png", "webp", "jpg", "jpeg")
DURATION_DAYS_MAX = 366
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DURATION_PATTERN = r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w|sec|min|second|minute|hour|day|week)s?"
DURATION_FORMAT = 'a number and a unit (seconds, minutes, hours, days, weeks), such as "30 minutes"'


def must(message: str, is_valid: Callable[[Any], object]) -> AfterValidator:
    """Return a validator that refuses a value with `message` if `is_valid` returns False or fails."""

    def validate(value: Any) -> Any:
        with suppress(ValueError, TypeError, LookupError):
            if is_valid(value):
                return value
        raise ValueError(message)

    return AfterValidator(validate)


def expect(description: str, is_valid: Callable[[Any], object]) -> tuple[Any, ...]:
    """Return annotations for a type whose error message is made of its description."""
    return must(f"give {description}", is_valid), Field(description=description)


def or_empty(validate: Callable[[str], str]) -> AfterValidator:
    """Return a validator that accepts an empty text, too."""
    return AfterValidator(lambda value: value and validate(value))


def check_one_line(value: str) -> str:
    if "=?" in value:
        raise ValueError("no encoded words (=?...?=): mail decodes them, line ends among them")
    if any(ord(character) < 32 for character in value) or len(value.splitlines()) > 1:
        raise ValueError("one line, without control characters")
    return value


def parse_json_text(value: Any) -> Any:
    """Parse a list or table from an environment variable, or the file that it names: both hold JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError('write it as JSON, such as ["…"] or {"1": "…"}') from None


def normalize_language(value: str) -> str:
    """Return Babel's name for a language: pt_BR for pt-br. Raises ValueError."""
    try:
        return str(Locale.parse(value, sep="-" if "-" in value else "_"))
    except (UnknownLocaleError, ValueError):
        raise ValueError("give a language such as de, or one of a country, such as pt_BR") from None


Line = Annotated[str, AfterValidator(check_one_line)]
JsonText = BeforeValidator(parse_json_text)
TextList = Annotated[list[str], JsonText]
AnyList = Annotated[list[Any], JsonText]
Table = Annotated[dict[str, Any], JsonText]
Reference = Annotated[str, *expect("module:name", re.compile(r"[\w.]+:[\w.]+").fullmatch)]
SPECIAL_USE_DOMAINS = tuple(SPECIAL_USE_DOMAIN_NAMES)  # a copy: accounts/identity_mappers.py changes it
SpecialUseDomain = Literal[SPECIAL_USE_DOMAINS]  # type: ignore[valid-type]  # a list at run time
Color = Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$", description='a hex color such as "#0b6e66"')]
DNS_LABEL = "^([A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?)?$"
HostLabel = Annotated[str, Field(pattern=DNS_LABEL, description="a name such as id.example.com")]
Selector = Annotated[
    str, Field(pattern=DNS_LABEL, description="the name before ._domainkey alone, such as s1")
]
TimeZone = Annotated[str, *expect("a time zone such as UTC or Europe/Berlin", get_timezone)]
BreachCheck = Annotated[
    Literal[False, "best-effort", "strict"],
    BeforeValidator(lambda value: value if str(value).lower() not in ("", "false") else False),
]
Unique = must("each at most once", lambda items: len(items) == len(set(items)))
Language = Annotated[str, AfterValidator(normalize_language)]
SecondFactors = Annotated[list[Literal["authenticator", "email", "sms"]], JsonText, Field(min_length=1)]
SignInMethods = Annotated[
    list[Literal["password", "authenticator", "email"]],  # sending SMS would tell by time who has an account
    JsonText,
    must('"password" is always one of them', lambda methods: "password" in methods),
]
Rates = Annotated[
    str,
    *expect(
        'rates, such as "30 per minute; 300 per hour"',
        lambda text: all(rate.amount > 0 for rate in limits.parse_many(text)),
    ),
]


def parse_duration(value: Any) -> timedelta:
    """Parse a duration such as "30 minutes". Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(DURATION_PATTERN, str(value).strip())
    if not match:
        raise ValueError(f"give {DURATION_FORMAT}")
    number, unit = float(match[1]), timedelta(**{UNITS[match[2][0]]: 1})
    if number > timedelta(days=DURATION_DAYS_MAX) / unit:
        raise ValueError(f"at most {DURATION_DAYS_MAX} days")
    return number * unit


def at_most(longest: str, reason: str) -> tuple[Any, ...]:
    """Return annotations for a positive Duration of at most `longest`."""
    limit, words = parse_duration(longest), f"more than nothing, at most {longest} ({reason})"
    within = must(words, lambda value: timedelta(0) < value <= limit)
    return within, Field(description=f"{DURATION_FORMAT}; {words}")


def at_least(shortest: str, reason: str) -> tuple[Any, ...]:
    """Return annotations for a Duration of at least `shortest`."""
    limit, words = parse_duration(shortest), f"at least {shortest} ({reason})"
    return must(words, lambda value: value >= limit), Field(description=f"{DURATION_FORMAT}; {words}")


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{DURATION_PATTERN}$"}),
    Field(description=DURATION_FORMAT),
]
PositiveDuration = Annotated[Duration, must("more than nothing", lambda value: value > timedelta(0))]


def check_file(path: str) -> str:
    if not (os.path.isfile(path) and os.access(path, os.R_OK)):
        raise ValueError("no such file, or it cannot be read")
    return path


def check_image(path: str) -> str:
    if check_file(path).rpartition(".")[2].lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"give a picture that browsers show: one of {', '.join(IMAGE_SUFFIXES)}")
    return path


def check_certificates(path: str) -> str:
    try:
        ssl.create_default_context(cafile=check_file(path))
    except ssl.SSLError:
        raise ValueError("the file contains no certificates (PEM)") from None
    return path


def normalize_directory(path: str) -> str:
    path = os.path.abspath(path)
    if not (os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)):
        raise ValueError(f"there is no directory {path}, or it cannot be read")
    return path


File = Annotated[str, or_empty(check_file)]
Image = Annotated[str, or_empty(check_image)]
Directory = Annotated[str, or_empty(normalize_directory)]
