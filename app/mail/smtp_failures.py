"""Classification of SMTP failures: all mail is held, one message is refused permanently, or it is retried."""

from __future__ import annotations

import smtplib
import ssl

from ..settings import current
from ..web.logging import redact_line

LOGIN_FIRST = 530  # RFC 4954 §6
TOO_BIG = 552  # RFC 1870 §6.1: the only refusal at MAIL that is about the message, not the sender


class MailHeld(Exception):
    """A failure that stops all mail. The attempt does not count, because no message is at fault."""

    pause: float  # seconds until the worker connects again


class RelayAway(MailHeld):
    """A relay that is down, busy, or closes the connection before the first mail."""

    pause = 5


class RelayMisconfigured(MailHeld):
    """A setting that must be corrected before mail can go out. The text starts with its name."""

    pause = 30


class RecipientRefused(smtplib.SMTPResponseException):
    """A refusal at RCPT."""


def connection_failure(error: Exception) -> MailHeld:
    """Return the reason why no mail can go out, for an error before the first message."""
    code = getattr(error, "smtp_code", 0)
    match error:
        case MailHeld():
            return error
        case smtplib.SMTPNotSupportedError():
            return RelayMisconfigured("MAIL_USERNAME: the relay takes no login on this connection")
        case smtplib.SMTPSenderRefused() if code == LOGIN_FIRST:
            return RelayMisconfigured("MAIL_USERNAME: the relay takes mail only after a login (530)")
        case smtplib.SMTPSenderRefused() if code >= 500:
            return RelayMisconfigured(f"MAIL_DEFAULT_SENDER: the relay refuses this sender ({code})")
        case smtplib.SMTPAuthenticationError() if code >= 500:
            return RelayMisconfigured(f"MAIL_USERNAME, MAIL_PASSWORD: the relay refuses this login ({code})")
        case ssl.SSLCertVerificationError(verify_message=why):
            advice = "RECOVERY_MAIL_CA can name another"
            return RelayMisconfigured(f"MAIL_SERVER: its certificate is not trusted ({why}); {advice}")
        case ssl.SSLError(reason=why) if not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            names = "MAIL_USE_TLS, MAIL_USE_SSL, MAIL_PORT"
            return RelayMisconfigured(f"{names}: the relay does not speak TLS this way ({why})")
    # The text of an unexpected error may contain a secret.
    why = describe(error) if isinstance(error, OSError) else type(error).__name__
    address = f"{current().MAIL_SERVER}:{current().MAIL_PORT} (MAIL_SERVER, MAIL_PORT)"
    return RelayAway(f"the relay {address} cannot be reached ({why})")


def permanent_refusal(error: Exception) -> str | None:
    """Return the reason if the relay refuses this message permanently, None if a retry can help."""
    code = getattr(error, "smtp_code", 0)
    match error:
        case smtplib.SMTPNotSupportedError():
            return "the relay does not support internationalized addresses (SMTPUTF8)"
        case RecipientRefused() if code >= 500 and code != LOGIN_FIRST:
            return f"the address is refused for good: {describe(error)}"
        case smtplib.SMTPSenderRefused() if code == TOO_BIG:
            return f"the mail is refused for good: {describe(error)}"
        case smtplib.SMTPDataError() if code >= 500:
            return f"the mail is refused for good: {describe(error)}"
    return None


def describe(error: Exception) -> str:
    """Return an error as one line, without addresses and tokens."""
    if not isinstance(error, smtplib.SMTPResponseException):
        return redact_line(f"{type(error).__name__}: {error}")
    reply = error.smtp_error
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
    return redact_line(f"the relay said {error.smtp_code} {' '.join(text.split())}")
