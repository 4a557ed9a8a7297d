"""The types of settings, each beside its validator, described for `config explain` and for editors.

A ValueError's text is shown to the admin: what to write instead. It never repeats the value, which may be a
secret.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Callable
from typing import Annotated, Any

import phonenumbers
from babel import Locale, UnknownLocaleError
from babel.dates import get_timezone
from pydantic import AfterValidator, BeforeValidator, Field

IDENTITIES = ("email", "username", "us_phone_number")  # what an account may be asked for by
PICTURES = ("svg", "png", "webp", "jpg", "jpeg")  # by their endings


def describe(words: str, **schema: Any) -> Any:
    """Return a field with this description, and more for its JSON Schema."""
    return Field(description=words, json_schema_extra=schema or None)


def must(words: str, is_good: Callable[[Any], object]) -> AfterValidator:
    """Return a validator that refuses a value with these words unless it is good."""

    def validate(value: Any) -> Any:
        if not is_good(value):
            raise ValueError(words)
        return value

    return AfterValidator(validate)


def or_nothing(validate: Callable[[str], str]) -> AfterValidator:
    """Return a validator that lets an empty text pass."""
    return AfterValidator(lambda value: value and validate(value))


# --- Text, numbers, lists and tables ---


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


def not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("give a whole number")
    return value


def is_unique(names: list[str]) -> bool:
    return len(names) == len(set(names))


Line = Annotated[str, AfterValidator(one_line), describe("one line of text")]
Name = Annotated[Line, must("must not be empty", str.strip), describe("one line of text, not empty")]
Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(not_bool)]
JsonText = BeforeValidator(parse_json_text)
Words = Annotated[list[str], JsonText, describe("a list of texts")]
Items = Annotated[list[Any], JsonText, describe("a list")]
Table = Annotated[dict[str, Any], JsonText, describe("a table")]
Identities = Annotated[
    Words,
    Field(min_length=1),
    must(
        f"each of {', '.join(IDENTITIES)} at most once",
        lambda names: is_unique(names) and set(names) <= set(IDENTITIES),
    ),
]
SmsService = Annotated[
    str,
    must(
        'nothing, "file", or "module:Class" (docs/features.md)',
        lambda service: service in ("", "file") or ":" in service,
    ),
]
_COLOUR = "^#[0-9a-fA-F]{6}$"
Colour = Annotated[
    str,
    must('give a colour as HTML writes it, such as "#0b6e66"', re.compile(_COLOUR).fullmatch),
    describe('a colour as HTML writes it, such as "#0b6e66"', pattern=_COLOUR),
]
Label = Annotated[
    str,
    must(
        "give the name alone, such as s1: what stands before ._domainkey",
        re.compile(r"([A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?)?").fullmatch,
    ),
    describe("a DNS label, or nothing"),
]


# --- Places and languages ---


def language(value: str) -> str:
    """As Babel names it: pt-br is pt_BR. Raises ValueError."""
    try:
        return str(Locale.parse(value, sep="-" if "-" in value else "_"))
    except (UnknownLocaleError, ValueError):
        raise ValueError("give a language such as de, or one of a country, such as pt_BR") from None


def time_zone(value: str) -> str:
    try:
        get_timezone(value)
    except LookupError:
        raise ValueError("give a time zone such as UTC or Europe/Berlin") from None
    return value


Region = Annotated[
    str,
    must(
        "give a country of ISO 3166 in capitals, such as US, GB or DE",
        phonenumbers.SUPPORTED_REGIONS.__contains__,
    ),
    describe("a country of ISO 3166, such as US", pattern="^[A-Z]{2}$"),
]
Language = Annotated[str, AfterValidator(language), describe("a language, such as de or pt_BR")]
Languages = Annotated[
    list[Language],
    JsonText,
    Field(min_length=1),
    must("each at most once", is_unique),
    describe("a list of languages"),
]
TimeZone = Annotated[str, AfterValidator(time_zone), describe("a time zone, such as Europe/Berlin")]


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


ReadableFile = Annotated[str, or_nothing(readable_file), describe("the path of a file, or nothing")]
Picture = Annotated[str, or_nothing(picture), describe("the path of a picture, or nothing")]
Certificates = Annotated[str, or_nothing(certificates), describe("the path of a PEM file, or nothing")]
Directory = Annotated[str, or_nothing(directory), describe("the path of a directory, or nothing")]


# --- Bursts ---
