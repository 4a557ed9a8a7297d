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

from . import audit
from .errors import LeaseLost, MailHeld, RelayAway, RelayMisconfigured
from .letters import Mail, in_ascii
from .settings import current
from .watch import Watch

LOGIN_FIRST = 530  # RFC 4954 §6
TOO_BIG = 552  # RFC 1870 §6.1: the only thing about MAIL that is this mail's own
TIMEOUTS_MAX = 6  # as many waits of MAIL_TIMEOUT as a conversation may take, without the mail itself
# A relay may look at a mail for long before it takes it; who hangs up too early sends it twice. RFC 5321
# §4.5.3.2.6 says 10 minutes, which is longer than anybody waits for a link.
DATA_SECONDS = 120
MOMENT_SECONDS = 1  # after a reply: a relay that has not hung up since then is still there

NO_RELAY = "MAIL_SERVER: it is empty, so no mail is sent"
NO_STARTTLS = "MAIL_USE_TLS: the relay offers no STARTTLS on this port, and mail is never sent without it"
NO_LOGIN = "MAIL_USERNAME: the relay takes no login on this connection"
BAD_LOGIN = "MAIL_USERNAME, MAIL_PASSWORD: the relay refuses this login ({code})"
BAD_CERTIFICATE = "MAIL_SERVER: its certificate is not trusted ({why}); RECOVERY_MAIL_CA can name another"
CAN_NOT_LOG_IN = "MAIL_USERNAME, MAIL_PASSWORD: no way to log in that the relay offers takes these"
NEEDS_LOGIN = "MAIL_USERNAME: the relay takes mail only after a login (530)"
NO_TLS = "MAIL_USE_TLS, MAIL_USE_SSL, MAIL_PORT: the relay does not speak TLS this way ({why})"
BAD_SENDER = "MAIL_DEFAULT_SENDER: the relay refuses this sender ({code})"
FINAL = "{what} is refused for good: {said}"
SAID = "the relay said {reply}"
TOO_LONG = "the relay took too long over this mail"
AWAY = "the relay {host}:{port} (MAIL_SERVER, MAIL_PORT) can not be reached ({why})"

_watch = Watch("relay")


class _Patient(smtplib.SMTP):
    """Waits longer for the reply to a whole mail than for any other, and for a relay that is far away twice a
    mail, not four times: MAIL, RCPT and DATA go out in one piece where it takes that (RFC 2920)."""

    has_sent_data = False

    def deliver(self, mail: Mail, options: tuple[str, ...]) -> None:
        """Raises what `sendmail` does; then the connection is of no use any more."""
        if not self.has_extn("pipelining"):
            self.sendmail(mail.sender, [mail.recipient], mail.data, options)
            return
        if "SMTPUTF8" in options:
            self.command_encoding = "utf-8"
        size = (f"SIZE={len(mail.data)}",) if self.has_extn("size") else ()
        sender = " ".join((f"MAIL FROM:{smtplib.quoteaddr(mail.sender)}", *size, *options))
        recipient = f"RCPT TO:{smtplib.quoteaddr(mail.recipient)}"
        if set(sender + recipient) & set("\r\n"):
            raise ValueError("an address holds the end of a line")
        self.send(f"{sender}\r\n{recipient}\r\nDATA\r\n")
        if self.sock and hasattr(socket, "TCP_QUICKACK"):
            # A relay that sends its replies one by one would wait 40 ms for our system's word on the first.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self.has_sent_data = True
        code, said = self.getreply()
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, said, mail.sender)
        code, said = self.getreply()
        if code not in (250, 251):
            raise smtplib.SMTPRecipientsRefused({mail.recipient: (code, said)})
        code, said = self.data(mail.data)
        if code != 250:
            raise smtplib.SMTPDataError(code, said)

    def putcmd(self, cmd: str, args: str = "") -> None:
        """As smtplib's; but a DATA that went out with MAIL is not sent again when `data` means to."""
        if cmd == "data" and self.has_sent_data:
            self.has_sent_data = False
        else:
            super().putcmd(cmd, args)

    def data(self, msg: Any) -> tuple[int, bytes]:
        assert self.sock is not None
        self.sock.settimeout(max(DATA_SECONDS, self.timeout))
        try:
            return super().data(msg)
        finally:
            if self.sock is not None:
                self.sock.settimeout(self.timeout)


class _PatientSsl(_Patient, smtplib.SMTP_SSL):
    """The same with TLS from the start."""


class EmailBackend(SmtpBackend):  # type: ignore[misc]  # Flask-Mailman has no types
    """Keeps its connection open between mails until `close`."""

    connection: Any
    is_cut = False  # it took too long
    is_abandoned = False  # the mail is another worker's
    offers_sender = True
    heard_at = 0.0  # the last of it, by the monotonic clock

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _PatientSsl if self.use_ssl else _Patient

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
            raise _why_no_connection(error) from error
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
            with self._limited(TIMEOUTS_MAX * self.timeout + max(DATA_SECONDS, self.timeout)):
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
        if not mail.recipient.isascii() or not mail.sender.isascii():
            self.connection.ehlo_or_helo_if_needed()
            if not self.connection.has_extn("smtputf8"):
                raise smtplib.SMTPNotSupportedError
            options = ("SMTPUTF8", "BODY=8BITMIME")
        self.connection.deliver(mail, options)

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


def _why_no_connection(error: Exception) -> RelayAway | RelayMisconfigured:
    if isinstance(error, smtplib.SMTPAuthenticationError) and error.smtp_code >= 500:
        return RelayMisconfigured(BAD_LOGIN.format(code=error.smtp_code))
    if isinstance(error, ssl.SSLCertVerificationError):
        return RelayMisconfigured(BAD_CERTIFICATE.format(why=error.verify_message))
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return RelayMisconfigured(NO_TLS.format(why=error.reason))
    is_told = isinstance(error, (OSError, smtplib.SMTPException))  # others may tell what they should not
    why = cause_of(error) if is_told else type(error).__name__
    return RelayAway(AWAY.format(host=current().MAIL_SERVER, port=current().MAIL_PORT, why=why))


def cause_of(error: Exception) -> str:
    """What went wrong, for people: one line, without addresses and tokens."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        replies = [f"{code} {_text(said)}" for code, said in error.recipients.values()]
        return audit.in_one_line(SAID.format(reply="; ".join(replies)))
    if isinstance(error, smtplib.SMTPResponseException):
        return audit.in_one_line(SAID.format(reply=f"{error.smtp_code} {_text(error.smtp_error)}"))
    return audit.in_one_line(f"{type(error).__name__}: {error}")


def _text(said: bytes | str) -> str:
    return " ".join((said.decode(errors="replace") if isinstance(said, bytes) else said).split())


def why_final(error: Exception) -> str | None:
    """The reason if trying again can not help: this recipient or this mail is refused for good.

    Everything else is tried again: the relay may come back.
    """
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        if all(code >= 500 and code != LOGIN_FIRST for code in codes):
            return FINAL.format(what="the address", said=cause_of(error))
    too_big = isinstance(error, smtplib.SMTPSenderRefused) and error.smtp_code == TOO_BIG
    if too_big or (isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500):
        return FINAL.format(what="the mail", said=cause_of(error))
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "the relay does not take internationalised addresses (SMTPUTF8)"
    return None
