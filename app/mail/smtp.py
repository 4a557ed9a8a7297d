"""The SMTP backend for Flask-Mailman: TLS with mandatory certificate checks, login, and a deadline.

Flask-Mailman's own backend accepts any certificate on STARTTLS.
"""

import io
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import parseaddr
from functools import cached_property
from select import select
from typing import Any

from flask_mailman.backends.smtp import EmailBackend as SmtpBackend

from ..settings import current
from .composing import Mail, with_ascii_domain
from .relay_login import access_token, log_in
from .smtp_failures import NO_STARTTLS, RelayMisconfigured, connection_failure

TIMEOUTS_MAX = 6  # waits of MAIL_TIMEOUT in one conversation, without that for the reply to DATA
# Seconds for the reply to DATA, because closing the connection while a relay scans the mail sends it twice.
# RFC 5321 §4.5.3.2.6 says 10 minutes, which is too long to wait for a link.
DATA_SECONDS = 120
REPLY_BYTES_MAX = 64 * 1024  # RFC 5321 §4.5.3.1.5 asks for 512 a line; a relay's EHLO has some 20 lines
SHUTDOWN_SECONDS = 0.1  # between two attempts to shut the socket down


class _BoundedReader(io.BufferedReader):
    """The relay's side of a connection, which fails when a reply is longer than REPLY_BYTES_MAX."""

    bytes_left = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        self.bytes_left -= len(line)
        if self.bytes_left < 0:
            raise OSError("the relay's reply does not end")
        return line


class _BoundedReplies(smtplib.SMTP):
    """A client that reads no endless reply, because smtplib collects any number of lines in memory."""

    def getreply(self) -> tuple[int, bytes]:
        connected: Any = self.sock
        self.file = self.file or _BoundedReader(connected.makefile("rb", buffering=0))
        self.file.bytes_left = REPLY_BYTES_MAX
        return super().getreply()


class EmailBackend(SmtpBackend):  # type: ignore[misc]  # Flask-Mailman has no types
    """A connection to the relay that stays open between mails."""

    connection: Any
    deadline = 0.0  # for the next mails, by time.monotonic(); set by the owner of the lease

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        """The TLS settings: trust the system's certificate authorities, or RECOVERY_MAIL_CA."""
        context = ssl.create_default_context(cafile=current().RECOVERY_MAIL_CA or None)
        if self.ssl_certfile:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context

    def open(self, recipient: str = "") -> None:
        """Connect and offer the sender (a check: and a recipient), unless it is open. Raises MailHeld."""
        if self.connection:
            return
        try:
            with self._closing_socket_at(time.monotonic() + TIMEOUTS_MAX * self.timeout):
                self._connect()
                # A refused sender stops all mail here, before an account is looked up.
                self._offer(recipient)
                if self.connection.rset()[0] != 250:  # RFC 5321 allows no other reply
                    self.close()
                    self._connect()
        except Exception as error:
            self.close()
            raise connection_failure(error) from None

    def send_messages(self, email_messages: list[Mail]) -> int:
        """Send each mail before the deadline. Raises the first error; the next call connects again."""
        # A readable socket means that the relay has closed the connection, or announces it.
        if self.connection and select([self.connection.sock], [], [], 0)[0]:
            self.close()
        self.open()
        try:
            with self._closing_socket_at(self.deadline):
                for mail in email_messages:
                    self._send(mail)
        except Exception:
            self.close()
            self._refuse_after_deadline()  # the cause of that error
            raise
        return len(email_messages)

    def close(self) -> None:
        """Send QUIT without waiting for the reply. Raises nothing."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(OSError):
                connection.putcmd("quit")
            connection.close()

    def _connect(self) -> None:
        if not self.host:
            raise RelayMisconfigured("MAIL_SERVER: it is empty, so no mail is sent")
        token = access_token()  # before the relay waits
        secure = {"context": self.ssl_context} if self.use_ssl else {}
        # Without a host, the constructor does not connect. So `self.connection` is set before the greeting,
        # and the deadline can end an endless one.
        options = {"local_hostname": current().ehlo_name, "timeout": self.timeout, **secure}
        self.connection = type("Relay", (_BoundedReplies, self.connection_class), {})(**options)
        self.connection._host = self.host  # for the certificate; only the constructor sets it (bpo-36094)
        code, reply = self.connection.connect(self.host, self.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, reply)
        self.connection.ehlo_or_helo_if_needed()
        if self.use_tls:
            if not self.connection.has_extn("starttls"):
                raise RelayMisconfigured(NO_STARTTLS)
            self.connection.starttls(context=self.ssl_context)
            self.connection.ehlo_or_helo_if_needed()
        if self.username:
            log_in(self.connection, self.username, self.password, token)

    def _send(self, mail: Mail) -> None:
        """Send a mail as `smtplib.SMTP.sendmail` does, with the deadline checked before MAIL and DATA."""
        data = mail.message().as_bytes(linesep="\r\n")
        self._refuse_after_deadline()
        self._offer(mail.recipient)
        self._refuse_after_deadline()
        self.connection.sock.settimeout(max(DATA_SECONDS, self.timeout))
        code, reply = self.connection.data(data)
        if code != 250:
            raise smtplib.SMTPDataError(code, reply)
        self.connection.sock.settimeout(self.timeout)

    def _offer(self, recipient: str) -> None:
        """Say MAIL and, if there is a recipient, RCPT. Raises the refusal."""
        options = [] if recipient.isascii() else ["SMTPUTF8", "BODY=8BITMIME"]
        sender = with_ascii_domain(parseaddr(current().MAIL_DEFAULT_SENDER)[1])
        code, reply = self.connection.mail(sender, options)
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, reply, sender)
        code, reply = self.connection.rcpt(recipient) if recipient else (250, b"")
        if code not in (250, 251):
            raise smtplib.SMTPResponseException(code, reply)

    def _refuse_after_deadline(self) -> None:
        if time.monotonic() >= self.deadline:
            raise TimeoutError("the relay took too long to accept this message")

    @contextmanager
    def _closing_socket_at(self, deadline: float) -> Iterator[None]:
        """Shut the socket down at the deadline, because a slow drip of bytes prevents read timeouts."""
        is_over = threading.Event()

        def shut_down() -> None:
            # Repeated, because there is no socket yet while the relay's name is resolved.
            while not is_over.wait(max(deadline - time.monotonic(), SHUTDOWN_SECONDS)):
                with suppress(OSError, AttributeError, TypeError):
                    # SSLSocket.shutdown would remove TLS, and the rest would be sent in the clear.
                    socket.socket.shutdown(self.connection.sock, socket.SHUT_RDWR)

        threading.Thread(target=shut_down, name="relay-deadline", daemon=True).start()
        try:
            yield
        finally:
            is_over.set()
