"""Identities: the values by which a person names an account, such as an email address or an employee number.

Each kind has a mapper and a column of the accounts. Mappers are tried in the configured order, but an
application's usernames last, and the first that fits decides. Sign-in, recovery, import and the model's
validators use the same mappers, so a look-up asks for exactly the stored value.
"""

from typing import Any, NamedTuple

from flask import request
from flask_babel import LazyString, gettext as _
from flask_security.change_email import ChangeEmailForm
from flask_security.forms import UniqueEmailFormMixin
from wtforms import EmailField

from ..settings import current
from ..settings.identities import SHIPPED
from ..web.errors import InvalidRequest
from ..web.messages import identity_label, identity_names
from .identity_mappers import IDENTITY_LENGTH_MAX, normalize_identity

IDENTITY_LABEL = LazyString(identity_label)


class IdentityError(ValueError):
    """An identity that an account cannot have."""


class IdentityKey(NamedTuple):
    """An identity as accounts store it."""

    column: str
    value: str  # in normal form


class PostedIdentity(NamedTuple):
    """An identity as it was typed, and as accounts store it."""

    typed: str
    key: IdentityKey


def posted_identity() -> PostedIdentity:
    """Return the identity in this POST, form or JSON, without surrounding blanks.

    It is named `identity` or, as in Flask-Security, `email`. Raises InvalidRequest unless there is one text
    of at most IDENTITY_LENGTH_MAX characters that fits a mapper. That depends on the text alone.
    """
    body = request.get_json() if request.is_json else request.form
    values = [body[name] for name in ("identity", "email") if name in body]
    if len(values) > 1:
        raise InvalidRequest(_("Only one value is allowed."), field="identity")
    typed = values[0] if values else ""
    typed = typed.strip() if isinstance(typed, str) else "\0"  # refused below
    if not typed:
        raise InvalidRequest(_("Enter your %(kinds)s.", kinds=identity_names()), field="identity")
    if len(typed) > IDENTITY_LENGTH_MAX or (key := map_identity(typed)) is None:
        problem = _("Enter a valid %(kinds)s. Check for typos.", kinds=identity_names())
        raise InvalidRequest(problem, field="identity")
    return PostedIdentity(typed, key)


def map_identity(typed: str) -> IdentityKey | None:
    """Return the column and normal form of `typed`, or None when no mapper fits. Asks no database."""
    kinds = [*current().SECURITY_USER_IDENTITY_ATTRIBUTES]
    if current().RECOVERY_ACCOUNTS:  # whose usernames come last, because they are any text
        kinds.sort(key="username".__eq__)
    for column in kinds:
        if value := normalize_identity(column, typed):
            return IdentityKey(column, value)
    return None


def identity_key(typed: str, key: IdentityKey | None = None) -> str:
    """Return the text under which requests for an identity are counted and deduplicated. `key`: if known."""
    # Unrecognized input gets a prefix, so that it cannot collide with a real identity's key.
    name = str(key or map_identity(typed) or f"? {typed.casefold()}")
    # An application's accounts are found by the text, too, so two spellings may lead to different ones.
    return f"{name} {typed}" if current().RECOVERY_ACCOUNTS else name


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


class AddressForm(ChangeEmailForm):
    """Flask-Security's without its look-up: a taken address gets a mail, too, whose link is refused."""

    email = EmailField(validators=UniqueEmailFormMixin.email.kwargs["validators"][:-1])


HINTS = {
    "email": " (RECOVERY_SPECIAL_USE_DOMAINS, SECURITY_EMAIL_VALIDATOR_ARGS)",
    "username": " (SECURITY_USERNAME_ALLOWED_CHARS, RECOVERY_USERNAME_ASCII)",
    "us_phone_number": " (SECURITY_PHONE_REGION_DEFAULT)",
}
