"""Flask-Security's datastore over Sparekey's tables, and how an account is found."""

from __future__ import annotations

from typing import Any, cast

from flask_security import SQLAlchemyUserDatastore
from flask_security.utils import lookup_identity
from sqlalchemy import Integer, Text, column, table, update
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from ..db.engine import change, db
from .identities import IdentityError, canonical, known_as
from .models import User


def find_account(typed: str) -> User | None:
    """The account that what was typed stands for.

    The database folds case by rules of its own, so what it found is compared once more here.
    """
    user, known = cast("User | None", lookup_identity(typed)), known_as(typed)
    if known is None:
        return None
    column, form = known
    stored = form if user is None else getattr(user, column)  # compared for nobody, too: it takes time
    return user if stored == form or canonical(column, stored or "") == form else None


# Recovery codes as the database holds them: Flask-Security's type for them can not be compared.
_CODES = table("user", column("id", Integer), column("mf_recovery_codes", Text))


class Accounts(SQLAlchemyUserDatastore):
    """Flask-Security's datastore; a taken identity is said at once, not at the end of the request."""

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
        """As Flask-Security's; of two who type one code at once, one comes in, and the other gets 409."""
        codes = list(user.mf_recovery_codes or ())
        if idx >= len(codes):
            return False
        left = ",".join(codes[:idx] + codes[idx + 1 :])
        mine = (_CODES.c.id == user.id, _CODES.c.mf_recovery_codes == ",".join(codes))
        if not change(update(_CODES).where(*mine).values(mf_recovery_codes=left)):
            raise StaleDataError
        return True
