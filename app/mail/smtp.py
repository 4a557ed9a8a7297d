"""The SMTP connection: TLS with certificate checks and no way around them, login, one connection for
a batch of mails, and what its failures mean.

It is Flask-Mailman's seam (a mail backend). Flask-Mailman's own would accept any certificate on STARTTLS.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import time
from contextlib import AbstractContextManager, suppress
from email.utils import parseaddr
from functools import cached_property
from select import select
from typing import Any

from flask_mailman.backends.smtp import EmailBackend as SmtpBackend
from flask_mailman.utils import DNS_NAME

from ..settings import current
from . import smtp_client
from .composing import Mail, in_ascii
from .errors import LeaseLost, MailHeld, RelayMisconfigured
from .smtp_client import PatientSmtp, PatientSmtpSsl
from .smtp_failures import (
    BAD_SENDER,
    CAN_NOT_LOG_IN,
    LOGIN_FIRST,
    NEEDS_LOGIN,
    NO_LOGIN,
    NO_RELAY,
    NO_STARTTLS,
    TOO_LONG,
    why_no_connection,
)
from .watchdog import Watchdog

TIMEOUTS_MAX = 6  # as many waits of MAIL_TIMEOUT as a conversation may take, without the mail itself
MOMENT_SECONDS = 1  # after a reply: a relay that has not hung up since then is still there
_watch = Watchdog("relay")


class EmailBackend(SmtpBackend):  # type: ignore[misc]  # Flask-Mailman has no types
    """Keeps its connection open between mails until `close`."""

    connection: Any
    is_cut = False  # it took too long
    is_abandoned = False  # the mail is another worker's
    offers_sender = True
    heard_at = 0.0  # the last of it, by the monotonic clock

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return PatientSmtpSsl if self.use_ssl else PatientSmtp

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        """Checks the certificate and its host name, against the system's authorities or one of ours."""
        context = ssl.create_default_context(cafile=current().RECOVERY_MAIL_CA or None)
        if self.ssl_certfile:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context

    def open(self) -> bool:
        """Connect, and make sure that the relay takes mail of ours at all. False for a connection that is
        there. Raises MailHeld: whatever goes wrong here is no mail's fault.
        """
        if self.connection:
            return False
        if not self.host:
            raise RelayMisconfigured(NO_RELAY)
        try:
            with self._limited(TIMEOUTS_MAX * self.timeout):
                self._connect()
                if self.offers_sender and not self._offer_sender():
                    self.offers_sender = False  # it does not let us start again
                    self.close()
                    self._connect()
            self.heard_at = time.monotonic()
        except MailHeld:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise why_no_connection(error) from error
        return True

    def cut(self) -> None:
        """For another thread: end the conversation, so that its next read fails."""
        self.is_cut = True
        with suppress(OSError, AttributeError, TypeError):  # it may have no connection, or no socket, yet
            # Not its own `shutdown`: that takes TLS off first, and what is written then is read by anybody.
            socket.socket.shutdown(self.connection.sock, socket.SHUT_RDWR)

    def abandon(self) -> None:
        """For another thread: do not send this mail any more, on this connection or the next."""
        self.is_abandoned = True
        self.cut()

    def send_messages(self, email_messages: list[Mail]) -> int:
        """Send each mail, or raise; after a failure the next one gets a new connection."""
        with self._limited(self.timeout):
            stands = self.connection and self._still_stands()
        if not stands:
            self.close()
        self.open()
        try:
            with self._limited(TIMEOUTS_MAX * self.timeout + max(smtp_client.DATA_SECONDS, self.timeout)):
                for message in email_messages:
                    if self.is_abandoned:
                        raise LeaseLost
                    self._send(message)
                    self.heard_at = time.monotonic()
        except Exception as error:
            self.close()
            if self.is_cut and not self.is_abandoned:
                raise TimeoutError(TOO_LONG) from error
            raise
        return len(email_messages)

    def _send(self, mail: Mail) -> None:
        options: tuple[str, ...] = ()
        if not mail.recipient.isascii():
            self.connection.ehlo_or_helo_if_needed()
            if not self.connection.has_extn("smtputf8"):
                raise smtplib.SMTPNotSupportedError
            options = ("SMTPUTF8", "BODY=8BITMIME")
        data = mail.message().as_bytes(linesep="\r\n")
        self.connection.deliver(parseaddr(mail.from_email)[1], mail.recipient, data, options)

    def close(self) -> None:
        """Never raises and waits for nothing: whatever the relay thinks of it, the connection is gone."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(OSError, smtplib.SMTPException):
                connection.putcmd("quit")
            connection.close()

    def _limited(self, seconds: float) -> AbstractContextManager[None]:
        """A relay that sends a byte now and then would keep a conversation open for ever."""
        self.is_cut = False
        return _watch.after(seconds, self._cut_again)

    def _cut_again(self) -> float:
        self.cut()
        return 1.0

    def _connect(self) -> None:
        secure = {"context": self.ssl_context} if self.use_ssl else {}
        # In two steps: `cut` must reach it while it waits for the greeting.
        self.connection = self.connection_class.__new__(self.connection_class)
        self.connection.__init__(
            self.host, self.port, local_hostname=DNS_NAME.get_fqdn(), timeout=self.timeout, **secure
        )
        if self.use_tls:
            self._start_tls()
        if self.username:
            self._log_in()

    def _offer_sender(self) -> bool:
        """Before anybody is looked up, so that a sender that is refused stops all mail alike. False when
        the connection can not be used any more.
        """
        self.connection.ehlo_or_helo_if_needed()
        code, said = self.connection.mail(in_ascii(parseaddr(current().MAIL_DEFAULT_SENDER)[1]))
        if code == LOGIN_FIRST:
            raise RelayMisconfigured(NEEDS_LOGIN)
        if code >= 500:
            raise RelayMisconfigured(BAD_SENDER.format(code=code))
        if code != 250:
            raise smtplib.SMTPResponseException(code, said)
        return bool(self.connection.rset()[0] == 250)

    def _start_tls(self) -> None:
        try:
            self.connection.starttls(context=self.ssl_context)
        except smtplib.SMTPNotSupportedError as error:
            raise RelayMisconfigured(NO_STARTTLS) from error

    def _log_in(self) -> None:
        try:
            self.connection.login(self.username, self.password)
        except smtplib.SMTPNotSupportedError as error:
            raise RelayMisconfigured(NO_LOGIN) from error
        except smtplib.SMTPResponseException:
            raise
        except (smtplib.SMTPException, ValueError):  # its text may hold a part of the password
            raise RelayMisconfigured(CAN_NOT_LOG_IN) from None

    def _still_stands(self) -> bool:
        try:
            is_lately = time.monotonic() - self.heard_at < MOMENT_SECONDS
            if is_lately and not select([self.connection.sock], [], [], 0)[0]:
                return True
            return bool(self.connection.noop()[0] == 250)
        except (OSError, ValueError, smtplib.SMTPException):
            return False
