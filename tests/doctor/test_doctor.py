"""`manage.py doctor`: a sound deployment passes, and each defect yields its finding and no other.

A faulty proxy in front of the real app makes one defect at a time; raw servers speak other protocols.
"""

import contextlib
import email
import email.policy
import json
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import click
import pytest
import trustme
from click.testing import CliRunner, Result
from support.admin import Admin, inherited
from support.faulty_proxy import (
    Defect,
    Edit,
    Environ,
    FaultyProxy,
    Forward,
    Response,
    body,
    close_connection,
    edited,
    header,
    header_part,
    instead,
    no_defect,
    page,
    request_variable,
    together,
)
from support.live import serving
from support.mailbox import link_in
from support.raw_server import Talk, raw_server, send, send_forever, stay_silent
from support.servers import free_port
from support.site import ROOT, Site, load_settings, served, wait_for
from werkzeug.serving import WSGIRequestHandler, make_server

import manage
from app.cli import database_checks
from app.pages import health
from doctor import (
    connectivity,
    enumeration,
    headers,
    http_client,
    link_delivery,
    rank_test,
    readiness,
    scan,
    slow_clients,
    sources,
)
from doctor.enumeration import Sample
from doctor.findings import KINDS, Finding
from examples.demo import create_app

ALICE = "alice@example.com"
SHIPPED = [
    *((slow_clients, name, getattr(slow_clients, name)) for name in ("CONNECTIONS", "ARRIVAL_SECONDS")),
    (sources, "POSTS_MAX", sources.POSTS_MAX),
    (scan, "POSTS_PER_MINUTE", scan.POSTS_PER_MINUTE),
]
DEMO_NOTES = {"inbox-here"}  # the findings of a sound demo
OPEN_LINK = r"/reset/[\w-]{43}$"
REAL_LINK = r"/reset/(?!doctor-)[\w-]{43}$"
SIGNED = r"/not-me/[\w.-]{60}"
STRICT = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; script-src 'nonce-{}'"
)

# --- Defects ------------------------------------------------------------------------------


def asking(edit: Callable[[Environ], object]) -> Defect:
    """Edit the request."""
    return lambda forward, environ: (edit(environ), forward(environ))[1]


def echo_origin(is_ours: Callable[[str, str], bool]) -> Defect:
    """Allow origins by a careless comparison with the host."""

    def edit(response: Response, environ: Environ) -> None:
        if (origin := environ.get("HTTP_ORIGIN", "")) and is_ours(origin, environ["HTTP_HOST"]):
            response.headers["Access-Control-Allow-Origin"] = origin

    return edited(edit)


def echo_path(response: Response, environ: Environ) -> None:
    response.headers["X-Original-URI"] = environ["PATH_INFO"]


def prefix_location(variable: str, prefix: str) -> Defect:
    """Put a variable of the request before the path of redirects."""

    def edit(response: Response, environ: Environ) -> None:
        location = response.headers.get("Location", "")
        if location.startswith("/") and variable in environ:
            response.headers["Location"] = f"{prefix}{environ[variable]}{location}"

    return edited(edit)


def original_host_in_page(response: Response, environ: Environ) -> None:
    if response.status == 200 and "html" in response.headers["Content-Type"]:
        response.body += f"<!-- {environ.get('HTTP_X_ORIGINAL_HOST', '127.0.0.1')} -->".encode()


def link_to_next(response: Response, environ: Environ) -> None:
    if "%5C%5Cdoctor" in environ["QUERY_STRING"]:
        response.body += b'<a href="\\\\doctor.invalid/x">on</a>'


def accept_form_without_token(response: Response, _: Environ) -> None:
    if response.status == 400 and b"csrf_failed" in response.body:
        response.status, response.headers["Location"] = 303, "/check-mail"


def redirect_to_next(forward: Forward, environ: Environ) -> Response:
    match = re.search(r"next=(https?(?::|%3A)[^&]*)", environ["QUERY_STRING"])
    if environ["PATH_INFO"] == "/login" and match:
        return page("", 302, Location=match[1].replace("%3A", ":").replace("%2F", "/"))
    return forward(environ)


def drop_lookalike_origin(environ: Environ) -> None:
    if environ.get("HTTP_ORIGIN", "").endswith(environ["HTTP_HOST"]):
        del environ["HTTP_ORIGIN"]


def ready(problem: str) -> Defect:
    return instead("^/readyz$", json.dumps({"problems": [problem]}), 503, JSON)


CSP, JSON, TEXT = "Content-Security-Policy", "application/json", "text/plain"
# Defects that need no account, by "id of the finding: case".
DEFECTS: dict[str, Defect] = {
    "csp-missing: no header": header(CSP, None),
    "csp-missing: report only": edited(lambda r, _: r.headers.set(f"{CSP}-Report-Only", r.headers.pop(CSP))),
    "csp-weak: no default": header_part(CSP, "default", "", at="^/login$"),
    "csp-weak: inline styles": header_part(CSP, "style-src", "style-src 'unsafe-inline'"),
    "csp-weak: any host": header_part(CSP, "default-src 'none'", "default-src https:"),
    "csp-nonce-repeats: on each page": header(CSP, STRICT.format("A" * 22)),
    "nosniff-missing: on files": header("X-Content-Type-Options", None, at="^/static"),
    "referrer-policy: full URL": header("Referrer-Policy", "unsafe-url"),
    "referrer-policy: of reset links": header("Referrer-Policy", "unsafe-url", at=OPEN_LINK),
    "referrer-policy: of other links": header("Referrer-Policy", "unsafe-url", at=r"/confirm/[\w-]{43}$"),
    "token-echoed: in a header": edited(echo_path, at="^/reset/"),
    "cacheable: public": header("Cache-Control", "public, max-age=60", at="^/reset$"),
    "opener-policy: no header": header("Cross-Origin-Opener-Policy", None),
    "resource-policy: cross-origin": header("Cross-Origin-Resource-Policy", "cross-origin"),
    "permissions-policy: no header": header("Permissions-Policy", None),
    "version-told: nginx": header("Server", "nginx/1.25.3"),
    "version-told: php": header("X-Powered-By", "PHP"),
    "cors-open: any origin": header("Access-Control-Allow-Origin", "*"),
    "cors-open: suffix": echo_origin(lambda origin, host: origin.endswith(f"-{host}")),
    "cors-open: suffix of a parent": echo_origin(lambda origin, _: "-0.1:" in origin),
    "cors-open: prefix": echo_origin(lambda origin, _: origin.startswith("http://127.0.0.1.")),
    "cors-open: any character for a dot": echo_origin(lambda origin, _: "//127-0.0.1" in origin),
    "cors-open: subdomain": echo_origin(lambda origin, host: origin.endswith(f".{host}")),
    "cookie-missing: dropped": header("Set-Cookie", None),
    "cookie-readable: no HttpOnly": header_part("Set-Cookie", " HttpOnly;", ""),
    "cookie-cross-site: SameSite=None": header_part("Set-Cookie", "SameSite=Lax", "SameSite=None"),
    "cookie-shared: domain": header_part("Set-Cookie", "Path=/", "Path=/; Domain=example.com"),
    "host-believed: redirect": prefix_location("HTTP_X_FORWARDED_HOST", "http://"),
    "host-believed: prefix": prefix_location("HTTP_X_FORWARDED_PREFIX", ""),
    "host-believed: page": edited(original_host_in_page),
    "host-any: front door": asking(lambda e: e.update(HTTP_HOST=f"127.0.0.1:{e['SERVER_PORT']}")),
    "open-redirect: next": redirect_to_next,
    "open-redirect: backslashes": edited(link_to_next, at="^/login$"),
    "open-redirect: slash appended": instead(r"^/\\", "", 301, Location="/\\doctor.invalid/"),
    "debug-shown: console": instead("^/console$", "<h1>Werkzeug Debugger</h1>"),
    "debug-shown: traceback": body("Page not found", "Traceback (most recent call last)", at="doctor"),
    "metrics-public: numbers": instead("^/metrics$", "mails_total 3", type=TEXT),
    "file-served: env": instead(r"^/\.env$", "SECRET_KEY=abc\n", type=TEXT),
    "file-served: git": instead(r"^/\.git/config$", "[core]\n\tbare = false\n", type=TEXT),
    "file-served: listing": instead("^/instance/$", "<h1>Index of /instance/</h1>"),
    "csrf-open: form": edited(accept_form_without_token),
    "csrf-open: text": asking(lambda e: e.get("CONTENT_TYPE") == TEXT and e.update(CONTENT_TYPE=JSON)),
    "origin-open: Origin dropped": request_variable("HTTP_ORIGIN", None),
    "origin-open: lookalike": asking(drop_lookalike_origin),
    "page-fails: 500": instead("^/check-mail$", "oh", 500),
    "no-answer: closed": close_connection("^/check-mail$"),
    "not-alive: 503": instead("^/healthz$", "oh", 503),
    "not-ready: no reason": instead("^/readyz$", "oh", 503),
    "not-ready: unknown": ready("something new"),
    **{f"not-ready: {problem}": ready(problem) for problem in readiness.DESCRIPTION_OF_PROBLEM},
    **{f"{database_checks.kind_of_problem(problem).id}: {problem}": ready(problem) for problem in readiness.KIND_OF_PROBLEM},
    "redirected: elsewhere": instead("^/openapi.json$", "", 301, Location="https://id.example.com/"),
    "not-sparekey: 404": instead("^/openapi.json$", "nothing", 404),
    "address-differs: servers": body(r'"url":"[^"]+"', '"url":"https://other.example"', at="^/openapi.json$"),
    "host-lost: the proxy's own": request_variable("HTTP_HOST", "127.0.0.1.example"),
}  # fmt: skip


# --- A deployment behind it ---------------------------------------------------------------


@dataclass
class Deployment:
    """The demo behind a faulty proxy."""

    site: Site
    proxy: FaultyProxy
    url: str
    options: list[str] = field(default_factory=list)

    def doctor(self, *words: str) -> Result:
        return doctor(self.url, *self.options, *words)

    def report(self, *words: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.doctor("--format", "json", *words).stdout)
        return report

    def ids(self, *words: str) -> set[str]:
        """Return the ids of the findings, except those of a sound demo."""
        return {finding["id"] for finding in self.report(*words)["findings"]} - DEMO_NOTES

    @contextlib.contextmanager
    def with_defect(self, defect: Defect) -> Iterator[None]:
        self.proxy.defect = defect
        try:
            yield
        finally:
            self.proxy.defect = no_defect

    def wait_for_outbox(self) -> None:
        wait_for(lambda: all(message["state"] != "waiting" for message in self.site.messages()))

    def inbox(self) -> set[Path]:
        return set((Path(self.site.app.instance_path) / "inbox").glob("*.eml"))


def doctor(*words: str) -> Result:
    return CliRunner().invoke(manage.cli, ["doctor", *words], catch_exceptions=False)


@contextlib.contextmanager
def deployed(
    fresh: Path, folder: Path, tls: ssl.SSLContext | None = None, **settings: Any
) -> Iterator[Deployment]:
    port = free_port()
    url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    (folder / "site.db").write_bytes(fresh.read_bytes())
    overrides = {
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/site.db",
        "RECOVERY_PUBLIC_URL": url,
        "RECOVERY_INBOX": True,
        "RECOVERY_MAIL_COOLDOWN": "0 seconds",
        "RECOVERY_MAIL_DAILY_CAP": 1000,
        "RATELIMIT_ENABLED": False,
        **settings,
    }
    app = create_app(load_settings(**overrides))
    app.instance_path = str(folder)
    proxy = FaultyProxy(app.wsgi_app)
    app.wsgi_app = proxy  # type: ignore[method-assign]  # Flask's seam
    with served(app, port, tls):
        yield Deployment(Site(app, None), proxy, url)  # type: ignore[arg-type]  # its mail goes to the inbox


@pytest.fixture(scope="module", autouse=True)
def discreet_server() -> Iterator[None]:
    """Werkzeug's server reveals its version, and logs each request. Each of 200 slow clients is a thread."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (slow_clients, "CONNECTIONS", 1),
            (slow_clients, "ARRIVAL_SECONDS", 0),
            (sources, "POSTS_MAX", 3),  # these deployments have no rate limits
            (scan, "POSTS_PER_MINUTE", 1000),
            (link_delivery, "POLL_SECONDS", 0.05),
            (WSGIRequestHandler, "version_string", lambda _: "front"),
            (WSGIRequestHandler, "log_request", lambda *_: None),
            (WSGIRequestHandler, "protocol_version", "HTTP/1.1"),  # keeps connections
            (WSGIRequestHandler, "disable_nagle_algorithm", True),  # Nagle delays each response by 40 ms
        ):
            patch.setattr(module, name, value)
        yield


@pytest.fixture
def as_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in SHIPPED:
        monkeypatch.setattr(module, name, value)


@pytest.fixture(scope="module")
def demo(fresh_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(fresh_sqlite, tmp_path_factory.mktemp("demo")) as deployment:
        yield deployment


def scans(defects: dict[str, Defect], alone: tuple[str, ...]) -> list[list[str]]:
    """Return the cases that share a scan, which takes 120 requests: five that lie far apart in the list.

    Those that end the scan or hide another defect are alone.
    """
    shared = [case for case in defects if not case.startswith(alone)]
    count = -(len(shared) // -5)
    return [[case] for case in defects if case.startswith(alone)] + [shared[n::count] for n in range(count)]


ALONE = ("redirected", "not-sparekey", "address-differs", "host-lost", "origin-open", "no-answer")


@pytest.mark.parametrize("cases", scans(DEFECTS, ALONE), ids=", ".join)
def test_defects_without_account_yield_their_findings_only(demo: Deployment, cases: list[str]) -> None:
    with demo.with_defect(together(*(DEFECTS[case] for case in cases))):
        assert demo.ids() == {case.partition(":")[0] for case in cases}


@pytest.mark.parametrize(
    ("source", "is_strict"),
    [("https://app.example.com", True), ("http://localhost:5001", True), ("http://app.example.com", False), ("https:", False)],
)  # fmt: skip
def test_form_may_lead_to_a_site_that_is_named_in_full(source: str, is_strict: bool) -> None:
    """As one in SECURITY_POST_LOGIN_VIEW."""
    policy = STRICT.replace("form-action 'self'", f"form-action 'self' {source}")
    response: Any = SimpleNamespace(header=lambda _name: policy)
    assert (not list(headers.check_policy(response, "/login"))) is is_strict


def test_sound_demo_passes(demo: Deployment) -> None:
    """Without an account, and with one. A phone number is not compared with made-up ones."""
    result, with_account = demo.doctor(), demo.doctor("--identity", "+14155550124", "--samples", "8")
    assert (result.exit_code, with_account.exit_code) == (0, 0)
    assert "1 note. " in result.stdout
    assert "error" not in result.stdout
    assert "skipped  delivery of a reset link: name your account" in result.stdout
    assert re.search(r"passed   The email arrived [\d.]+ seconds after", with_account.stdout)
    assert "a made-up phone number may be a real one" in with_account.stdout
    identities = scan.random_identity("bob@example.com"), scan.random_identity("bob")
    assert re.fullmatch(r"[a-z]{12}@example\.com [a-z]{12}", " ".join(identities))


def test_public_inbox_is_an_error_unless_local(demo: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan.Scan, "is_local", False)
    assert demo.ids() == {"plain-http", "inbox-public", "ready-public"}
    assert demo.doctor().exit_code == 1


def test_report_has_places_hints_and_exit_code(demo: Deployment) -> None:
    with demo.with_defect(header(CSP, None, at="^/login$")):
        text, as_json = demo.doctor(), demo.doctor("--fail-level", "error", "--format", "json")
    assert (text.exit_code, as_json.exit_code) == (1, 1)
    assert "error  csp-missing  /login, POST /login\n" in text.stdout
    assert "→ Sparekey sends this header" in text.stdout
    report = json.loads(as_json.stdout)
    assert {finding["severity"] for finding in report["findings"]} == {"error", "info"}
    assert 50 < report["requests"] < http_client.REQUESTS_MAX
    with demo.with_defect(header("Cross-Origin-Opener-Policy", None)):
        assert [demo.doctor("--fail-level", level).exit_code for level in ("error", "warning")] == [0, 1]


def test_scan_stops_early_when_the_deployment_goes_down(demo: Deployment) -> None:
    with demo.with_defect(close_connection("^(?!/openapi.json)")):
        report = demo.report()
    assert {finding["id"] for finding in report["findings"]} == {"no-answer"}
    assert report["requests"] <= 1 + http_client.FAILURES_MAX + 2


# --- With an account ----------------------------------------------------------------------


def for_alice(defect: Defect, type: str = "json") -> Defect:
    """Make the defect only if the request names alice."""

    def defect_for_alice(forward: Forward, environ: Environ) -> Response:
        if environ["REQUEST_METHOD"] != "POST" or type not in environ.get("CONTENT_TYPE", ""):
            return forward(environ)
        content = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = BytesIO(content)
        return defect(forward, environ) if b"alice" in content else forward(environ)

    return defect_for_alice


def no_mail(forward: Forward, environ: Environ) -> Response:
    is_json = environ["PATH_INFO"] == "/reset" and environ.get("CONTENT_TYPE") == JSON
    if is_json and environ["CONTENT_LENGTH"] != "2" and "HTTP_ORIGIN" not in environ:
        return page('{"meta":{"code":200},"response":{}}', type=JSON)
    return forward(environ)


def works_once() -> Defect:
    """Use the link up when it is opened."""
    opened: set[str] = set()

    def defect(forward: Forward, environ: Environ) -> Response:
        path = environ["PATH_INFO"]
        if re.search(OPEN_LINK, path) and path in opened:
            return page("used", 400, **{"Referrer-Policy": "no-referrer"})
        opened.add(path)
        return forward(environ)

    return defect


def echo_token_of_link() -> Edit:
    """Repeat the token of a link that was opened, in the header of a later page."""
    opened = [""]

    def edit(response: Response, environ: Environ) -> None:
        if "~" in environ["PATH_INFO"]:
            response.headers["X-Came-From"] = opened[-1]
        else:
            opened.append(environ["PATH_INFO"])

    return edit


FORM_PAGE, HTML_PART, TEXT_PART = "/reset/~", "/html$", r"/inbox/\d+$"
FOREIGN_RESET, FOREIGN_NOT_ME = "https://evil.example/reset/", "https://evil.example/not-me/"
# Defects that only a scan with --identity can see.
DEFECTS_OF_AN_ACCOUNT: dict[str, Defect] = {
    "told-by-answer: body": for_alice(body('"response":{}', '"response":{"sent":true}')),
    "told-by-answer: header": for_alice(header("X-Queue", "reset")),
    "told-by-answer: form": for_alice(header("Location", "/check-mail?sent=1"), "form"),
    "told-by-time: slow": for_alice(
        asking(lambda _: time.sleep(0.4))
    ),  # more than the delays of a busy machine
    "mail-not-there: dropped": no_mail,
    "link-elsewhere: reset link": body(r"http://[\d.:]+/reset/", FOREIGN_RESET, at="^/inbox/"),
    "link-elsewhere: objection": body(r"http://[\d.:]+/not-me/", FOREIGN_NOT_ME, at=TEXT_PART),
    "mail-without-link: HTML": body("/reset/", "/other/", at=HTML_PART),
    "mail-link-repeated: text": body(r"(?s)<pre([^>]*)>(.*)</pre>", r"<pre\1>\2 \2</pre>", at=TEXT_PART),
    "link-broken: cookie dropped": header("Set-Cookie", None, at=OPEN_LINK),
    "link-spent-by-opening: HEAD": works_once(),
    "link-stays: no redirect": instead(REAL_LINK, "password_confirm", **{"Referrer-Policy": "no-referrer"}),
    "link-referrer: same-origin": header("Referrer-Policy", "same-origin", at=OPEN_LINK),
    "link-referrer: objection": header("Referrer-Policy", "unsafe-url", at=SIGNED),
    "token-echoed: by the form": edited(echo_token_of_link(), at="^/reset/"),
    "token-echoed: objection": edited(echo_path, at=SIGNED),
    "referrer-policy: of the form": header("Referrer-Policy", "unsafe-url", at=FORM_PAGE),
    "csp-nonce-repeats: in the form": header(CSP, STRICT.format("B" * 22), at=FORM_PAGE),
    "csp-weak: in the form": header_part(CSP, "'none'", "*", at=FORM_PAGE),
}


ALONE_FOR_AN_ACCOUNT = ("mail-not-there", "link-elsewhere", "link-broken", "link-spent", "link-stays")


@pytest.mark.parametrize("cases", scans(DEFECTS_OF_AN_ACCOUNT, ALONE_FOR_AN_ACCOUNT), ids=", ".join)
def test_defects_of_an_account_yield_their_findings_only(
    demo: Deployment, monkeypatch: pytest.MonkeyPatch, cases: list[str]
) -> None:
    demo.wait_for_outbox()
    for mail in demo.inbox():
        mail.unlink()
    if cases == ["mail-not-there: dropped"]:
        monkeypatch.setattr(link_delivery, "MAIL_SECONDS", 0.3)
    samples = "12" if "told-by-time: slow" in cases else "8"
    with demo.with_defect(together(*(DEFECTS_OF_AN_ACCOUNT[case] for case in cases))):
        assert demo.ids("--identity", ALICE, "--samples", samples) == {
            case.partition(":")[0] for case in cases
        }
    demo.wait_for_outbox()


def test_rate_limit_ends_sampling_with_a_count(demo: Deployment) -> None:
    count = 0

    def limited(forward: Forward, environ: Environ) -> Response:
        nonlocal count
        if environ["PATH_INFO"] == "/reset" and environ.get("CONTENT_TYPE") == JSON:
            count += "HTTP_ORIGIN" not in environ
            if count > 10:  # the refused JSON, the link, and 8 samples
                return page("{}", 429, JSON, **{"Retry-After": "33"})
        return forward(environ)

    demo.wait_for_outbox()
    with demo.with_defect(limited):
        result = demo.doctor("--identity", ALICE)
    assert result.exit_code == 0
    reason = "the rate limits refused more; try again in 33 seconds"
    assert f"there were only 8 of at least 16 responses: {reason}" in result.stdout


def test_pasted_link_is_checked_and_not_redeemed(demo: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    demo.wait_for_outbox()
    earlier = demo.inbox()
    demo.site.ask("bob")
    wait_for(lambda: demo.inbox() - earlier)
    [mail] = demo.inbox() - earlier
    link = link_in(email.message_from_bytes(mail.read_bytes(), policy=email.policy.default))

    def results_with(pasted: str | None) -> str:
        monkeypatch.setattr(link_delivery, "is_terminal", lambda: pasted is not None)
        monkeypatch.setattr(click, "prompt", lambda *_, **__: pasted)
        with contextlib.closing(http_client.Client(demo.url)) as client:
            return str(link_delivery.CHECKS[0].run(scan.Scan(client, "bob")))

    with demo.with_defect(together(instead("^/inbox/$", "", 404), no_mail)):
        assert "Finding(" not in results_with(f" {link} ")
        assert "id='link-elsewhere'" in results_with(f"{FOREIGN_RESET}{'x' * 43}")
        assert "id='link-broken'" in results_with(f"{link[:-4]}xxxx")
        assert "no link was pasted" in results_with("")
        assert "no terminal to paste the link into" in results_with(None)
    assert not any(row["redeemed_at"] for row in demo.site.links())


# --- The source of a request --------------------------------------------------------------

Sender = Callable[[Environ], str]
PEER: Sender = lambda environ: environ["REMOTE_ADDR"]  # noqa: E731
APPENDED: Sender = lambda environ: f"{environ.get('HTTP_X_FORWARDED_FOR', '')}, {PEER(environ)}"  # noqa: E731
# By "id of the finding: case", RECOVERY_TRUSTED_PROXIES, and the X-Forwarded-For that a proxy sets.
PROXIES: dict[str, tuple[int, Sender]] = {
    ": appends": (1, APPENDED),
    ": replaces": (1, PEER),
    "source-believed: passes on": (1, lambda environ: environ.get("HTTP_X_FORWARDED_FOR") or PEER(environ)),
    "source-believed: one too many": (2, APPENDED),
    "source-believed: X-Real-IP": (1, lambda environ: environ.get("HTTP_X_REAL_IP") or PEER(environ)),
    "source-shared: sets its own": (1, lambda _: "10.0.0.1"),
}


@pytest.mark.parametrize("case", PROXIES)
@pytest.mark.usefixtures("as_shipped")
def test_source_of_requests_behind_a_proxy(fresh_sqlite: Path, tmp_path: Path, case: str) -> None:
    """The doctor uses up its rate limit, and asks with other headers and from other addresses."""
    proxies, sender = PROXIES[case]
    proxy = asking(lambda environ: environ.update(HTTP_X_FORWARDED_FOR=sender(environ)))
    limits = {"RATELIMIT_ENABLED": True, "RECOVERY_LIMIT_SOURCE": "8 per hour"}
    settings = {"RECOVERY_TRUSTED_PROXIES": proxies, **limits}
    with deployed(fresh_sqlite, tmp_path, **settings) as demo, demo.with_defect(proxy):
        report = demo.report()
    findings = {one["id"]: one["what"] for one in report["findings"] if one["id"] not in DEMO_NOTES}
    id, _, name = case.partition(": ")
    assert set(findings) == {id} - {""}
    if id == "source-believed":
        assert ("X-Real-IP" if name == "X-Real-IP" else "X-Forwarded-For") + " of a request" in findings[id]
    assert len(SOURCES_ARE_RIGHT.intersection(report["passed"])) == (1 if id else 2)


SOURCES_ARE_RIGHT = {
    "Headers of a request do not change its source.",
    "Visitors with other addresses are other sources.",
}


@pytest.mark.parametrize(
    ("refused", "addresses", "reasons"),
    [
        ("no no no", sources.LOOPBACK, ["no rate limit refused 8 requests"]),
        ("yes yes yes yes yes no no yes no no", sources.LOOPBACK, ["ended in the meantime"] * 2),
        ("yes yes yes yes yes yes", ("198.51.100.1",), ["from one address only"]),
    ],
    ids=["no limit", "limit ends", "one address"],
)
def test_source_of_requests_that_cannot_be_tested_is_skipped(
    demo: Deployment, monkeypatch: pytest.MonkeyPatch, refused: str, addresses: Any, reasons: list[str]
) -> None:
    monkeypatch.setattr(sources, "POSTS_MAX", 8)
    monkeypatch.setattr(sources, "LOOPBACK", addresses)
    refusals = iter(refused.split())

    def answer(forward: Forward, environ: Environ) -> Response:
        return page("", 429 if next(refusals, "no") == "yes" else 400)

    with demo.with_defect(answer), contextlib.closing(http_client.Client(demo.url)) as client:
        results = list(sources.check_sources(scan.Scan(client)))
    skipped = [result.why for result in results if isinstance(result, scan.Skipped)]
    assert [reason in why for reason, why in zip(reasons, skipped, strict=True)] == [True] * len(reasons)


# --- Over TLS -----------------------------------------------------------------------------


@dataclass
class TlsDeployment(Deployment):
    authority: trustme.CA = field(default_factory=trustme.CA)
    context: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    plain: FaultyProxy = field(default_factory=lambda: FaultyProxy(None))  # the server on the port of http

    def answer_http_with(self, response: Response) -> None:
        self.plain.defect = lambda _forward, _environ: response


@pytest.fixture(scope="module")
def tls_deployment(fresh_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsDeployment]:
    folder, context, plain = (
        tmp_path_factory.mktemp("tls"),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        FaultyProxy(None),
    )
    authority = trustme.CA()
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server = make_server("127.0.0.1", 0, plain)
    with deployed(fresh_sqlite, folder, context) as made, serving(server) as port:
        options = ["--ca", str(folder / "ca.pem"), "--http-port", str(port)]
        yield TlsDeployment(made.site, made.proxy, made.url, options, authority, context, plain)


@pytest.fixture
def tls_demo(tls_deployment: TlsDeployment) -> TlsDeployment:
    tls_deployment.authority.issue_cert("localhost").configure_cert(tls_deployment.context)
    tls_deployment.answer_http_with(page("", 301, Location=f"{tls_deployment.url}/login"))
    return tls_deployment


def scheme_lost(forward: Forward, environ: Environ) -> Response:
    if environ["PATH_INFO"] != "/openapi.json":
        return forward(environ)
    url = f"https://{environ['HTTP_HOST']}"
    return page(f"Plain HTTP isn't accepted (X-Forwarded-Proto). To use this service, go to {url}", 400)


DEFECTS_OVER_TLS: dict[str, Defect] = {
    "hsts-missing: short": header("Strict-Transport-Security", "max-age=300"),
    "cookie-insecure: not Secure": header_part("Set-Cookie", "Secure; ", ""),
    "cookie-shared: no prefix": header_part("Set-Cookie", "__Host-", ""),
    "scheme-lost: http reported": scheme_lost,
}


@pytest.mark.parametrize("cases", scans(DEFECTS_OVER_TLS, ("scheme-lost",)), ids=", ".join)
def test_defects_over_tls_yield_their_findings_only(tls_demo: TlsDeployment, cases: list[str]) -> None:
    with tls_demo.with_defect(together(*(DEFECTS_OVER_TLS[case] for case in cases))):
        assert tls_demo.ids() == {case.partition(":")[0] for case in cases}


@pytest.mark.parametrize(
    ("id", "host", "is_trusted", "days", "text"),
    [
        ("certificate-ends-soon", "localhost", True, 5, "expires in 5 days"),
        ("certificate-refused", "localhost", True, -1, "certificate has expired"),
        ("certificate-refused", "other.example", True, 90, "Hostname mismatch"),
        ("certificate-refused", "localhost", False, 90, "unable to get local issuer"),
    ],
)
def test_bad_certificate_is_reported(
    tls_demo: TlsDeployment, id: str, host: str, is_trusted: bool, days: int, text: str
) -> None:
    authority, now = tls_demo.authority if is_trusted else trustme.CA(), datetime.now(UTC)
    times = {"not_before": now - timedelta(9), "not_after": now + timedelta(days, hours=1)}
    authority.issue_cert(host, **times).configure_cert(tls_demo.context)
    [finding] = [one for one in tls_demo.report()["findings"] if one["id"] not in DEMO_NOTES]
    assert finding["id"] == id
    assert text in finding["what"]


def test_old_tls_is_reported(tls_demo: TlsDeployment) -> None:
    context = tls_demo.context
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
        assert tls_demo.ids() == {"tls-old"}
    finally:
        context.set_ciphers("DEFAULT")
        context.minimum_version = ssl.TLSVersion.TLSv1_2


def test_http_must_redirect_to_https_or_be_closed(tls_demo: TlsDeployment) -> None:
    _, ca, _, port = tls_demo.options

    def ids(port: str) -> list[str]:
        with contextlib.closing(http_client.Client(tls_demo.url, ca)) as client:
            results = connectivity.check_http(scan.Scan(client, http_port=int(port)))
            return [result.id for result in results if isinstance(result, Finding)]

    elsewhere = [
        page("", 302, Location=f"{host}/login") for host in ("http://localhost", "https://other.example")
    ]
    for response in (page("the form"), page("", 403), *elsewhere):
        tls_demo.answer_http_with(response)
        assert ids(port) == ["http-open"]
    tls_demo.answer_http_with(page("", 308, Location="https://localhost/login"))
    assert ids(port) == ids(str(free_port())) == []


# --- As operators run it ------------------------------------------------------------------


@pytest.mark.usefixtures("as_shipped")
def test_documented_deployment_passes(database: Callable[[], str], nginx: Any, tmp_path: Path) -> None:
    """Gunicorn, a worker, and the documented nginx with a prefix, below its rate limits."""
    port = free_port()
    base, ca = f"https://localhost:{port}/auth", ("--ca", str(tmp_path / "ca.pem"))
    settings = {"FLASK_RECOVERY_PUBLIC_URL": base, "FLASK_RECOVERY_TRUSTED_PROXIES": "1"}
    with Admin(database(), free_port(), **settings, FLASK_RATELIMIT_ENABLED="true") as admin:
        admin.serves()
        nginx(port, admin.port, http := free_port())
        result = doctor(base, *ca, "--http-port", str(http), "--identity", ALICE)
        assert result.exit_code == 0, result.stdout
        for text in (
            "No findings.",
            "/readyz: it is not public (404)",
            *(one.passed for one in connectivity.CHECKS),
            "do not reveal who has an account, as far as 12 and 12 responses show.",
            *SOURCES_ARE_RIGHT,
        ):
            assert text in result.stdout
        assert "not-sparekey" in doctor(base.removesuffix("/auth"), *ca).stdout
        assert doctor(base).exit_code == 1  # without --ca, the authority is unknown


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.requirement("R32")
def test_slow_clients_are_found_at_threads_that_read_and_not_at_the_default(
    database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "SECONDS", 3)
    admin = Admin(database(), free_port())
    for options, ids in (
        ((), []),
        (("--worker-class", "gthread", "--graceful-timeout", "1"), ["slow-clients"]),
    ):
        try:
            admin.serves(1, None, *options)
            results = slow_clients.CHECKS[0].run(scan.Scan(http_client.Client(admin.base)))
        finally:
            admin.stops()
        assert [result.id for result in results if isinstance(result, Finding)] == ids


def test_module_and_command_have_the_same_help() -> None:
    command = [sys.executable, "-m", "doctor", "--help"]
    result = subprocess.run(command, cwd=ROOT, env=inherited(), capture_output=True, text=True, check=True)
    usage, _, options = result.stdout.partition("\n")
    assert usage == "Usage: python -m doctor [OPTIONS] URL"
    assert options.split() == doctor("--help").stdout.partition("\n")[2].split()  # wrapped differently


# --- Other servers ------------------------------------------------------------------------


OK = "HTTP/1.1 200 OK\r\n"
OK_JSON = f"{OK}Content-Type: application/json\r\nConnection: close\r\n\r\n"
REDIRECT_TO_SELF = "HTTP/1.1 302 Found\r\nLocation: /openapi.json\r\nContent-Length: 0\r\n\r\n"
ODD_OPENAPI = '{"paths": {"/reset": 1, "/reset/{token}": 1}, "servers": [[]]}'
NO_HTTP, TOO_SLOW = "does not speak HTTP", "no complete response within 0.4 seconds"
TOO_LONG = "longer than 1,000,000 bytes"
OTHER_SERVERS: dict[str, tuple[Talk, str, str]] = {
    "html": (send(OK_JSON.replace(JSON, "text/html"), "<html>"), "not-sparekey", "text/html"),
    "odd servers": (send(OK_JSON, ODD_OPENAPI), "not-sparekey", "200"),
    "deep nesting": (send(OK_JSON, '{"a":' + "[" * 100_000), "not-sparekey", "200"),
    "control characters": (send(f"{OK}Content-Type: a\x1b[2Jb\r\n\r\n{{}}"), "not-sparekey", "a�[2Jb"),
    "redirect to itself": (send(REDIRECT_TO_SELF), "redirected", "/openapi.json"),
    "ssh": (send("SSH-2.0-OpenSSH\x00\xff\r\n"), "unreachable", NO_HTTP),
    "half a response": (send(OK, "Content-Length: 9\r\n\r\n{"), "unreachable", "is incomplete"),
    "closed": (send(""), "unreachable", "closed the connection without a response"),
    "silence": (stay_silent, "unreachable", TOO_SLOW),
    "slow drip": (send_forever(OK.encode() + b"X: ", b"y", pause=0.02), "unreachable", TOO_SLOW),
    "endless body": (send_forever(OK.encode() + b"\r\n", b"y" * 100_000), "unreachable", TOO_LONG),
}


@pytest.mark.parametrize("case", OTHER_SERVERS)
def test_other_server_is_reported(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, id, text = OTHER_SERVERS[case]
    monkeypatch.setattr(http_client, "SECONDS", 0.4)
    with raw_server(talk) as host:
        result = doctor(f"http://{host}")
    assert result.exit_code == 1
    assert f"error  {id}" in result.stdout
    assert text in " ".join(result.stdout.split())
    assert result.stdout.endswith("Correct this first. Nothing else was checked.\n")


def test_unreachable_address_is_reported() -> None:
    port = free_port()
    for url, text in {
        f"http://127.0.0.1:{port}": f"nothing listens on port {port} of 127.0.0.1",
        "http://nowhere.invalid": "the host nowhere.invalid does not exist in DNS",
        f"http://{'x' * 70}.example": "is not a valid host name",
    }.items():
        result = doctor(url)
        assert result.exit_code == 1
        assert text in " ".join(result.stdout.split())
    with raw_server(send("HTTP/1.1 400 Bad Request\r\n\r\n")) as host:  # without TLS
        assert "unreachable" in doctor(f"https://{host}").stdout


def test_invalid_address_or_ca_file_is_wrong_usage(tmp_path: Path) -> None:
    for url in [
        "id.example.com",
        "ftp://id.example.com",
        "https://",
        "https://a/?b",
        "https://u:p@a",
        "https://a:99999",
    ]:
        assert doctor(url).exit_code == 2, url
    (tmp_path / "ca.pem").write_text("no certificate")
    assert doctor("https://id.example.com", "--ca", str(tmp_path / "ca.pem")).exit_code == 2
    # As browsers do.
    assert http_client.Client("HTTPS://Bücher.example:443/auth/").url == "https://xn--bcher-kva.example/auth"
    assert http_client.Client("http://[::1]:80").url == "http://[::1]"


# --- Statistics ---------------------------------------------------------------------------


def test_rank_test_has_few_false_alarms_and_misses() -> None:
    rng = Random(1)

    def alarms(shift: float, scans: int) -> int:
        samples = ([rng.gauss(0, 1) for _ in range(12)] for _ in range(2 * scans))
        pairs = zip(samples, samples, strict=True)
        return sum(rank_test.is_significant(one, [value + shift for value in two]) for one, two in pairs)

    assert alarms(0, 3000) <= 9  # 3 are expected
    assert rank_test.detectable_auc(12, 12) == 0.97
    assert alarms(2.66, 300) >= 270  # 2.66 gives this AUC; each of the two tests detects it in 9 of 10 scans


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (Sample([1.0] * 12, [2.0] * 12), "Response times do not reveal"),
        (Sample([1.0, 2.0] * 6, [1.0, 2.0] * 6), "Response times do not reveal"),
        (Sample([], [], "the limits refused more"), "it was not confirmed"),
        (Sample([9.0] * 12, [2.0] * 12), "in 100% of all pairs the known identity takes longer (medians 9.0"),
    ],
    ids=["opposite", "none", "refused", "confirmed"],
)
def test_time_difference_needs_confirmation(second: Sample, text: str) -> None:
    first = Sample([9.0] * 12, [2.0] * 12)
    assert first.is_significant()
    result = enumeration._check_times(first, second)
    assert text in " ".join(map(str, vars(result).values()))


# --- Findings ---------------------------------------------------------------------------


def test_every_problem_of_readyz_has_a_text() -> None:
    known = [*readiness.KIND_OF_PROBLEM, *readiness.DESCRIPTION_OF_PROBLEM]
    assert sorted(known) == sorted(health.PROBLEMS)


def test_every_finding_is_documented_and_tested() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", (ROOT / "docs/doctor.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((kind.id, kind.severity) for kind in KINDS.values())
    tested = {
        case.partition(":")[0] for case in (*DEFECTS, *DEFECTS_OF_AN_ACCOUNT, *DEFECTS_OVER_TLS, *PROXIES)
    }
    tested |= {id for _, id, _ in OTHER_SERVERS.values()} | DEMO_NOTES
    by_name = {"certificate-ends-soon", "certificate-refused", "tls-old", "http-open", "slow-clients"}
    assert KINDS.keys() - tested == by_name | {"plain-http", "inbox-public", "ready-public"}
