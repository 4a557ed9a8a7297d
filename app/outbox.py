"""The outbox: a message's whole life, from the request that wants it sent to its end.

    waiting -- claim --> sent | dropped | given_up
       ^          |
       '-- retry_later, hold

A message is a row in the same database, committed with the change it belongs to. A claim is a
lease: who dies holding one loses it when `due_at` passes, so a message is tried at least once.
What a message says (what was typed, who asked) is sealed while it waits and erased when it ends.
"""

from __future__ import annotations

import base64
import json
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import select, text, update

from .db import change, db, is_sqlite, utcnow
from .errors import Undeliverable
from .models import OutboxMessage
from .settings import current

RETRY_FIRST = timedelta(seconds=10)
RETRY_MAX = timedelta(hours=1)
REASON_LENGTH_MAX = 255


def enqueue(kind: str, *, user_id: int | None = None, **content: Any) -> None:
    """Add a message to the current transaction. It is sent if and only if that commits."""
    host = urlsplit(current().RECOVERY_PUBLIC_URL).hostname
    message = OutboxMessage(kind=kind, user_id=user_id, nonce=secrets.token_bytes(32))
    message.sealed = _sealer().encrypt(json.dumps(content).encode()).decode()
    # The same in every attempt, so that a mail program recognises a repeat.
    message.message_id = f"<{secrets.token_hex(16)}@{host}>"
    db.session.add(message)


def content_of(message: OutboxMessage) -> dict[str, Any]:
    """What `enqueue` was given."""
    try:
        content: dict[str, Any] = json.loads(_sealer().decrypt(message.sealed or ""))
    except InvalidToken:
        raise Undeliverable("the SECRET_KEY that it was sealed with is gone") from None
    return content


def claim() -> OutboxMessage | None:
    """Take the message that is due longest, for one lease. It comes detached; None when none is due."""
    due = (OutboxMessage.state == "waiting", OutboxMessage.due_at <= utcnow())
    oldest = select(OutboxMessage).where(*due).order_by(OutboxMessage.due_at).limit(1)
    if db.session.scalar(oldest.with_only_columns(OutboxMessage.id)) is None:
        db.session.rollback()
        return None  # an idle worker takes no lock
    if is_sqlite():
        db.session.execute(text("BEGIN IMMEDIATE"))
    message = db.session.scalar(oldest.with_for_update(skip_locked=True))
    if message is not None:
        message.attempts += 1  # counted here, so that a message that kills its worker ends, too
        message.claim = secrets.token_hex(16)
        message.due_at = utcnow(current().RECOVERY_MAIL_LEASE.total_seconds())
        db.session.flush()
        db.session.refresh(message)
        db.session.expunge(message)
    db.session.commit()
    return message


def sent(message: OutboxMessage) -> bool:
    """The relay has accepted it. False when the lease was lost meanwhile."""
    return _settle(message, "sent")


def drop(message: OutboxMessage, reason: str) -> bool:
    """It must not be sent: no such account, too soon, ..."""
    return _settle(message, "dropped", reason)


def give_up(message: OutboxMessage, reason: str) -> bool:
    """It could not be sent, and will not be tried again."""
    return _settle(message, "given_up", reason)


def retry_later(message: OutboxMessage, reason: str) -> bool:
    """This attempt failed; the pauses double from 10 seconds to an hour."""
    pause = min(RETRY_FIRST * 2 ** min(message.attempts - 1, 20), RETRY_MAX)
    jitter = secrets.randbelow(250) / 1000  # up to a quarter more: retries must not march in step
    return _update(
        message,
        claim=None,
        due_at=utcnow(pause.total_seconds() * (1 + jitter)),
        reason=reason[:REASON_LENGTH_MAX],
    )


def hold(message: OutboxMessage, reason: str) -> bool:
    """Settings are in the way: put it back as it was. The attempt does not count."""
    return _update(
        message,
        claim=None,
        due_at=utcnow(),
        attempts=message.attempts - 1,
        reason=f"held: {reason}"[:REASON_LENGTH_MAX],
    )


def _settle(message: OutboxMessage, state: str, reason: str | None = None) -> bool:
    return _update(
        message,
        state=state,
        reason=reason and reason[:REASON_LENGTH_MAX],
        claim=None,
        sealed=None,
        user_id=message.user_id,
        settled_at=utcnow(),
    )


def _update(message: OutboxMessage, **values: Any) -> bool:
    """Change the row if this claim still holds it."""
    held = (OutboxMessage.id == message.id, OutboxMessage.claim == message.claim)
    return change(update(OutboxMessage).where(*held).values(**values)) == 1


def _sealer() -> MultiFernet:
    keys = current().keys("outbox")
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])
