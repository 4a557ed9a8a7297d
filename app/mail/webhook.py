"""The webhook: tells the application of changes to accounts, by the Standard Webhooks scheme.

An event is committed with its change, which is found in the columns that a transaction writes, for any page,
command and extension. It is posted at least once, with the same webhook-id at every attempt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.request import Request

from sqlalchemy import event, inspect
from sqlalchemy.orm import Session
from standardwebhooks import Webhook

from ..accounts.models import User
from ..db.engine import db
from ..settings import current
from ..web import outgoing
from . import outbox
from .composing import Undeliverable, composer
from .outbox import OutboxMessage

WAIT_SECONDS = 15  # for the whole call; the scheme recommends 15 to 30


@event.listens_for(db.session, "before_flush")
def _note_columns(session: Session, *_: Any) -> None:
    noted = session.info.setdefault("account_columns", {})
    for user in session.dirty if current().RECOVERY_WEBHOOK_URL else ():
        if isinstance(user, User):
            changed = {column.key for column in inspect(user).attrs if column.history.has_changes()}
            changed |= {"password"} if user.has_new_password else set()
            noted.setdefault(inspect(user).identity, set()).update(changed)


@event.listens_for(db.session, "before_commit")
def _enqueue_events(session: Session) -> None:
    session.flush()
    resets = {values["user_id"] for kind, values in session.info.get("events", ()) if kind == "redeemed"}
    for identity, columns in session.info.pop("account_columns", {}).items():
        if user := session.get(User, identity):  # not deleted
            for name in _types(user, columns, is_reset=user.id in resets):
                values = new_event(name, user.external_id or user.fs_webauthn_user_handle)
                outbox.enqueue(outbox.WEBHOOK, user_id=user.id, event=values)


def _types(user: User, columns: set[str], is_reset: bool) -> Iterator[str]:
    has_ended_sessions = "fs_uniquifier" in columns
    # Without an end of the sessions, the hash is of the same password: a sign-in has upgraded it.
    if "password" in columns and has_ended_sessions:
        yield "password.reset" if is_reset else "password.changed"
    if "email" in columns:
        yield "email.changed"
    if has_ended_sessions or ("active" in columns and not user.active):
        yield "account.sessions_ended"


def new_event(name: str, account_id: str | None) -> dict[str, Any]:
    """Return the event of a change that happens now."""
    return {"type": name, "timestamp": datetime.now(UTC).isoformat(), "data": {"account_id": account_id}}


@composer(outbox.WEBHOOK)
def _compose(message: OutboxMessage) -> Any:
    if not current().RECOVERY_WEBHOOK_URL:
        raise Undeliverable("RECOVERY_WEBHOOK_URL is empty")
    content = message.content["event"]
    return SimpleNamespace(deliver=lambda _relay, deadline: post(message.name, content, deadline))


def post(event_id: str, content: dict[str, Any], deadline: float = float("inf")) -> None:
    """Post an event before the deadline. Raises OSError or HTTPException unless the answer is 2xx."""
    settings, now, body = current(), datetime.now(UTC), json.dumps(content)
    signature = Webhook(settings.RECOVERY_WEBHOOK_SECRET).sign(event_id, now, body)
    headers = {"webhook-id": event_id, "webhook-timestamp": str(int(now.timestamp()))}
    headers |= {"webhook-signature": signature, "Content-Type": "application/json", "User-Agent": "Sparekey"}
    request = Request(settings.RECOVERY_WEBHOOK_URL, body.encode(), headers)  # noqa: S310  # https, or this machine
    with outgoing.send(request, min(deadline, time.monotonic() + WAIT_SECONDS)):
        pass  # the answer's body does not matter
