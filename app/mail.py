"""Mail: from a message in the outbox to the relay's "accepted".

A new mail is three templates (.subject.txt, .txt, .html) and one function that returns a Letter.
Only the worker calls this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from typing import Any

from flask import Flask, render_template
from flask_mailman import Mail
from flask_mailman.backends.base import BaseEmailBackend

from . import lease, links, outbox
from .db import db
from .errors import LeaseLost, Undeliverable
from .identities import find_account
from .models import OutboxMessage
from .relay import in_ascii
from .settings import Settings, current

mailman = Mail()

# Every relay takes seven bits; with eight, some break the mail.
POLICY = SMTP.clone(cte_type="7bit")


@dataclass(frozen=True)
class Letter:
    """One mail, in words."""

    recipient: str
    subject: str
    text: str
    html: str


def init_app(app: Flask, settings: Settings) -> None:
    app.config["MAIL_TIMEOUT"] = settings.MAIL_TIMEOUT.total_seconds()
    app.config["MAIL_BACKEND"] = "app.inbox" if settings.RECOVERY_INBOX else "app.relay"
    mailman.init_app(app)


def deliver(message: OutboxMessage, relay: BaseEmailBackend) -> None:
    """Send a claimed message, and return when the relay has accepted it.

    Raises Undeliverable when it must not be sent, LeaseLost when it is another worker's, MailHeld when
    no mail can go out now, and anything else that stands in the way of this one.
    """
    letter = COMPOSERS[message.kind](message)
    mail = _as_mail(message, letter)
    if not outbox.renew(message):  # it took too long to write
        raise LeaseLost
    # The link must be there before anybody can click it, and nothing is held while SMTP talks.
    db.session.commit()
    with lease.kept(message, relay.cut):
        relay.send_messages([mail])


def _reset_instructions(message: OutboxMessage) -> Letter:
    asked = outbox.content_of(message)
    if outbox.age_of(message) > current().SECURITY_RESET_PASSWORD_WITHIN:
        raise Undeliverable("it was asked for longer ago than a link works (SECURITY_RESET_PASSWORD_WITHIN)")
    user = find_account(asked["identity"])
    if user is None:
        raise Undeliverable("no account has this identity")
    message.user_id = user.id
    if reason := links.why_not_recoverable(user):
        raise Undeliverable(reason, user.id)
    token = links.issue(message, user, asked["client"])
    return _written("reset_instructions", user.email, reset_token=token)


def _reset_notice(message: OutboxMessage) -> Letter:
    said = outbox.content_of(message)
    said["changed_at"] = datetime.fromisoformat(said["changed_at"])
    return _written("reset_notice", said["address"], **said)


def _by_flask_security(message: OutboxMessage) -> Letter:
    """A mail that Flask-Security has written itself: confirmation, change of address, a code, ..."""
    return Letter(**outbox.content_of(message))


COMPOSERS: dict[str, Callable[[OutboxMessage], Letter]] = {
    "reset_instructions": _reset_instructions,
    "reset_notice": _reset_notice,
    "flask_security": _by_flask_security,
}


def _written(template: str, recipient: str, **context: Any) -> Letter:
    def rendered(ending: str) -> str:
        return render_template(f"security/email/{template}{ending}", **context)

    return Letter(recipient, rendered(".subject.txt").strip(), rendered(".txt"), rendered(".html"))


def _as_mail(message: OutboxMessage, letter: Letter) -> EmailMessage:
    mail = EmailMessage(policy=POLICY)
    name, sender = parseaddr(current().MAIL_DEFAULT_SENDER)
    mail["From"] = Address(name, addr_spec=in_ascii(sender)) if name else in_ascii(sender)
    mail["To"] = in_ascii(letter.recipient)
    mail["Subject"] = letter.subject
    mail["Date"] = datetime.now(UTC)
    mail["Message-ID"] = message.message_id
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: no out-of-office reply comes back
    mail.set_content(letter.text)
    if letter.html:
        mail.add_alternative(letter.html, subtype="html")
    return mail
