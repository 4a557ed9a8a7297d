"""The transactional outbox: the life of a message, from the request that adds it to its last outcome.

    enqueue --> waiting -- claim, release --> sent | dropped | given_up (an admin may retry it)
                   ^          |
                   '-- retried, deferred, set aside, held, postponed

A message is a row in the application's database, committed with the change it belongs to. A claim is a lease
until `due_at`. When a worker dies, its message becomes due again: delivery is at-least-once. The content is
encrypted while the message waits or is a dead letter, and erased afterwards, except from KEPT kinds.

A permanent refusal that does not blame the recipient sets the message aside, until the relay accepts another
message (the refusal was its recipient's) or refuses one for another domain, too (all mail is held).
"""

import random
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from flask_babel import get_locale
from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, bindparam, case, select, text, update
from sqlalchemy.orm import Mapped, mapped_column

from ..db import encryption
from ..db.clock import utcnow
from ..db.engine import Model, db, inserts
from ..settings import current

RENDERED, WEBHOOK = "flask_security", "webhook"  # kinds: a mail that is written already, and an event
KEPT = ("address_notice",)  # the kinds whose content an objection needs
SETTLED = ("sent", "dropped", "given_up")  # the outcomes that end a message
NOW = utcnow()
PAUSE_SECONDS, ASIDE_SECONDS_MAX = 10, 300  # from one attempt to the next
REFUSALS_MAX = 3  # of one message, while others are accepted
REPEAT_SECONDS = 5  # on PostgreSQL, a younger message with the same key stays unchanged
# A message without an attempt. SQL text, because it is a part of an index.
UNTRIED = text("state = 'waiting' AND attempts = 0")
FAILED = text("refused_at IS NOT NULL")
# Lanes: a worker takes a message of the second only when none of the first is due, and then one of INVITED.
# EVENTS have a thread of their own. The state is in their indexes, or SQLite chooses that of all states.
SIGN_UP = text("settled_at IS NULL AND attempts = 0 AND kind = 'registration'")
INVITED = text("settled_at IS NULL AND attempts = 0 AND kind = 'invitation'")
_MAIL = "settled_at IS NULL AND kind <> 'webhook'"
URGENT = text(f"{_MAIL} AND (attempts > 0 OR kind NOT IN ('registration', 'invitation'))")
EVENTS = text("settled_at IS NULL AND kind = 'webhook'")
# A message of the first lane that is exempt from the hourly quotas: it holds no link, or was tried already.
EXEMPT = text(f"{URGENT} AND (attempts > 0 OR kind <> 'reset_instructions')")


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
    refused_at: Mapped[datetime | None]  # first failure since the relay accepted another; outlasts settling
    refused_domain: Mapped[str | None] = mapped_column(String(255))  # of its recipient, while it is set aside
    refusals: Mapped[int] = mapped_column(default=0)  # those that were its recipient's
    claimed_at = datetime.min  # no column, as those below: of a claimed message, by the database's clock
    deadline = 0.0  # of a claimed message, by time.monotonic(): later, another worker may claim it
    domain = ""  # of a composed message: its recipient's
    age = timedelta()  # of a claimed message, at its claim, by the database's clock
    is_crowded = False  # of a claimed message, at its claim: the queue (queue.CROWD)
    others = tuple[int, ...]()  # of a claimed message: further accounts with the identity
    is_first = False  # of a claimed message: the first over its connection, which takes longer

    __table_args__ = (
        Index("ix_outbox_message_state_due_at", "state", "due_at"),
        Index("ix_outbox_message_user_id_quota_settled_at", "user_id", "quota", "settled_at"),
        Index("ix_outbox_message_quota_settled_at", "quota", "settled_at"),
        Index("uq_outbox_message_same", "same", unique=True, sqlite_where=UNTRIED, postgresql_where=UNTRIED),
        Index("ix_outbox_message_untried", "created_at", sqlite_where=UNTRIED, postgresql_where=UNTRIED),
        Index("ix_outbox_message_refused_at", "refused_at", sqlite_where=FAILED, postgresql_where=FAILED),
        Index("ix_outbox_message_urgent", "state", "due_at", sqlite_where=URGENT, postgresql_where=URGENT),
        Index("ix_outbox_message_sign_up", "state", "due_at", sqlite_where=SIGN_UP, postgresql_where=SIGN_UP),
        Index("ix_outbox_message_invited", "state", "due_at", sqlite_where=INVITED, postgresql_where=INVITED),
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


REFUSED = OutboxMessage.refused_at > datetime.min  # a range, or SQLite would scan the index
IS_ASIDE = OutboxMessage.refused_domain.is_not(None)

# The statements of a request, on the table and built once: inline they take a fifth of its time.
_messages = db.metadata.tables["outbox_message"]
_REPEATED = update(_messages).where(_messages.c.same == bindparam("key"), UNTRIED)
REPEAT = _REPEATED.values(sealed=bindparam("content"), created_at=NOW)
REPEAT_OLDER = REPEAT.where(_messages.c.created_at <= utcnow(-REPEAT_SECONDS))
INSERTS = {
    dialect: insert(_messages).on_conflict_do_nothing(index_elements=["same"], index_where=UNTRIED)
    for dialect, insert in inserts.items()
}
# Once a message is accepted. A claimed one is left alone, because its `due_at` is the end of its lease.
_free = select(OutboxMessage.id).where(REFUSED, OutboxMessage.claim.is_(None), bindparam("is_sent", False))
_RELEASED = update(_messages).where(_messages.c.id.in_(_free.with_for_update(skip_locked=True)))
END_REFUSALS = _RELEASED.values(
    refused_at=None,
    refused_domain=None,
    refusals=_messages.c.refusals + case((IS_ASIDE, 1), else_=0),
    due_at=case((IS_ASIDE, utcnow(PAUSE_SECONDS)), else_=_messages.c.due_at),
)


def enqueue(
    kind: str, *, user_id: int | None = None, same: str | None = None, quota: str = "", **content: Any
) -> None:
    """Add a message to the current transaction. Do nothing for a mail if none is sent (MAIL_SERVER is empty).

    `same`: the deduplication key. An untried message with this key gets the new content, and none is added.
    """
    if not (current().sends_mail or kind == WEBHOOK):
        return
    if kind != RENDERED:
        content = {"language": str(get_locale()), "occurred_at": datetime.now(UTC).isoformat(), **content}
    sealed = encryption.encrypt(content)
    key, dialect = same and encryption.keyed_hash(same), db.engine.dialect.name
    if key:
        # Two statements: PostgreSQL's ON CONFLICT DO UPDATE locks the row even if it changes nothing, so a
        # flood would prevent its claim. Both always run, so that timing reveals no earlier request.
        repeat = REPEAT_OLDER if dialect == "postgresql" else REPEAT
        db.session.execute(repeat, {"key": key, "content": sealed})
    host = urlsplit(current().RECOVERY_PUBLIC_URL).hostname
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
    deferred  the same, for a reason that is its recipient's
    set_aside the same, and the attempt does not count
    held      the message is back at its place in the queue, and the attempt does not count
    postponed the message is due at its new `created_at`, and the attempt does not count
    """
    if outcome == "dropped" and message.refused_at:  # the refusal remains a problem
        reason = f"{message.reason}; {reason}"
    values: dict[str, Any] = {"claim": None, "user_id": message.user_id, "reason": reason and reason[:255]}
    if outcome in SETTLED:
        sealed = message.sealed if outcome == "given_up" or message.kind in KEPT else None
        values |= {"state": outcome, "sealed": sealed, "settled_at": NOW}
    elif outcome in ("retried", "deferred"):
        values["due_at"] = utcnow(backoff(message.attempts))
    else:
        values |= {"created_at": (at := message.created_at), "due_at": at, "attempts": message.attempts - 1}
    if outcome in ("retried", "set_aside") and message.kind != WEBHOOK:
        values["refused_at"] = message.refused_at or NOW
    if outcome == "set_aside":  # due again when it has been refused for twice as long
        seconds = (message.claimed_at - (message.refused_at or message.claimed_at)).total_seconds()
        pause = min(max(PAUSE_SECONDS, seconds), ASIDE_SECONDS_MAX)
        values |= {"refused_domain": message.domain, "due_at": utcnow(pause)}
    leased = (OutboxMessage.id == message.id, OutboxMessage.claim == (claim or message.claim))
    statement = update(OutboxMessage).where(*leased).values(values).returning(NOW)
    now: datetime | None = db.session.scalar(statement, execution_options={"synchronize_session": False})
    # Executed after every outcome, because its time would tell that a mail was sent.
    db.session.execute(END_REFUSALS, {"is_sent": bool(now) and outcome == "sent" and message.kind != WEBHOOK})
    return now


def backoff(attempt: int) -> float:
    """Return the seconds from a failed attempt to the next: 10, 20, 40, up to an hour, plus jitter."""
    pause: int = min(PAUSE_SECONDS * 2 ** (attempt - 1), 3_600)
    return pause * random.uniform(1, 1.25)  # noqa: S311  # no secret
