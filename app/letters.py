"""One mail: in words, and in the form in which it travels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from typing import TYPE_CHECKING, Any

import idna
from flask import render_template

from .errors import Undeliverable
from .settings import current

if TYPE_CHECKING:
    from .models import OutboxMessage

# Every relay takes seven bits; with eight, some break the mail.
POLICY = SMTP.clone(cte_type="7bit")


@dataclass(frozen=True)
class Letter:
    """One mail, in words."""

    recipient: str
    subject: str
    text: str
    html: str


def write(message: OutboxMessage, template: str, recipient: str, **context: Any) -> EmailMessage:
    """The mail that three templates make: .subject.txt, .txt and .html."""

    def rendered(ending: str) -> str:
        return render_template(f"security/email/{template}{ending}", **context)

    subject, text, html = rendered(".subject.txt").strip(), rendered(".txt"), rendered(".html")
    return as_mail(Letter(recipient, subject, text, html), message.message_id)


def as_mail(letter: Letter, message_id: str) -> EmailMessage:
    """Text and HTML, from our sender, marked as automatic."""
    if "=?" in letter.recipient:  # email decodes such a word, and mail would go to another address
        raise Undeliverable("its address holds an encoded word (RFC 2047)")
    mail = EmailMessage(policy=POLICY)
    name, sender = parseaddr(current().MAIL_DEFAULT_SENDER)
    mail["From"] = Address(name, addr_spec=in_ascii(sender)) if name else in_ascii(sender)
    mail["To"] = in_ascii(letter.recipient)
    mail["Subject"] = letter.subject
    mail["Date"] = datetime.now(UTC)
    mail["Message-ID"] = message_id
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: no out-of-office reply comes back
    mail.set_content(letter.text)
    if letter.html:
        mail.add_alternative(letter.html, subtype="html")
    return mail


def in_ascii(address: str) -> str:
    """An internationalised domain in its ASCII form, which every relay takes."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{idna.encode(domain, uts46=True).decode()}"
