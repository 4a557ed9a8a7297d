"""An SMTP server on this machine, and its mails."""

import asyncio
import email
import email.policy
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import partial
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import MISSING


@dataclass
class Mailbox:
    """An SMTP server that keeps mails, and refuses or delays commands on request."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[list[str]] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)  # SMTP command -> reply
    refuse_only: dict[str, str] = field(default_factory=dict)  # recipient -> reply
    delay: dict[str, float] = field(default_factory=dict)  # SMTP command -> seconds before the reply
    arrived: threading.Condition = field(default_factory=threading.Condition)
    raw: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  # the recipient of each RCPT
    greetings: list[str] = field(default_factory=list)  # the name in each EHLO
    times: list[float] = field(default_factory=list)  # of arrival, by time.monotonic()
    connections: int = 0
    hang_up: Callable[[], Any] = lambda: None  # closes the newest connection

    async def handle_EHLO(self, server: Any, session: Any, _: Any, hostname: str, responses: Any) -> Any:
        self.connections += 1
        self.hang_up = partial(asyncio.get_running_loop().call_soon_threadsafe, server.transport.close)
        session.host_name = hostname
        self.greetings.append(hostname)
        return [self.refuse["EHLO"]] if "EHLO" in self.refuse else responses

    async def handle_HELO(self, *_: Any) -> Any:
        return self.refuse.get("EHLO", MISSING)

    async def handle_AUTH(self, *_: Any) -> Any:
        return self.refuse.get("AUTH", MISSING)

    async def handle_RSET(self, *_: Any) -> str:
        return self.refuse.get("RSET", "250 OK")

    async def handle_MAIL(self, _: Any, _session: Any, envelope: Any, address: str, options: Any) -> str:
        if "MAIL" in self.refuse:
            return self.refuse["MAIL"]
        envelope.mail_from, envelope.mail_options = address, options
        return "250 OK"

    async def handle_RCPT(self, _: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        self.asked.append(address)
        await asyncio.sleep(self.delay.get("RCPT", 0))
        refusal = self.refuse.get("RCPT") or self.refuse_only.get(address)
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        await asyncio.sleep(self.delay.get("DATA", 0))
        if "DATA" in self.refuse:
            return self.refuse["DATA"]
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        with self.arrived:
            self.envelopes.append(envelope.rcpt_tos)
            self.raw.append(envelope.original_content)
            self.times.append(time.monotonic())
            self.mails.append(message)
            self.arrived.notify_all()
        return "250 accepted"

    def wait_for(self, count: int, seconds: float = 20) -> EmailMessage:
        with self.arrived:
            enough = self.arrived.wait_for(lambda: len(self.mails) >= count, seconds)
            assert enough, f"{len(self.mails)} of {count} mails arrived"
            return self.mails[count - 1]


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def words_of(mail: EmailMessage) -> str:
    """Return the text of a mail in one line."""
    return " ".join(text_of(mail).split())


def html_of(mail: EmailMessage) -> str:
    return text_of(mail, "html")


def link_in(mail: EmailMessage) -> str:
    link = re.search(r"https?://\S+/reset/\S+", text_of(mail))
    assert link, text_of(mail)
    return link[0]


def code_in(mail: EmailMessage) -> str:
    code = re.search(r"^(\d{4}) (\d{4})\s*$", text_of(mail), re.M)
    assert code, text_of(mail)
    return code[1] + code[2]


@contextmanager
def listening(box: Mailbox) -> Iterator[Mailbox]:
    """Run the server on its port."""
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
