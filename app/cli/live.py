"""The checks that ask others: the relay, the DNS of the sender's domain, Redis, the breach service.

What is asked for in DNS: SPF (RFC 7208), DKIM (RFC 6376), DMARC (RFC 7489).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from email.utils import parseaddr
from typing import Any

import dns.exception
import dns.resolver

from .. import breaches, limits
from ..errors import MailHeld
from ..findings import Finding, Kind
from ..layers import DEFAULT_ORIGIN
from ..letters import in_ascii
from ..mail import mailman
from ..settings import Settings, current, declared

DNS_SECONDS = 5  # for each record
LOOK_SECONDS = 5  # for Redis, and for the breach service
LABELS_MAX = 4  # of a domain, that are looked at for DMARC

SENDER = "MAIL_DEFAULT_SENDER"

RELAY = Kind(
    "relay-refuses",
    "error",
    "{said}.",
    "No mail goes out.",
    "Correct the setting that is named, or the relay.",
    "MAIL_SERVER",
)
DNS_AWAY = Kind(
    "dns-away",
    "warning",
    "DNS does not answer ({why}): whether {domain} lets your relay send is not known.",
    "Mail without these records is often taken for spam.",
    "Try again where DNS works, or look them up by hand (docs/deploy.md).",
    SENDER,
)
NO_DOMAIN = Kind(
    "sender-domain-missing",
    "error",
    "There is no domain {domain} in DNS.",
    "Relays refuse mail from there.",
    "Correct the address.",
    SENDER,
)
NO_SPF = Kind(
    "spf-missing",
    "warning",
    "{domain} has no SPF record.",
    "Others can not tell your relay from a forger, and take its mail for spam.",
    'Add a TXT record to {domain} such as "v=spf1 include:... -all"; your relay tells what to include.',
    SENDER,
)
SPF_TWICE = Kind(
    "spf-twice",
    "warning",
    "{domain} has several SPF records.",
    "Then none counts (RFC 7208 §4.5).",
    "Make one of them.",
    SENDER,
)
SPF_OPEN = Kind(
    "spf-open",
    "warning",
    "The SPF record of {domain} lets everybody send (+all).",
    "Whoever likes can send mail in your name.",
    'End it with "-all" or "~all".',
    SENDER,
)
DKIM_UNKNOWN = Kind(
    "dkim-unknown",
    "info",
    "Whether mail is signed was not looked at.",
    "Mail without a DKIM signature is often taken for spam.",
    "Set the selector that your relay signs with.",
    "RECOVERY_DKIM_SELECTOR",
)
NO_DKIM = Kind(
    "dkim-missing",
    "warning",
    "There is no DKIM key at {name}.",
    "The signatures of your relay can not be checked, and its mail is taken for spam.",
    "Add the TXT record that your relay gives you, or correct the selector.",
    "RECOVERY_DKIM_SELECTOR",
)
NO_DMARC = Kind(
    "dmarc-missing",
    "warning",
    "{domain} has no DMARC record.",
    "The large mailbox providers ask for one (RFC 7489).",
    'Add a TXT record to _dmarc.{domain}; "v=DMARC1; p=none; rua=mailto:you@{domain}" is a start.',
    SENDER,
)
DMARC_NONE = Kind(
    "dmarc-none",
    "info",
    "The DMARC record of {domain} asks for nothing (p=none).",
    "Mail that is forged in your name is delivered.",
    "When the reports are clean, make it p=quarantine, then p=reject.",
    SENDER,
)
REDIS_AWAY = Kind(
    "redis-away",
    "warning",
    "Redis does not answer.",
    "Each web process counts for itself until it does.",
    "Start it, or correct the address.",
    "RATELIMIT_STORAGE_URI",
)
BREACHES_AWAY = Kind(
    "breaches-away",
    "warning",
    "The service that knows breached passwords does not answer as it should.",
    'With "strict" nobody can set a password meanwhile; with "best-effort" the local list decides.',
    "Let the web processes reach it, or name a mirror.",
    "RECOVERY_BREACHES_URL",
)
KINDS = [
    RELAY,
    DNS_AWAY,
    NO_DOMAIN,
    NO_SPF,
    SPF_TWICE,
    SPF_OPEN,
    DKIM_UNKNOWN,
    NO_DKIM,
    NO_DMARC,
    DMARC_NONE,
    REDIS_AWAY,
    BREACHES_AWAY,
]


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
        yield RELAY.found(said=error, setting=_at_fault(str(error)))


def _at_fault(said: str) -> str:
    """Of the settings that a text names first, the one that somebody has set."""
    named = [name.strip() for name in said.partition(":")[0].split(",") if name.strip() in declared()]
    own = [name for name in named if current().origins.get(name) != DEFAULT_ORIGIN]
    return next(iter(own or named), RELAY.setting)


def _of_dns(settings: Settings) -> list[Finding]:
    domain = in_ascii(parseaddr(settings.MAIL_DEFAULT_SENDER)[1]).rpartition("@")[2]
    if settings.RECOVERY_INBOX or not settings.MAIL_SERVER or "." not in domain:
        return []
    found: list[Finding] = []
    try:
        dns.resolver.get_default_resolver().resolve(domain, "TXT", lifetime=DNS_SECONDS)
    except dns.resolver.NXDOMAIN:
        return [NO_DOMAIN.found(domain=domain)]
    except dns.exception.DNSException:
        pass  # it is asked for again below
    looks: tuple[Callable[[str, Settings], Iterator[Finding]], ...] = (_of_spf, _of_dkim, _of_dmarc)
    try:
        for look in looks:
            found += look(domain, settings)
    except dns.exception.DNSException as error:
        found.append(DNS_AWAY.found(domain=domain, why=type(error).__name__))
    return found


def _of_spf(domain: str, _: Settings) -> Iterator[Finding]:
    records = [text for text in _texts(domain) if text.lower().split(" ")[0] == "v=spf1"]
    if not records:
        yield NO_SPF.found(domain=domain)
    elif len(records) > 1:
        yield SPF_TWICE.found(domain=domain)
    elif {"all", "+all"} & set(records[0].lower().split()):
        yield SPF_OPEN.found(domain=domain)


def _of_dkim(domain: str, settings: Settings) -> Iterator[Finding]:
    if not settings.RECOVERY_DKIM_SELECTOR:
        yield DKIM_UNKNOWN.found()
        return
    name = f"{settings.RECOVERY_DKIM_SELECTOR}._domainkey.{domain}"
    if not any(_tags(text).get("p") for text in _texts(name)):
        yield NO_DKIM.found(name=name)


def _of_dmarc(domain: str, _: Settings) -> Iterator[Finding]:
    """The domain's own record, or that of a domain above it."""
    labels = domain.split(".")
    for start in range(max(0, len(labels) - LABELS_MAX), len(labels) - 1):
        above = ".".join(labels[start:])
        policies = [tags for text in _texts(f"_dmarc.{above}") if (tags := _tags(text)).get("v") == "DMARC1"]
        if policies:
            if policies[0].get("p", "").lower() == "none":
                yield DMARC_NONE.found(domain=above)
            return
    yield NO_DMARC.found(domain=domain)


def _texts(name: str) -> list[str]:
    """The TXT records of a name; none when there is no such name."""
    try:
        answer = dns.resolver.get_default_resolver().resolve(name, "TXT", lifetime=DNS_SECONDS)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]


def _tags(text: str) -> dict[str, str]:
    """`v=DMARC1; p=none` as a table."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _of_redis() -> Iterator[Finding]:
    counts = limits.counts()
    if counts.enabled and counts.shared and not _in_time(counts.shared.storage.check):
        yield REDIS_AWAY.found()


def _of_breaches(settings: Settings) -> Iterator[Finding]:
    if settings.SECURITY_PASSWORD_CHECK_BREACHED:
        url = f"{settings.RECOVERY_BREACHES_URL.rstrip('/')}/range/00000"
        if _in_time(lambda: breaches.ask(url)) is None:
            yield BREACHES_AWAY.found()


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
