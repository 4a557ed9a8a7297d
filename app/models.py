"""The tables. Accounts are Flask-Security's complete model, so that its features need no migration;
links, messages and events are ours. Each of ours lives in its own module; here is only its shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flask_security.confirmable import requires_confirmation
from flask_security.models import fsqla, fsqla_v4
from sqlalchemy import Column, ForeignKey, Index, LargeBinary, String, Text, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, validates

from . import kinds, seals, sessions
from .db import db, utcnow
from .errors import IdentityError
from .identities import canonical

if TYPE_CHECKING:

    class Model(DeclarativeBase):
        """What db.Model is, in words that the type checker knows."""

else:
    Model = db.Model

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
        return kinds.language(str(value)) if value else None


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


# A message that nobody has tried to send yet: as SQL, since it is a part of an index.
UNTRIED = text("state = 'waiting' AND attempts = 0")
# Of mails that wait, those that go out over the budget of all, too: without a link, or tried already. The
# state is not in it, but in its index: else SQLite takes that of all states, or PostgreSQL walks it through.
UNCOUNTED = text(
    "settled_at IS NULL AND (attempts > 0 OR kind NOT IN ('reset_instructions', 'registration'))"
)


class OutboxMessage(Model):
    """A mail to be sent; `outbox.py` is its life. What it says is sealed, and erased when settled."""

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    sealed: Mapped[str | None] = mapped_column(Text)
    nonce: Mapped[bytes] = mapped_column(LargeBinary(32))  # a link's token is made from it
    message_id: Mapped[str] = mapped_column(String(255), unique=True)  # the Message-ID header
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(String(20), default="waiting")
    reason: Mapped[str | None] = mapped_column(String(255))  # why it was dropped or given up
    attempts: Mapped[int] = mapped_column(default=0)
    claim: Mapped[str | None] = mapped_column(String(32))  # whose attempt it is
    # Until it is tried for the first time: what asks for the same again meets it here.
    same: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=utcnow())  # when it was last asked for
    due_at: Mapped[datetime] = mapped_column(default=utcnow())  # next attempt; while claimed, end of lease
    settled_at: Mapped[datetime | None]

    supersedes = True  # other links of the account, unless it is known that there are none; kept nowhere

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """What `outbox.enqueue` was given. Raises Unreadable."""
        return seals.opened(self.sealed)

    @property
    def name(self) -> str:
        """What the log and the audit trail call it: the unique part of its Message-ID."""
        return self.message_id.strip("<>").partition("@")[0]

    __table_args__ = (
        Index("ix_outbox_message_state_due_at", "state", "due_at"),
        Index("ix_outbox_message_user_id_settled_at", "user_id", "settled_at"),
        Index("uq_outbox_message_same", "same", unique=True, sqlite_where=UNTRIED, postgresql_where=UNTRIED),
        Index("ix_outbox_message_untried", "created_at", sqlite_where=UNTRIED, postgresql_where=UNTRIED),
        Index(
            "ix_outbox_message_uncounted",
            "state",
            "due_at",
            sqlite_where=UNCOUNTED,
            postgresql_where=UNCOUNTED,
        ),
    )


class ResetLink(Model):
    """A reset link; `links.py` is its life. It remembers what it was issued for."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    message_id: Mapped[int | None] = mapped_column(
        ForeignKey("outbox_message.id", ondelete="SET NULL"), unique=True
    )
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)  # HMAC-SHA256, hex
    email: Mapped[str] = mapped_column(String(255))  # the address it went to
    password_state: Mapped[str] = mapped_column(String(64))  # the password it may replace
    client: Mapped[str] = mapped_column(String(40))  # the front end it lands on
    issued_at: Mapped[datetime] = mapped_column(default=utcnow(), index=True)
    expires_at: Mapped[datetime]
    opened_at: Mapped[datetime | None]  # for the first time, by whomever: a mail scanner opens links, too
    redeemed_at: Mapped[datetime | None]
    superseded_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    undelivered_at: Mapped[datetime | None]  # its mail was given up: it does not count as a mail

    __table_args__ = (Index("ix_reset_link_user_id_issued_at", "user_id", "issued_at"),)


# What a link must not have been through to be usable.
OPEN = tuple(
    ResetLink.__table__.c[at].is_(None) for at in ("redeemed_at", "superseded_at", "revoked_at")
)  # the table's: with the class's, SQLAlchemy takes a longer way through each statement


class WorkerSign(Model):
    """When a worker was last seen; `health.py` reads and writes it."""

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(default=utcnow())
    trouble: Mapped[str | None] = mapped_column(String(255))  # why it can send no mail at all


class RecoveryEvent(Model):
    """One line of the audit trail; `audit.py` writes it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utcnow(), index=True)
    kind: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str | None] = mapped_column(String(255))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"), index=True)
    source: Mapped[str | None] = mapped_column(String(45))  # the address the request came from
    client: Mapped[str | None] = mapped_column(String(40))
    request_id: Mapped[str | None] = mapped_column(String(32))
    seconds: Mapped[float | None]  # of a mail: from when it was asked for until the relay accepted it

    __table_args__ = (Index("ix_recovery_event_kind_at", "kind", "at"),)


class EventTotal(Model):
    """How many events there were, whatever was purged since; `tally.py` adds them up."""

    kind: Mapped[str] = mapped_column(String(40), primary_key=True)
    reason: Mapped[str] = mapped_column(String(255), primary_key=True)
    within: Mapped[float] = mapped_column(primary_key=True)  # a bound of the time that a mail took
    count: Mapped[int]
    seconds: Mapped[float]
