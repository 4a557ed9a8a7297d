"""The SMTP connection: TLS with certificate checks and no way around them, login, many mails a connection.

It is a mail backend of Flask-Mailman's. Flask-Mailman's own accepts any certificate on STARTTLS.
"""

from __future__ import annotations

import smtplib
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from email.utils import parseaddr
from functools import cached_property
from select import select
from typing import Any

from flask_mailman.backends.smtp import EmailBackend as SmtpBackend
from flask_mailman.utils import DNS_NAME

from ..settings import current
from .composing import Mail, in_ascii
from .deadline import hanging_up_at, refuse_after
from .errors import RelayMisconfigured
from .smtp_failures import CAN_NOT_LOG_IN, NO_LOGIN, NO_RELAY, NO_STARTTLS, why_no_connection

TIMEOUTS_MAX = 6  # waits of MAIL_TIMEOUT in one conversation, without that for the reply to DATA
# A relay may scan a mail for long before it accepts it: hanging up earlier sends the mail twice. RFC 5321
# §4.5.3.2.6 says 10 minutes, but nobody waits that long for a link.
DATA_SECONDS = 120
MOMENT_SECONDS = 1  # a relay that replied so recently, and has not hung up since, need not be asked


class EmailBackend(SmtpBackend):  # type: ignore[misc]  # Flask-Mailman has no types
    """Keeps its connection open between mails until `close`."""

    connection: Any
    deadline: float | None = None  # of the next mails, by time.monotonic(); set by the owner of their lease
    probes_sender = True
    replied_at = 0.0

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
            with hanging_up_at(time.monotonic() + TIMEOUTS_MAX * self.timeout, self):
                self._connect()
                # Before any account is looked up: a refused sender stops all mail, known and unknown alike.
                if self.probes_sender:
                    self._probe_sender()
        except Exception as error:
            self.close()
            raise why_no_connection(error) from None
        self.replied_at = time.monotonic()
        return True

    def send_messages(self, email_messages: list[Mail]) -> int:
        """Send each mail before the deadline. Raise at the first failure; the next call connects again."""
        if self.connection and not self._still_stands():
            self.close()
        self.open()
        bound = TIMEOUTS_MAX * self.timeout + max(DATA_SECONDS, self.timeout)
        deadline = self.deadline or time.monotonic() + bound
        try:
            with hanging_up_at(deadline, self):
                for mail in email_messages:
                    self._send(mail, deadline)
        except Exception:
            self.close()
            refuse_after(deadline)  # then that is what went wrong
            raise
        return len(email_messages)

    def close(self) -> None:
        """Say goodbye without waiting for a reply. Raises nothing."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(OSError):
                connection.putcmd("quit")
            connection.close()

    def _send(self, mail: Mail, deadline: float) -> None:
        """Do what `smtplib.SMTP.sendmail` does, but look at the deadline before MAIL and before DATA."""
        data = mail.message().as_bytes(linesep="\r\n")
        options = [] if mail.recipient.isascii() else ["SMTPUTF8", "BODY=8BITMIME"]
        refuse_after(deadline)
        self._offer_sender(mail.from_email, options)
        code, reply = self.connection.rcpt(mail.recipient)
        if code not in (250, 251):
            raise smtplib.SMTPRecipientsRefused({mail.recipient: (code, reply)})
        refuse_after(deadline)
        self.connection.sock.settimeout(max(DATA_SECONDS, self.timeout))
        code, reply = self.connection.data(data)
        if code != 250:
            raise smtplib.SMTPDataError(code, reply)
        self.connection.sock.settimeout(self.timeout)
        self.replied_at = time.monotonic()

    def _connect(self) -> None:
        if not self.host:
            raise RelayMisconfigured(NO_RELAY)
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
            self._log_in()

    def _log_in(self) -> None:
        try:
            self.connection.login(self.username, self.password)
        except smtplib.SMTPResponseException:
            raise
        except smtplib.SMTPNotSupportedError:
            raise RelayMisconfigured(NO_LOGIN) from None
        except (smtplib.SMTPException, ValueError):  # its text may hold a part of the password
            raise RelayMisconfigured(CAN_NOT_LOG_IN) from None

    def _probe_sender(self) -> None:
        self._offer_sender(current().MAIL_DEFAULT_SENDER)
        if self.connection.rset()[0] != 250:  # this relay cannot start over
            self.probes_sender = False
            self.close()
            self._connect()

    def _offer_sender(self, sender: str, options: Sequence[str] = ()) -> None:
        address = in_ascii(parseaddr(sender)[1])
        code, reply = self.connection.mail(address, options)
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, reply, address)

    def _still_stands(self) -> bool:
        """True if the relay has not hung up since the last mail."""
        try:
            is_recent = time.monotonic() - self.replied_at < MOMENT_SECONDS
            if is_recent and not select([self.connection.sock], [], [], 0)[0]:
                return True
            with hanging_up_at(time.monotonic() + self.timeout, self):
                return bool(self.connection.noop()[0] == 250)
        except (OSError, ValueError):
            return False
