"""Checks that ask other services: the relay, the DNS of the sender's domain, Redis, the breach service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from email.utils import parseaddr
from typing import Any

from doctor import dns_records

from ..accounts import breaches
from ..mail.composing import with_ascii_domain
from ..mail.delivery import mailman
from ..mail.errors import MailHeld
from ..settings import current
from ..settings.findings import KINDS, Finding, Kind
from ..settings.schema import Settings, declared
from ..settings.sources import DEFAULT_ORIGIN
from ..web import rate_limits

LOOK_SECONDS = 5  # for Redis, and for the breach service
# The doctor has finding types of its own, because it imports nothing from app/.
KINDS.update({kind.id: Kind(**asdict(kind)) for kind in dns_records.KINDS})


def look(settings: Settings) -> list[Finding]:
    """Needs an app context. DNS, Redis and the breach service get seconds; a relay that drips, a minute."""
    return [*_of_relay(), *_of_dns(settings), *_of_redis(), *_of_breaches(settings)]


def _of_relay() -> Iterator[Finding]:
    if not current().sends_mail:
        return
    try:
        with closing(mailman.get_connection()) as relay:
            relay.open()
    except MailHeld as error:
        yield KINDS["relay-refuses"].found(said=error, setting=_at_fault(str(error)))


def _at_fault(said: str) -> str:
    """Of the settings that a text names first, the one that somebody has set."""
    named = [name.strip() for name in said.partition(":")[0].split(",") if name.strip() in declared()]
    own = [name for name in named if current().origins.get(name) != DEFAULT_ORIGIN]
    return next(iter(own or named), "MAIL_SERVER")


def _of_dns(settings: Settings) -> list[Finding]:
    domain = with_ascii_domain(parseaddr(settings.MAIL_DEFAULT_SENDER)[1]).rpartition("@")[2]
    if settings.RECOVERY_INBOX or not settings.MAIL_SERVER or "." not in domain:
        return []
    findings = dns_records.check_domain(domain, settings.RECOVERY_DKIM_SELECTOR)
    return [Finding(**asdict(finding)) for finding in findings]


def _of_redis() -> Iterator[Finding]:
    limiter = rate_limits.rate_limiter()
    if limiter.enabled and limiter.redis and not _in_time(limiter.redis.storage.check):
        yield KINDS["redis-away"].found()


def _of_breaches(settings: Settings) -> Iterator[Finding]:
    if settings.SECURITY_PASSWORD_CHECK_BREACHED:
        url = f"{settings.RECOVERY_BREACHES_URL.rstrip('/')}/range/00000"
        if _in_time(lambda: breaches.fetch_range(url)) is None:
            yield KINDS["breaches-away"].found()


def _in_time(look: Callable[[], Any]) -> Any:
    """What a look says; None when it fails, or takes too long: a timeout does not end what drips."""
    said: list[Any] = []

    def do() -> None:
        with suppress(Exception):  # whatever its library raises
            said.append(look())

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(LOOK_SECONDS)
    return said[0] if said else None
