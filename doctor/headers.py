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
# What is opened, and which answers are right; 429 says that others ask, too.
PAGES: dict[str, tuple[int, ...]] = {
    "/": (200,),
    "/login": (200,),
    "/reset": (200,),
    "/check-mail": (200,),
    "/reset/doctor-was-here": (400, 302, 429),  # a link that leads nowhere; some clients have a page for it
    "/doctor-was-here": (404,),
    STYLES: (200,),
    "/openapi.json": (200,),
    REFUSAL: (400, 429),
    NO_TOKEN: (400, *range(200, 500)),  # whether it is refused is looked at elsewhere
}
NEEDED = ("default-src", "base-uri", "form-action", "frame-ancestors")
NO_SOURCES = ("sandbox", "report-uri", "report-to", "upgrade-insecure-requests", "trusted-types")
TIGHT = re.compile(r"'(none|self|strict-dynamic|report-sample|nonce-.+|sha(256|384|512)-.+)'")

PROXY = "Sparekey sends it: let the proxy hand it on unchanged."

PAGE_FAILS = Kind(
    "page-fails",
    "error",
    "{page} answers {status}, where {right} is right.",
    "What people need there does not work, or something else answers.",
    "Look into the logs; does the proxy hand on all of the path, and every method?",
)
NO_CSP = Kind(
    "csp-missing",
    "error",
    "There is no Content-Security-Policy.",
    "A foreign script in the page would run.",
    PROXY,
)
WEAK_CSP = Kind(
    "csp-weak",
    "error",
    "The Content-Security-Policy is weak: {faults}.",
    "A foreign script or frame has a way in.",
    PROXY,
)
OLD_NONCE = Kind(
    "csp-nonce-repeats",
    "error",
    "The nonce of the Content-Security-Policy is the same at each load, or short.",
    "A foreign script that carries it would run.",
    "Let nothing keep pages: is there a cache in front?",
)
SNIFFED = Kind(
    "nosniff-missing",
    "error",
    "X-Content-Type-Options is not nosniff.",
    "A browser may run what is no script.",
    PROXY,
)
REFERRED = Kind(
    "referrer-policy",
    "error",
    "Referrer-Policy is neither no-referrer nor same-origin.",
    "Other sites may read addresses of pages, and links are addresses.",
    PROXY,
)
CACHED = Kind(
    "cacheable",
    "error",
    "Cache-Control is not no-store.",
    "A cache or a browser keeps pages that are for one person.",
    PROXY,
)
OPENED = Kind(
    "opener-policy",
    "warning",
    "Cross-Origin-Opener-Policy is not same-origin.",
    "A page that opens ours keeps a hold of its window.",
    PROXY,
)
SHARED = Kind(
    "resource-policy",
    "warning",
    "Cross-Origin-Resource-Policy is not same-origin.",
    "Other sites can load what is here into their pages.",
    PROXY,
)
FEATURES = Kind(
    "permissions-policy",
    "warning",
    "Permissions-Policy does not switch the camera off.",
    "A foreign script would have more to try.",
    PROXY,
)
NO_HSTS = Kind(
    "hsts-missing",
    "error",
    "Strict-Transport-Security is missing, or for less than a year.",
    "A browser that comes by http again can be answered by anybody on the way.",
    PROXY,
)
BANNER = Kind(
    "version-told",
    "warning",
    "The headers tell what serves it: {what}.",
    "Whoever looks for a known weakness finds it faster.",
    "Switch it off (nginx: server_tokens off; php and others: their X-Powered-By).",
)
CORS = Kind(
    "cors-open",
    "error",
    "A page of any origin may read the answers (Access-Control-Allow-Origin: {said}).",
    "Another web site can talk to Sparekey in your users' browsers.",
    "Sparekey answers to configured origins only: let the proxy add nothing.",
)
NO_COOKIE = Kind(
    "cookie-missing",
    "error",
    "The page with the form sets no cookie.",
    "A form without its cookie is refused: nobody can sign in or ask for a link.",
    "Let the proxy hand on Set-Cookie.",
)
NOT_SECURE = Kind(
    "cookie-insecure",
    "error",
    "The cookie {name} is not Secure.",
    "It also travels over http, where others read it.",
    "Set RECOVERY_PUBLIC_URL to the https address, and let the proxy leave Set-Cookie alone.",
)
READABLE = Kind(
    "cookie-readable",
    "error",
    "The cookie {name} is not HttpOnly.",
    "A foreign script could take it.",
    "Let the proxy leave Set-Cookie alone.",
)
CROSS_SITE = Kind(
    "cookie-cross-site",
    "error",
    "The cookie {name} is not SameSite=Lax or Strict.",
    "It goes along with what other sites send.",
    "Let the proxy leave Set-Cookie alone.",
)
NOT_OURS = Kind(
    "cookie-shared",
    "error",
    "The cookie {name} is not bound to this host: {why}.",
    "Other hosts of the domain can read it, or put theirs in its place.",
    "Let the proxy leave Set-Cookie alone (no proxy_cookie_domain, no proxy_cookie_path).",
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
    """Open each page; the checks that follow look at the answers."""
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
    """A browser follows every policy that it is given: one that is strict is enough."""
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
    """Whether all that is said under this name is right."""

    def is_right(answer: Answer) -> bool:
        said = {value.strip().lower() for value in answer.header(header).split(",")}
        return said <= set(right)

    return is_right


def has_no_store(answer: Answer) -> bool:
    return "no-store" in {word.strip().lower() for word in answer.header("Cache-Control").split(",")}


# What each page must say; what is static may be kept, and by its own address tells nothing.
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
    Check("No nonce is used twice.", of_nonces),
    Check("Each page has the other headers that protect it.", of_headers),
    Check("No header tells a version.", of_banners),
    Check("No other origin may read the answers.", of_cors),
    Check("Cookies are kept to this host, this site and the browser itself.", of_cookies),
]
