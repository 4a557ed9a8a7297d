"""The account datastore: Flask-Security's, over Sparekey's tables. Also the look-up and the end of access."""

from __future__ import annotations

from typing import Any

from flask_security import SQLAlchemyUserDatastore
from flask_security.proxies import _datastore
from sqlalchemy import column, table, update
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from ..db.engine import change, db
from ..settings.identities import CASE_INSENSITIVE
from .hashing import unusable_hash
from .identities import IdentityError, map_identity, normalize_identity
from .models import User

# Recovery codes as text, because SQLAlchemy warns of Flask-Security's type in a statement.
_CODES = table("user", column("id"), column("mf_recovery_codes"))


def find_account(typed: str) -> User | None:
    """Return the account with this identity, or None."""
    if (key := map_identity(typed)) is None:
        return None
    ignores_case = key.column in CASE_INSENSITIVE
    user: Any = _datastore.find_user(case_insensitive=ignores_case, **{key.column: key.value})
    # Compared again, because databases fold case by rules of their own.
    return user if user and normalize_identity(key.column, getattr(user, key.column)) == key.value else None


def end_access(user_id: int, *, with_password: bool) -> None:
    """End every session and token of an account, and with `with_password` withdraw its password.

    The account keeps a hash that matches no password, so that its owner can recover it.
    """
    user = db.session.get_one(User, user_id)
    if with_password:
        # Refused at the next redemption. One that was withdrawn before stays, because a thief knows it.
        user.withdrawn_password = user.withdrawn_password or user.password
        user.password = unusable_hash()
    _datastore.set_uniquifier(user)
    _datastore.refresh_tracker_reset(user)


class AccountDatastore(SQLAlchemyUserDatastore):
    """Flask-Security's datastore, safe for requests that create an account or use a code at the same time."""

    def create_user(self, **attributes: Any) -> Any:
        """Create and flush an account. Raises IdentityError when another one has an identity of it."""
        user = super().create_user(**attributes)
        try:
            db.session.flush()
        except (IntegrityError, DataError):
            db.session.rollback()
            raise IdentityError("another account has one of these identities, or one is too long") from None
        return user

    def mf_delete_recovery_code(self, user: Any, idx: int) -> bool:
        """Delete a used code, and return whether it was there.

        Raises StaleDataError (409) when another request has changed the codes.
        """
        codes = list(user.mf_recovery_codes or ())
        if idx >= len(codes):
            return False
        unchanged = (_CODES.c.id == user.id, _CODES.c.mf_recovery_codes == ",".join(codes))
        remaining = ",".join(codes[:idx] + codes[idx + 1 :])
        if not change(update(_CODES).where(*unchanged).values(mf_recovery_codes=remaining)):
            raise StaleDataError
        return True
