"""Mappers of identity kinds: email, username, phone, an admin's function, or a declared pattern.

A mapper returns the normal form of an input, or None for one of another kind. None of them fails a request.
"""

import re
import string
import time
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import bleach
import email_validator
import nh3  # noqa: F401  # loaded at start, because Flask-Security imports it in a request
import phonenumbers
from flask import Flask, current_app
from flask_security import PhoneUtil, UsernameUtil, uia_phone_mapper, uia_username_mapper
from flask_security.utils import get_identity_attribute, get_message

from ..settings import current
from ..settings.checks import check
from ..settings.extensions import resolve
from ..settings.findings import KINDS, Finding
from ..settings.identities import CASE_INSENSITIVE, IdentityKind
from ..settings.schema import Settings
from ..settings.types import SPECIAL_USE_DOMAINS
from .pasted import plain, trim

IDENTITY_LENGTH_MAX = 254  # characters: the longest address mail can carry (RFC 5321 §4.5.3.1.3)
# ASCII only, because databases fold other letters differently: PostgreSQL's lower() changes K (U+212A),
# SQLite's does not. Folding it would merge two mailboxes into one account.
ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
# For the first two, a pattern with nested repetitions takes 2^24 steps, and for the last it would never end.
SAMPLES = (
    *("1" * 24 + "!", "a" * 24 + "!", "", "alice", "alice@example.com", "+1 415 555 0123", "1234", "12345"),
    *("1", "123456", "123-45-678", "١٢٣", "E12345", "e-12345", "AB123456", "é" * IDENTITY_LENGTH_MAX),
)
SECONDS_MAX = 0.2  # of the processor, for one sample


def normalize_identity(column: str, typed: str) -> str | None:
    """Return the normal form in which `column` stores `typed`, or None when it cannot."""
    mapper = get_identity_attribute(column).get("mapper") or MAPPERS[column]
    normal: str | None = mapper(typed)
    return normal


def normalize_email(typed: str) -> str | None:
    """Return the address in normal form, with ASCII letters in lower case, or None. Asks no DNS."""
    rules = current().library.get("SECURITY_EMAIL_VALIDATOR_ARGS", {})
    try:
        valid = email_validator.validate_email(typed.strip(), check_deliverability=False, **rules)
    except email_validator.EmailNotValidError:
        return None
    if "=?" in valid.local_part:  # mail programs decode it to another address (RFC 2047)
        return None
    return valid.normalized.translate(ASCII_LOWER)


class RecoveryUsernameUtil(UsernameUtil):
    """Usernames by Flask-Security's rule, without regard to case."""

    def normalize(self, username: str) -> str | None:
        """Return the name case-folded and in NFKC, or None for markup and disallowed characters.

        A name must contain a letter, because digits alone are a phone number. Marks follow their letter.
        """
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())
        name = super().normalize(folded)
        if not name or not name.isprintable() or bleach.clean(name, tags=set()) != name:
            return None
        categories = "".join(unicodedata.category(character)[0] for character in name)
        is_allowed = name.isascii() or not current().RECOVERY_USERNAME_ASCII
        return name if is_allowed and "L" in categories and not re.search("(^|[^LM])M", categories) else None

    def validate(self, username: str) -> tuple[str | None, str | None]:
        """Return the reason against the name, or None, and its normal form."""
        if not username:
            return None, None
        if (name := normalize_identity("username", username)) is None:
            return get_message("USERNAME_DISALLOWED_CHARACTERS")[0], None
        return super().validate(name)


class RecoveryPhoneUtil(PhoneUtil):
    """Phone numbers by Flask-Security's rule, but none with an extension, which is not one person's own."""

    def get_canonical_form(self, input_data: str) -> str | None:
        """Return the number in E.164, or None. Without +prefix it is of SECURITY_PHONE_REGION_DEFAULT."""
        text, region = plain(input_data), current().SECURITY_PHONE_REGION_DEFAULT
        number = super().get_canonical_form(text)
        return None if number and phonenumbers.parse(text, region).extension else number

    def validate_phone_number(self, input_data: str) -> str | None:
        """Return the reason against the number, or None."""
        return None if self.get_canonical_form(input_data) else get_message("PHONE_INVALID")[0]


class GuardedMapper(NamedTuple):
    """A mapper that never raises: an input for which it would is of no kind."""

    kind: str
    mapper: Callable[[str], Any]
    ignores_case: bool

    def __call__(self, typed: str) -> str | None:
        """Return the normal form, if need be without the characters that copying adds. Or None."""
        try:
            return self.map(typed.strip()) or self.map(trim(typed))
        except Exception as error:  # its message may hold the input
            current_app.logger.error("the mapper of %s failed: %s", self.kind, type(error).__name__)
            return None

    def map(self, typed: str) -> str | None:
        """Return the normal form, or None. Raises any error of the mapper."""
        form = self.mapper(typed) or ""
        if not isinstance(form, str) or len(form) > IDENTITY_LENGTH_MAX or not form.isprintable():
            raise TypeError(f"it returns {type(form).__name__} that is no short, printable text")
        return (form.translate(ASCII_LOWER) if self.ignores_case else form) or None


def match_printable(typed: str) -> str | None:
    """Return any printable text as it is: a username in another application's table."""
    return typed if typed.isprintable() else None


def match(kind: IdentityKind, typed: str) -> str | None:
    """Return the normal form by a declared kind, if its pattern matches the whole of it."""
    form = NORMALIZERS.get(kind.normalize or "", str)(unicodedata.normalize("NFKC", typed).strip())
    return form if kind.pattern and kind.pattern.fullmatch(form) else None


def drop_separators(text: str) -> str:
    """Return letters and digits alone, with the digits of any script as 0-9."""
    return "".join(str(unicodedata.decimal(letter, letter)) for letter in text if letter.isalnum())


NORMALIZERS = {"upper": str.upper, "lower": str.lower, "digits": drop_separators}


MAPPERS = {"email": normalize_email, "username": uia_username_mapper, "us_phone_number": uia_phone_mapper}


def init_app(app: Flask, settings: Settings) -> None:
    """Give Flask-Security the mappers of the configured kinds, in their order. Raises SettingsError."""
    bleach.clean("")  # loads its parser at start, because the first use imports it
    # As the library documents it, because no argument lifts a domain. A process has one app.
    lifted = settings.RECOVERY_SPECIAL_USE_DOMAINS
    email_validator.SPECIAL_USE_DOMAIN_NAMES[:] = [name for name in SPECIAL_USE_DOMAINS if name not in lifted]
    setting, attributes = "SECURITY_USER_IDENTITY_ATTRIBUTES", []
    for name, kind in settings.SECURITY_USER_IDENTITY_ATTRIBUTES.items():
        mapper = resolve(settings, setting, kind.mapper) if kind.mapper else MAPPERS.get(name)
        if settings.RECOVERY_ACCOUNTS and name == "username":  # by the application's rules
            mapper = match_printable
        ignores_case = name in CASE_INSENSITIVE
        guarded = GuardedMapper(name, mapper or partial(match, kind), kind.case_insensitive or ignores_case)
        # An own kind's column holds the very result of its mapper, and has an index for that alone.
        attributes.append({name: {"mapper": guarded, "case_insensitive": ignores_case}})
    app.config[setting] = attributes


@check
def check_mappers() -> Iterator[Finding]:
    """Try each mapper that an admin gives, declares, or replaces a part of."""
    settings = current()
    for name, kind in settings.SECURITY_USER_IDENTITY_ATTRIBUTES.items():
        mapper: GuardedMapper = get_identity_attribute(name)["mapper"]
        for sample in SAMPLES if kind.mapper or kind.pattern or settings.RECOVERY_CLASSES else ():
            try:
                form, began = mapper.map(sample), time.thread_time()
                if mapper.map(form or sample) != form:
                    raise ValueError(f"it maps {form!r}, its own result, to something else")
                if time.thread_time() - began > SECONDS_MAX:
                    raise TimeoutError("it takes too long; a pattern may nest repetitions")
            except Exception as error:
                yield KINDS["identity-mapper"].found(kind=name, problem=f"{sample!r}: {error!r}")
                break
