"""What happens besides a reset, for the audit trail and for whoever must hear of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import request
from flask_security import change_email_confirmed, password_changed, user_authenticated

from ..accounts.identities import masked
from ..db import audit
from ..mail import composing, outbox
from ..mail.composing import composer
from ..mail.outbox import OutboxMessage
from . import not_me

if TYPE_CHECKING:
    from flask import Flask

    from ..accounts.models import User


USER_AGENT_LENGTH_MAX = 300


def init_app(app: Flask) -> None:
    password_changed.connect(on_password_changed, app)
    change_email_confirmed.connect(on_address_changed, app)
    user_authenticated.connect(on_sign_in, app)


def request_metadata() -> dict[str, Any]:
    """What a mail may tell its reader about the request."""
    return {
        "source": request.remote_addr or "",
        "user_agent": (request.user_agent.string or "")[:USER_AGENT_LENGTH_MAX],
    }


def on_password_changed(_app: Flask, user: User, **_: Any) -> None:
    audit.record("password_changed", user_id=user.id)


def on_address_changed(_app: Flask, user: User, old_email: str, **_: Any) -> None:
    """Tell the old address: its owner may know nothing of it."""
    now, new = datetime.now(UTC).isoformat(timespec="seconds"), masked(user.email)
    said = {"address": old_email, "new_address": new, "changed_at": now, **request_metadata()}
    outbox.enqueue("address_notice", user_id=user.id, **said)
    audit.record("address_changed", user_id=user.id)


def on_sign_in(_app: Flask, user: User, **_: Any) -> None:
    audit.record("signed_in", user_id=user.id)


@composer("reset_notice")
@composer("address_notice")
@composer("operator_alert")
def _notice(message: OutboxMessage) -> composing.Mail:
    """That something has happened. Where it goes, and what its template says, rest in the message."""
    # In a template, `language` is the one that is spoken.
    said = {name: value for name, value in message.content.items() if name != "language"}
    said["changed_at"] = datetime.fromisoformat(said["changed_at"])
    objection = not_me.token_for(message)
    return composing.write(message, message.kind, said["address"], objection=objection, **said)
