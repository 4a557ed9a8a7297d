"""Common attacks: Host header injection, open redirects, CSRF, debug pages and exposed files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import quote, urlsplit

from .findings import KINDS
from .http_client import Response
from .scan import ATTACKER_HOST, Check, Result, Scan, random_identity

CANARY = "doctor-mark"  # in headers that cannot contain a host
SPOOFED_HEADERS: tuple[dict[str, str], ...] = (
    {"Host": ATTACKER_HOST},
    {"X-Forwarded-Host": ATTACKER_HOST},
    {"Forwarded": f"for=192.0.2.1;host={ATTACKER_HOST};proto=http"},
    dict.fromkeys(("X-Host", "X-Original-Host", "X-HTTP-Host-Override", "X-Forwarded-Server"), ATTACKER_HOST),
    {"X-Original-URL": f"//{ATTACKER_HOST}/", "X-Rewrite-URL": f"//{ATTACKER_HOST}/"},
    {"X-Forwarded-Proto": CANARY},
    {"X-Forwarded-Prefix": f"/{CANARY}", "X-Forwarded-Port": "6667"},
)
SPOOFED_VALUES = (ATTACKER_HOST, CANARY, ":6667")
REDIRECT_TARGETS = (
    f"//{ATTACKER_HOST}/x",
    f"///{ATTACKER_HOST}/x",
    f"https://{ATTACKER_HOST}/x",
    f"https:{ATTACKER_HOST}",
    f"/\\{ATTACKER_HOST}/x",
    f"\\\\{ATTACKER_HOST}/x",
    f"/\t/{ATTACKER_HOST}/x",
    f"http://{{own}}@{ATTACKER_HOST}/x",
)
REDIRECT_PATHS = (f"//{ATTACKER_HOST}/%2e%2e", f"/%5c{ATTACKER_HOST}", f"//{ATTACKER_HOST}/login")
DEBUG_OUTPUT = ("Traceback (most recent call last)", "Werkzeug Debugger", "EVALEX", "werkzeug.debug")
# Private files, and a pattern of their content, because some servers answer every path with 200.
PRIVATE_FILES: dict[str, str] = {
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


def check_host_headers(scan: Scan) -> Iterator[Result]:
    for headers in SPOOFED_HEADERS:
        for path in ("/login", "/.well-known/change-password", "/openapi.json"):
            response = scan.get(path, headers=headers)
            if _repeats_spoofed_value(response, is_other_host="Host" in headers):
                yield KINDS["host-believed"].found(header=" or ".join(headers), where=path)
            if "Host" in headers and response.status == 200 and "/reset/{token}" in response.text:
                yield KINDS["host-any"].found()


def _repeats_spoofed_value(response: Response, *, is_other_host: bool) -> bool:
    """True if the response has a spoofed value. A server may name an unknown Host in its error page."""
    text = " ".join(value for _, value in response.headers)
    if not (is_other_host and response.status >= 400):
        text += f" {response.text}"
    return any(value in text.lower() for value in SPOOFED_VALUES)


def check_redirects(scan: Scan) -> Iterator[Result]:
    for target in REDIRECT_TARGETS:
        target = target.replace("{own}", scan.client.parts.netloc)
        for page in ("/login", "/.well-known/change-password"):
            yield from _check_targets(scan.get(f"{page}?next={quote(target, safe='')}"), page)
    for path in REDIRECT_PATHS:
        yield from _check_targets(scan.get(path), path)
    target = f"https://{ATTACKER_HOST}/x"
    path = f"/reset?next={quote(target, safe='')}"
    yield from _check_targets(
        scan.submit(path, identity=random_identity(scan.identity), next=target), "POST /reset"
    )


def _check_targets(response: Response, page: str) -> Iterator[Result]:
    links = re.findall(r'(?:href|action|src)="([^"]*)"', response.text) if response.status < 400 else []
    for target in (*response.header_values("Location"), *map(unescape, links)):
        if _host(target) == ATTACKER_HOST:
            yield KINDS["open-redirect"].found(to=target, where=page)
            return


def _host(target: str) -> str | None:
    """Return the host of a link, or None for a relative one, as a browser reads it.

    Browsers drop tabs and line breaks, read a backslash as a slash, and need no slash after a scheme.
    """
    target = re.sub(r"[\t\r\n]", "", target).strip().replace("\\", "/")
    match = re.match(r"(?:https?:)?/{2,}([^/?#]*)|https?:/?([^/?#]*)", target, re.IGNORECASE)
    try:
        return urlsplit(f"//{match[1] or match[2]}").hostname if match else None
    except ValueError:
        return None


def check_errors(scan: Scan) -> Iterator[Result]:
    responses = [
        scan.get("/console"),
        scan.get("/?__debugger__=yes&cmd=resource&f=style.css"),
        scan.get("/%ff%00"),
        scan.get("/login", "DELETE"),
        scan.get("/login", headers={"Cookie": "sparekey_session=%ff; remember_token=x|y"}),
        scan.get(f"/{'x' * 2000}"),
    ]
    for response in (*responses, *scan.pages.values(), *scan.unexpected):
        page = response.request[:60]
        is_resource = "__debugger__" in response.request and "css" in response.header("Content-Type")
        if is_resource or any(text in response.text for text in DEBUG_OUTPUT):
            yield KINDS["debug-shown"].found(where=page)
        elif response.status >= 500 and response in responses:
            yield KINDS["page-fails"].found(page=page, status=response.status, expected="less than 500")


def check_internal_pages(scan: Scan) -> Iterator[Result]:
    if scan.get("/inbox/").status == 200:
        yield KINDS["inbox-here" if scan.is_local else "inbox-public"].found()
    if scan.get("/metrics").status == 200:
        yield KINDS["metrics-public"].found()


def check_files(scan: Scan) -> Iterator[Result]:
    """Look for private files below the base URL and at the root of its host."""
    for at_root in (False, True) if scan.client.parts.path else (True,):
        for path, content in PRIVATE_FILES.items():
            response = scan.client.request("GET", path, at_root=at_root)
            if response.status == 200 and re.search(content, response.text):
                yield KINDS["file-served"].found(path=path)


def check_forgery(scan: Scan) -> Iterator[Result]:
    """Send the requests that another site can make a browser send."""
    fields = {"identity": random_identity(scan.identity), "password": "not a password"}
    for path in ("/reset", "/login"):
        as_text = {"Content-Type": "text/plain", "Accept": "application/json"}
        for response in (scan.post_form(path, fields), scan.post_json(path, fields, as_text)):
            if response.status < 400:
                yield KINDS["csrf-open"].found(where=path)
        for origin in scan.foreign_origins:
            if scan.post_json(path, fields, {"Origin": origin}).status < 400:
                yield KINDS["origin-open"].found(origin=origin, where=path)
                break  # each further one may count for the rate limits


CHECKS = [
    Check("Spoofed host headers have no effect.", check_host_headers),
    Check("No response leads to another site.", check_redirects),
    Check("Error pages show no code, and no debugger answers.", check_errors),
    Check("The inbox and the metrics are not public.", check_internal_pages),
    Check("No private file can be read.", check_files),
    Check("Requests from other sites are refused.", check_forgery),
]
