"""Identities: the email address, username or phone number that a person types to say who they are.

A mapper returns the form in which its column stores a value, or None when the value is not of its kind.
Mappers are tried in the configured order, and the first that fits decides. Sign-in, recovery, import and the
model's validators use the same mappers, so what is stored is always what a look-up asks for.
"""

from __future__ import annotations

import string
import unicodedata

import bleach
import email_validator
import nh3  # noqa: F401  # else Flask-Security imports it in the first request with a username
import phonenumbers
from flask import Flask, current_app
from flask_security import (
    PhoneUtil,
    UsernameUtil,
    uia_email_mapper,
    uia_phone_mapper,
    uia_username_mapper,
)
from flask_security.utils import get_message

from ..settings import current
from ..settings.schema import Settings


class IdentityError(ValueError):
    """A value that no account can have as its email address, username or phone number."""


IDENTITY_LENGTH_MAX = 254  # the longest address mail can carry (RFC 5321 §4.5.3.1.3)
# Flask-Security's mappers ask its MailUtil, UsernameUtil and PhoneUtil.
MAPPERS = {"email": uia_email_mapper, "username": uia_username_mapper, "us_phone_number": uia_phone_mapper}
CASE_INSENSITIVE = ("email", "username")
# ASCII only, because databases disagree about the rest: PostgreSQL's lower() folds K (U+212A), SQLite's does
# not, and folding it would merge two mailboxes into one account.
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def init_app(app: Flask, settings: Settings) -> None:
    """Give Flask-Security the mappers of the configured columns, in their order."""
    bleach.clean("")  # it imports its parser at the first use, and the first request would wait for that
    app.config["SECURITY_USER_IDENTITY_ATTRIBUTES"] = [
        {column: {"mapper": MAPPERS[column], "case_insensitive": column in CASE_INSENSITIVE}}
        for column in settings.SECURITY_USER_IDENTITY_ATTRIBUTES
    ]


def email(typed: str) -> str | None:
    """Return the address in normal form, ASCII letters in lower case. Asks no DNS."""
    try:
        valid = email_validator.validate_email(typed.strip(), check_deliverability=False)
    except email_validator.EmailNotValidError:
        return None
    if "=?" in valid.local_part:  # mail programs decode it (RFC 2047): to another address
        return None
    return valid.normalized.translate(_ASCII_LOWER)


class RecoveryUsernameUtil(UsernameUtil):
    """Flask-Security's seam for usernames: its own rule, without regard to case."""

    def normalize(self, username: str) -> str | None:
        """Return the name case-folded in Unicode's normal form; None for markup and disallowed characters.

        A name must contain a letter, because digits alone are a phone number.
        """
        folded = unicodedata.normalize("NFKC", username).casefold().strip()
        # Markup is refused here, since Flask-Security takes it out, and what is left is another name.
        is_plain = folded.isprintable() and bleach.clean(folded, tags=set()) == folded
        name = super().normalize(unicodedata.normalize("NFKC", folded)) if is_plain else None
        if not name or not any(character.isalpha() for character in name):
            return None
        return name if name.isascii() or not current().RECOVERY_USERNAME_ASCII else None

    def validate(self, username: str) -> tuple[str | None, str | None]:
        """Return why the name cannot be an account's, or None, and its normal form."""
        if not username:
            return None, None
        if (name := self.normalize(username)) is None:
            return get_message("USERNAME_DISALLOWED_CHARACTERS")[0], None
        return super().validate(name)


class RecoveryPhoneUtil(PhoneUtil):
    """Flask-Security's seam for phone numbers. A number with an extension is nobody's own."""

    def get_canonical_form(self, input_data: str) -> str | None:
        """Return the number in E.164. Without +prefix it belongs to SECURITY_PHONE_REGION_DEFAULT."""
        try:
            number = phonenumbers.parse(input_data, current().SECURITY_PHONE_REGION_DEFAULT)
        except phonenumbers.NumberParseException:
            return None
        return None if number.extension else super().get_canonical_form(input_data)

    def validate_phone_number(self, input_data: str) -> str | None:
        """Return why no account can have the number, or None."""
        return None if self.get_canonical_form(input_data) else get_message("PHONE_INVALID")[0]


def canonical(column: str, typed: str) -> str | None:
    """Return the form in which `column` stores `typed`, or None when it cannot."""
    return MAPPERS[column](typed)


def known_as(typed: str) -> tuple[str, str] | None:
    """Return the column and the form in which `typed` is looked up. Asks no database."""
    for attribute in current_app.config["SECURITY_USER_IDENTITY_ATTRIBUTES"]:
        [(column, details)] = attribute.items()
        if form := details["mapper"](typed):
            return column, form
    return None


def masked(address: str) -> str:
    """Return an address that only its owner recognizes: a•••@example.com."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"


def identity_key(typed: str) -> str:
    """Return the key under which requests for an identity are counted and compared."""
    # Unrecognized input gets a prefix, so that it cannot collide with a real identity's key.
    return str(known_as(typed) or f"? {typed.casefold()}")
