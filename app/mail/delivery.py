"""Delivery: from a claimed message to the mail server's "accepted".

A new mail is three templates (.subject.txt, .txt, .html) and one function with `@composer("kind")`.
"""

from __future__ import annotations

import time

from flask import Flask
from flask_mailman import Mail
from flask_mailman.backends.base import BaseEmailBackend

from ..db.engine import db
from ..settings.schema import Settings
from . import composing
from .outbox import OutboxMessage

mailman = Mail()


def init_app(app: Flask, settings: Settings) -> None:
    # Flask-Mailman's own backend accepts any certificate on STARTTLS.
    app.config["MAIL_BACKEND"] = "app.mail.files" if settings.RECOVERY_INBOX else "app.mail.smtp"
    mailman.init_app(app)


def deliver(message: OutboxMessage, relay: BaseEmailBackend, deadline: float) -> None:
    """Send a claimed message, and return when the mail server has accepted it.

    After the deadline (of the monotonic clock) it may be another worker's. Raises Undeliverable when it must
    not be sent, MailHeld when no mail can go out now, and anything else that stands in the way of this one.
    """
    mail = composing.COMPOSERS[message.kind].compose(message)
    # The link must exist before anybody can click it, and no transaction stays open during the conversation.
    db.session.commit()
    if time.monotonic() >= deadline:
        raise TimeoutError("composing took longer than RECOVERY_MAIL_LEASE allows")
    relay.deadline = deadline
    relay.send_messages([mail])
