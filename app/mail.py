"""Mail: from a message in the outbox to the relay's "accepted".

A new mail is three templates (.subject.txt, .txt, .html) and one function with `@composer("kind")`.
Only the worker calls this module.
"""

from __future__ import annotations

import time

from flask import Flask
from flask_mailman import Mail
from flask_mailman.backends.base import BaseEmailBackend

from . import lease, letters, outbox
from .db import db, keep_lazily
from .errors import LeaseLost
from .models import OutboxMessage
from .settings import Settings

mailman = Mail()


def init_app(app: Flask, settings: Settings) -> None:
    app.config["MAIL_TIMEOUT"] = settings.MAIL_TIMEOUT.total_seconds()
    app.config["MAIL_BACKEND"] = "examples.demo.inbox" if settings.RECOVERY_INBOX else "app.relay"
    mailman.init_app(app)


def deliver(message: OutboxMessage, relay: BaseEmailBackend) -> None:
    """Send a claimed message, and return when the relay has accepted it.

    Raises Undeliverable when it must not be sent, LeaseLost when it is another worker's, MailHeld when
    no mail can go out now, and anything else that stands in the way of this one.
    """
    start = time.monotonic()
    keep_lazily()  # until it is settled, all of it would be done again
    mail = letters.COMPOSERS[message.kind].compose(message)
    if time.monotonic() - start > lease.pause() and not outbox.renew(message):  # it took too long to write
        raise LeaseLost
    # The link must be there before anybody can click it, and nothing is held while SMTP talks.
    db.session.commit()
    relay.is_abandoned = False
    with lease.kept(message, relay.abandon):
        relay.send_messages([mail])
