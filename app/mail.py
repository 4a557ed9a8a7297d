"""Mail: from a message in the outbox to the relay's "accepted".

A new mail is three templates (.subject.txt, .txt, .html) and one function that returns it.
Only the worker calls this module.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from email.message import EmailMessage
from typing import Any

from flask import Flask, render_template
from flask_mailman import Mail
from flask_mailman.backends.base import BaseEmailBackend

from . import lease, links, outbox
from .db import db
from .errors import LeaseLost, Undeliverable
from .identities import find_account
from .letters import Letter, as_mail
from .models import OutboxMessage
from .settings import Settings, current

mailman = Mail()


def init_app(app: Flask, settings: Settings) -> None:
    app.config["MAIL_TIMEOUT"] = settings.MAIL_TIMEOUT.total_seconds()
    app.config["MAIL_BACKEND"] = "app.inbox" if settings.RECOVERY_INBOX else "app.relay"
    mailman.init_app(app)


def deliver(message: OutboxMessage, relay: BaseEmailBackend) -> None:
    """Send a claimed message, and return when the relay has accepted it.

    Raises Undeliverable when it must not be sent, LeaseLost when it is another worker's, MailHeld when
    no mail can go out now, and anything else that stands in the way of this one.
    """
    mail = COMPOSERS[message.kind](message)
    if not outbox.renew(message):  # it took too long to write
        raise LeaseLost
    # The link must be there before anybody can click it, and nothing is held while SMTP talks.
    db.session.commit()
    relay.is_abandoned = False
    with lease.kept(message, relay.abandon):
        relay.send_messages([mail])


def _reset_instructions(message: OutboxMessage) -> EmailMessage:
    asked = outbox.content_of(message)
    if outbox.age_of(message) > current().SECURITY_RESET_PASSWORD_WITHIN:
        raise Undeliverable("it was asked for longer ago than a link works (SECURITY_RESET_PASSWORD_WITHIN)")
    user = find_account(asked["identity"])
    if user is None:
        raise Undeliverable("no account has this identity")
    message.user_id = user.id
    if reason := links.why_not_recoverable(user):
        raise Undeliverable(reason, user.id)
    token = links.token_of(message)
    mail = _written(message, "reset_instructions", user.email, reset_token=token)
    links.issue(message, user, asked["client"], token)  # last: on SQLite it takes the write lock
    return mail


def _reset_notice(message: OutboxMessage) -> EmailMessage:
    said = outbox.content_of(message)
    said["changed_at"] = datetime.fromisoformat(said["changed_at"])
    return _written(message, "reset_notice", said["address"], **said)


def _by_flask_security(message: OutboxMessage) -> EmailMessage:
    """A mail that Flask-Security has written itself: confirmation, change of address, a code, ..."""
    return as_mail(Letter(**outbox.content_of(message)), message.message_id)


COMPOSERS: dict[str, Callable[[OutboxMessage], EmailMessage]] = {
    "reset_instructions": _reset_instructions,
    "reset_notice": _reset_notice,
    "flask_security": _by_flask_security,
}


def _written(message: OutboxMessage, template: str, recipient: str, **context: Any) -> EmailMessage:
    def rendered(ending: str) -> str:
        return render_template(f"security/email/{template}{ending}", **context)

    subject, text, html = rendered(".subject.txt").strip(), rendered(".txt"), rendered(".html")
    return as_mail(Letter(recipient, subject, text, html), message.message_id)
