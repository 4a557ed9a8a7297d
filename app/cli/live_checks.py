"""Checks of other services: the relay, DNS of the sender's domain, Redis, the breach service."""

from collections.abc import Iterator
from contextlib import closing
from email.utils import parseaddr

from doctor import dns_records

from ..accounts import breaches
from ..mail.backends import mailman
from ..mail.composing import with_ascii_domain
from ..mail.smtp_failures import MailHeld
from ..settings import current
from ..settings.findings import KINDS, Finding
from ..settings.schema import Settings, declared
from ..web import rate_limits


def run(settings: Settings, recipient: str = "") -> list[Finding]:
    """Return the findings of all services. Needs an app context.

    The relay is asked whether it takes mail to the recipient, by default RECOVERY_OPERATOR, and gets none.
    DNS, Redis and the breach service get a few seconds each; a slow relay gets a minute.
    """
    relay = _check_relay(recipient or settings.RECOVERY_OPERATOR)
    return [*relay, *_check_dns(settings), *_check_redis(), *_check_breaches()]


def _check_relay(recipient: str) -> Iterator[Finding]:
    if current().RECOVERY_INBOX or not current().MAIL_SERVER:
        return
    try:
        with closing(mailman.get_connection()) as relay:
            relay.open(with_ascii_domain(parseaddr(recipient)[1]))
    except MailHeld as error:
        name = str(error).partition(":")[0].partition(",")[0]  # that the reason names first
        setting = name if name in declared() else "MAIL_SERVER"
        yield KINDS["relay-refuses"].found(said=error, setting=setting)


def _check_dns(settings: Settings) -> list[Finding]:
    domain = with_ascii_domain(parseaddr(settings.MAIL_DEFAULT_SENDER)[1]).rpartition("@")[2]
    if settings.RECOVERY_INBOX or not settings.MAIL_SERVER or "." not in domain:
        return []
    return dns_records.check_domain(domain, settings.RECOVERY_DKIM_SELECTOR)


def _check_redis() -> Iterator[Finding]:
    limiter = rate_limits.rate_limiter()
    if limiter.enabled and limiter.redis and not limiter.redis.storage.check():
        yield KINDS["redis-away"].found()


def _check_breaches() -> Iterator[Finding]:
    if current().SECURITY_PASSWORD_CHECK_BREACHED:
        try:
            breaches.count_breaches("any password")
        except breaches.BreachesUnknown:
            yield KINDS["breaches-away"].found()
