"""Mail: from a message in the outbox to the relay's "accepted".

A new mail is three templates (.subject.txt, .txt, .html) and one function that returns it.
Only the worker calls this module.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Flask
from flask_mailman import Mail
from flask_mailman.backends.base import BaseEmailBackend

from . import lease, letters, links, objections, other_mails, outbox, registration, unified
from .db import db, keep_lazily
from .errors import LeaseLost, Undeliverable
from .identities import find_account
from .models import OutboxMessage
from .settings import Settings, current

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
    mail = COMPOSERS[message.kind](message)
    if time.monotonic() - start > lease.pause() and not outbox.renew(message):  # it took too long to write
        raise LeaseLost
    # The link must be there before anybody can click it, and nothing is held while SMTP talks.
    db.session.commit()
    relay.is_abandoned = False
    with lease.kept(message, relay.abandon):
        relay.send_messages([mail])


def _reset_instructions(message: OutboxMessage) -> letters.Mail:
    asked = message.content
    if outbox.age_of(message) > current().SECURITY_RESET_PASSWORD_WITHIN:
        raise Undeliverable("it was asked for longer ago than a link works (SECURITY_RESET_PASSWORD_WITHIN)")
    user = find_account(asked["identity"])
    if user is None:
        raise Undeliverable("no account has this identity")
    message.user_id = user.id
    if reason := user.why_not_recoverable():
        raise Undeliverable(reason, user.id)
    token = links.token_of(message)
    objection = objections.token_for(message)
    mail = letters.write(message, "reset_instructions", user.email, reset_token=token, objection=objection)
    links.issue(message, user, asked["client"], token)  # last: on SQLite it takes the write lock
    return mail


COMPOSERS: dict[str, Callable[[OutboxMessage], letters.Mail]] = {
    "reset_instructions": _reset_instructions,
    **other_mails.COMPOSERS,
    registration.MAIL: registration.compose,
    unified.MAIL: unified.compose,
}
