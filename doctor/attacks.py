"""Common attacks: Host header injection, open redirects, CSRF, debug pages and exposed files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import quote, urlsplit

from .findings import Kind
from .headers import PAGE_FAILS
from .http_client import Answer, NoAnswer
from .probe_session import EVIL, Check, Result, Visit, made_up

MARK = "doctor-mark"  # the value in headers that do not contain a host
FOREIGN: tuple[dict[str, str], ...] = (
    {"Host": EVIL},
    {"X-Forwarded-Host": EVIL},
    {"Forwarded": f"for=192.0.2.1;host={EVIL};proto=http"},
    dict.fromkeys(("X-Host", "X-Original-Host", "X-HTTP-Host-Override", "X-Forwarded-Server"), EVIL),
    {"X-Original-URL": f"//{EVIL}/", "X-Rewrite-URL": f"//{EVIL}/"},
    {"X-Forwarded-Proto": MARK},
    {"X-Forwarded-Prefix": f"/{MARK}", "X-Forwarded-Port": "6667"},
)
MARKS = (EVIL, MARK, ":6667")
TARGETS = (
    f"//{EVIL}/x",
    f"///{EVIL}/x",
    f"https://{EVIL}/x",
    f"https:{EVIL}",
    f"/\\{EVIL}/x",
    f"\\\\{EVIL}/x",
    f"/\t/{EVIL}/x",
    f"http://{{own}}@{EVIL}/x",
)
TRACES = (
    "Traceback (most recent call last)",
    "Werkzeug Debugger",
    "EVALEX",
    "werkzeug.debug",
)
# Files of Sparekey, with a pattern that tells each from a catch-all page.
FILES: dict[str, str] = {
    "/.env": r"(?m)^[ \t]{0,8}(export )?[A-Z][A-Z0-9_]*=",
    "/.git/config": r"\[core\]",
    "/config/production.toml": r"(?m)^#? ?[A-Z_]+ = ",
    "/config/default.toml": r"(?m)^#? ?[A-Z_]+ = ",
    "/instance/": r"(?i)index of|directory listing|sparekey\.db",
    "/instance/sparekey.db": r"\ASQLite format 3",
    "/manage.py": r"create_app",
    "/static/../manage.py": r"create_app",
    "/static/%2e%2e/manage.py": r"create_app",
    "/static../manage.py": r"create_app",
    "/static/../../../../../../etc/passwd": r"root:",
}

HOST_BELIEVED = Kind(
    "host-believed",
    "error",
    "The answer repeats the host from the header {header}.",
    "A cache, or a request in another user's name, can lead users to a foreign host.",
    "Sparekey never does. Check the proxy's rewrites and redirects ($host, X-Forwarded-*).",
)
ANY_HOST = Kind(
    "host-any",
    "warning",
    "The server answers to any host name.",
    "A foreign host name that points here looks like your site.",
    "Sparekey refuses other names. Let the proxy pass on the Host that it receives, not its own.",
)
OPEN_REDIRECT = Kind(
    "open-redirect",
    "error",
    "The answer redirects to another site: {to}.",
    "A link to your site can lead users to an attacker's.",
    "Sparekey redirects to configured URLs only. Check the proxy's rewrites and your own templates.",
)
DEBUG = Kind(
    "debug-shown",
    "error",
    "Error pages show code, or a debugger answers.",
    "An attacker can read secrets or run commands.",
    "Unset FLASK_DEBUG, and use gunicorn (docs/deploy.md).",
)
TRACE = Kind(
    "trace-answered",
    "warning",
    "TRACE is answered.",
    "It reveals headers that proxies add to a request.",
    "Disable the method in the proxy.",
)
INBOX = Kind(
    "inbox-public",
    "error",
    "All mail can be read at /inbox/.",
    "Anyone who reads it can take over every account.",
    "Unset RECOVERY_INBOX, and set MAIL_SERVER.",
)
DEMO = Kind(
    "inbox-here",
    "info",
    "All mail can be read at /inbox/, because this is a demo.",
    "Only this machine can read it.",
    "There is nothing to do.",
)
METRICS = Kind(
    "metrics-public",
    "error",
    "Anyone can read /metrics.",
    "The number of emails reveals whether the account of a request exists.",
    "Let the proxy answer 404 there, and read it from the internal network.",
)
FILE = Kind(
    "file-served",
    "error",
    "A file that is not a page can be read: {path}.",
    "It may contain secrets.",
    "Let the proxy pass requests on, and serve no files from this directory.",
)
FORM_OPEN = Kind(
    "csrf-open",
    "error",
    "A form without its CSRF token is accepted.",
    "Another web site can request links, or sign users in, in your users' browsers.",
    "Sparekey refuses it. Check that Sparekey answers POST requests.",
)
ORIGIN_OPEN = Kind(
    "origin-open",
    "error",
    "JSON from a foreign origin is accepted.",
    "Another web site can request links in your users' browsers.",
    "Sparekey refuses it. Let the proxy pass on Origin.",
)
KINDS = [
    HOST_BELIEVED,
    ANY_HOST,
    OPEN_REDIRECT,
    DEBUG,
    TRACE,
    INBOX,
    DEMO,
    METRICS,
    FILE,
    FORM_OPEN,
    ORIGIN_OPEN,
]


def of_hosts(visit: Visit) -> Iterator[Result]:
    for headers in FOREIGN:
        for path in ("/login", "/.well-known/change-password", "/openapi.json"):
            answer = visit.get(path, **headers)
            if _mentions(answer, is_foreign="Host" in headers):
                yield HOST_BELIEVED.found(header=" or ".join(headers), where=path)
            if "Host" in headers and answer.status == 200 and "/reset/{token}" in answer.text:
                yield ANY_HOST.found()


def _mentions(answer: Answer, *, is_foreign: bool) -> bool:
    """True if the answer repeats a foreign host. A proxy that refuses the host may name it in its page."""
    heads = " ".join(value for _, value in answer.headers)
    said = heads if is_foreign and answer.status >= 400 else f"{heads} {answer.text}"
    return any(mark in said.lower() for mark in MARKS)


def of_redirects(visit: Visit) -> Iterator[Result]:
    for target in TARGETS:
        target = target.replace("{own}", visit.wire.parts.netloc)
        for page in ("/login", "/.well-known/change-password"):
            yield from _leading_away(visit.get(f"{page}?next={quote(target, safe='')}"), page)
    for path in (f"//{EVIL}/%2e%2e", f"/%5c{EVIL}", f"//{EVIL}/login"):
        yield from _leading_away(visit.get(path), path)
    target = f"https://{EVIL}/x"
    asked = visit.submit(f"/reset?next={quote(target, safe='')}", identity=made_up(None), next=target)
    yield from _leading_away(asked, "POST /reset")


def _leading_away(answer: Answer, page: str) -> Iterator[Result]:
    links = re.findall(r'(?:href|action|src)="([^"]*)"', answer.text) if answer.status < 400 else []
    for to in (*answer.every("Location"), *map(unescape, links)):
        if _host_of(to) == EVIL:
            yield OPEN_REDIRECT.found(to=to, where=page)
            return


def _host_of(to: str) -> str | None:
    """Return the host that a browser would go to, or None.

    Browsers drop tabs and line breaks, take a backslash for a slash, and accept any number of slashes after
    a scheme.
    """
    to = re.sub(r"[\t\r\n]", "", to).strip().replace("\\", "/")
    found = re.match(r"(?:https?:)?/{2,}([^/?#]*)|https?:/?([^/?#]*)", to, re.IGNORECASE)
    try:
        return urlsplit(f"//{found[1] or found[2]}").hostname if found else None
    except ValueError:
        return None


def of_errors(visit: Visit) -> Iterator[Result]:
    answers = [
        visit.get("/console"),
        visit.get("/?__debugger__=yes&cmd=resource&f=style.css"),
        visit.get("/%ff%00"),
        visit.get("/login", "DELETE"),
        visit.get("/login", Cookie="sparekey_session=%ff; remember_token=x|y"),
        visit.get(f"/{'x' * 2000}"),
    ]
    for answer in (*answers, *visit.pages.values(), *visit.strange):
        is_resource = "__debugger__" in answer.asked and "css" in answer.header("Content-Type")
        if is_resource or any(trace in answer.text for trace in TRACES):
            yield DEBUG.found(where=answer.asked[:60])
        elif answer.status >= 500 and answer in answers:
            yield PAGE_FAILS.found(page=answer.asked[:60], status=answer.status, right="less than 500")


def of_trace(visit: Visit) -> Iterator[Result]:
    try:
        answer = visit.get("/", "TRACE", X_Doctor=MARK)
    except NoAnswer:
        return  # the connection was closed: refused
    if answer.status < 300:
        yield TRACE.found()


def of_inside(visit: Visit) -> Iterator[Result]:
    """Check pages that only the internal network should read."""
    if visit.get("/inbox/").status == 200:
        yield (DEMO if visit.is_here else INBOX).found()
    if visit.get("/metrics").status == 200:
        yield METRICS.found()


def of_files(visit: Visit) -> Iterator[Result]:
    """Look for files below the address, and at the root of its host."""
    for at_root in (False, True) if visit.wire.parts.path else (True,):
        for path, signature in FILES.items():
            answer = visit.wire.ask("GET", path, at_root=at_root)
            if answer.status == 200 and re.search(signature, answer.text):
                yield FILE.found(path=path)


def of_forms(visit: Visit) -> Iterator[Result]:
    nobody = {"identity": made_up(None), "password": "not a password"}
    for path in ("/reset", "/login"):
        plain = {"Content_Type": "text/plain", "Accept": "application/json"}
        for answer in (visit.post_form(path, nobody), visit.post_json(path, nobody, **plain)):
            if answer.status < 400:
                yield FORM_OPEN.found(where=path)
        for origin in (f"https://{EVIL}", "null"):
            if visit.post_json(path, nobody, Origin=origin).status < 400:
                yield ORIGIN_OPEN.found(where=path)


CHECKS = [
    Check("No host from a request header is used.", of_hosts),
    Check("Nothing redirects to another site.", of_redirects),
    Check("Errors reveal nothing, and no debugger answers.", of_errors),
    Check("TRACE is refused.", of_trace),
    Check("Neither an inbox nor metrics can be read.", of_inside),
    Check("No files can be read.", of_files),
    Check("Requests from another site are refused.", of_forms),
]
