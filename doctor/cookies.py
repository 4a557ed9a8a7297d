"""Attributes of each cookie that the pages set."""

from __future__ import annotations

from collections.abc import Iterator

from .findings import KINDS, Finding
from .scan import Check, Result, Scan

PAGES_WITH_FORM = ("/login", "/reset")


def check_cookies(scan: Scan) -> Iterator[Result]:
    for page, response in scan.pages.items():
        cookies = response.header_values("Set-Cookie")
        if page in PAGES_WITH_FORM and response.status == 200 and not cookies:
            yield KINDS["cookie-missing"].found(where=page)
        for cookie in cookies:
            yield from _check_cookie(cookie, page, uses_tls=scan.client.uses_tls)


def _check_cookie(cookie: str, page: str, *, uses_tls: bool) -> Iterator[Finding]:
    """Check one Set-Cookie header. A proxy's own cookies must only be Secure and bound to the host."""
    pair, *parts = (part.strip() for part in cookie.split(";"))
    name = pair.partition("=")[0]
    pairs = (part.partition("=") for part in parts)
    attributes = {key.strip().lower(): value.strip() for key, _, value in pairs}
    is_sparekeys = "sparekey" in name
    if uses_tls and "secure" not in attributes:
        yield KINDS["cookie-insecure"].found(name=name, where=page)
    if is_sparekeys and "httponly" not in attributes:
        yield KINDS["cookie-readable"].found(name=name, where=page)
    if is_sparekeys and attributes.get("samesite", "").lower() not in ("lax", "strict"):
        yield KINDS["cookie-cross-site"].found(name=name, where=page)
    reasons = []
    if domain := attributes.get("domain"):
        reasons.append(f"it names the domain {domain}")
    if is_sparekeys and attributes.get("path") != "/":
        reasons.append("its path is not /")
    if is_sparekeys and uses_tls and not name.startswith("__Host-"):
        reasons.append("its name does not start with __Host-")
    if reasons:
        yield KINDS["cookie-shared"].found(name=name, why=", ".join(reasons), where=page)


CHECKS = [
    Check("Cookies are bound to this host, this site and https, and hidden from scripts.", check_cookies)
]
