"""What a person may type to say who they are: email address, username or telephone number.

A mapper turns what was typed into the form that is stored, or into None when it is not of its kind.
Mappers are tried in the configured order and the first that fits decides, so order is behaviour.
The same mappers serve sign-in, recovery and the model's validators: what is stored is always what
a look-up asks for.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable
from functools import partial

import bleach
import email_validator
import phonenumbers
from flask import Flask, current_app, g, has_request_context

from ..settings.schema import Settings


class IdentityError(ValueError):
    """A value that no account can have as its email address, username or phone number."""


IDENTITY_LENGTH_MAX = 254  # the longest address mail can carry (RFC 5321 §4.5.3.1.3)
Mapper = Callable[[str], str | None]
# ASCII only: lower() is not one rule. SQLite folds A-Z, PostgreSQL also K (U+212A) and more, and
# whoever folds those merges two mailboxes into one account.
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def email(typed: str) -> str | None:
    """The address in normal form, ASCII letters in lower case. Asks no DNS."""
    try:
        valid = email_validator.validate_email(typed.strip(), check_deliverability=False)
    except email_validator.EmailNotValidError:
        return None
    if "=?" in valid.local_part:  # mail programs decode it (RFC 2047): to another address
        return None
    return valid.normalized.translate(_ASCII_LOWER)


def username(typed: str, *, allowed: tuple[str, ...] = ("L", "N"), ascii_only: bool = True) -> str | None:
    """The name without markup, in NFKC and case-folded. It holds a letter, or it is a number."""
    typed = typed.strip()
    is_plain = typed.isprintable() and not set(typed) & set("<>&")
    cleaned = typed if is_plain else bleach.clean(typed, strip=True)  # which takes 0.3 ms
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cleaned).casefold())
    if ascii_only and not name.isascii():
        return None
    if not all(unicodedata.category(character).startswith(allowed) for character in name):
        return None
    if not any(character.isalpha() for character in name):
        return None
    return name


def phone(typed: str, *, region: str = "US") -> str | None:
    """The number in E.164. A number without +prefix belongs to `region` (ISO 3166)."""
    try:
        number = phonenumbers.parse(typed.strip(), region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number) or number.extension:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def mappers(settings: Settings) -> dict[str, Mapper]:
    """The three mappers by the column they serve, as the settings ask for."""
    return {
        "email": email,
        "username": partial(
            username,
            allowed=tuple(settings.SECURITY_USERNAME_ALLOWED_CHARS),
            ascii_only=settings.RECOVERY_USERNAME_ASCII,
        ),
        "us_phone_number": partial(phone, region=settings.SECURITY_PHONE_REGION_DEFAULT),
    }


def init_app(app: Flask, settings: Settings) -> None:
    """Name the mappers to Flask-Security, in the configured order."""
    by_column = app.extensions["identity_mappers"] = mappers(settings)
    app.config["SECURITY_USER_IDENTITY_ATTRIBUTES"] = [
        {column: {"mapper": by_column[column], "case_insensitive": column != "us_phone_number"}}
        for column in settings.SECURITY_USER_IDENTITY_ATTRIBUTES
    ]


def canonical(column: str, typed: str) -> str | None:
    """The form in which `column` stores `typed`, or None when it can not."""
    mapper: Mapper = current_app.extensions["identity_mappers"][column]
    return mapper(typed)


def known_as(typed: str) -> tuple[str, str] | None:
    """The column and the form in which what was typed is looked up. Asks no database."""
    for attribute in current_app.config["SECURITY_USER_IDENTITY_ATTRIBUTES"]:
        [(column, details)] = attribute.items()
        if form := details["mapper"](typed):
            return column, form
    return None


def masked(address: str) -> str:
    """An address that its owner recognises and nobody else learns: a•••@example.com."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"


def identity_key(typed: str) -> str:
    """What is counted, and compared, of what was typed; worked out once in a request, which asks twice."""
    forms: dict[str, str] = g.setdefault("forms_of_typed", {}) if has_request_context() else {}
    if typed not in forms:
        # What is of no kind stands apart: typed as a known one is written here, it would pass for that.
        forms[typed] = str(known_as(typed) or f"? {typed.casefold()}")
    return forms[typed]
