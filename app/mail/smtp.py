"""The SMTP connection: TLS with certificate checks and no way around them, login, many mails a connection.

It is a mail backend of Flask-Mailman's. Flask-Mailman's own accepts any certificate on STARTTLS.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email.utils import parseaddr
from functools import cached_property
from select import select
from typing import Any

from flask_mailman.backends.smtp import EmailBackend as SmtpBackend
from flask_mailman.utils import DNS_NAME

from ..settings import current
from .composing import Mail, in_ascii
from .errors import RelayMisconfigured
from .smtp_failures import RecipientRefused, why_no_connection

TIMEOUTS_MAX = 6  # waits of MAIL_TIMEOUT in one conversation, without that for the reply to DATA
# A relay may scan a mail for long before it accepts it: hanging up earlier sends the mail twice. RFC 5321
# §4.5.3.2.6 says 10 minutes, but nobody waits that long for a link.
DATA_SECONDS = 120
HANG_UP_SECONDS = 0.1  # between two attempts to hang up
NO_STARTTLS = "MAIL_USE_TLS: the relay offers no STARTTLS on this port, and mail is never sent without it"
NO_WAY_TO_LOG_IN = "MAIL_USERNAME, MAIL_PASSWORD: no way to log in that the relay offers takes these"


class EmailBackend(SmtpBackend):  # type: ignore[misc]  # Flask-Mailman has no types
    """Keeps its connection open between mails until `close`."""

    connection: Any
    deadline = 0.0  # of the next mails, by time.monotonic(): set by the owner of their lease

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        """Checks the certificate and its host name, against the system's authorities or RECOVERY_MAIL_CA."""
        context = ssl.create_default_context(cafile=current().RECOVERY_MAIL_CA or None)
        if self.ssl_certfile:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context

    def open(self) -> bool:
        """Connect and offer the sender, or raise MailHeld. Return False if the connection was open."""
        if self.connection:
            return False
        try:
            with self._hanging_up_at(time.monotonic() + TIMEOUTS_MAX * self.timeout):
                self._connect()
                # Before any account is looked up: a refused sender stops all mail, known and unknown alike.
                self._offer_sender(in_ascii(parseaddr(current().MAIL_DEFAULT_SENDER)[1]))
                if self.connection.rset()[0] != 250:  # this relay cannot start over
                    self.close()
                    self._connect()
        except Exception as error:
            self.close()
            raise why_no_connection(error) from None
        return True

    def send_messages(self, email_messages: list[Mail]) -> int:
        """Send each mail before the deadline. Raise at the first failure; the next call connects again."""
        # Readable: the relay has hung up, or says that it will.
        if self.connection and select([self.connection.sock], [], [], 0)[0]:
            self.close()
        self.open()
        try:
            with self._hanging_up_at(self.deadline):
                for mail in email_messages:
                    self._send(mail)
        except Exception:
            self.close()
            self._refuse_after_deadline()  # then that is what went wrong
            raise
        return len(email_messages)

    def close(self) -> None:
        """Say goodbye without waiting for a reply. Raises nothing."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(OSError):
                connection.putcmd("quit")
            connection.close()

    def _connect(self) -> None:
        if not self.host:
            raise RelayMisconfigured("MAIL_SERVER: it is empty, so no mail is sent")
        secure = {"context": self.ssl_context} if self.use_ssl else {}
        name = DNS_NAME.get_fqdn()
        # Without a host it does not connect yet. Once it does, the deadline can end an endless greeting.
        self.connection = self.connection_class(local_hostname=name, timeout=self.timeout, **secure)
        self.connection._host = self.host  # as in the certificate; only the constructor sets it (bpo-36094)
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
            try:
                self.connection.login(self.username, self.password)
            except (smtplib.SMTPResponseException, smtplib.SMTPNotSupportedError):
                raise
            except (smtplib.SMTPException, ValueError):  # its text may hold a part of the password
                raise RelayMisconfigured(NO_WAY_TO_LOG_IN) from None

    def _send(self, mail: Mail) -> None:
        """Do what `smtplib.SMTP.sendmail` does, but look at the deadline before MAIL and before DATA."""
        data = mail.message().as_bytes(linesep="\r\n")
        options = [] if mail.recipient.isascii() else ["SMTPUTF8", "BODY=8BITMIME"]
        self._refuse_after_deadline()
        self._offer_sender(parseaddr(mail.from_email)[1], options)
        code, reply = self.connection.rcpt(mail.recipient)
        if code not in (250, 251):
            raise RecipientRefused(code, reply)
        self._refuse_after_deadline()
        self.connection.sock.settimeout(max(DATA_SECONDS, self.timeout))
        code, reply = self.connection.data(data)
        if code != 250:
            raise smtplib.SMTPDataError(code, reply)
        self.connection.sock.settimeout(self.timeout)

    def _offer_sender(self, address: str, options: Sequence[str] = ()) -> None:
        code, reply = self.connection.mail(address, options)
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, reply, address)

    def _refuse_after_deadline(self) -> None:
        if time.monotonic() >= self.deadline:
            raise TimeoutError("the relay took too long over this mail")

    @contextmanager
    def _hanging_up_at(self, deadline: float) -> Iterator[None]:
        """Close the socket at the deadline, because a byte now and then keeps reads from timing out."""
        over = threading.Event()

        def hang_up() -> None:
            # Again and again, because there is no socket yet while the relay's name is looked up.
            while not over.wait(max(deadline - time.monotonic(), HANG_UP_SECONDS)):
                with suppress(OSError, AttributeError, TypeError):
                    # Not an SSL socket's own `shutdown`: it takes TLS off, and the rest is sent in the clear.
                    socket.socket.shutdown(self.connection.sock, socket.SHUT_RDWR)

        threading.Thread(target=hang_up, name="relay-deadline", daemon=True).start()
        try:
            yield
        finally:
            over.set()
