"""One mail: in words, and in the form in which it travels.

Templates hold classes and whole paragraphs. Here styles move to what they are of, since many mail programs
know no others, and text is wrapped, since some wrap none.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from functools import cache
from typing import TYPE_CHECKING, Any

import idna
from flask import render_template

from . import outbox, words
from .db import db
from .errors import Undeliverable
from .models import OutboxMessage, User
from .settings import current

if TYPE_CHECKING:
    from css_inline import CSSInliner

# Every relay takes seven bits; with eight, some break the mail.
POLICY = SMTP.clone(cte_type="7bit")
COLUMNS_MAX = 72


@dataclass(frozen=True)
class Letter:
    """One mail, in words."""

    recipient: str
    subject: str
    text: str
    html: str


def write(message: OutboxMessage, template: str, recipient: str, **context: Any) -> EmailMessage:
    """The mail that three templates make, .subject.txt, .txt and .html, in the language of its reader."""

    def rendered(ending: str) -> str:
        return render_template(f"security/email/{template}{ending}", **context)

    user = db.session.get(User, message.user_id) if message.user_id else None
    with words.speaking(language_of(user, outbox.content_of(message).get("language"))):
        subject, text, html = rendered(".subject.txt"), rendered(".txt"), rendered(".html")
    return as_mail(finished(recipient, subject, text, html), message.message_id)


def language_of(user: User | None, asked_in: str | None) -> str | None:
    """The account's own, as long as that is offered; or else that in which the mail was asked for."""
    own = user.language if user else None
    return own if own in current().RECOVERY_LANGUAGES else asked_in


def finished(recipient: str, subject: str, text: str, html: str) -> Letter:
    """What templates have made, as mail programs need it."""
    return Letter(recipient, subject.strip(), wrapped(text), _inliner().inline(html) if html.strip() else "")


@cache
def _inliner() -> CSSInliner:
    """Media queries stay in the head. A style sheet from elsewhere is left alone, for `check` to find."""
    from css_inline import CSSInliner  # only whoever writes mails needs it

    return CSSInliner(keep_at_rules=True, keep_link_tags=True, minify_css=True, load_remote_stylesheets=False)


def wrapped(text: str) -> str:
    """At most 72 columns where there are blanks to wrap at: a URL stays whole. Items of a list hang."""
    lines = [_wrapped_line(line) for line in re.sub(r"\n(\s*\n)+", "\n\n", text.strip()).split("\n")]
    return "\n".join(lines) + "\n" if text.strip() else ""


def _wrapped_line(line: str) -> str:
    indent = re.match(r"\s*([-*•] )?", line)[0]  # type: ignore[index]  # it matches nothing, too
    return textwrap.fill(
        line,
        COLUMNS_MAX,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )


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
