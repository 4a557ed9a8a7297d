"""The account datastore: Flask-Security's, over Sparekey's tables. Also the look-up and the end of access."""

from contextlib import suppress
from typing import Any

from flask_security import SQLAlchemyUserDatastore
from flask_security.proxies import _datastore, _security
from sqlalchemy import ColumnElement, column, exists, insert, literal, select, table, update
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from ..db.audit import RecoveryEvent
from ..db.clock import parse_time, utcnow
from ..db.engine import change, db
from ..settings import current
from ..settings.identities import CASE_INSENSITIVE
from . import foreign
from .hashing import unusable_hash
from .identities import IdentityError, map_identity
from .identity_mappers import normalize_identity
from .models import User

# Of accounts that are older than SECURITY_CONFIRMABLE. A sign-up or invitation waits for its owner.
_SIGN_UP = exists().where(RecoveryEvent.user_id == User.id, RecoveryEvent.kind == "registered")
UNCONFIRMED = (User.confirmed_at.is_(None), User.invited_at.is_(None), ~_SIGN_UP)
TIMES = ("confirmed_at", "create_datetime", "current_login_at", "last_login_at")  # as text in a command
# Recovery codes as text, because SQLAlchemy warns of Flask-Security's type in a statement.
_CODES = table("user", column("id"), column("mf_recovery_codes"))


def find_accounts(typed: str) -> list[User]:
    """Return the accounts with this identity. Only an application's table can have several."""
    if current().RECOVERY_ACCOUNTS:
        return foreign.find_all(typed)
    if (key := map_identity(typed)) is None:
        return []
    ignores_case = key.column in CASE_INSENSITIVE
    user: Any = _datastore.find_user(case_insensitive=ignores_case, **{key.column: key.value})
    # Compared again, because databases fold case by rules of their own.
    is_same = user and normalize_identity(key.column, getattr(user, key.column)) == key.value
    return [user] if is_same else []


def lock_account(user_id: int) -> None:
    """Lock an account before its links, as a redemption does, or the two would deadlock (PostgreSQL)."""
    if current().RECOVERY_ACCOUNTS:
        foreign.lock(user_id)
    db.session.execute(select(User.id).where(User.id == user_id).with_for_update())


def unchanged_account(user: User) -> tuple[ColumnElement[bool], ...]:
    """Return conditions on an account's row that hold while it is as it was read, for a redemption."""
    is_as_read = (User.active.is_(True), User.email == user.email, User.password == user.password)
    return User.id == user.id, *(() if user.external_id else is_as_read)


def confirm_existing() -> int:
    """Confirm the address of every unconfirmed account but sign-ups. Return their number."""
    rows = select(literal("account_changed"), literal("added confirmed"), User.id).where(*UNCONFIRMED)
    db.session.execute(insert(RecoveryEvent).from_select(("kind", "reason", "user_id"), rows))
    return change(update(User).where(*UNCONFIRMED).values(confirmed_at=utcnow()))


def end_access(user_id: int, *, with_password: bool) -> None:
    """End every session, token and mailed code of an account. `with_password`: withdraw its password, too.

    The account keeps a hash that matches no password, so that its owner can recover it.
    """
    user = db.session.get_one(User, user_id)
    if with_password and user.password:  # or an owner who signs in another way would get one
        # Refused at the next redemption. One that was withdrawn before stays, because a thief knows it.
        user.withdrawn_password = user.withdrawn_password or user.password
        user.password = unusable_hash(user.password)
    end_mailed_codes(user)
    _datastore.set_uniquifier(user)
    _datastore.refresh_tracker_reset(user)


def end_mailed_codes(user: User) -> None:
    """End the codes that were mailed to an account: its next ones have another secret."""
    with suppress(ValueError, TypeError):  # what cannot be read is no factor
        if "email" in _datastore.us_get_totp_secrets(user):
            _datastore.us_setup_email(user)  # does nothing while SECURITY_UNIFIED_SIGNIN is off
    if user.tf_primary_method == "email" and current().SECURITY_TOTP_SECRETS:
        _datastore.tf_set(user, "email", totp_secret=_security.totp_factory.generate_totp_secret())


class AccountDatastore(SQLAlchemyUserDatastore):
    """Flask-Security's datastore, safe for requests that create an account or use a code at the same time."""

    def create_user(self, **attributes: Any) -> Any:
        """Create and flush an account. Raises IdentityError when another one has an identity of it."""
        times = {name: attributes[name] for name in TIMES if isinstance(attributes.get(name), str)}
        attributes |= {name: parse_time(text) for name, text in times.items()}
        user = super().create_user(**attributes)
        try:
            db.session.flush()
        except (IntegrityError, DataError):
            db.session.rollback()
            raise IdentityError("another account has one of these identities, or one is too long") from None
        return user

    def create_role(self, **attributes: Any) -> Any:
        """Create and flush a role, before Flask-Security's command says that it did."""
        role = super().create_role(**attributes)
        db.session.flush()
        return role

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
