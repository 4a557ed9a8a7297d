"""Classification of SMTP failures: the recipient's or our own, and the setting that may be at fault."""

import re
import smtplib
import ssl

from ..db.engine import AccountsAway
from ..settings import current
from ..web.logging import redact_line

NO_STARTTLS = "MAIL_USE_TLS: the relay offers no STARTTLS on this port, and mail is never sent without it"
NO_LOGIN_METHOD = "MAIL_USERNAME, MAIL_PASSWORD: no login method of the relay accepts these"
# The likely cause of a reply such as "550 5.7.1 text", by the first row that matches: a setting, or the
# recipient (""). Words precede codes (RFC 3463), because senders are refused with 5.1.0 and 5.2.0, too.
CAUSES = (
    (r"starttls", "MAIL_USE_TLS"),
    (r"\b(helo|ehlo)\b", "RECOVERY_MAIL_EHLO"),
    (r"^\d+ [45]\.1\.[78]\b|sender|send ?as|dmarc|\bspf\b|\bdkim\b|not verified", "MAIL_DEFAULT_SENDER"),
    (r"^\d+ [45]\.1\.90\b|submission|relay limit", "MAIL_SERVER"),  # quotas of Exchange Online and Gmail
    (r"^\d+ [45]\.[12]\.", ""),
    (r"quota|limit|exceeded|too many|blocked|listed|reputation", "MAIL_SERVER"),
    (r"^53|\bauth|credential|relay", "MAIL_USERNAME"),
)


class MailHeld(Exception):
    """A failure that stops all mail. The attempt does not count, because no message is at fault."""

    pause: float = 5  # seconds until the worker connects again


class RelayAway(MailHeld):
    """A relay that is down, busy, or closes the connection before the first mail."""


class RelayMisconfigured(MailHeld):
    """A setting that must be corrected before mail can go out. The text starts with its name."""

    pause = 30


def connection_failure(error: Exception) -> MailHeld:
    """Return the reason why no mail can go out, for an error before the first message."""
    code = getattr(error, "smtp_code", 0)
    match error:
        case MailHeld():
            return error
        case smtplib.SMTPNotSupportedError():
            return RelayMisconfigured("MAIL_USERNAME: the relay takes no login on this connection")
        case smtplib.SMTPAuthenticationError() if code >= 500:
            return RelayMisconfigured(f"MAIL_USERNAME, MAIL_PASSWORD: the relay refuses this login ({code})")
        case smtplib.SMTPResponseException() if code >= 500:
            return RelayMisconfigured(f"{likely_setting(error) or 'the address'}: {describe(error)}")
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


def outcome_of(error: Exception, *, is_last: bool = False) -> tuple[str, str]:
    """Return a failed attempt's outcome, as `outbox.release` takes it, and its reason. Raises MailHeld."""
    reason, outcome = describe(error), "retried"
    match error:
        case MailHeld() | AccountsAway():
            raise error
        case smtplib.SMTPNotSupportedError():
            return "given_up", "the relay does not support internationalized addresses (SMTPUTF8)"
        case smtplib.SMTPResponseException(smtp_code=code):
            setting = likely_setting(error)
            if code >= 500 and setting:
                return "set_aside", f"{setting}: {reason}"
            if code >= 500:
                return "given_up", f"the address is refused for good: {reason}"
            outcome = outcome if setting else "deferred"
    return "given_up" if is_last else outcome, reason


def likely_setting(error: smtplib.SMTPResponseException) -> str:
    """Return the setting that a reply is likely about, or "" if it is about the recipient."""
    reply, at_mail = _reply(error), isinstance(error, smtplib.SMTPSenderRefused)
    default = "MAIL_DEFAULT_SENDER" if at_mail else "MAIL_SERVER"
    rows = (setting for pattern, setting in CAUSES if re.search(pattern, reply, re.IGNORECASE))
    return next(rows, default) or (default if at_mail else "")


def describe(error: Exception) -> str:
    """Return an error as one line, without addresses and tokens."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the relay said {_reply(error)}"
    return redact_line(f"{type(error).__name__}: {error}")


def _reply(error: smtplib.SMTPResponseException) -> str:
    reply = error.smtp_error
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
    return redact_line(f"{error.smtp_code} {' '.join(text.split())}")
