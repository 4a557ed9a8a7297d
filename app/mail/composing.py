"""One mail: in words, and in the form in which it travels.

Templates hold classes and whole paragraphs. Here styles move to what they are of, since many mail programs
know no others, and text is wrapped, since some wrap none.
"""

from __future__ import annotations

import re
import secrets
import textwrap
from binascii import b2a_qp
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime, formataddr, parseaddr
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import idna
from flask import render_template

from ..accounts.models import User
from ..db.engine import db
from ..settings import current
from ..web import i18n
from .errors import Undeliverable
from .outbox import OutboxMessage

if TYPE_CHECKING:
    from css_inline import CSSInliner

COLUMNS_MAX = 72
Compose = Callable[["OutboxMessage"], "Mail"]
OnSettled = Callable[["OutboxMessage", str], None]
# What templates call the tokens of links, which differ from mail to mail; and what stands for them meanwhile.
TOKENS = ("reset_token", "objection")
_MARKS = tuple(secrets.token_urlsafe(32) for _ in TOKENS)


@dataclass(frozen=True)
class Composer:
    """How one kind of message becomes a mail."""

    compose: Compose  # raises Undeliverable for a message that must not be sent
    on_settled: OnSettled | None = None  # called with the final state, in the transaction that writes it


COMPOSERS: dict[str, Composer] = {}  # by kind of message


def composer(kind: str, on_settled: OnSettled | None = None) -> Callable[[Compose], Compose]:
    """Register the decorated function as the composer of a kind of message."""

    def register(compose: Compose) -> Compose:
        COMPOSERS[kind] = Composer(compose, on_settled)
        return compose

    return register


@dataclass(frozen=True)
class Letter:
    """One mail, in words."""

    recipient: str
    subject: str
    text: str
    html: str


def write(message: OutboxMessage, template: str, recipient: str, **context: Any) -> Mail:
    """The mail that three templates make, .subject.txt, .txt and .html, in the language of its reader."""

    def rendered(ending: str) -> str:
        return render_template(f"security/email/{template}{ending}", **context)

    user = db.session.get(User, message.user_id) if message.user_id else None
    with i18n.speaking(language_of(user, message.content.get("language"))):
        subject, text, html = rendered(".subject.txt"), rendered(".txt"), rendered(".html")
    # A notice holds more that stands in no other mail: keeping it would spare nothing.
    is_shared = "reset_token" in context
    tokens = [context[name] for name in TOKENS if name in context] if is_shared else []
    return as_mail(finished(recipient, subject, text, html, tokens), message.message_id)


def language_of(user: User | None, asked_in: str | None) -> str | None:
    """The account's own, as long as that is offered; or else that in which the mail was asked for."""
    own = user.language if user else None
    return own if own in current().RECOVERY_LANGUAGES else asked_in


def finished(recipient: str, subject: str, text: str, html: str, tokens: Sequence[str] = ()) -> Letter:
    """What templates have made, as mail programs need it. `tokens`: in what it differs from others."""
    return Letter(recipient, subject.strip(), wrapped(text), _styled(html, tokens) if html.strip() else "")


def _styled(html: str, tokens: Sequence[str]) -> str:
    """Mails that are the same but for their tokens share the work; others are not kept for it."""
    if not tokens:
        return _inliner().inline(html)
    for mark, token in zip(_MARKS, tokens, strict=False):
        html = html.replace(token, mark)
    html = _inlined(html)
    for mark, token in zip(_MARKS, tokens, strict=False):
        html = html.replace(mark, token)
    return html


@lru_cache(maxsize=32)
def _inlined(html: str) -> str:
    return _inliner().inline(html)


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
    if len(line) <= COLUMNS_MAX and "\t" not in line:
        return line.rstrip()
    indent = re.match(r"\s*([-*•] )?", line)[0]  # type: ignore[index]  # it matches nothing, too
    return textwrap.fill(
        line,
        COLUMNS_MAX,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )


@dataclass(frozen=True)
class Mail:
    """One mail as it travels, and from and to whom."""

    sender: str
    recipient: str
    data: bytes


def as_mail(letter: Letter, message_id: str) -> Mail:
    """Text and HTML, from our sender, marked as automatic. Raises Undeliverable for an address that is none.

    Put together here, since Python's email package takes 2.9 ms for what takes 0.2.
    """
    if "=?" in letter.recipient:  # mail programs decode such a word, and show another address
        raise Undeliverable("its address holds an encoded word (RFC 2047)")
    recipient = in_ascii(letter.recipient)
    if not recipient.isprintable():
        raise Undeliverable("its address holds what moves a cursor")
    sender, shown = _sender(current().MAIL_DEFAULT_SENDER)
    headers = {
        "From": shown,
        "To": recipient,
        "Subject": _words("Subject", letter.subject),
        "Date": format_datetime(datetime.now(UTC)),
        "Message-ID": message_id,
        "Auto-Submitted": "auto-generated",  # RFC 3834 §5: no out-of-office reply comes back
        "MIME-Version": "1.0",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    parts = [_part("plain", letter.text), *([_part("html", letter.html)] if letter.html else [])]
    body = parts[0] if len(parts) == 1 else _alternatives(parts)
    return Mail(sender, recipient, head + body)


@lru_cache(maxsize=16)
def _sender(text: str) -> tuple[str, str]:
    """Its address; and with the name."""
    name, address = parseaddr(text)
    address = in_ascii(address)
    if not name.isascii():
        return address, f"{_words('From', name)} <{address}>"
    return address, formataddr((name, address)) if name else address


@lru_cache(maxsize=256)
def _words(header: str, text: str) -> str:
    """In one line, or folded where words have to be encoded: each in at most 75 characters (RFC 2047 §2)."""
    return Header(" ".join(text.split()), maxlinelen=75, header_name=header).encode(linesep="\r\n")


def _part(kind: str, text: str) -> bytes:
    """Every relay takes seven bits; with eight, or longer lines, some break the mail."""
    lines = text.rstrip("\r\n").replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    return (
        f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
    ).encode() + b2a_qp(f"{lines}\r\n".encode(), istext=True)


def _alternatives(parts: list[bytes]) -> bytes:
    """The last one is shown where it can be."""
    mark = f"=_{secrets.token_hex(16)}"  # which stands in no quoted-printable text (RFC 2045 §6.7)
    head = f'Content-Type: multipart/alternative; boundary="{mark}"\r\n\r\n'.encode()
    bodies = [b"--%s\r\n%s\r\n" % (mark.encode(), part) for part in parts]
    return b"".join([head, *bodies, f"--{mark}--\r\n".encode()])


def in_ascii(address: str) -> str:
    """An internationalised domain in its ASCII form, which every relay takes."""
    local, _, domain = address.rpartition("@")
    if domain.isascii():
        return address
    return f"{local}@{idna.encode(domain, uts46=True).decode()}"
