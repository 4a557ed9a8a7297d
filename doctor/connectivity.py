"""Connectivity: DNS, TLS, the redirect from http, and the public address that Sparekey believes in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

from .findings import Finding, Kind
from .http_client import Answer, BadCertificate, NoAnswer, Wire, same_address
from .probe_session import Check, Result, Skipped, Visit

DAYS_LEFT = 14  # what renews certificates by itself does so 30 days before their end
REACHED_AT = re.compile(r"This service is reached at (https?://[^\s\"<,]+)")  # app/web/public_url.py

UNREACHABLE = Kind(
    "unreachable",
    "error",
    "There is no answer: {why}.",
    "Nobody else gets one either.",
    "Is the address right? Does the proxy run, and let this machine in?",
)
CERTIFICATE = Kind(
    "certificate-refused",
    "error",
    "The certificate is not accepted: {why}.",
    "Browsers show a warning and go no further.",
    "Renew it, or name all of its chain in the proxy. Is it from an authority of your own? Then --ca FILE.",
)
ENDS_SOON = Kind(
    "certificate-ends-soon",
    "warning",
    "The certificate ends in {days:.0f} days.",
    "Then browsers go no further.",
    "Renew it; does whatever renews it still run?",
)
OLD_TLS = Kind(
    "tls-old",
    "error",
    "TLS 1.0 or 1.1 is spoken.",
    "Both are broken (RFC 8996).",
    "Let the proxy speak TLS 1.2 and 1.3 only (nginx: ssl_protocols).",
)
PLAIN = Kind(
    "plain-http",
    "error",
    "The address is http.",
    "Passwords and links can be read on the way.",
    "Serve it over https, and set RECOVERY_PUBLIC_URL to that address.",
)
HTTP_OPEN = Kind(
    "http-open",
    "error",
    "http://{host} answers {status}{to}, and does not lead to https.",
    "Whoever types the address without https can be answered by anybody on the way.",
    "Redirect port 80 to https on the same host, or close it.",
)
MOVED = Kind(
    "redirected",
    "error",
    "The address leads on to {to}.",
    "This is not where Sparekey is.",
    "Give the address that people see in the end.",
)
NOT_SPAREKEY = Kind(
    "not-sparekey",
    "error",
    "What answers there is not Sparekey: /openapi.json answers {status}, {type}.",
    "There is nothing to look at.",
    "Is the path right, and does the proxy hand it on?",
)
ANOTHER_ADDRESS = Kind(
    "address-differs",
    "error",
    "It says that it is reached at {said}, not at {url}.",
    "Every link in every mail starts with the former.",
    "Give the right address here, correct RECOVERY_PUBLIC_URL, or let the proxy hand on Host and path.",
)
SCHEME_LOST = Kind(
    "scheme-lost",
    "error",
    "The proxy says that it was asked by http, and was asked by https.",
    "All pages are refused.",
    "Let it send X-Forwarded-Proto with the scheme that it was asked by; is RECOVERY_TRUSTED_PROXIES right?",
)
HOST_LOST = Kind(
    "host-lost",
    "error",
    "The proxy hands on another Host than it gets.",
    "All pages are refused.",
    "Let it send the Host that it was asked for (nginx: proxy_set_header Host $host).",
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
    """What stops everything else."""
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
    """What it believes its address to be; None for what is not Sparekey."""
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
        yield Skipped("the versions of TLS", "this machine's OpenSSL can not speak the old ones")
    elif old:
        yield OLD_TLS.found()


def of_http(visit: Visit) -> Iterator[Result]:
    """What whoever types the address without its scheme meets."""
    wire, port = visit.wire, visit.http_port
    if not wire.by_tls:
        yield from _without_tls(visit, "the way from http to https")
        return
    if port is None and wire.port != 443:
        yield Skipped("the way from http to https", "https is not on port 443; --http-port names the other")
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
        yield Skipped(what, "the address is http on this machine, which nobody else reaches")
    else:
        yield PLAIN.found()


CHECKS = [
    Check("The certificate is good for two weeks or more.", of_certificate),
    Check("TLS 1.0 and 1.1 are not spoken.", of_tls),
    Check("http is closed, or leads to https.", of_http),
]
