"""Mail: from a message in the outbox to the relay's "accepted".

A new mail is three templates (.subject.txt, .txt, .html) and one function that returns a Letter.
This is the only module that talks SMTP, and only the worker calls it.
"""

from __future__ import annotations

import smtplib
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flask import Flask, render_template
from flask_mailman import EmailMultiAlternatives, Mail

from . import links, outbox
from .db import db
from .errors import Undeliverable
from .identities import find_account
from .settings import Settings, current

if TYPE_CHECKING:
    from collections.abc import Callable

    from .models import OutboxMessage

mailman = Mail()


@dataclass(frozen=True)
class Letter:
    """One mail: its templates' name, whom it goes to, and what the templates may say."""

    template: str
    recipient: str
    context: dict[str, Any] = field(default_factory=dict)


def init_app(app: Flask, settings: Settings) -> None:
    app.config["MAIL_TIMEOUT"] = settings.MAIL_TIMEOUT.total_seconds()
    app.config["MAIL_BACKEND"] = "app.inbox" if settings.RECOVERY_INBOX else "smtp"
    mailman.init_app(app)


def deliver(message: OutboxMessage) -> None:
    """Send a claimed message, and return when the relay has accepted it.

    Raises Undeliverable when it must not be sent, and whatever stands in the way of sending it.
    """
    letter = COMPOSERS[message.kind](message)
    mail = _as_mail(message, letter)
    # The link must be there before anybody can click it, and nothing is held while SMTP talks.
    db.session.commit()
    with mailman.get_connection() as relay:
        relay.send_messages([mail])


def why_final(error: Exception) -> str | None:
    """The reason if trying again can not help: this recipient or this mail is refused for good.

    Everything else is tried again: the relay may come back, the configuration be corrected.
    """
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        replies = list(error.recipients.values())
        if all(code >= 500 for code, _ in replies):
            return f"the relay refuses the address for good ({replies[0][0]})"
    if isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500:
        return f"the relay refuses the mail for good ({error.smtp_code})"
    return None


def _reset_instructions(message: OutboxMessage) -> Letter:
    asked = outbox.content_of(message)
    user = find_account(asked["identity"])
    if user is None:
        raise Undeliverable("no account has this identity")
    message.user_id = user.id
    if reason := links.why_not_recoverable(user):
        raise Undeliverable(reason, user.id)
    token = links.issue(message, user, asked["client"])
    return Letter("reset_instructions", user.email, {"reset_token": token})


def _reset_notice(message: OutboxMessage) -> Letter:
    said = outbox.content_of(message)
    changed_at = datetime.fromisoformat(said["changed_at"])
    return Letter("reset_notice", said["address"], {**said, "changed_at": changed_at})


COMPOSERS: dict[str, Callable[[OutboxMessage], Letter]] = {
    "reset_instructions": _reset_instructions,
    "reset_notice": _reset_notice,
}


def _as_mail(message: OutboxMessage, letter: Letter) -> EmailMultiAlternatives:
    settings = current()

    def rendered(ending: str) -> str:
        name = f"security/email/{letter.template}{ending}"
        return render_template(name, settings=settings, **letter.context)

    mail = EmailMultiAlternatives(
        rendered(".subject.txt").strip(),
        rendered(".txt"),
        settings.MAIL_DEFAULT_SENDER,
        [letter.recipient],
        # RFC 3834 §5: no out-of-office reply comes back.
        headers={"Message-ID": message.message_id, "Auto-Submitted": "auto-generated"},
    )
    mail.attach_alternative(rendered(".html"), "text/html")
    return mail
