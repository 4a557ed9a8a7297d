"""The transactional outbox: the life of a message, from the request that adds it to its last outcome.

    enqueue --> waiting -- claim, release --> sent | dropped | given_up (an admin may retry it)
                   ^          |
                   '-- retried, held, postponed

A message is a row in the application's database, committed with the change it belongs to. A claim is a lease
until `due_at`. When a worker dies, its message becomes due again: delivery is at-least-once. The content is
encrypted while the message waits or is a dead letter, and erased afterwards, except from KEPT kinds. Claims
are in `queue.py`.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from flask_babel import get_locale
from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, bindparam, text, update
from sqlalchemy.orm import Mapped, mapped_column

from ..db import encryption
from ..db.clock import utcnow
from ..db.engine import Model, db, inserts
from ..settings import current

# A message without an attempt. SQL text, because it is a part of an index.
UNTRIED = text("state = 'waiting' AND attempts = 0")
# Lanes: a worker takes a message of the second only when none of the first is due, and one of the third in a
# thread of its own. The state is a column of their indexes, or SQLite chooses the index of all states.
SIGN_UP = text("settled_at IS NULL AND attempts = 0 AND kind = 'registration'")
_MAIL = "settled_at IS NULL AND kind <> 'webhook'"
URGENT = text(f"{_MAIL} AND (attempts > 0 OR kind <> 'registration')")
EVENTS = text("settled_at IS NULL AND kind = 'webhook'")
# A message of the first lane that is exempt from the hourly quotas: it holds no link, or was tried already.
EXEMPT = text(f"{_MAIL} AND (attempts > 0 OR kind NOT IN ('reset_instructions', 'registration'))")


class OutboxMessage(Model):
    """A mail or an event to be sent, or the record of one."""

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    sealed: Mapped[str | None] = mapped_column(Text)
    nonce: Mapped[bytes] = mapped_column(LargeBinary(32))  # a link's token is derived from it
    message_id: Mapped[str] = mapped_column(String(255), unique=True)  # the Message-ID header
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(String(20), default="waiting")
    reason: Mapped[str | None] = mapped_column(String(255))  # why it was dropped, given up, retried or held
    attempts: Mapped[int] = mapped_column(default=0)
    claim: Mapped[str | None] = mapped_column(String(32))  # random, names the attempt that holds the lease
    same: Mapped[str | None] = mapped_column(String(64))  # deduplication key until the first attempt
    quota: Mapped[str] = mapped_column(String(64), default="")  # named if it is not just the account's
    created_at: Mapped[datetime] = mapped_column(default=utcnow())  # last requested, or postponed to
    due_at: Mapped[datetime] = mapped_column(default=utcnow())  # next attempt; while claimed, end of lease
    settled_at: Mapped[datetime | None]
    age = timedelta()  # of a claimed message, at its claim, by the database's clock
    is_crowded = False  # of a claimed message, at its claim: the queue (queue.CROWD)
    is_first = False  # of a claimed message: the first over its connection, which takes longer

    __table_args__ = (
        Index("ix_outbox_message_state_due_at", "state", "due_at"),
        Index("ix_outbox_message_user_id_quota_settled_at", "user_id", "quota", "settled_at"),
        Index("ix_outbox_message_quota_settled_at", "quota", "settled_at"),
        Index("uq_outbox_message_same", "same", unique=True, sqlite_where=UNTRIED, postgresql_where=UNTRIED),
        Index("ix_outbox_message_untried", "created_at", sqlite_where=UNTRIED, postgresql_where=UNTRIED),
        Index("ix_outbox_message_urgent", "state", "due_at", sqlite_where=URGENT, postgresql_where=URGENT),
        Index("ix_outbox_message_sign_up", "state", "due_at", sqlite_where=SIGN_UP, postgresql_where=SIGN_UP),
        Index("ix_outbox_message_exempt", "state", "due_at", sqlite_where=EXEMPT, postgresql_where=EXEMPT),
        Index("ix_outbox_message_events", "state", "due_at", sqlite_where=EVENTS, postgresql_where=EVENTS),
    )

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """The decrypted content. Raises DecryptionError."""
        return encryption.decrypt(self.sealed)

    @cached_property
    def name(self) -> str:
        """The unique part of the Message-ID, which names the message in the log and the audit trail."""
        return self.message_id.strip("<>").partition("@")[0]


RENDERED = "flask_security"  # the kind whose content is a rendered mail, so its language does not matter
WEBHOOK = "webhook"  # the kind of an event for the application's webhook
KEPT = ("address_notice",)  # the kinds whose content an objection needs
NOW = utcnow()
REPEAT_SECONDS = 5  # on PostgreSQL, a younger message with the same key stays unchanged

# The statements of a request, on the table and built once. The ORM would add a third to its time.
_messages = db.metadata.tables["outbox_message"]
_REPEATED = update(_messages).where(_messages.c.same == bindparam("key"), UNTRIED)
REPEAT = _REPEATED.values(sealed=bindparam("content"), created_at=NOW)
REPEAT_OLDER = REPEAT.where(_messages.c.created_at <= utcnow(-REPEAT_SECONDS))
INSERTS = {
    dialect: insert(_messages).on_conflict_do_nothing(index_elements=["same"], index_where=UNTRIED)
    for dialect, insert in inserts.items()
}


def enqueue(
    kind: str, *, user_id: int | None = None, same: str | None = None, quota: str = "", **content: Any
) -> None:
    """Add a message to the current transaction. Do nothing for a mail if none is sent (MAIL_SERVER is empty).

    `same`: the deduplication key. An untried message with this key gets the new content, and none is added.
    """
    settings = current()
    if not (settings.sends_mail or kind == WEBHOOK):
        return
    content = content if kind == RENDERED else {"language": str(get_locale()), **content}
    sealed = encryption.encrypt(content)
    key = same and encryption.keyed_hash(same)
    dialect = db.engine.dialect.name
    if key:
        # Two statements: PostgreSQL's ON CONFLICT DO UPDATE locks the row even if it changes nothing, so a
        # flood would prevent its claim. Both always run, so that timing reveals no earlier request.
        repeat = REPEAT_OLDER if dialect == "postgresql" else REPEAT
        db.session.execute(repeat, {"key": key, "content": sealed})
    host = urlsplit(settings.RECOVERY_PUBLIC_URL).hostname
    message = {
        "kind": kind,
        "user_id": user_id,
        "nonce": secrets.token_bytes(32),
        "sealed": sealed,
        "message_id": f"<{secrets.token_hex(16)}@{host}>",  # the same at every attempt
        "same": key,
        "quota": quota,
    }
    db.session.execute(INSERTS[dialect], message)


def release(message: OutboxMessage, outcome: str, reason: str | None, claim: str = "") -> datetime | None:
    """End a claim with an outcome, and return the database's time. None if the lease was lost.

    sent      the relay has accepted the mail
    dropped   the mail must not be sent
    given_up  the mail could not be sent; the dead letter keeps its content, because an admin may retry it
    retried   the message is due again after a pause
    held      the message is back at its place in the queue, and the attempt does not count
    postponed the message is due at its new `created_at`, and the attempt does not count
    """
    values: dict[str, Any] = {"claim": None, "user_id": message.user_id, "reason": reason and reason[:255]}
    if outcome == "retried":
        values["due_at"] = utcnow(backoff(message.attempts))
    elif outcome in ("held", "postponed"):
        values |= {"created_at": (at := message.created_at), "due_at": at, "attempts": message.attempts - 1}
    else:
        sealed = message.sealed if outcome == "given_up" or message.kind in KEPT else None
        values |= {"state": outcome, "sealed": sealed, "settled_at": NOW}
    leased = (OutboxMessage.id == message.id, OutboxMessage.claim == (claim or message.claim))
    statement = update(OutboxMessage).where(*leased).values(values).returning(NOW)
    now: datetime | None = db.session.scalar(statement, execution_options={"synchronize_session": False})
    return now


def backoff(attempt: int) -> float:
    """Return the seconds from a failed attempt to the next: 10, 20, 40, up to an hour, plus jitter."""
    pause: int = min(10 * 2 ** (attempt - 1), 3_600)
    return pause * random.uniform(1, 1.25)  # noqa: S311  # no secret
