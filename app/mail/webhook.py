"""The webhook: tells the application of changes to accounts, by the Standard Webhooks scheme.

An event is committed with its change, whatever page, command or extension makes it. It is posted at least
once, with the same webhook-id at every attempt.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.request import Request

from standardwebhooks import Webhook

from ..accounts.changes import account_changed
from ..accounts.models import User
from ..db.engine import db
from ..settings import current
from ..web import outgoing
from .composing import composer
from .outbox import WEBHOOK, OutboxMessage, enqueue

WAIT_SECONDS = 15  # for the whole call; the scheme recommends 15 to 30


@account_changed.connect
def _enqueue_events(user: User, changes: list[tuple[str, ...]], has_ended_sessions: bool, **_: Any) -> None:
    if not current().RECOVERY_WEBHOOK_URL:
        return
    for name in _types(user, changes, has_ended_sessions):
        values = new_event(name, user.external_id or user.fs_webauthn_user_handle)
        enqueue(WEBHOOK, user_id=user.id, event=values)


def _types(user: User, changes: list[tuple[str, ...]], has_ended_sessions: bool) -> Iterator[str]:
    places = {place for _, place, *_ in changes}
    if "password" in places:
        events = db.session().info.get("events", ())
        is_reset = any(kind == "redeemed" and values["user_id"] == user.id for kind, values in events)
        yield "password.reset" if is_reset else "password.changed"
    if "address" in places:
        yield "email.changed"
    if has_ended_sessions:
        yield "account.sessions_ended"


def new_event(name: str, account_id: str | None) -> dict[str, Any]:
    """Return the event of a change that happens now."""
    return {"type": name, "timestamp": datetime.now(UTC).isoformat(), "data": {"account_id": account_id}}


@composer(WEBHOOK, needs="RECOVERY_WEBHOOK_URL")
def _compose(message: OutboxMessage) -> Any:
    content = message.content["event"]
    return SimpleNamespace(deliver=lambda _relay, deadline: post(message.name, content, deadline))


def post(event_id: str, content: dict[str, Any], deadline: float = float("inf")) -> None:
    """Post an event before the deadline. Raises OSError or HTTPException unless the answer is 2xx."""
    settings, now, body = current(), datetime.now(UTC), json.dumps(content)
    signature = Webhook(settings.RECOVERY_WEBHOOK_SECRET).sign(event_id, now, body)
    headers = {"webhook-id": event_id, "webhook-timestamp": str(int(now.timestamp()))}
    headers |= {"webhook-signature": signature, "Content-Type": "application/json", "User-Agent": "Sparekey"}
    request = Request(settings.RECOVERY_WEBHOOK_URL, body.encode(), headers)  # noqa: S310  # https, or this machine
    outgoing.call(request, min(deadline - time.monotonic(), WAIT_SECONDS))
