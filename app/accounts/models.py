"""The tables. Accounts are Flask-Security's complete model, so that its features need no migration;
links, messages and events are ours. Each of ours lives in its own module; here is only its shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask_security.confirmable import requires_confirmation
from flask_security.models import fsqla, fsqla_v4
from sqlalchemy import Column, ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, validates

from ..db.engine import Model, db
from ..settings.types import language as normalize_language
from . import sessions
from .identities import IdentityError, canonical

# Flask-Security's own table has no key and so no index: every look-up of a user's roles scanned it.
fsqla.FsModels.db = db
fsqla.FsModels.roles_users = db.Table(
    "roles_users",
    Column("user_id", ForeignKey("user.id", ondelete="CASCADE"), primary_key=True),
    Column("role_id", ForeignKey("role.id", ondelete="CASCADE"), primary_key=True),
)


class Role(Model, fsqla_v4.FsRoleMixin):
    """A named set of permissions."""


class User(Model, fsqla_v4.FsUserMixin):
    """An account. Identities are stored in canonical form, whatever writes them."""

    # The mixin declares its columns as Column: what reading them gives is another type, so each is ignored.
    if TYPE_CHECKING:
        id: Mapped[int]  # type: ignore[assignment]
        email: Mapped[str]  # type: ignore[assignment]
        password: Mapped[str | None]  # type: ignore[assignment]
        active: Mapped[bool]
        fs_uniquifier: Mapped[str]  # type: ignore[assignment]

    language: Mapped[str | None] = mapped_column(String(20))  # of its mails; none: that of whoever asks

    __table_args__ = (
        Index("uq_user_email_lower", func.lower(text("email")), unique=True),
        Index("uq_user_username_lower", func.lower(text("username")), unique=True),
    )

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805  # SQLAlchemy hands in the class
        """Flask-Security changes the uniquifier with every password: whoever read an account before
        that can not write it after, so a slow change or rehash never undoes a reset."""
        return {"version_id_col": cls.__table__.c.fs_uniquifier, "version_id_generator": False}

    def get_id(self) -> str:
        """What Flask-Login's cookies keep."""
        return sessions.stamped(self.fs_uniquifier)

    def why_not_recoverable(self, confirmed: bool = False) -> str | None:
        """Why this account can not be recovered by a link now; None when it can. `confirmed`: by it."""
        if not self.is_active:
            return "the account is not active"
        if self.is_locked():
            return "the account is locked"
        if not confirmed and requires_confirmation(self):
            return "the address is not confirmed"
        if not self.password:
            return "the account has no password: it signs in another way"
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, User) and self.fs_uniquifier == other.fs_uniquifier

    __hash__ = object.__hash__

    @validates("email", "username", "us_phone_number")
    def _store_canonically(self, column: str, value: Any) -> str | None:
        if value is None or value == "":
            return None
        stored = canonical(column, str(value))
        if stored is None:
            raise IdentityError(f"{value!r} can not be stored as {column}")
        return stored

    @validates("language")
    def _store_as_babel_does(self, _column: str, value: Any) -> str | None:
        return normalize_language(str(value)) if value else None


class WebAuthn(Model, fsqla_v4.FsWebAuthnMixin):
    """A passkey."""

    __tablename__ = "webauthn"
    __table_args__ = (Index("ix_webauthn_user_id", "user_id"),)


class FsRefreshTracker(Model, fsqla_v4.FsRefreshTrackerMixin):
    """A family of refresh tokens."""

    __tablename__ = "fs_refresh"
    __table_args__ = (
        Index("ix_fs_refresh_user_id", "user_id"),
        Index("ix_fs_refresh_expires_at", "expires_at"),
    )
