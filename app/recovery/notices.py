"""Notices to the account's owner, and the audit events of changes that Flask-Security makes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Flask, request
from flask_security import change_email_confirmed, password_changed, user_authenticated

from ..accounts.factors import factors_changed
from ..accounts.identities import mask_address
from ..accounts.models import User
from ..db import audit
from ..mail import composing, outbox
from ..mail.composing import composer
from ..mail.outbox import OutboxMessage
from ..web import user_agents
from . import not_me

USER_AGENT_LENGTH_MAX = 300


def init_app(app: Flask) -> None:
    password_changed.connect(on_password_changed, app)
    change_email_confirmed.connect(on_address_changed, app)
    user_authenticated.connect(on_sign_in, app)
    factors_changed.connect(on_factors_changed)


def enqueue(kind: str, user: User, address: str, **content: Any) -> None:
    """Queue a notice of a change that this request or command makes, in the current transaction."""
    outbox.enqueue(
        kind,
        user_id=user.id,
        address=address,
        changed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        source=request.remote_addr if request else None,
        user_agent=request.user_agent.string[:USER_AGENT_LENGTH_MAX] if request else "",
        **content,
    )


def on_password_changed(_app: Flask, user: User, **_: Any) -> None:
    audit.record("password_changed", user_id=user.id)


def on_address_changed(_app: Flask, user: User, old_email: str, **_: Any) -> None:
    """Notify the old address, because its owner may not have made the change."""
    enqueue("address_notice", user, old_email, new_address=mask_address(user.email))
    audit.record("address_changed", user_id=user.id)


def on_sign_in(_app: Flask, user: User, **_: Any) -> None:
    audit.record("signed_in", user_id=user.id)


def on_factors_changed(user: User, changes: list[tuple[str, ...]]) -> None:
    enqueue("factor_notice", user, user.email, changes=changes)


@composer("factor_notice")
@composer("reset_notice")
@composer("address_notice")
@composer("operator_alert")
def _notice(message: OutboxMessage) -> composing.Mail:
    """Compose a notice. The message holds its recipient and the values of its template."""
    content = {**message.content, "objection": not_me.token_for(message)}
    content["changed_at"] = datetime.fromisoformat(content["changed_at"])
    if "user_agent" in content:
        content["user_agent"] = user_agents.describe(content["user_agent"])
    content.pop("language", None)  # in a template, it is the language of the mail
    return composing.write(message, message.kind, content["address"], **content)
