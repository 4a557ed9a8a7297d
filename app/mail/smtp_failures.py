"""Classifies the failures of a relay: all mail is held, this message ends, or it is tried again."""

from __future__ import annotations

import smtplib
import ssl

from ..settings import current
from ..web.logging import redact_line
from .errors import MailHeld, RelayAway, RelayMisconfigured

LOGIN_FIRST = 530  # RFC 4954 §6
TOO_BIG = 552  # RFC 1870 §6.1: of refusals at MAIL, the only one because of the mail
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


def why_no_connection(error: Exception) -> MailHeld:
    """Return the reason why no mail can go out, for whatever went wrong before the first mail."""
    if isinstance(error, MailHeld):
        return error
    if isinstance(error, smtplib.SMTPSenderRefused) and error.smtp_code >= 500:
        needs_login = error.smtp_code == LOGIN_FIRST
        return RelayMisconfigured(NEEDS_LOGIN if needs_login else BAD_SENDER.format(code=error.smtp_code))
    if isinstance(error, smtplib.SMTPAuthenticationError) and error.smtp_code >= 500:
        return RelayMisconfigured(BAD_LOGIN.format(code=error.smtp_code))
    if isinstance(error, ssl.SSLCertVerificationError):
        return RelayMisconfigured(BAD_CERTIFICATE.format(why=error.verify_message))
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return RelayMisconfigured(NO_TLS.format(why=error.reason))
    is_told = isinstance(error, (OSError, smtplib.SMTPException))  # other texts may hold secrets
    why = cause_of(error) if is_told else type(error).__name__
    return RelayAway(AWAY.format(host=current().MAIL_SERVER, port=current().MAIL_PORT, why=why))


def cause_of(error: Exception) -> str:
    """Describe a failure in one line, without addresses and tokens."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        replies = [f"{code} {_text(said)}" for code, said in error.recipients.values()]
        return redact_line(SAID.format(reply="; ".join(replies)))
    if isinstance(error, smtplib.SMTPResponseException):
        return redact_line(SAID.format(reply=f"{error.smtp_code} {_text(error.smtp_error)}"))
    return redact_line(f"{type(error).__name__}: {error}")


def _text(said: bytes | str) -> str:
    return " ".join((said.decode(errors="replace") if isinstance(said, bytes) else said).split())


def why_final(error: Exception) -> str | None:
    """Return the reason if this recipient or mail is refused for good; None if trying again can help."""
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
