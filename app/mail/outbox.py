"""The outbox: a message's whole life, from the request that wants it sent to its end.

    waiting -- claim --> sent | dropped | given_up (an admin may have it tried again)
       ^          |
       '-- retry_later, hold

A message is a row in the same database, committed with the change it belongs to. A claim is a lease: who
dies holding one loses it when `due_at` passes, so a message is tried at least once; who lives renews it.
What it says (what was typed, who asked) is sealed while it waits or is a dead letter, and erased then.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache, cached_property
from typing import Any
from urllib.parse import urlsplit

from flask import current_app
from sqlalchemy import Float, ForeignKey, Index, LargeBinary, String, Text, bindparam, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from ..db import sealed as seals
from ..db.clock import utcnow
from ..db.engine import Model, db, inserts, keep_lazily
from ..db.group_commit import Write
from ..settings import current
from ..web.i18n import spoken
from .backoff import backoff

log = logging.getLogger(__name__)

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

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """What `outbox.enqueue` was given. Raises Unreadable."""
        return seals.decrypt(self.sealed)

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


CLAIM_WAIT_MS, CLAIM_WAITS_ONE_IN = 2_000, 8  # how long a claim waits for a locked row, and how often at all
REASON_LENGTH_MAX = 255
WRITTEN = "flask_security"  # these rest as they are sent, in whatever language that is


def enqueue(kind: str, **what: Any) -> None:
    """Add a message to the current transaction: sent if and only if that commits. Where no mail is: none."""
    if current().sends_mail:
        db.session.execute(*written(kind, **what))


def written(kind: str, *, user_id: int | None = None, same: str | None = None, **content: Any) -> Write:
    """A message, to be written. Messages that are the `same` become one, as long as it was not tried yet."""
    host = urlsplit(current().RECOVERY_PUBLIC_URL).hostname
    content = content if kind == WRITTEN else {"language": spoken().name, **content}
    random = secrets.token_bytes(32 + 16)
    message = {
        "kind": kind,
        "user_id": user_id,
        "nonce": random[:32],
        "sealed": seals.encrypt(content),
        "message_id": f"<{random[32:].hex()}@{host}>",  # of every attempt: a repeat can be recognised
        "same": same and seals.keyed_hash(same),
    }
    return _insert_or_refresh(db.engine.dialect.name), message


@cache  # built once: it takes longer than running it
def _insert_or_refresh(dialect: str) -> Any:
    new = inserts[dialect](OutboxMessage.__table__)
    again = {"sealed": new.excluded.sealed, "created_at": new.excluded.created_at}
    return new.on_conflict_do_update(index_elements=["same"], index_where=UNTRIED, set_=again)


_TABLE: Any = OutboxMessage.__table__
# Asked for once, not for each row: a clock that moves can not be looked up in an index (PostgreSQL).
_NOW = select(utcnow()).scalar_subquery()


@cache  # statements are made once: that takes longer than to run them
def _due(held: bool) -> Any:
    """The one that is due longest; with mails with links `held`, of those that go out all the same."""
    due = (_TABLE.c.state == "waiting", _TABLE.c.due_at <= _NOW)
    which = (*due, UNCOUNTED) if held else due
    return select(_TABLE.c.id).where(*which).order_by(_TABLE.c.due_at).limit(1)


@cache
def _taking(held: bool, skip_locked: bool) -> Any:
    which = _TABLE.c.id == _due(held).with_for_update(skip_locked=skip_locked).scalar_subquery()
    taken = {
        "attempts": _TABLE.c.attempts + 1,  # here, so that a message that kills its worker ends, too
        "claim": bindparam("mark"),
        "same": None,  # who asks from now on wants a mail of their own
        "due_at": utcnow(bindparam("lease", type_=Float)),
    }
    return update(_TABLE).where(which).values(**taken).returning(*_TABLE.c)


def is_due(held: bool = False) -> bool:
    """Whether any message is due; with mails with links `held`, any other. Takes no lock."""
    found = db.session.scalar(_due(held))
    db.session.rollback()
    return found is not None


def claim(held: bool = False) -> OutboxMessage | None:
    """Take the message that is due longest, for one lease; with mails with links `held`, of the others. It
    comes detached; None when none is due."""
    if db.engine.dialect.name == "sqlite":
        return _take(held)
    # Another worker holds the row for a moment, or who asks for the same right now. Waited for each time,
    # workers stand in line; never, and a flood would starve it; without end, a frozen process stops all mail.
    try:
        is_patient = secrets.randbelow(CLAIM_WAITS_ONE_IN) == 0
        return _take(held, CLAIM_WAIT_MS if is_patient else 0)
    except OperationalError:
        db.session.rollback()
        return _take(held)


def _take(held: bool, patience_ms: int = 0) -> OutboxMessage | None:
    keep_lazily(patience_ms)  # without it the message is due, as it was
    taken = {"mark": secrets.token_hex(16), "lease": current().RECOVERY_MAIL_LEASE.total_seconds()}
    row = db.session.execute(_taking(held, skip_locked=not patience_ms), taken).first()
    db.session.commit()
    return OutboxMessage(**row._mapping) if row else None


def age_of(message: OutboxMessage) -> timedelta:
    """How long ago a message that was just claimed was asked for, by the database's clock."""
    return message.due_at - current().RECOVERY_MAIL_LEASE - message.created_at


def renew(message: OutboxMessage) -> bool:
    """Hold it for one lease from now. False when the lease was lost."""
    return _change(message, due_in=current().RECOVERY_MAIL_LEASE.total_seconds()) is not None


def settle(message: OutboxMessage, state: str, reason: str | None = None) -> datetime | None:
    """This is its end. When that was, by the database's clock; None when the lease was lost meanwhile.

    `sent`: the relay has accepted it. `dropped`: it must not be sent. `given_up`: it could not be sent,
    and is not tried again unless an admin says so: a dead letter, which keeps its content for that.
    """
    kept = message.sealed if state == "given_up" else None
    ended = {"state": state, "reason": reason, "sealed": kept, "claim": None, "settled_in": 0.0}
    return _change(message, user_id=message.user_id, **ended)


def retry_later(message: OutboxMessage, reason: str) -> bool:
    """This attempt failed; the pauses double from 10 seconds to an hour."""
    pause = backoff(message.attempts)
    return _change(message, claim=None, due_in=pause, reason=reason, user_id=message.user_id) is not None


def hold(message: OutboxMessage, reason: str) -> None:
    """No mail can go out: put it back where it was in the queue. The attempt does not count."""
    attempts = message.attempts - 1
    _change(message, claim=None, due_at=message.created_at, attempts=attempts, reason=reason)


def _change(message: OutboxMessage, **values: Any) -> datetime | None:
    """Change the row if this claim still holds it; when, by the database's clock. `…_in`: seconds to come."""
    if reason := values.get("reason"):
        values["reason"] = reason[:REASON_LENGTH_MAX]
    given = {f"new_{name}": value for name, value in values.items()}
    held = {"message": message.id, "mark": message.claim}
    at: datetime | None = db.session.scalar(_changing(*values), {**given, **held})
    return at


@cache
def _changing(*names: str) -> Any:
    values: dict[str, Any] = {}
    for name in names:
        if name.endswith("_in"):
            values[f"{name[:-3]}_at"] = utcnow(bindparam(f"new_{name}", type_=Float))
        else:
            values[name] = bindparam(f"new_{name}")
    held = (_TABLE.c.id == bindparam("message"), _TABLE.c.claim == bindparam("mark"))
    return update(_TABLE).where(*held).values(**values).returning(utcnow())


COUNT_SECONDS = 1  # how often a process counts what waits


def is_full() -> bool:
    """Whether RECOVERY_MAIL_WAITING_MAX messages wait already; the log says so, once a count."""
    counted_at, full = current_app.extensions.get("outbox_full", (0.0, False))
    if time.monotonic() - counted_at >= COUNT_SECONDS:
        most = current().RECOVERY_MAIL_WAITING_MAX
        last = select(OutboxMessage.id).where(OutboxMessage.state == "waiting").offset(most - 1).limit(1)
        full = db.session.scalar(last) is not None
        current_app.extensions["outbox_full"] = time.monotonic(), full
        if full:
            log.error("%s mails wait (RECOVERY_MAIL_WAITING_MAX): requests for more are not kept", most)
    return bool(full)
