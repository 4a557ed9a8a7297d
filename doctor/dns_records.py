"""SPF (RFC 7208), DKIM (RFC 6376) and DMARC (RFC 7489) records of the domain that mail is sent from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.resolver

from .findings import Finding, load

DNS_SECONDS = 5  # for each query
DMARC_LABELS_MAX = 4  # labels of a domain in the walk up to its DMARC record
KINDS = load(Path(__file__).with_suffix(".toml"))


def check_domain(domain: str, dkim_selector: str) -> list[Finding]:
    """Check all records of a sender's domain. Without a selector, the DKIM key cannot be looked up."""
    if not _exists(domain):
        return [KINDS["sender-domain-missing"].found(domain=domain)]
    findings: list[Finding] = []
    try:
        findings.extend(check_spf(domain))
        findings.extend(check_dkim(domain, dkim_selector))
        findings.extend(check_dmarc(domain))
    except dns.exception.DNSException as error:
        findings.append(KINDS["dns-away"].found(domain=domain, why=type(error).__name__))
    return findings


def check_spf(domain: str) -> Iterator[Finding]:
    records = [text for text in _txt_records(domain) if text.lower().split(" ")[0] == "v=spf1"]
    if not records:
        yield KINDS["spf-missing"].found(domain=domain)
    elif len(records) > 1:
        yield KINDS["spf-twice"].found(domain=domain)
    elif {"all", "+all"} & set(records[0].lower().split()):
        yield KINDS["spf-open"].found(domain=domain)


def check_dkim(domain: str, selector: str) -> Iterator[Finding]:
    if not selector:
        yield KINDS["dkim-unknown"].found()
        return
    name = f"{selector}._domainkey.{domain}"
    if not any(_parse_tags(text).get("p") for text in _txt_records(name)):
        yield KINDS["dkim-missing"].found(name=name)


def check_dmarc(domain: str) -> Iterator[Finding]:
    """Check the domain's own DMARC record, or that of the nearest domain above it."""
    labels = domain.split(".")
    for start in range(max(0, len(labels) - DMARC_LABELS_MAX), len(labels) - 1):
        candidate = ".".join(labels[start:])
        records = [_parse_tags(text) for text in _txt_records(f"_dmarc.{candidate}")]
        policies = [tags for tags in records if tags.get("v") == "DMARC1"]
        if policies:
            if policies[0].get("p", "").lower() == "none":
                yield KINDS["dmarc-none"].found(domain=candidate)
            return
    yield KINDS["dmarc-missing"].found(domain=domain)


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
