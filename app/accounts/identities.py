"""Identities: the values by which a person names an account, such as an email address or an employee number.

Each kind has a mapper and a column of the accounts. Mappers are tried in the configured order, and the first
that fits decides. Sign-in, recovery, import and the model's validators use the same mappers, so a look-up
asks for exactly the stored value.
"""

import re
import unicodedata
from functools import partial
from typing import Any, NamedTuple

import bleach
import email_validator
import nh3  # noqa: F401  # loaded at start, because Flask-Security imports it in a request
import phonenumbers
from flask import Flask, current_app, request
from flask_babel import LazyString, gettext as _
from flask_security import PhoneUtil, UsernameUtil, uia_phone_mapper, uia_username_mapper
from flask_security.change_email import ChangeEmailForm
from flask_security.forms import UniqueEmailFormMixin
from flask_security.utils import get_identity_attribute, get_message
from wtforms import EmailField

from ..settings import current
from ..settings.identities import CASE_INSENSITIVE, SHIPPED
from ..settings.references import resolve
from ..settings.schema import Settings
from ..settings.types import SPECIAL_USE_DOMAINS
from ..web.errors import InvalidRequest
from ..web.messages import identity_label, identity_names
from .identity_mappers import ASCII_LOWER, IDENTITY_LENGTH_MAX, GuardedMapper, match, match_printable
from .pasted import plain

IDENTITY_LABEL = LazyString(identity_label)


class IdentityError(ValueError):
    """An identity that an account cannot have."""


class IdentityKey(NamedTuple):
    """An identity as accounts store it."""

    column: str
    value: str  # in normal form


def posted_identity() -> str:
    """Return the identity in this POST, form or JSON, without surrounding blanks.

    It is named `identity` or, as in Flask-Security, `email`. Raises InvalidRequest unless there is one text
    of at most IDENTITY_LENGTH_MAX characters that fits a mapper. That depends on the text alone.
    """
    body = request.get_json() if request.is_json else request.form
    values = [body[name] for name in ("identity", "email") if name in body]
    if len(values) > 1:
        raise InvalidRequest(_("Only one value is allowed."), field="identity")
    identity = values[0] if values else ""
    identity = identity.strip() if isinstance(identity, str) else "\0"  # refused below
    if not identity:
        raise InvalidRequest(_("Enter your %(kinds)s.", kinds=identity_names()), field="identity")
    if len(identity) > IDENTITY_LENGTH_MAX or map_identity(identity) is None:
        problem = _("Enter a valid %(kinds)s. Check for typos.", kinds=identity_names())
        raise InvalidRequest(problem, field="identity")
    return identity


def map_identity(typed: str) -> IdentityKey | None:
    """Return the column and normal form of `typed`, or None when no mapper fits. Asks no database."""
    for column in current().SECURITY_USER_IDENTITY_ATTRIBUTES:
        if value := normalize_identity(column, typed):
            return IdentityKey(column, value)
    return None


def identity_key(typed: str) -> str:
    """Return the text under which requests for an identity are counted and deduplicated."""
    # Unrecognized input gets a prefix, so that it cannot collide with a real identity's key.
    return str(map_identity(typed) or f"? {typed.casefold()}")


def normalize_identity(column: str, typed: str) -> str | None:
    """Return the normal form in which `column` stores `typed`, or None when it cannot."""
    mapper = get_identity_attribute(column).get("mapper") or MAPPERS[column]
    normal: str | None = mapper(typed)
    return normal


def stored_identity(column: str, value: Any) -> str | None:
    """Return the normal form in which `column` stores a value, and None for none. Raises IdentityError."""
    if value is None or value == "":
        return None
    if (stored := normalize_identity(column, str(value))) is None:
        raise IdentityError(f"{column}: not valid{HINTS.get(column, '')}")
    if column not in SHIPPED and map_identity(stored) != (column, stored):
        raise IdentityError(f"{column}: an earlier kind of SECURITY_USER_IDENTITY_ATTRIBUTES takes it")
    return stored


def identity_columns() -> list[str]:
    """Return the columns that hold identities: the shipped ones, configured or not, and the admin's."""
    return list(dict.fromkeys([*SHIPPED, *current().SECURITY_USER_IDENTITY_ATTRIBUTES]))


def mask_address(address: str) -> str:
    """Return the address so that only its owner recognizes it: a•••@example.com."""
    local, _at, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"


def fold_address(address: str) -> str:
    """Return the key of the mailbox to which most mail servers deliver: without case, and without +tag."""
    local, _at, domain = address.casefold().rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def normalize_email(typed: str) -> str | None:
    """Return the address in normal form, with ASCII letters in lower case, or None. Asks no DNS."""
    rules = current().library.get("SECURITY_EMAIL_VALIDATOR_ARGS", {}) if current_app else {}  # `check --to`
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


class AddressForm(ChangeEmailForm):
    """Flask-Security's without its look-up: a taken address gets a mail, too, whose link is refused."""

    email = EmailField(validators=UniqueEmailFormMixin.email.kwargs["validators"][:-1])


MAPPERS = {"email": normalize_email, "username": uia_username_mapper, "us_phone_number": uia_phone_mapper}
HINTS = {
    "username": " (SECURITY_USERNAME_ALLOWED_CHARS, RECOVERY_USERNAME_ASCII)",
    "us_phone_number": " (SECURITY_PHONE_REGION_DEFAULT)",
}


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
