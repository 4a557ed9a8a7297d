"""Security headers of each page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from .findings import KINDS, Finding
from .http_client import Response
from .scan import ATTACKER_HOST, Check, Result, Scan

HSTS_SECONDS_MIN = 31_536_000  # a year
NONCE_LENGTH_MIN = 22  # base64 of 128 bits
STYLES = "/static/sparekey.css"
MADE_UP_TOKEN = "doctor-made-up-this-link-and-it-is-no-token"  # noqa: S105  # a proxy's rule may know the shape
REFUSED_JSON, FORM_WITHOUT_TOKEN = "POST /reset", "POST /login"
# The expected statuses of each page, the usual one first. 429: other visitors use up the rate limit.
PAGES: dict[str, tuple[int, ...]] = {
    "/": (303, 200),  # who is not signed in is led to the sign-in page
    "/login": (200, 303),  # an application that has the accounts signs its users in itself
    "/reset": (200,),
    "/check-mail": (200,),
    f"/reset/{MADE_UP_TOKEN}": (400, 302, 429),  # a front end may have a page for invalid links
    f"/not-me/{MADE_UP_TOKEN}": (400, 429),
    f"/confirm/{MADE_UP_TOKEN}": (404, *range(200, 500)),  # 404 unless the feature is on
    f"/change-email/{MADE_UP_TOKEN}": (404, *range(200, 500)),
    "/doctor-was-here": (404,),
    STYLES: (200,),
    "/openapi.json": (200,),
    REFUSED_JSON: (400, 429),
    FORM_WITHOUT_TOKEN: (400, *range(200, 500)),  # attacks.py checks that it is refused
}
DIRECTIVES = ("default-src", "base-uri", "form-action", "frame-ancestors")
WITHOUT_SOURCES = ("sandbox", "report-uri", "report-to", "upgrade-insecure-requests", "trusted-types")
# By directive: other sources that are strict. A form may lead to a site that is named in full.
STRICT_ELSEWHERE = {
    "img-src": re.compile("data:"),
    "form-action": re.compile(r"https://[\w.-]+(:\d+)?|http://(localhost|127\.0\.0\.1)(:\d+)?"),
}
STRICT_SOURCE = re.compile(r"'(none|self|strict-dynamic|report-sample|nonce-.+|sha(256|384|512)-.+)'")


def check_pages(scan: Scan) -> Iterator[Result]:
    """Open each page, and keep the responses for the other checks."""
    for page, expected in PAGES.items():
        if page == REFUSED_JSON:
            response = scan.post_json("/reset", {})
        elif page == FORM_WITHOUT_TOKEN:
            response = scan.post_form("/login", {"identity": f"nobody@{ATTACKER_HOST}", "password": "x"})
        else:
            response = scan.get(page)
        if response.status in expected:
            scan.pages[page] = response
        else:
            scan.unexpected.append(response)
            yield KINDS["page-fails"].found(page=page, status=response.status, expected=expected[0])


def check_content_security_policy(scan: Scan) -> Iterator[Result]:
    for page, response in _dynamic_pages(scan):
        yield from check_policy(response, page)


def check_policy(response: Response, page: str) -> Iterator[Finding]:
    """Check the policies of one response. One strict policy is enough, because browsers apply all."""
    policies = [text for text in response.header("Content-Security-Policy").split(",") if text.strip()]
    faults = [_policy_faults(text) for text in policies]
    if not policies:
        yield KINDS["csp-missing"].found(where=page)
    elif all(faults):
        yield KINDS["csp-weak"].found(faults="; ".join(faults[0]), where=page)


def _policy_faults(policy: str) -> list[str]:
    parts = (part.split() for part in policy.split(";") if part.strip())
    directives = {name.lower(): sources for name, *sources in parts}
    faults = [f"no {name}" for name in DIRECTIVES if name not in directives]
    for name, sources in directives.items():
        weak = [source for source in sources if not _is_strict(name, source)]
        if weak and name not in WITHOUT_SOURCES:
            faults.append(f"{name} {' '.join(weak)}")
    return faults


def _is_strict(directive: str, source: str) -> bool:
    others = STRICT_ELSEWHERE.get(directive, STRICT_SOURCE)
    return any(pattern.fullmatch(source) for pattern in (STRICT_SOURCE, others))


def check_nonces(scan: Scan) -> Iterator[Result]:
    for page in ("/", "/login", "/reset"):
        if page in scan.pages:
            yield from check_nonce(scan.pages[page], scan.get(page), page)


def check_nonce(first: Response, second: Response, page: str) -> Iterator[Finding]:
    """Check that two responses of one page have different and long nonces."""
    nonce = _nonce(first)
    if nonce is not None and (nonce == _nonce(second) or len(nonce) < NONCE_LENGTH_MIN):
        yield KINDS["csp-nonce-repeats"].found(where=page)


def _nonce(response: Response) -> str | None:
    match = re.search(r"'nonce-([^']*)'", response.header("Content-Security-Policy"))
    return match[1] if match else None


def _every_value_in(header: str, *expected: str) -> Callable[[Response], bool]:
    """Return a predicate: true if the header is present with no other value."""

    def is_expected(response: Response) -> bool:
        values = {value.strip().lower() for value in response.header(header).split(",")}
        return values <= set(expected)

    return is_expected


def _has_no_store(response: Response) -> bool:
    return "no-store" in {value.strip().lower() for value in response.header("Cache-Control").split(",")}


def _has_long_hsts(response: Response) -> bool:
    hsts = response.header("Strict-Transport-Security")
    match = re.search(r"max-age\s*=\s*\"?(\d{1,12})", hsts, re.IGNORECASE)
    return match is not None and int(match[1]) >= HSTS_SECONDS_MIN


_has_nosniff = _every_value_in("X-Content-Type-Options", "nosniff")
# Headers that a static file does not need, by the id of the finding.
HEADER_CHECKS: dict[str, Callable[[Response], bool]] = {
    "referrer-policy": _every_value_in("Referrer-Policy", "no-referrer", "same-origin"),
    "cacheable": _has_no_store,
    "opener-policy": _every_value_in("Cross-Origin-Opener-Policy", "same-origin"),
    "resource-policy": _every_value_in("Cross-Origin-Resource-Policy", "same-origin"),
    "permissions-policy": lambda response: "camera=()" in response.header("Permissions-Policy"),
}


def check_headers(scan: Scan) -> Iterator[Result]:
    for page, response in scan.pages.items():
        if not _has_nosniff(response):
            yield KINDS["nosniff-missing"].found(where=page)
        if scan.client.uses_tls and not _has_long_hsts(response):
            yield KINDS["hsts-missing"].found(where=page)
    for page, response in _dynamic_pages(scan):
        for id, is_good in HEADER_CHECKS.items():
            if not is_good(response):
                yield KINDS[id].found(where=page)


def check_echoes(scan: Scan) -> Iterator[Result]:
    for page, response in scan.pages.items():
        yield from check_echo(response, MADE_UP_TOKEN, page)


def check_echo(response: Response, token: str, page: str) -> Iterator[Finding]:
    """Check that no header of a link's response has its token. `link-stays` is the finding for Location."""
    names = [name for name, value in response.headers if token in value and name.lower() != "location"]
    if names:
        yield KINDS["token-echoed"].found(header=" and ".join(names), where=page)


def check_banners(scan: Scan) -> Iterator[Result]:
    for page, response in scan.pages.items():
        banners = [
            f"{name}: {value}"
            for name, value in response.headers
            if name.lower().startswith("x-powered")
            or (name.lower() in ("server", "via") and _has_version(value))
        ]
        if banners:
            yield KINDS["version-told"].found(software="; ".join(banners), where=page)


def _has_version(value: str) -> bool:
    return re.search(r"[a-z][^\d\s]{0,40}/?\s{0,4}\d+\.\d", value, re.IGNORECASE) is not None


def check_cors(scan: Scan) -> Iterator[Result]:
    for origin in scan.foreign_origins:
        preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        responses = (
            scan.get("/login", headers={"Origin": origin}),
            scan.get("/reset", "OPTIONS", preflight),
        )
        findings = [
            KINDS["cors-open"].found(allowed=allowed, where=response.request)
            for response in responses
            if (allowed := response.header("Access-Control-Allow-Origin")) in ("*", origin)
        ]
        yield from findings
        if findings:
            return


def _dynamic_pages(scan: Scan) -> list[tuple[str, Response]]:
    return [(page, response) for page, response in scan.pages.items() if page != STYLES]


CHECKS = [
    Check("Each page answers as expected.", check_pages),
    Check("Each page has a strict Content-Security-Policy.", check_content_security_policy),
    Check("No nonce is used twice.", check_nonces),
    Check("Each page has the other security headers.", check_headers),
    Check("No header repeats a link's token.", check_echoes),
    Check("No header reveals a version.", check_banners),
    Check("No other origin may read the responses.", check_cors),
]
