"""Mail composition: three templates, in the reader's language, become a message of Flask-Mailman.

A new mail is three templates (.subject.txt, .txt, .html) and one function with `@composer("kind")`.
"""

import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from email import policy
from email.header import Header
from email.utils import formataddr, parseaddr
from typing import Any

import idna
from blinker import NamedSignal
from flask import current_app, render_template
from flask_mailman import EmailMultiAlternatives
from flask_mailman.message import utf8_charset_qp
from flask_security.utils import localize_callback

from ..accounts.models import User
from ..db.engine import db
from ..settings import current
from ..web import i18n
from ..web.responses import context_of
from .outbox import OutboxMessage

log = logging.getLogger(__name__)

ENCODED_WORD_MAX = 75  # RFC 2047 §2
AUTOMATIC = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}  # RFC 3834; Exchange's
# RFC 6532, for an internationalized address. Other headers are encoded already, and refolding splits words.
UTF8_IN_HEADERS = policy.SMTPUTF8.clone(refold_source="none")
# By template: a setting of Flask-Security's whose value, if set, replaces the subject.
SUBJECT_SETTINGS = {
    "reset_instructions": "SECURITY_EMAIL_SUBJECT_PASSWORD_RESET",
    "reset_notice": "SECURITY_EMAIL_SUBJECT_PASSWORD_NOTICE",
    "change_notice": "SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE",
    "confirmation_instructions": "SECURITY_EMAIL_SUBJECT_CONFIRM",
    "welcome": "SECURITY_EMAIL_SUBJECT_REGISTER",
    "welcome_existing": "SECURITY_EMAIL_SUBJECT_REGISTER",
    "username_recovery": "SECURITY_EMAIL_SUBJECT_USERNAME_RECOVERY",
    "us_instructions": "SECURITY_US_EMAIL_SUBJECT",
    "change_email_instructions": "SECURITY_CHANGE_EMAIL_SUBJECT",
    "two_factor_instructions": "SECURITY_EMAIL_SUBJECT_TWO_FACTOR",
    "two_factor_rescue": "SECURITY_EMAIL_SUBJECT_TWO_FACTOR_RESCUE",
}
Compose = Callable[[OutboxMessage], "Mail"]
COMPOSERS: dict[str, Compose] = {}  # by kind of message


class Undeliverable(Exception):
    """A message that must not be sent, or not before a time. Only an admin reads the text."""

    def __init__(self, reason: str, until: datetime | None = None) -> None:
        super().__init__(reason)
        self.until = until


def composer(*kinds: str, needs: str = "") -> Callable[[Compose], Compose]:
    """Register the composer of some kinds of message, which may raise Undeliverable.

    `needs`: the setting of their feature, which may be off by now.
    """

    def register(compose: Compose) -> Compose:
        def compose_if_on(message: OutboxMessage) -> Mail:
            if needs and not getattr(current(), needs):
                raise Undeliverable(f"the feature is off ({needs})")
            return compose(message)

        COMPOSERS.update(dict.fromkeys(kinds, compose_if_on))
        return compose

    return register


class Mail(EmailMultiAlternatives):  # type: ignore[misc]  # Flask-Mailman has no types
    """A mail to one recipient, in text and HTML."""

    subject: str
    signal: tuple[NamedSignal, dict[str, Any]] | None = None  # of Flask-Security's, to send with these values
    encoding = utf8_charset_qp  # some relays break mail with eight bits or long lines

    def __init__(self, recipient: str, html: str, **parts: Any) -> None:
        self.recipient, self.html = recipient, html
        # Flask-Mailman would put an encoded word into the address, which RFC 2047 §5 forbids.
        header = recipient.encode("ascii", "replace").decode()
        super().__init__(to=[header], alternatives=[(html, "text/html")] if html else [], **parts)

    def message(self) -> Any:
        """Return the MIME message."""
        message = super().message()
        subject = Header(self.subject, maxlinelen=ENCODED_WORD_MAX, header_name="Subject")
        message.replace_header("Subject", subject.encode())
        if not self.recipient.isascii():
            message.policy = UTF8_IN_HEADERS
            message.replace_header("To", self.recipient)
        return message

    def deliver(self, relay: Any, deadline: float) -> None:
        """Send the mail before the deadline, and then its signal. An error of a receiver is logged."""
        relay.deadline = deadline
        relay.send_messages([self])
        if self.signal is None:
            return
        signal, values = self.signal
        try:
            signal.send(current_app._get_current_object(), **values)  # type: ignore[attr-defined]  # a proxy's
            db.session.commit()
        except Exception:
            log.exception("a receiver of %s failed", signal.name)


def write(message: OutboxMessage, template: str, recipient: str, **context: Any) -> Mail:
    """Render the three templates of a mail in its reader's language, and compose it."""
    user = db.session.get(User, message.user_id) if message.user_id else None
    requester = {name: message.content.get(name) for name in ("source", "user_agent")}
    context = {"user": user, **requester, **context_of("mail"), **context}
    context["occurred_at"] = datetime.fromisoformat(message.content["occurred_at"])
    with i18n.use_language(user.language if user else None, message.content.get("language")):
        if isinstance(context.get("within"), timedelta):  # of a link or code: templates get it in words
            context["within"] = i18n.duration(context["within"])
        subject = render_subject(template, **context)
        text = render_template(f"security/email/{template}.txt", **context)
        html = render_template(f"security/email/{template}.html", **context)
    config = current_app.config
    text = text if config["SECURITY_EMAIL_PLAINTEXT"] else ""
    html = html if config["SECURITY_EMAIL_HTML"] else ""
    return compose(recipient, subject, text, html, message.message_id)


def render_subject(template: str, **context: Any) -> str:
    """Return the subject of a mail in the current language: the admin's setting, or else the template."""
    if setting := subject_setting(template):
        text = localize_callback(current_app.config[setting])
        return str(text).replace("%(site)s", current().RECOVERY_SITE_NAME)
    return render_template(f"security/email/{template}.subject.txt", **context)


def subject_setting(template: str) -> str | None:
    """Return the setting by which the admin has replaced the subject of a mail, or None."""
    setting = SUBJECT_SETTINGS.get(template)
    return setting if setting in current().library else None


def compose(recipient: str, subject: str, text: str, html: str, message_id: str) -> Mail:
    """Compose a mail from MAIL_DEFAULT_SENDER. Raises Undeliverable for a deceptive address."""
    if "=?" in recipient:  # mail programs decode it, and show another address
        raise Undeliverable("its address contains an encoded word (RFC 2047)")
    recipient = with_ascii_domain(recipient)
    if not recipient.isprintable():
        raise Undeliverable("its address contains unprintable characters")
    settings = current()
    return Mail(
        recipient,
        _inline_styles(html) if html.strip() else "",
        subject=" ".join(subject.split()),  # a header is one line
        body=re.sub(r"\n\s*\n", "\n\n", text.strip()),  # without the blank lines of tags
        from_email=in_header("From", settings.MAIL_DEFAULT_SENDER),
        reply_to=list(filter(None, [in_header("Reply-To", settings.RECOVERY_MAIL_REPLY_TO)])),
        headers={"Message-ID": message_id, **AUTOMATIC},
    )


def _inline_styles(html: str) -> str:
    """Return HTML with its CSS inlined, because many mail programs ignore style sheets.

    Media queries stay in the head. Remote style sheets stay linked, and `check` reports them.
    """
    from css_inline import inline  # 6 MB that a web process does not need

    return inline(
        html, keep_at_rules=True, keep_link_tags=True, minify_css=True, load_remote_stylesheets=False
    )


def with_ascii_domain(address: str) -> str:
    """Return an address with its domain in ASCII, which every relay accepts."""
    local, _, domain = address.rpartition("@")
    if domain.isascii():
        return address
    return f"{local}@{idna.encode(domain, uts46=True).decode()}"


def in_header(header: str, mailbox: str) -> str:
    """Return an address of the settings for a header, its name in short encoded words. "" stays empty."""
    name, address = parseaddr(mailbox)
    encoded_name = Header(name, maxlinelen=ENCODED_WORD_MAX, header_name=header).encode(linesep="")
    return formataddr((encoded_name, with_ascii_domain(address)))
