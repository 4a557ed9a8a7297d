"""Notices to the account's owner, and the audit events of changes that Flask-Security makes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Flask, request
from flask_security import signals
from flask_security.proxies import _datastore
from sqlalchemy.orm.exc import StaleDataError

from ..accounts.factors import factors_changed
from ..accounts.identities import mask_address
from ..accounts.models import User
from ..db import audit
from ..db.engine import db
from ..mail import composing, outbox, quota
from ..mail.composing import Undeliverable, composer
from ..mail.outbox import OutboxMessage
from ..web import user_agents
from . import link as links
from . import not_me
from .link import ResetLink

USER_AGENT_LENGTH_MAX = 300


def init_app(app: Flask) -> None:
    signals.password_changed.connect(on_password_changed, app)
    signals.change_email_instructions_sent.connect(on_address_change, app)
    signals.change_email_confirmed.connect(on_address_change, app)
    signals.user_confirmed.connect(on_address_confirmed, app)
    signals.user_authenticated.connect(on_sign_in, app)
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


def on_address_change(_app: Flask, user: User, old_email: str = "", new_email: str = "", **_: Any) -> None:
    """Notify the old address of a change that is requested, or done. Done, it ends sessions and links."""
    if old_email:
        links.revoke_all_of(user.id)
        _datastore.set_uniquifier(user)  # which the links that change or confirm an address name
    state, new_address = links.fingerprint(user.password), mask_address(new_email or user.email)
    content = {"new_address": new_address, "is_done": bool(old_email), "password_state": state}
    per_address = "" if old_email else quota.of_address(user.email)
    enqueue("address_notice", user, old_email or user.email, quota=per_address, **content)
    audit.record("address_changed" if old_email else "address_requested", user_id=user.id)


def on_address_confirmed(_app: Flask, user: User, **_: Any) -> None:
    """End the links. Of two requests at once, the second finds the account changed."""
    _datastore.set_uniquifier(user)


def on_sign_in(_app: Flask, user: User, **_: Any) -> None:
    audit.record("signed_in", user_id=user.id)


def on_factors_changed(user: User, changes: list[tuple[str, ...]]) -> None:
    enqueue("factor_notice", user, user.email, changes=changes)


def _refuse_if_lost(link: ResetLink, password_state: str, message: OutboxMessage) -> None:
    """Withdraw the notice of a redemption that a crash has lost (SQLite), or that was repeated after it."""
    if link.is_lost and message.attempts == 1:
        raise StaleDataError("the password may be written in this moment")  # try again
    if link.is_lost or link.password_written != password_state:
        raise Undeliverable("the password was not written: the link works again")


@composer("factor_notice")
@composer("reset_notice")
@composer("address_notice")
@composer("address_frozen")
@composer("operator_alert")
def _notice(message: OutboxMessage) -> composing.Mail:
    """Compose a notice. The message holds its recipient and the values of its template."""
    if message.quota:
        quota.refuse_excess(message)
    content = {**message.content, "objection": not_me.token_for(message)}
    if link := db.session.get(ResetLink, content.pop("link", 0)):
        _refuse_if_lost(link, content["password_state"], message)
    content["changed_at"] = datetime.fromisoformat(content["changed_at"])
    if "user_agent" in content:
        content["user_agent"] = user_agents.describe(content["user_agent"])
    for name in ("language", "password_state"):  # a template's language is that of the mail
        content.pop(name, None)
    return composing.write(message, message.kind, content["address"], **content)
