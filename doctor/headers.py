"""Security headers and cookies of each page, as a browser reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from .findings import Finding, Kind
from .http_client import Answer
from .probe_session import EVIL, Check, Result, Visit

HSTS_SECONDS = 31_536_000
NONCE_LENGTH_MIN = 22  # base64 of 128 bits
STYLES = "/static/sparekey.css"
REFUSAL, NO_TOKEN = "POST /reset", "POST /login"
# The pages to open, with their right answers. 429 means that other clients use up the limits.
PAGES: dict[str, tuple[int, ...]] = {
    "/": (200,),
    "/login": (200,),
    "/reset": (200,),
    "/check-mail": (200,),
    "/reset/doctor-was-here": (400, 302, 429),  # an unknown link; some clients have a page for it
    "/doctor-was-here": (404,),
    STYLES: (200,),
    "/openapi.json": (200,),
    REFUSAL: (400, 429),
    NO_TOKEN: (400, *range(200, 500)),  # attacks.py checks whether it is refused
}
NEEDED = ("default-src", "base-uri", "form-action", "frame-ancestors")
NO_SOURCES = ("sandbox", "report-uri", "report-to", "upgrade-insecure-requests", "trusted-types")
TIGHT = re.compile(r"'(none|self|strict-dynamic|report-sample|nonce-.+|sha(256|384|512)-.+)'")

PROXY = "Sparekey sends it. Let the proxy pass it on unchanged."

PAGE_FAILS = Kind(
    "page-fails",
    "error",
    "{page} answers {status} instead of {right}.",
    "The page does not work, or another server answers.",
    "Read the logs, and check that the proxy passes on the whole path and every method.",
)
NO_CSP = Kind(
    "csp-missing",
    "error",
    "There is no Content-Security-Policy.",
    "An injected script would run.",
    PROXY,
)
WEAK_CSP = Kind(
    "csp-weak",
    "error",
    "The Content-Security-Policy is weak: {faults}.",
    "An injected script or frame may run.",
    PROXY,
)
OLD_NONCE = Kind(
    "csp-nonce-repeats",
    "error",
    "The nonce of the Content-Security-Policy is short, or the same at each load.",
    "An injected script with the nonce would run.",
    "Let no proxy cache pages.",
)
SNIFFED = Kind(
    "nosniff-missing",
    "error",
    "X-Content-Type-Options is not nosniff.",
    "A browser may run a file that is not a script.",
    PROXY,
)
REFERRED = Kind(
    "referrer-policy",
    "error",
    "Referrer-Policy is neither no-referrer nor same-origin.",
    "Other sites may receive the addresses of pages, and so reset links.",
    PROXY,
)
CACHED = Kind(
    "cacheable",
    "error",
    "Cache-Control is not no-store.",
    "A cache or a browser may store pages of one user.",
    PROXY,
)
OPENED = Kind(
    "opener-policy",
    "warning",
    "Cross-Origin-Opener-Policy is not same-origin.",
    "A foreign page that opens Sparekey's can control its window.",
    PROXY,
)
SHARED = Kind(
    "resource-policy",
    "warning",
    "Cross-Origin-Resource-Policy is not same-origin.",
    "Other sites can load Sparekey's files into their pages.",
    PROXY,
)
FEATURES = Kind(
    "permissions-policy",
    "warning",
    "Permissions-Policy does not disable the camera.",
    "An injected script could use more of the browser.",
    PROXY,
)
NO_HSTS = Kind(
    "hsts-missing",
    "error",
    "Strict-Transport-Security is missing, or shorter than a year.",
    "An attacker on the network can answer a browser that comes back over http.",
    PROXY,
)
BANNER = Kind(
    "version-told",
    "warning",
    "Headers reveal the server software: {what}.",
    "An attacker finds known vulnerabilities faster.",
    "Disable it (nginx: server_tokens off; PHP and others: X-Powered-By).",
)
CORS = Kind(
    "cors-open",
    "error",
    "A page of any origin may read the answers (Access-Control-Allow-Origin: {said}).",
    "Another web site can use Sparekey in your users' browsers.",
    "Sparekey allows configured origins only. Let the proxy add no CORS headers.",
)
NO_COOKIE = Kind(
    "cookie-missing",
    "error",
    "The page with the form sets no cookie.",
    "Sparekey refuses a form without its cookie, so no user can sign in or request a link.",
    "Let the proxy pass on Set-Cookie.",
)
NOT_SECURE = Kind(
    "cookie-insecure",
    "error",
    "The cookie {name} is not Secure.",
    "It is also sent over http, where an attacker can read it.",
    "Set RECOVERY_PUBLIC_URL to the https address, and let the proxy pass on Set-Cookie unchanged.",
)
READABLE = Kind(
    "cookie-readable",
    "error",
    "The cookie {name} is not HttpOnly.",
    "An injected script could read it.",
    "Let the proxy pass on Set-Cookie unchanged.",
)
CROSS_SITE = Kind(
    "cookie-cross-site",
    "error",
    "The cookie {name} is not SameSite=Lax or Strict.",
    "Browsers send it with requests from other sites.",
    "Let the proxy pass on Set-Cookie unchanged.",
)
NOT_OURS = Kind(
    "cookie-shared",
    "error",
    "The cookie {name} is not bound to this host: {why}.",
    "Other hosts of the domain can read or replace it.",
    "Let the proxy pass on Set-Cookie unchanged (no proxy_cookie_domain, no proxy_cookie_path).",
)
KINDS = [
    PAGE_FAILS,
    NO_CSP,
    WEAK_CSP,
    OLD_NONCE,
    SNIFFED,
    REFERRED,
    CACHED,
    OPENED,
    SHARED,
    FEATURES,
    NO_HSTS,
    BANNER,
    CORS,
    NO_COOKIE,
    NOT_SECURE,
    READABLE,
    CROSS_SITE,
    NOT_OURS,
]


def of_pages(visit: Visit) -> Iterator[Result]:
    """Open each page, and keep the answers for the other checks."""
    for page, right in PAGES.items():
        if page == REFUSAL:
            answer = visit.post_json("/reset", {})
        elif page == NO_TOKEN:
            answer = visit.post_form("/login", {"identity": f"nobody@{EVIL}", "password": "x"})
        else:
            answer = visit.get(page)
        if answer.status in right:
            visit.pages[page] = answer
        else:
            visit.strange.append(answer)
            yield PAGE_FAILS.found(page=page, status=answer.status, right=right[0])


def of_policy(visit: Visit) -> Iterator[Result]:
    for page, answer in _pages(visit):
        yield from policy_of(answer, page)


def policy_of(answer: Answer, page: str) -> Iterator[Finding]:
    """Check the policies of an answer. One strict policy is enough, because browsers apply all of them."""
    policies = [text for text in answer.header("Content-Security-Policy").split(",") if text.strip()]
    faults = [_faults_of(text) for text in policies]
    if not policies:
        yield NO_CSP.found(where=page)
    elif all(faults):
        yield WEAK_CSP.found(faults="; ".join(faults[0]), where=page)


def _faults_of(policy: str) -> list[str]:
    parts = (part.split() for part in policy.split(";") if part.strip())
    directives = {name.lower(): sources for name, *sources in parts}
    faults = [f"no {name}" for name in NEEDED if name not in directives]
    for name, sources in directives.items():
        loose = [] if name in NO_SOURCES else [one for one in sources if not _is_tight(name, one)]
        faults += [f"{name} {' '.join(loose)}"] if loose else []
    return faults


def _is_tight(directive: str, source: str) -> bool:
    return TIGHT.fullmatch(source) is not None or (directive, source) == ("img-src", "data:")


def nonce_of(answer: Answer) -> str | None:
    found = re.search(r"'nonce-([^']*)'", answer.header("Content-Security-Policy"))
    return found[1] if found else None


def of_nonces(visit: Visit) -> Iterator[Result]:
    for page in ("/", "/login", "/reset"):
        yield from repeats(visit.pages[page], visit.get(page), page) if page in visit.pages else ()


def repeats(one: Answer, other: Answer, page: str) -> Iterator[Finding]:
    nonce = nonce_of(one)
    if nonce is not None and (nonce == nonce_of(other) or len(nonce) < NONCE_LENGTH_MIN):
        yield OLD_NONCE.found(where=page)


def is_long_enough(hsts: str) -> bool:
    found = re.search(r"max-age\s*=\s*\"?(\d{1,12})", hsts, re.IGNORECASE)
    return found is not None and int(found[1]) >= HSTS_SECONDS


def _single(header: str, *right: str) -> Callable[[Answer], bool]:
    """Return a predicate: True if all values of the header are right."""

    def is_right(answer: Answer) -> bool:
        said = {value.strip().lower() for value in answer.header(header).split(",")}
        return said <= set(right)

    return is_right


def has_no_store(answer: Answer) -> bool:
    return "no-store" in {word.strip().lower() for word in answer.header("Cache-Control").split(",")}


# The headers of each page. Static files may be cached, and their addresses reveal nothing.
SAID: list[tuple[Kind, Callable[[Answer], bool]]] = [
    (REFERRED, _single("Referrer-Policy", "no-referrer", "same-origin")),
    (CACHED, has_no_store),
    (OPENED, _single("Cross-Origin-Opener-Policy", "same-origin")),
    (SHARED, _single("Cross-Origin-Resource-Policy", "same-origin")),
    (FEATURES, lambda answer: "camera=()" in answer.header("Permissions-Policy")),
]


def of_headers(visit: Visit) -> Iterator[Result]:
    for page, answer in visit.pages.items():
        if not _single("X-Content-Type-Options", "nosniff")(answer):
            yield SNIFFED.found(where=page)
        if visit.wire.by_tls and not is_long_enough(answer.header("Strict-Transport-Security")):
            yield NO_HSTS.found(where=page)
    for page, answer in _pages(visit):
        for kind, is_right in SAID:
            if not is_right(answer):
                yield kind.found(where=page)


def of_banners(visit: Visit) -> Iterator[Result]:
    for page, answer in visit.pages.items():
        told = [f"{name}: {said}" for name in ("Server", "Via") if _has_version(said := answer.header(name))]
        told += [f"{name}: {value}" for name, value in answer.headers if name.lower().startswith("x-powered")]
        if told:
            yield BANNER.found(what="; ".join(told), where=page)


def _has_version(said: str) -> bool:
    return re.search(r"[a-z][^\d\s]{0,40}/?\s{0,4}\d+\.\d", said, re.IGNORECASE) is not None


def of_cors(visit: Visit) -> Iterator[Result]:
    for origin in (f"https://{EVIL}", "null"):
        asks = {"Origin": origin, "Access_Control_Request_Method": "POST"}
        for answer in (visit.get("/login", Origin=origin), visit.get("/reset", "OPTIONS", **asks)):
            if (said := answer.header("Access-Control-Allow-Origin")) in ("*", origin):
                yield CORS.found(said=said, where=answer.asked)


def of_cookies(visit: Visit) -> Iterator[Result]:
    for page, answer in visit.pages.items():
        if page in ("/login", "/reset") and not answer.every("Set-Cookie"):
            yield NO_COOKIE.found(where=page)
        for cookie in answer.every("Set-Cookie"):
            yield from _of_cookie(cookie, page, by_tls=visit.wire.by_tls)


def _of_cookie(cookie: str, page: str, *, by_tls: bool) -> Iterator[Finding]:
    pair, *flags = (part.strip() for part in cookie.split(";"))
    name = pair.partition("=")[0]
    said = {key.strip().lower(): value.strip() for key, _, value in (flag.partition("=") for flag in flags)}
    is_ours = "sparekey" in name
    if by_tls and "secure" not in said:
        yield NOT_SECURE.found(name=name, where=page)
    if is_ours and "httponly" not in said:
        yield READABLE.found(name=name, where=page)
    if is_ours and said.get("samesite", "").lower() not in ("lax", "strict"):
        yield CROSS_SITE.found(name=name, where=page)
    unbound = [
        said.get("domain") and f"it names the domain {said['domain']}",
        is_ours and said.get("path") != "/" and "its path is not /",
        is_ours and by_tls and not name.startswith("__Host-") and "its name does not start with __Host-",
    ]
    if why := ", ".join(filter(None, unbound)):  # type: ignore[arg-type]  # filter leaves texts
        yield NOT_OURS.found(name=name, why=why, where=page)


def _pages(visit: Visit) -> list[tuple[str, Answer]]:
    return [(page, answer) for page, answer in visit.pages.items() if page != STYLES]


CHECKS = [
    Check("Each page answers as it should.", of_pages),
    Check("Each page has a strict Content-Security-Policy.", of_policy),
    Check("Every nonce is used once.", of_nonces),
    Check("Each page has the other security headers.", of_headers),
    Check("No header reveals a version.", of_banners),
    Check("No other origin may read the answers.", of_cors),
    Check("Cookies are bound to this host, this site and https, and hidden from scripts.", of_cookies),
]
