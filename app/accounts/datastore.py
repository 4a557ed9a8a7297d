"""Flask-Security's datastore over Sparekey's tables, and how an account is found."""

from __future__ import annotations

from typing import Any

from flask_security import SQLAlchemyUserDatastore
from flask_security.proxies import _datastore
from sqlalchemy import column, table, update
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from ..db.engine import change, db
from .identities import CASE_INSENSITIVE, IdentityError, map_identity, normalize_identity
from .models import User

# Recovery codes as text, because Flask-Security's type for them cannot be compared.
_CODES = table("user", column("id"), column("mf_recovery_codes"))


def find_account(typed: str) -> User | None:
    """Return the account with this identity, compared again here, because databases fold case differently."""
    if (known := map_identity(typed)) is None:
        return None
    kind, form = known
    user: Any = _datastore.find_user(case_insensitive=kind in CASE_INSENSITIVE, **{kind: form})
    return user if user and normalize_identity(kind, getattr(user, kind)) == form else None


class AccountDatastore(SQLAlchemyUserDatastore):
    """Flask-Security's datastore; create_user and a used recovery code are decided at once."""

    def create_user(self, **attributes: Any) -> Any:
        """As Flask-Security's. Raises IdentityError when another account has one of the identities."""
        user = super().create_user(**attributes)
        try:
            db.session.flush()
        except (IntegrityError, DataError):
            db.session.rollback()
            raise IdentityError("another account has one of these identities, or one is too long") from None
        return user

    def mf_delete_recovery_code(self, user: Any, idx: int) -> bool:
        """As Flask-Security's. Raises StaleDataError (409) when another request has used a code meanwhile."""
        codes = list(user.mf_recovery_codes or ())
        if idx >= len(codes):
            return False
        unchanged = (_CODES.c.id == user.id, _CODES.c.mf_recovery_codes == ",".join(codes))
        left = ",".join(codes[:idx] + codes[idx + 1 :])
        if not change(update(_CODES).where(*unchanged).values(mf_recovery_codes=left)):
            raise StaleDataError
        return True
