"""Identities: the email address, username or phone number that a person types to say who they are.

A mapper returns the form in which its column stores a value, or None when the value is not of its kind.
Mappers are tried in the configured order, and the first that fits decides. Sign-in, recovery, import and the
model's validators use the same mappers, so what is stored is always what a look-up asks for.
"""

from __future__ import annotations

import string
import unicodedata
from typing import NamedTuple

import bleach
import email_validator
import nh3  # noqa: F401  # else Flask-Security imports it in the first request with a username
import phonenumbers
from flask import Flask, current_app, request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_security import PhoneUtil, UsernameUtil, uia_phone_mapper, uia_username_mapper
from flask_security.utils import get_message

from ..settings import current
from ..settings.schema import Settings
from ..web.errors import InvalidRequest

IDENTITY_LABEL = _l("Email address, username or phone number")
IDENTITY_LENGTH_MAX = 254  # the longest address mail can carry (RFC 5321 §4.5.3.1.3)
CASE_INSENSITIVE = ("email", "username")
# ASCII only, because databases disagree about the rest: PostgreSQL's lower() folds K (U+212A), SQLite's does
# not, and folding it would merge two mailboxes into one account.
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class IdentityError(ValueError):
    """A value that no account can have as its email address, username or phone number."""


class IdentityKey(NamedTuple):
    """An identity as it is stored and looked up."""

    column: str
    value: str


def normalize_email(typed: str) -> str | None:
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
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())
        name = super().normalize(folded)
        if not name or not name.isprintable() or bleach.clean(name, tags=set()) != name:
            return None
        is_allowed = name.isascii() or not current().RECOVERY_USERNAME_ASCII
        return name if is_allowed and any(character.isalpha() for character in name) else None

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
        number = super().get_canonical_form(input_data)
        region = current().SECURITY_PHONE_REGION_DEFAULT
        return None if number and phonenumbers.parse(input_data, region).extension else number

    def validate_phone_number(self, input_data: str) -> str | None:
        """Return why no account can have the number, or None."""
        return None if self.get_canonical_form(input_data) else get_message("PHONE_INVALID")[0]


MAPPERS = {"email": normalize_email, "username": uia_username_mapper, "us_phone_number": uia_phone_mapper}


def init_app(app: Flask, settings: Settings) -> None:
    """Give Flask-Security the mappers of the configured columns, in their order."""
    bleach.clean("")  # it imports its parser at the first use, and the first request would wait for that
    app.config["SECURITY_USER_IDENTITY_ATTRIBUTES"] = [
        {column: {"mapper": MAPPERS[column], "case_insensitive": column in CASE_INSENSITIVE}}
        for column in settings.SECURITY_USER_IDENTITY_ATTRIBUTES
    ]


def normalize_identity(column: str, typed: str) -> str | None:
    """Return the form in which `column` stores `typed`, or None when it cannot."""
    return MAPPERS[column](typed)


def map_identity(typed: str) -> IdentityKey | None:
    """Return the column and the form in which `typed` is looked up. Asks no database."""
    for attribute in current_app.config["SECURITY_USER_IDENTITY_ATTRIBUTES"]:
        [(column, details)] = attribute.items()
        if form := details["mapper"](typed):
            return IdentityKey(column, form)
    return None


def identity_key(typed: str) -> str:
    """Return the key under which requests for an identity are counted and compared."""
    # Unrecognized input gets a prefix, so that it cannot collide with a real identity's key.
    return str(map_identity(typed) or f"? {typed.casefold()}")


def mask_address(address: str) -> str:
    """Return an address that only its owner recognizes: a•••@example.com."""
    local, _at, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"


def posted_identity() -> str:
    """Return the text of the identity box in this POST, form or JSON, without blanks around it.

    Checked before any work: exactly one text under `identity` (or Flask-Security's `email`) in the
    body, no longer than an address can be. Raises InvalidRequest.
    """
    body = request.get_json() if request.is_json else request.form
    values = [body[name] for name in ("identity", "email") if name in body]
    if len(values) > 1:
        raise InvalidRequest(_("Give one email address, username or phone number."), field="identity")
    identity = values[0] if values else ""
    identity = identity.strip() if isinstance(identity, str) else "\0"  # refused below
    if not identity:
        raise InvalidRequest(_("Type your email address, username or phone number."), field="identity")
    if len(identity) > IDENTITY_LENGTH_MAX or not identity.isprintable():
        raise InvalidRequest(_("That is no email address, username or phone number."), field="identity")
    return identity
