"""The outbox: a message's whole life, from the request that wants it sent to its end.

    waiting -- claim --> sent | dropped | given_up (an admin may have it tried again)
       ^          |
       '-- retry_later, hold

A message is a row in the same database, committed with the change it belongs to. A claim is a lease: who
dies holding one loses it when `due_at` passes, so a message is tried at least once; who lives renews it.
What it says (what was typed, who asked) is sealed while it waits or is a dead letter, and erased then.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import ColumnElement, or_, select, text, true, update
from sqlalchemy.exc import OperationalError

from .db import change, db, inserts, utcnow
from .errors import Unreadable
from .models import UNTRIED, OutboxMessage
from .settings import current
from .together import Write
from .words import spoken

RETRY_FIRST = timedelta(seconds=10)
RETRY_MAX = timedelta(hours=1)
RETRY_JITTER = 0.25  # a pause is up to this much longer: retries must not march in step
CLAIM_WAIT_MS = 2_000
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
    message = {
        "kind": kind,
        "user_id": user_id,
        "nonce": secrets.token_bytes(32),
        "sealed": _sealer().encrypt(json.dumps(content).encode()).decode(),
        "message_id": f"<{secrets.token_hex(16)}@{host}>",  # of every attempt: a repeat can be recognised
        "same": same and fingerprint(same),
    }
    return _insert_or_refresh(db.engine.dialect.name), message


@cache  # built once: it takes longer than running it
def _insert_or_refresh(dialect: str) -> Any:
    new = inserts[dialect](OutboxMessage.__table__)
    again = {"sealed": new.excluded.sealed, "created_at": new.excluded.created_at}
    return new.on_conflict_do_update(index_elements=["same"], index_where=UNTRIED, set_=again)


def fingerprint(same: str) -> str:
    """What stands for an identity where the identity itself must not rest."""
    return hmac.digest(current().keys("outbox same")[0], same.encode(), "sha256").hex()


def content_of(message: OutboxMessage) -> dict[str, Any]:
    """What `enqueue` was given. Raises Unreadable."""
    try:
        content: dict[str, Any] = json.loads(_sealer().decrypt(message.sealed or ""))
    except InvalidToken:
        raise Unreadable("the SECRET_KEY that it was sealed with is not known here") from None
    return content


_DUE = (OutboxMessage.state == "waiting", OutboxMessage.due_at <= utcnow())


def is_due(without: tuple[str, ...] = ()) -> bool:
    """Whether any message is due; of the kinds `without`, only those that were tried. Takes no lock."""
    found = db.session.scalar(select(OutboxMessage.id).where(*_DUE, _is_wanted(without)).limit(1))
    db.session.rollback()
    return found is not None


def claim(without: tuple[str, ...] = ()) -> OutboxMessage | None:
    """Take the message that is due longest, for one lease; of the kinds `without`, only one that was tried.
    It comes detached; None when none is due."""
    if db.engine.dialect.name == "sqlite":
        return _take(without)
    # Whoever asks for the same right now holds the row for a moment. Skipped at once, a flood would starve
    # it; waited for without end, one process that froze would stop all mail.
    try:
        db.session.execute(text(f"SET LOCAL lock_timeout = {CLAIM_WAIT_MS}"))
        return _take(without)
    except OperationalError:
        db.session.rollback()
        return _take(without, skip_locked=True)


def _is_wanted(without: tuple[str, ...]) -> ColumnElement[bool]:
    return or_(OutboxMessage.kind.not_in(without), OutboxMessage.attempts > 0) if without else true()


def _take(without: tuple[str, ...], skip_locked: bool = False) -> OutboxMessage | None:
    due = select(OutboxMessage.id).where(*_DUE, _is_wanted(without))
    oldest = due.order_by(OutboxMessage.due_at, OutboxMessage.id).limit(1)
    taken = {
        "attempts": OutboxMessage.attempts + 1,  # here, so that a message that kills its worker ends, too
        "claim": secrets.token_hex(16),
        "same": None,  # who asks from now on wants a mail of their own
        "due_at": utcnow(current().RECOVERY_MAIL_LEASE.total_seconds()),
    }
    which = OutboxMessage.id == oldest.with_for_update(skip_locked=skip_locked).scalar_subquery()
    message = db.session.scalar(update(OutboxMessage).where(which).values(**taken).returning(OutboxMessage))
    if message is not None:
        db.session.expunge(message)
    db.session.commit()
    return message


def age_of(message: OutboxMessage) -> timedelta:
    """How long ago a message that was just claimed was asked for, by the database's clock."""
    return message.due_at - current().RECOVERY_MAIL_LEASE - message.created_at


def renew(message: OutboxMessage) -> bool:
    """Hold it for one lease from now. False when the lease was lost."""
    return _update(message, due_at=utcnow(current().RECOVERY_MAIL_LEASE.total_seconds()))


def settle(message: OutboxMessage, state: str, reason: str | None = None) -> bool:
    """This is its end. False when the lease was lost meanwhile.

    `sent`: the relay has accepted it. `dropped`: it must not be sent. `given_up`: it could not be sent,
    and is not tried again unless an admin says so: a dead letter, which keeps its content for that.
    """
    kept = message.sealed if state == "given_up" else None
    ended = {"state": state, "reason": reason, "sealed": kept, "settled_at": utcnow(), "claim": None}
    return _update(message, user_id=message.user_id, **ended)


def retry_later(message: OutboxMessage, reason: str) -> bool:
    """This attempt failed; the pauses double from 10 seconds to an hour."""
    due_at = utcnow(pause_after(message.attempts) * (1 + RETRY_JITTER * secrets.randbelow(1000) / 1000))
    return _update(message, claim=None, due_at=due_at, reason=reason, user_id=message.user_id)


def pause_after(attempts: int) -> float:
    """The seconds between an attempt that failed and the next one, without the jitter."""
    return min(RETRY_FIRST.total_seconds() * 2.0 ** min(attempts - 1, 20), RETRY_MAX.total_seconds())


def hold(message: OutboxMessage, reason: str) -> bool:
    """No mail can go out: put it back where it was in the queue. The attempt does not count."""
    attempts = message.attempts - 1
    return _update(message, claim=None, due_at=message.created_at, attempts=attempts, reason=reason)


def _update(message: OutboxMessage, **values: Any) -> bool:
    """Change the row if this claim still holds it."""
    held = (OutboxMessage.id == message.id, OutboxMessage.claim == message.claim)
    if reason := values.get("reason"):
        values["reason"] = reason[:REASON_LENGTH_MAX]
    return change(update(OutboxMessage).where(*held).values(**values)) == 1


def _sealer() -> MultiFernet:
    keys = current().keys("outbox")
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])
