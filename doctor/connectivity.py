"""Connectivity: DNS, TLS, the redirect from http, and Sparekey's public address."""

from __future__ import annotations

import re
import ssl
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

from . import base_url
from .findings import KINDS
from .http_client import CertificateRefused, Client, NoResponse, Response
from .scan import Check, Result, Scan, Skipped

CERTIFICATE_DAYS_MIN = 14  # Let's Encrypt's clients renew a certificate 30 days before it expires
REFUSAL = re.compile(r"To use this service, go to (https?://[^\s\"<,]+)")  # app/web/public_url.py


def check_address(scan: Scan) -> Iterator[Result]:
    """Yield the one finding, if any, that makes all other checks useless."""
    try:
        response = scan.get("/openapi.json", headers={"Accept": "application/json"})
    except CertificateRefused as error:
        yield KINDS["certificate-refused"].found(why=error)
        return
    except NoResponse as error:
        yield KINDS["unreachable"].found(why=error)
        return
    actual = _public_url(response)
    if 300 <= response.status < 400:
        yield KINDS["redirected"].found(to=response.header("Location") or "nowhere")
    elif actual is None:
        type = response.header("Content-Type") or "without a Content-Type"
        yield KINDS["not-sparekey"].found(status=response.status, type=type)
    elif not base_url.is_same(actual, scan.client.url):
        yield KINDS["address-differs"].found(actual=actual, url=scan.client.url)
    elif response.status != 200:
        yield KINDS["scheme-lost" if "X-Forwarded-Proto" in response.text else "host-lost"].found()


def _public_url(response: Response) -> str | None:
    """Return the public URL that Sparekey states, or None if the server is not Sparekey."""
    if refusal := REFUSAL.search(response.text):
        return refusal[1]
    try:
        is_sparekey = {"/reset", "/reset/{token}"} <= response.json["paths"].keys()
        url = str(response.json["servers"][0]["url"])
    except (LookupError, TypeError, AttributeError):
        return None
    return url if is_sparekey and response.status == 200 else None


def check_certificate(scan: Scan) -> Iterator[Result]:
    if not scan.client.uses_tls:
        yield _without_tls(scan, "the certificate")
        return
    expires = scan.client.peer_certificate(scan.client.context).get("notAfter", "")
    days = (ssl.cert_time_to_seconds(str(expires)) - time.time()) / 86_400
    if days < CERTIFICATE_DAYS_MIN:
        yield KINDS["certificate-ends-soon"].found(days=days)


def check_tls_versions(scan: Scan) -> Iterator[Result]:
    if not scan.client.uses_tls:
        yield _without_tls(scan, "the versions of TLS")
        return
    is_accepted = _accepts_old_tls(scan.client)
    if is_accepted is None:
        yield Skipped("the versions of TLS", "this machine's OpenSSL does not support the old ones")
    elif is_accepted:
        yield KINDS["tls-old"].found()


def _accepts_old_tls(client: Client) -> bool | None:
    """True if the server accepts TLS 1.0 or 1.1; None if this machine cannot offer them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with warnings.catch_warnings():  # Python warns of the old versions
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("ALL:@SECLEVEL=0")
    except (ssl.SSLError, ValueError):
        return None
    try:
        client.peer_certificate(context)
    except NoResponse as error:
        return None if "NO_PROTOCOLS" in str(error) or "NO_CIPHERS" in str(error) else False
    return True


def check_http(scan: Scan) -> Iterator[Result]:
    """Check the response to a user who types the address without https."""
    client, port = scan.client, scan.http_port
    if not client.uses_tls:
        yield _without_tls(scan, "the redirect from http to https")
        return
    if port is None and client.port != 443:
        reason = "https is not on port 443; name the port of http with --http-port"
        yield Skipped("the redirect from http to https", reason)
        return
    host = base_url.in_brackets(client.host)
    client.requests += 1
    try:
        with closing(Client(f"http://{host}:{port or 80}{client.parts.path}")) as plain:
            response = plain.request("GET", "/login")
    except NoResponse:
        return  # the port is closed
    location = response.header("Location")
    target = urlsplit(location)
    if not (300 <= response.status < 400 and target.scheme == "https" and target.hostname == client.host):
        to = f" ({location})" if location else ""
        yield KINDS["http-open"].found(host=host, status=response.status, to=to)


def _without_tls(scan: Scan, subject: str) -> Result:
    if scan.is_local:
        return Skipped(subject, "the address is http, but only reachable from this machine")
    return KINDS["plain-http"].found()


CHECKS = [
    Check("The certificate is valid for two weeks or more.", check_certificate),
    Check("The server refuses TLS 1.0 and 1.1.", check_tls_versions),
    Check("http is closed or redirects to https.", check_http),
]
