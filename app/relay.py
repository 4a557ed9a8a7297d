"""The SMTP connection: TLS with certificate checks and no way around them, login, one connection for
a batch of mails, and what its failures mean.

It is Flask-Mailman's seam (a mail backend). Flask-Mailman's own would accept any certificate on STARTTLS.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from contextlib import suppress
from email.message import EmailMessage
from functools import cached_property
from typing import Any

import idna
from flask_mailman.backends.smtp import EmailBackend as SmtpBackend
from flask_mailman.utils import DNS_NAME

from .errors import RelayAway, RelayMisconfigured
from .settings import current

LOGIN_FIRST = 530  # RFC 4954 §6

NO_STARTTLS = "MAIL_USE_TLS: the relay offers no STARTTLS on this port, and mail is never sent without it"
NO_LOGIN = "MAIL_USERNAME: the relay takes no login on this connection"
BAD_LOGIN = "MAIL_USERNAME, MAIL_PASSWORD: the relay refuses this login ({code})"
BAD_CERTIFICATE = "MAIL_SERVER: its certificate is not trusted ({why}); RECOVERY_MAIL_CA can name another"
CAN_NOT_LOG_IN = "MAIL_USERNAME, MAIL_PASSWORD: no way to log in that the relay offers takes these"
NEEDS_LOGIN = "MAIL_USERNAME: the relay takes mail only after a login (530)"
NO_TLS = "MAIL_USE_TLS, MAIL_USE_SSL, MAIL_PORT: the relay does not speak TLS this way ({why})"
BAD_SENDER = "MAIL_DEFAULT_SENDER: the relay refuses this sender ({code})"
TOO_LONG = "the relay took too long over this mail (MAIL_TIMEOUT)"
AWAY = "the relay (MAIL_SERVER, MAIL_PORT) can not be reached ({why})"


class EmailBackend(SmtpBackend):  # type: ignore[misc]  # Flask-Mailman has no types
    """Keeps its connection open between mails until `close`."""

    connection: Any
    is_cut = False

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        """Checks the certificate and its host name, against the system's authorities or one of ours."""
        context = ssl.create_default_context(cafile=current().RECOVERY_MAIL_CA or None)
        if self.ssl_certfile:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context

    def open(self) -> bool:
        """Connect unless the connection still stands. True when it is a new one.

        Raises MailHeld: whatever goes wrong here is no mail's fault.
        """
        if self.connection and self._still_stands():
            return False
        self.close()
        try:
            self._connect()
        except (OSError, smtplib.SMTPException) as error:
            raise _why_no_connection(error) from error
        return True

    def cut(self) -> None:
        """For another thread: end a conversation that takes too long, so that its next read fails."""
        self.is_cut = True
        with suppress(OSError, AttributeError):
            self.connection.sock.shutdown(socket.SHUT_RDWR)

    def send_messages(self, email_messages: list[EmailMessage]) -> int:
        """Send each mail, or raise; after a failure the next one gets a new connection."""
        try:
            if not self.connection:
                self.open()
            for message in email_messages:
                self.connection.send_message(message)
        except Exception as error:
            self.close()
            if meaning := self._meaning_of(error):
                raise meaning from error
            raise
        return len(email_messages)

    def close(self) -> None:
        """Never raises: whatever the relay thinks of it, the connection is gone."""
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                connection.quit()
            except (OSError, smtplib.SMTPException):
                connection.close()

    def _meaning_of(self, error: Exception) -> Exception | None:
        """What is behind a failure while a mail was sent, if it is not what it seems to be."""
        if self.is_cut:
            self.is_cut = False
            return TimeoutError(TOO_LONG)
        if isinstance(error, smtplib.SMTPSenderRefused) and error.smtp_code >= 500:
            said = BAD_SENDER.format(code=error.smtp_code)
            return RelayMisconfigured(NEEDS_LOGIN if error.smtp_code == LOGIN_FIRST else said)
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            codes = {code for code, _ in error.recipients.values()}
            return RelayMisconfigured(NEEDS_LOGIN) if codes == {LOGIN_FIRST} else None
        return None

    def _connect(self) -> None:
        secure = {"context": self.ssl_context} if self.use_ssl else {}
        self.connection = self.connection_class(
            self.host, self.port, local_hostname=DNS_NAME.get_fqdn(), timeout=self.timeout, **secure
        )
        try:
            if self.use_tls:
                self._start_tls()
            if self.username:
                self._log_in()
        except BaseException:
            self.close()
            raise

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
        except (smtplib.SMTPException, UnicodeError):  # its text may hold a part of the password
            raise RelayMisconfigured(CAN_NOT_LOG_IN) from None

    def _still_stands(self) -> bool:
        try:
            return bool(self.connection.noop()[0] == 250)
        except (OSError, smtplib.SMTPException):
            return False


def _why_no_connection(error: OSError | smtplib.SMTPException) -> RelayAway | RelayMisconfigured:
    if isinstance(error, smtplib.SMTPAuthenticationError) and error.smtp_code >= 500:
        return RelayMisconfigured(BAD_LOGIN.format(code=error.smtp_code))
    if isinstance(error, ssl.SSLCertVerificationError):
        return RelayMisconfigured(BAD_CERTIFICATE.format(why=error.verify_message))
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return RelayMisconfigured(NO_TLS.format(why=error.reason))
    return RelayAway(AWAY.format(why=f"{type(error).__name__}: {error}"))


def why_final(error: Exception) -> str | None:
    """The reason if trying again can not help: this recipient or this mail is refused for good.

    Everything else is tried again: the relay may come back.
    """
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        replies = list(error.recipients.values())
        if all(code >= 500 for code, _ in replies):
            return f"the relay refuses the address for good ({replies[0][0]})"
    if isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500:
        return f"the relay refuses the mail for good ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "the relay does not take internationalised addresses (SMTPUTF8)"
    return None


def in_ascii(address: str) -> str:
    """An internationalised domain in its ASCII form, which every relay takes."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{idna.encode(domain, uts46=True).decode()}"
