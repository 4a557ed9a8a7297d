"""A row of `manage.py users import` as an account: what stands in the table, or what is wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..accounts import hashing, imported_hashes
from ..accounts.identities import canonical
from ..settings import current
from ..settings.types import IDENTITIES, language
from .import_files import COLUMNS, BadRow, Row

LENGTH_MAX = 255  # of any value: what the columns hold
YES, NO = ("yes", "true", "t", "1", "y"), ("no", "false", "f", "0", "n")
UNUSABLE = "!"  # how Django writes that there is no password
HINTS = {
    "username": " (SECURITY_USERNAME_ALLOWED_CHARS, RECOVERY_USERNAME_ASCII)",
    "us_phone_number": " (SECURITY_PHONE_REGION_DEFAULT)",
}


class Hashes(NamedTuple):
    """What the column password_hash holds, and what becomes of a hash that can not be verified."""

    are_stock: bool  # Flask-Security's
    reset_unknown: bool

    def stored(self, hashed: str) -> str | None:
        """What the table gets; None for an account without a password. Raises BadRow."""
        if not hashed or hashed.startswith(UNUSABLE):
            return None
        kept = imported_hashes.stored(hashed, is_stock=self.are_stock)
        if kept and len(kept) <= LENGTH_MAX:
            return kept
        if self.reset_unknown:  # no account without a password gets a reset mail
            return hashing.of_nobody(current().SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS)
        if self.are_stock:
            raise BadRow("password_hash: none of Flask-Security's, or cut off")
        known = ", ".join(name for name in imported_hashes.FORMATS if name != imported_hashes.STOCK)
        raise BadRow(f"password_hash: of no known format ({known}), or cut off")


def account(row: Row, hashes: Hashes) -> dict[str, Any]:
    """What stands in the table. Raises BadRow."""
    for name, value in row.items():
        _check_text(name, value)
    values = {name: (row.get(name) or "").strip() for name in COLUMNS}
    if not values["email"]:
        raise BadRow("email: needed")
    identities = {name: _canonical(name, values[name]) for name in IDENTITIES}
    return {
        **identities,
        "password": hashes.stored(values["password_hash"]),
        "active": _yes_or_no(values["active"]),
        "confirmed_at": _moment(values["confirmed_at"]),
        "language": _language(values["language"]),
    }


def _check_text(name: str, value: str) -> None:
    if len(value) > LENGTH_MAX - len(imported_hashes.MARK):
        raise BadRow(f"{name}: longer than {LENGTH_MAX - len(imported_hashes.MARK)} characters")
    if not value.strip().isprintable():
        is_text = not any("\ud800" <= character <= "\udfff" for character in value)
        raise BadRow(f"{name}: {'it holds control characters' if is_text else 'this is not UTF-8'}")


def _canonical(name: str, value: str) -> str | None:
    if not value:
        return None
    form = canonical(name, value)
    if form is None:
        raise BadRow(f"{name}: that can be nobody's {words(name)}{HINTS.get(name, '')}")
    return form


def _yes_or_no(value: str) -> bool:
    word = value.lower()
    if word and word not in (*YES, *NO):
        raise BadRow("active: give yes or no")
    return word not in NO


def _moment(value: str) -> str | None:
    """In ISO 8601, as the database keeps it: UTC, without saying so."""
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise BadRow("confirmed_at: give a time such as 2026-01-31T12:00:00Z") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(tzinfo=None).isoformat()


def _language(value: str) -> str | None:
    try:
        return language(value) if value else None
    except ValueError as error:
        raise BadRow(f"language: {error}") from None


def words(kind: str) -> str:
    return {"email": "address", "username": "username"}.get(kind, "phone number")
