"""Connectivity: DNS, TLS, the redirect from http, and Sparekey's own public address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

from .findings import Finding, Kind
from .http_client import Answer, BadCertificate, NoAnswer, Wire, same_address
from .probe_session import Check, Result, Skipped, Visit

DAYS_LEFT = 14  # automatic renewal happens 30 days before the end
REACHED_AT = re.compile(r"This service is reached at (https?://[^\s\"<,]+)")  # app/web/public_url.py

UNREACHABLE = Kind(
    "unreachable",
    "error",
    "There is no answer: {why}.",
    "Users get none either.",
    "Check the address, and that the proxy runs and accepts this machine.",
)
CERTIFICATE = Kind(
    "certificate-refused",
    "error",
    "The certificate is not valid: {why}.",
    "Browsers show a warning and stop.",
    "Renew it, or configure its whole chain in the proxy. For your own authority use --ca FILE.",
)
ENDS_SOON = Kind(
    "certificate-ends-soon",
    "warning",
    "The certificate expires in {days:.0f} days.",
    "After that browsers stop with a warning.",
    "Renew it, and check its automatic renewal.",
)
OLD_TLS = Kind(
    "tls-old",
    "error",
    "TLS 1.0 or 1.1 is accepted.",
    "Both are broken (RFC 8996).",
    "Allow only TLS 1.2 and 1.3 in the proxy (nginx: ssl_protocols).",
)
PLAIN = Kind(
    "plain-http",
    "error",
    "The address is http.",
    "An attacker on the network can read passwords and links.",
    "Use https, and set RECOVERY_PUBLIC_URL to that address.",
)
HTTP_OPEN = Kind(
    "http-open",
    "error",
    "http://{host} answers {status}{to}, and does not redirect to https.",
    "An attacker on the network can answer a user who types the address without https.",
    "Redirect port 80 to https on the same host, or close it.",
)
MOVED = Kind(
    "redirected",
    "error",
    "The address redirects to {to}.",
    "Sparekey is not at this address.",
    "Use the address that browsers show at the end.",
)
NOT_SPAREKEY = Kind(
    "not-sparekey",
    "error",
    "The address is not served by Sparekey: /openapi.json answers {status}, {type}.",
    "There is nothing to check.",
    "Check the path, and that the proxy passes it on.",
)
ANOTHER_ADDRESS = Kind(
    "address-differs",
    "error",
    "Sparekey's public address is {said}, not {url}.",
    "Every link in every email starts with the former.",
    "Use the right address, correct RECOVERY_PUBLIC_URL, or let the proxy pass on Host and path.",
)
SCHEME_LOST = Kind(
    "scheme-lost",
    "error",
    "The proxy reports http for a request over https.",
    "Sparekey refuses all requests.",
    "Let it send X-Forwarded-Proto with the request's scheme, and check RECOVERY_TRUSTED_PROXIES.",
)
HOST_LOST = Kind(
    "host-lost",
    "error",
    "The proxy passes on another Host than it receives.",
    "Sparekey refuses all requests.",
    "Let it pass on the request's Host (nginx: proxy_set_header Host $host).",
)
KINDS = [
    HOST_LOST,
    UNREACHABLE,
    CERTIFICATE,
    ENDS_SOON,
    OLD_TLS,
    PLAIN,
    HTTP_OPEN,
    MOVED,
    NOT_SPAREKEY,
    ANOTHER_ADDRESS,
    SCHEME_LOST,
]


def of_address(visit: Visit) -> Iterator[Result]:
    """Check the address, without which nothing else can be checked."""
    url = visit.wire.url
    try:
        answer = visit.get("/openapi.json", Accept="application/json")
    except BadCertificate as error:
        yield CERTIFICATE.found(why=error)
        return
    except NoAnswer as error:
        yield UNREACHABLE.found(why=error)
        return
    said = _own_address(answer)
    if 300 <= answer.status < 400:
        yield MOVED.found(to=answer.header("Location") or "nowhere")
    elif said is None:
        type = answer.header("Content-Type") or "of no type"
        yield NOT_SPAREKEY.found(status=answer.status, type=type)
    elif not same_address(said, url):
        yield ANOTHER_ADDRESS.found(said=said, url=url)
    elif answer.status != 200:
        yield (SCHEME_LOST if "X-Forwarded-Proto" in answer.text else HOST_LOST).found()


def _own_address(answer: Answer) -> str | None:
    """Return the deployment's own public address, or None if it is not Sparekey."""
    if refusal := REACHED_AT.search(answer.text):
        return refusal[1]
    try:
        is_ours = answer.status == 200 and {"/reset", "/reset/{token}"} <= answer.json["paths"].keys()
        return str(answer.json["servers"][0]["url"]) if is_ours else None
    except (LookupError, TypeError, AttributeError):
        return None


def of_certificate(visit: Visit) -> Iterator[Result]:
    if not visit.wire.by_tls:
        yield from _without_tls(visit, "the certificate")
    elif (days := visit.wire.seconds_of_certificate() / 86_400) < DAYS_LEFT:
        yield ENDS_SOON.found(days=days)


def of_tls(visit: Visit) -> Iterator[Result]:
    if not visit.wire.by_tls:
        yield from _without_tls(visit, "the versions of TLS")
        return
    old = visit.wire.takes_old_tls()
    if old is None:
        yield Skipped("the versions of TLS", "this machine's OpenSSL does not support the old ones")
    elif old:
        yield OLD_TLS.found()


def of_http(visit: Visit) -> Iterator[Result]:
    """Check the answer for a user who types the address without its scheme."""
    wire, port = visit.wire, visit.http_port
    if not wire.by_tls:
        yield from _without_tls(visit, "the redirect from http to https")
        return
    if port is None and wire.port != 443:
        yield Skipped(
            "the redirect from http to https", "https is not on port 443; --http-port names the other"
        )
        return
    host = f"[{wire.host}]" if ":" in wire.host else wire.host
    wire.asked += 1
    try:
        with closing(Wire(f"http://{host}:{port or 80}{wire.parts.path}")) as plain:
            answer = plain.ask("GET", "/login")
    except NoAnswer:
        return  # closed
    to = answer.header("Location")
    parts = urlsplit(to)
    if not (300 <= answer.status < 400 and parts.scheme == "https" and parts.hostname == wire.host):
        yield HTTP_OPEN.found(host=host, status=answer.status, to=f" ({to})" if to else "")


def _without_tls(visit: Visit, what: str) -> Iterator[Finding | Skipped]:
    if visit.is_here:
        yield Skipped(what, "the address is http on this machine, which no other machine reaches")
    else:
        yield PLAIN.found()


CHECKS = [
    Check("The certificate is valid for two weeks or more.", of_certificate),
    Check("TLS 1.0 and 1.1 are refused.", of_tls),
    Check("http is closed, or redirects to https.", of_http),
]
