"""SPF (RFC 7208), DKIM (RFC 6376) and DMARC (RFC 7489) records of the domain that mail is sent from."""

from __future__ import annotations

from collections.abc import Iterator

import dns.exception
import dns.resolver

from .findings import Finding, Kind

DNS_SECONDS = 5  # for each query
DMARC_LABELS_MAX = 4  # labels of a domain in the walk up to its DMARC record

SENDER = "MAIL_DEFAULT_SENDER"

DNS_AWAY = Kind(
    "dns-away",
    "warning",
    "DNS does not answer ({why}), so the records of {domain} were not checked.",
    "Mail without these records often counts as spam.",
    "Try again where DNS works, or look them up yourself (docs/deploy.md).",
    SENDER,
)
NO_DOMAIN = Kind(
    "sender-domain-missing",
    "error",
    "The sender's domain {domain} does not exist in DNS.",
    "Mail servers refuse mail from it.",
    "Correct the address.",
    SENDER,
)
NO_SPF = Kind(
    "spf-missing",
    "warning",
    "{domain} has no SPF record.",
    "Receivers cannot tell your mail server from a forger, and treat its mail as spam.",
    'Add a TXT record to {domain} such as "v=spf1 include:... -all". Ask your mail provider for the include.',
    SENDER,
)
SPF_TWICE = Kind(
    "spf-twice",
    "warning",
    "{domain} has several SPF records.",
    "With several, none counts (RFC 7208 §4.5).",
    "Merge them into one.",
    SENDER,
)
SPF_OPEN = Kind(
    "spf-open",
    "warning",
    "The SPF record of {domain} allows every sender (+all).",
    "Anyone can send mail in your name.",
    'End it with "-all" or "~all".',
    SENDER,
)
DKIM_UNKNOWN = Kind(
    "dkim-unknown",
    "info",
    "DKIM was not checked.",
    "Mail without a DKIM signature often counts as spam.",
    "Set the selector that your mail server signs with.",
    "RECOVERY_DKIM_SELECTOR",
)
NO_DKIM = Kind(
    "dkim-missing",
    "warning",
    "DNS has no DKIM key at {name}.",
    "Receivers cannot verify the signatures of your mail server, and treat its mail as spam.",
    "Add the TXT record of your mail provider, or correct the selector.",
    "RECOVERY_DKIM_SELECTOR",
)
NO_DMARC = Kind(
    "dmarc-missing",
    "warning",
    "{domain} has no DMARC record.",
    "The large mailbox providers require one (RFC 7489).",
    'Add a TXT record to _dmarc.{domain}; "v=DMARC1; p=none; rua=mailto:you@{domain}" is a start.',
    SENDER,
)
DMARC_NONE = Kind(
    "dmarc-none",
    "info",
    "The DMARC policy of {domain} is p=none.",
    "Mail forged in your name is delivered.",
    "When the reports are clean, change it to p=quarantine, then to p=reject.",
    SENDER,
)
KINDS = [
    DNS_AWAY,
    NO_DOMAIN,
    NO_SPF,
    SPF_TWICE,
    SPF_OPEN,
    DKIM_UNKNOWN,
    NO_DKIM,
    NO_DMARC,
    DMARC_NONE,
]


def check_domain(domain: str, dkim_selector: str) -> list[Finding]:
    """Check all records of a sender's domain. Without a selector, the DKIM key cannot be looked up."""
    if not _exists(domain):
        return [NO_DOMAIN.found(domain=domain)]
    findings: list[Finding] = []
    try:
        findings.extend(check_spf(domain))
        findings.extend(check_dkim(domain, dkim_selector))
        findings.extend(check_dmarc(domain))
    except dns.exception.DNSException as error:
        findings.append(DNS_AWAY.found(domain=domain, why=type(error).__name__))
    return findings


def check_spf(domain: str) -> Iterator[Finding]:
    records = [text for text in _txt_records(domain) if text.lower().split(" ")[0] == "v=spf1"]
    if not records:
        yield NO_SPF.found(domain=domain)
    elif len(records) > 1:
        yield SPF_TWICE.found(domain=domain)
    elif {"all", "+all"} & set(records[0].lower().split()):
        yield SPF_OPEN.found(domain=domain)


def check_dkim(domain: str, selector: str) -> Iterator[Finding]:
    if not selector:
        yield DKIM_UNKNOWN.found()
        return
    name = f"{selector}._domainkey.{domain}"
    if not any(_parse_tags(text).get("p") for text in _txt_records(name)):
        yield NO_DKIM.found(name=name)


def check_dmarc(domain: str) -> Iterator[Finding]:
    """Check the domain's own DMARC record, or that of the nearest domain above it."""
    labels = domain.split(".")
    for start in range(max(0, len(labels) - DMARC_LABELS_MAX), len(labels) - 1):
        candidate = ".".join(labels[start:])
        records = [_parse_tags(text) for text in _txt_records(f"_dmarc.{candidate}")]
        policies = [tags for tags in records if tags.get("v") == "DMARC1"]
        if policies:
            if policies[0].get("p", "").lower() == "none":
                yield DMARC_NONE.found(domain=candidate)
            return
    yield NO_DMARC.found(domain=domain)


def _exists(domain: str) -> bool:
    """False only if DNS says that there is no such domain."""
    try:
        _query_txt(domain)
    except dns.resolver.NXDOMAIN:
        return False
    except dns.exception.DNSException:
        return True  # a failure of DNS is reported by the checks, which ask again
    return True


def _txt_records(name: str) -> list[str]:
    """Return the TXT records of a name; an empty list when there is no such name."""
    try:
        answer = _query_txt(name)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]


def _query_txt(name: str) -> dns.resolver.Answer:
    return dns.resolver.get_default_resolver().resolve(name, "TXT", lifetime=DNS_SECONDS)


def _parse_tags(text: str) -> dict[str, str]:
    """Parse `v=DMARC1; p=none` into a dictionary."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
