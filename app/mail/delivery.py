"""Mail: from a message in the outbox to the relay's "accepted".

A new mail is three templates (.subject.txt, .txt, .html) and one function with `@composer("kind")`.
Only the worker calls this module.
"""

from __future__ import annotations

import time

from flask import Flask
from flask_mailman import Mail
from flask_mailman.backends.base import BaseEmailBackend

from ..db.engine import db
from ..settings.schema import Settings
from . import composing, lease, outbox
from .errors import LeaseLost
from .outbox import OutboxMessage

mailman = Mail()


def init_app(app: Flask, settings: Settings) -> None:
    # Flask-Mailman's own backend accepts any certificate on STARTTLS.
    app.config["MAIL_BACKEND"] = "app.mail.files" if settings.RECOVERY_INBOX else "app.mail.smtp"
    mailman.init_app(app)


def deliver(message: OutboxMessage, relay: BaseEmailBackend) -> None:
    """Send a claimed message, and return when the relay has accepted it.

    Raises Undeliverable when it must not be sent, LeaseLost when it is another worker's, MailHeld when
    no mail can go out now, and anything else that stands in the way of this one.
    """
    start = time.monotonic()
    mail = composing.COMPOSERS[message.kind].compose(message)
    if time.monotonic() - start > lease.pause() and not outbox.renew(message):  # it took too long to write
        raise LeaseLost
    # The link must be there before anybody can click it, and nothing is held while SMTP talks.
    db.session.commit()
    relay.is_abandoned = False
    with lease.kept(message, relay.abandon):
        relay.send_messages([mail])
