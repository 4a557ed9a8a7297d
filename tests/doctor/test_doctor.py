"""`manage.py doctor`: a sound deployment passes, and each defect yields its finding and no other.

A faulty proxy in front of the real app makes one defect at a time; raw servers speak other protocols.
"""

import contextlib
import datetime
import email
import email.policy
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result
from support import house
from support.admin import Admin, inherited
from support.demo import (
    Demo,
    tree as tree,  # a fixture
)
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
from support.mailbox import link_in
from support.raw_server import Talk, raw_server, send, send_forever, stay_silent
from support.servers import free_port, two_free_ports
from support.site import ROOT, Site, load_settings, served, wait_for
from werkzeug.serving import WSGIRequestHandler, make_server

import manage
from app.cli import check, database_checks
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
POSTS_MAX = sources.POSTS_MAX
DEMO_NOTES = {"inbox-here"}  # the findings of a sound demo
OPEN_LINK = r"/reset/[\w-]{43}$"
REAL_LINK = r"/reset/(?!doctor-)[\w-]{43}$"
SIGNED = r"/not-me/[\w.-]{60}"
STRICT = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; script-src 'nonce-{}'"
)

# --- Defects ------------------------------------------------------------------------------


def policy_as_report_only(response: Response, _: Environ) -> None:
    response.headers["Content-Security-Policy-Report-Only"] = response.headers.pop("Content-Security-Policy")


def echo_origin(response: Response, environ: Environ) -> None:
    if "HTTP_ORIGIN" in environ:
        response.headers["Access-Control-Allow-Origin"] = environ["HTTP_ORIGIN"]


def echo_lookalikes(is_ours: Callable[[str, str], bool]) -> Defect:
    """Allow origins by a careless comparison with the host."""

    def edit(response: Response, environ: Environ) -> None:
        origin = environ.get("HTTP_ORIGIN", "")
        if origin and is_ours(origin, environ["HTTP_HOST"]):
            response.headers["Access-Control-Allow-Origin"] = origin

    return edited(edit)


def drop_lookalike_origin(forward: Forward, environ: Environ) -> Response:
    if environ.get("HTTP_ORIGIN", "").endswith(environ["HTTP_HOST"]):
        del environ["HTTP_ORIGIN"]
    return forward(environ)


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


def accept_text_as_json(forward: Forward, environ: Environ) -> Response:
    if environ.get("CONTENT_TYPE") == "text/plain":
        environ["CONTENT_TYPE"] = "application/json"
    return forward(environ)


def accept_any_host(forward: Forward, environ: Environ) -> Response:
    environ["HTTP_HOST"] = f"127.0.0.1:{environ['SERVER_PORT']}"
    return forward(environ)


def ready(problem: str) -> Defect:
    return instead("^/readyz$", json.dumps({"problems": [problem]}), 503, "application/json")


CSP, JSON, TEXT = "Content-Security-Policy", "application/json", "text/plain"
# Defects that need no account, by "id of the finding: case".
DEFECTS: dict[str, Defect] = {
    "csp-missing: no header": header(CSP, None),
    "csp-missing: report only": edited(policy_as_report_only),
    "csp-weak: no default": header_part(CSP, "default", "", at="^/login$"),
    "csp-weak: inline styles": header_part(CSP, "style-src", "style-src 'unsafe-inline'"),
    "csp-weak: frames": header_part(CSP, "frame-ancestors 'none'", "", at="^/login$"),
    "csp-weak: forms to any host": header_part(
        CSP, "form-action 'self'", "form-action https://*.example.com"
    ),
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
    "cors-open: echoed": edited(echo_origin),
    "cors-open: suffix": echo_lookalikes(lambda origin, host: origin.endswith(f"-{host}")),
    "cors-open: suffix of a parent": echo_lookalikes(lambda origin, _: "-0.1:" in origin),
    "cors-open: prefix": echo_lookalikes(lambda origin, _: origin.startswith("http://127.0.0.1.")),
    "cors-open: any character for a dot": echo_lookalikes(lambda origin, _: "//127-0.0.1" in origin),
    "cors-open: subdomain": echo_lookalikes(lambda origin, host: origin.endswith(f".{host}")),
    "cookie-missing: dropped": header("Set-Cookie", None),
    "cookie-readable: no HttpOnly": header_part("Set-Cookie", " HttpOnly;", ""),
    "cookie-cross-site: SameSite=None": header_part("Set-Cookie", "SameSite=Lax", "SameSite=None"),
    "cookie-shared: domain": header_part("Set-Cookie", "Path=/", "Path=/; Domain=example.com"),
    "host-believed: redirect": prefix_location("HTTP_X_FORWARDED_HOST", "http://"),
    "host-believed: prefix": prefix_location("HTTP_X_FORWARDED_PREFIX", ""),
    "host-believed: page": edited(original_host_in_page),
    "host-any: front door": accept_any_host,
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
    "csrf-open: text": accept_text_as_json,
    "origin-open: Origin dropped": request_variable("HTTP_ORIGIN", None),
    "origin-open: lookalike": drop_lookalike_origin,
    "page-fails: 500": instead("^/check-mail$", "oh", 500),
    "no-answer: closed": close_connection("^/check-mail$"),
    "not-alive: 503": instead("^/healthz$", "oh", 503),
    "not-ready: no reason": instead("^/readyz$", "oh", 503),
    "not-ready: database": ready(health.NO_DATABASE),
    "not-ready: database read-only": ready(health.READ_ONLY),
    "not-ready: mail held": ready(health.MAIL_HELD),
    "not-ready: mail refused": ready(health.MAIL_REFUSED),
    "not-ready: unknown": ready("something new"),
    **{
        f"{database_checks.kind_of_problem(problem).id}: {problem}": ready(problem)
        for problem in health.PROBLEMS
        if problem not in (health.NO_DATABASE, health.READ_ONLY, health.MAIL_HELD, health.MAIL_REFUSED)
    },
    "redirected: elsewhere": instead("^/openapi.json$", "", 301, Location="https://id.example.com/"),
    "not-sparekey: 404": instead("^/openapi.json$", "nothing", 404),
    "address-differs: servers": body(r'"url":"[^"]+"', '"url":"https://other.example"', at="^/openapi.json$"),
    "host-lost: the proxy's own": request_variable("HTTP_HOST", "127.0.0.1.example"),
}


# --- A deployment behind it ---------------------------------------------------------------


@dataclass
class Deployment:
    """The demo behind a faulty proxy."""

    site: Site
    proxy: FaultyProxy
    url: str
    options: list[str] = field(default_factory=list)

    def doctor(self, *words: str, **options: Any) -> Result:
        return doctor(self.url, *self.options, *words, **options)

    def report(self, *words: str, **options: Any) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.doctor("--format", "json", *words, **options).stdout)
        return report

    def ids(self, *words: str, **options: Any) -> set[str]:
        """Return the ids of the findings, except those of a sound demo."""
        return {finding["id"] for finding in self.report(*words, **options)["findings"]} - DEMO_NOTES

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


def doctor(*words: str, **options: Any) -> Result:
    return CliRunner().invoke(manage.cli, ["doctor", *words], catch_exceptions=False, **options)


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
        patch.setattr(slow_clients, "CONNECTIONS", 1)
        patch.setattr(slow_clients, "ARRIVAL_SECONDS", 0)
        patch.setattr(WSGIRequestHandler, "version_string", lambda _: "front")
        patch.setattr(WSGIRequestHandler, "log_request", lambda *_: None)
        patch.setattr(sources, "POSTS_MAX", 3)  # these deployments have no rate limits
        patch.setattr(WSGIRequestHandler, "protocol_version", "HTTP/1.1")  # keeps connections
        patch.setattr(
            WSGIRequestHandler, "disable_nagle_algorithm", True
        )  # Nagle delays each response by 40 ms
        yield


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
    [
        ("https://app.example.com", True),  # a view in SECURITY_POST_LOGIN_VIEW
        ("http://localhost:5001", True),
        ("http://app.example.com", False),
        ("https:", False),
    ],
)
def test_form_may_lead_to_a_site_that_is_named_in_full(source: str, is_strict: bool) -> None:
    policy = STRICT.replace("form-action 'self'", f"form-action 'self' {source}")
    response: Any = SimpleNamespace(header=lambda _name: policy)
    assert (not list(headers.check_policy(response, "/login"))) is is_strict


def test_sound_demo_passes(demo: Deployment) -> None:
    result = demo.doctor()
    assert result.exit_code == 0
    assert "1 note. " in result.stdout
    assert "error" not in result.stdout
    assert "skipped  delivery of a reset link: name your account" in result.stdout


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


def slow(forward: Forward, environ: Environ) -> Response:
    time.sleep(0.4)  # more than the delays of a busy machine
    return forward(environ)


def no_mail(forward: Forward, environ: Environ) -> Response:
    is_json = environ["PATH_INFO"] == "/reset" and environ.get("CONTENT_TYPE") == "application/json"
    if is_json and environ["CONTENT_LENGTH"] != "2" and "HTTP_ORIGIN" not in environ:
        return page('{"meta":{"code":200},"response":{}}', type="application/json")
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
    "told-by-time: slow": for_alice(slow),
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
    monkeypatch.setattr(link_delivery, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(scan, "POSTS_PER_MINUTE", 1000)  # this deployment has no rate limits
    demo.wait_for_outbox()
    for mail in demo.inbox():
        mail.unlink()
    if cases == ["mail-not-there: dropped"]:
        monkeypatch.setattr(link_delivery, "MAIL_SECONDS", 0.3)
    with demo.with_defect(together(*(DEFECTS_OF_AN_ACCOUNT[case] for case in cases))):
        assert demo.ids("--identity", ALICE) == {case.partition(":")[0] for case in cases}
    demo.wait_for_outbox()


def test_rate_limit_ends_sampling_with_a_count(demo: Deployment) -> None:
    count = 0

    def limited(forward: Forward, environ: Environ) -> Response:
        nonlocal count
        if environ["PATH_INFO"] == "/reset" and environ.get("CONTENT_TYPE") == "application/json":
            count += "HTTP_ORIGIN" not in environ
            if count > 10:  # the refused JSON, the link, and 8 samples
                return page("{}", 429, "application/json", **{"Retry-After": "33"})
        return forward(environ)

    demo.wait_for_outbox()
    with demo.with_defect(limited):
        result = demo.doctor("--identity", ALICE)
    assert result.exit_code == 0
    reason = (
        "there were only 8 of at least 16 responses: the rate limits refused more; try again in 33 seconds"
    )
    assert reason in result.stdout


def test_pasted_link_is_checked_and_not_redeemed(demo: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_delivery, "is_terminal", lambda: True)
    demo.wait_for_outbox()
    earlier = demo.inbox()
    demo.site.ask("bob")
    wait_for(lambda: demo.inbox() - earlier)
    [mail] = demo.inbox() - earlier
    link = link_in(email.message_from_bytes(mail.read_bytes(), policy=email.policy.default))

    def without_inbox(forward: Forward, environ: Environ) -> Response:
        return page("", 404) if environ["PATH_INFO"] == "/inbox/" else no_mail(forward, environ)

    words = ("--identity", "bob")
    with demo.with_defect(without_inbox):
        assert demo.ids(*words, input=f" {link} \n") == set()
        assert demo.ids(*words, input=f"{FOREIGN_RESET}{'x' * 43}\n") == {"link-elsewhere"}
        assert demo.ids(*words, input=f"{link[:-4]}xxxx\n") == {"link-broken"}
        assert "no link was pasted" in demo.doctor(*words, input="\n").stdout
        monkeypatch.undo()
        assert "no terminal to paste the link into" in demo.doctor(*words).stdout
    assert not any(row["redeemed_at"] for row in demo.site.links())


def test_phone_number_is_not_compared_with_made_up_ones(demo: Deployment) -> None:
    demo.wait_for_outbox()
    assert "a made-up phone number may be a real one" in demo.doctor("--identity", "+14155550124").stdout


def test_made_up_identity_is_of_the_same_kind() -> None:
    assert scan.random_identity("bob@example.com").endswith("@example.com")
    assert re.fullmatch("[a-z]{12}", scan.random_identity("bob"))


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


def through_proxy(sender: Sender) -> Defect:
    def defect(forward: Forward, environ: Environ) -> Response:
        environ["HTTP_X_FORWARDED_FOR"] = sender(environ)
        return forward(environ)

    return defect


@pytest.mark.parametrize("case", PROXIES)
def test_source_of_requests_behind_a_proxy(
    fresh_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """The doctor uses up its rate limit, and asks with other headers and from other addresses."""
    monkeypatch.setattr(sources, "POSTS_MAX", POSTS_MAX)
    proxies, sender = PROXIES[case]
    settings = {
        "RECOVERY_TRUSTED_PROXIES": proxies,
        "RATELIMIT_ENABLED": True,
        "RECOVERY_LIMIT_SOURCE": "8 per hour",
    }
    with deployed(fresh_sqlite, tmp_path, **settings) as demo, demo.with_defect(through_proxy(sender)):
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


def assert_sources_are_right(result: Result) -> None:
    assert {text for text in SOURCES_ARE_RIGHT if f"passed   {text}" in result.stdout} == SOURCES_ARE_RIGHT


@pytest.mark.parametrize(
    ("refused", "addresses", "reasons"),
    [
        ("no no no", sources.LOOPBACK, ["no rate limit refused 8 requests"]),
        (
            "yes yes yes yes yes no no yes no no",
            sources.LOOPBACK,
            ["ended in the meantime", "ended in the meantime"],
        ),
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

    def use_certificate(self, certificate: trustme.LeafCert) -> None:
        certificate.configure_cert(self.context)


class PlainHttp:
    """The server on the port of plain http."""

    def __init__(self) -> None:
        self.port = free_port()
        self.response = page("")

    def __call__(self, _: Environ, start_response: Any) -> list[bytes]:
        start_response(f"{self.response.status} text", list(self.response.headers))
        return [self.response.body]


@pytest.fixture(scope="module")
def plain_http() -> Iterator[PlainHttp]:
    app = PlainHttp()
    server = make_server("127.0.0.1", app.port, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield app
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def tls_deployment(
    fresh_sqlite: Path, tmp_path_factory: pytest.TempPathFactory, plain_http: PlainHttp
) -> Iterator[TlsDeployment]:
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    options = ["--ca", str(folder / "ca.pem"), "--http-port", str(plain_http.port)]
    with deployed(fresh_sqlite, folder, context) as made:
        yield TlsDeployment(made.site, made.proxy, made.url, options, authority, context)


@pytest.fixture
def tls_demo(tls_deployment: TlsDeployment, plain_http: PlainHttp) -> TlsDeployment:
    tls_deployment.use_certificate(tls_deployment.authority.issue_cert("localhost"))
    plain_http.response = page("", 301, Location=f"{tls_deployment.url}/login")
    return tls_deployment


def test_sound_demo_over_tls_passes(tls_demo: TlsDeployment) -> None:
    result = tls_demo.doctor()
    assert result.exit_code == 0, result.stdout
    assert all(f"passed   {one.passed}" in result.stdout for one in connectivity.CHECKS)


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


def in_days(number: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=number)


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
    authority = tls_demo.authority if is_trusted else trustme.CA()
    tls_demo.use_certificate(authority.issue_cert(host, not_before=in_days(-9), not_after=in_days(days)))
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


@pytest.mark.parametrize(
    ("response", "ids"),
    [
        (page("the form"), ["http-open"]),
        (page("", 302, Location="http://localhost/login"), ["http-open"]),
        (page("", 302, Location="https://other.example/login"), ["http-open"]),
        (page("", 403), ["http-open"]),
        (page("", 308, Location="https://localhost/login"), []),
        (None, []),
    ],
    ids=["form", "to http", "to another host", "refused", "to https", "closed"],
)
def test_http_must_redirect_to_https_or_be_closed(
    tls_demo: TlsDeployment, plain_http: PlainHttp, response: Response | None, ids: list[str]
) -> None:
    plain_http.response = response or plain_http.response
    port = plain_http.port if response else free_port()
    with contextlib.closing(http_client.Client(tls_demo.url, tls_demo.options[1])) as client:
        results = list(connectivity.check_http(scan.Scan(client, http_port=port)))
    assert [result.id for result in results if isinstance(result, Finding)] == ids


# --- As operators run it ------------------------------------------------------------------


def test_documented_deployment_passes(
    database: Callable[[], str],
    nginx: Any,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gunicorn, a worker, and the documented nginx with a prefix."""
    monkeypatch.setattr(sources, "POSTS_MAX", POSTS_MAX)
    port = free_port()
    base = f"https://localhost:{port}/auth"
    settings = {"RECOVERY_PUBLIC_URL": base, "RECOVERY_TRUSTED_PROXIES": "1", "RATELIMIT_ENABLED": "true"}
    admin = Admin(database(), free_port(), **{f"FLASK_{name}": text for name, text in settings.items()})
    try:
        admin.serves()
        nginx(port, admin.port, http := free_port())
        options = ("--ca", str(tmp_path / "ca.pem"), "--http-port", str(http))
        result = doctor(base, *options, "--identity", ALICE)
        assert result.exit_code == 0, result.stdout
        assert "No findings." in result.stdout
        assert "/readyz: it is not public (404)" in result.stdout
        assert "http is closed or redirects to https." in result.stdout
        assert_sources_are_right(result)
        assert "do not reveal who has an account, as far as 12 and 12 responses show." in result.stdout
        without_prefix = doctor(base.removesuffix("/auth"), "--ca", str(tmp_path / "ca.pem"))
        assert "not-sparekey" in without_prefix.stdout
        assert doctor(base).exit_code == 1  # without --ca, the authority is unknown
    finally:
        admin.stops()


def test_demo_passes_below_its_rate_limits(tree: Path) -> None:
    """The demo as a process, without configuration."""
    demo = Demo(tree, two_free_ports())
    try:
        demo.wait_for("Ctrl-C stops everything")
        result = run_process([sys.executable, "manage.py", "doctor", demo.base, "--identity", ALICE])
    finally:
        demo.stop()
    assert (result.returncode, result.stderr) == (0, "")
    assert_sources_are_right(result)
    assert re.search(r"passed   The email arrived [\d.]+ seconds after", result.stdout)
    assert "do not reveal who has an account, as far as 12 and 12 responses show" in result.stdout
    assert result.stdout.count("skipped") == 3  # the checks of TLS
    assert re.search(r"\n1 note\. \d+ of at most 500 requests were made\.\n$", result.stdout)


def run_process(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=inherited(), capture_output=True, text=True, timeout=100, check=False
    )


def test_module_and_command_have_the_same_help() -> None:
    result = run_process([sys.executable, "-m", "doctor", "--help"])
    assert (result.returncode, result.stderr) == (0, "")
    usage, _, options = result.stdout.partition("\n")
    assert usage == "Usage: python -m doctor [OPTIONS] URL"
    assert options.split() == doctor("--help").stdout.partition("\n")[2].split()  # wrapped differently


# --- Other servers ------------------------------------------------------------------------


OK = "HTTP/1.1 200 OK\r\n"
OK_JSON = f"{OK}Content-Type: application/json\r\nConnection: close\r\n\r\n"
REDIRECT_TO_SELF = "HTTP/1.1 302 Found\r\nLocation: /openapi.json\r\nContent-Length: 0\r\n\r\n"
ODD_OPENAPI = '{"paths": {"/reset": 1, "/reset/{token}": 1}, "servers": [[]]}'
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NO_HTTP, TOO_SLOW = "does not speak HTTP", "no complete response within 0.4 seconds"
TOO_LONG = "longer than 1,000,000 bytes"
OTHER_SERVERS: dict[str, tuple[Talk, str, str]] = {
    "html": (send(OK_JSON.replace("application/json", "text/html"), "<html>"), "not-sparekey", "text/html"),
    "json list": (send(OK_JSON, "[1]"), "not-sparekey", "200, application/json"),
    "numbers": (send(OK_JSON, '{"paths": 5, "servers": {}}'), "not-sparekey", "200"),
    "odd servers": (send(OK_JSON, ODD_OPENAPI), "not-sparekey", "200"),
    "deep nesting": (send(OK_JSON, '{"a":' + "[" * 100_000), "not-sparekey", "200"),
    "control characters": (send(f"{OK}Content-Type: a\x1b[2Jb\r\n\r\n{{}}"), "not-sparekey", "a�[2Jb"),
    "redirect to itself": (send(REDIRECT_TO_SELF), "redirected", "/openapi.json"),
    "ssh": (send("SSH-2.0-OpenSSH\x00\xff\r\n"), "unreachable", NO_HTTP),
    "1000 headers": (send(OK, "X: y\r\n" * 1000), "unreachable", NO_HTTP),
    "half a response": (send(OK, "Content-Length: 9\r\n\r\n{"), "unreachable", "is incomplete"),
    "bad chunks": (send(OK, "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "unreachable", "response"),
    "closed": (send(""), "unreachable", "closed the connection without a response"),
    "silence": (stay_silent, "unreachable", TOO_SLOW),
    "slow drip": (send_forever(OK.encode() + b"X: ", b"y", pause=0.02), "unreachable", TOO_SLOW),
    "endless continue": (send_forever(b"", CONTINUE * 100), "unreachable", TOO_SLOW),
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


UNUSED_PORT = free_port()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (f"http://127.0.0.1:{UNUSED_PORT}", f"nothing listens on port {UNUSED_PORT} of 127.0.0.1"),
        ("http://nowhere.invalid", "the host nowhere.invalid does not exist in DNS"),
        (f"http://{'x' * 70}.example", "is not a valid host name"),
    ],
    ids=["closed port", "unknown host", "invalid host"],
)
def test_unreachable_address_is_reported(url: str, text: str) -> None:
    result = doctor(url)
    assert result.exit_code == 1
    assert text in " ".join(result.stdout.split())


def test_server_without_tls_is_unreachable_over_https() -> None:
    with raw_server(send("HTTP/1.1 400 Bad Request\r\n\r\n")) as host:
        assert "unreachable" in doctor(f"https://{host}").stdout


@pytest.mark.parametrize(
    "url",
    [
        *("id.example.com", "ftp://id.example.com", "https://", "https://a/?b", "https://u:p@a"),
        *("https://a:99999", "http://a b"),
    ],
)
def test_invalid_address_is_wrong_usage(url: str) -> None:
    assert doctor(url).exit_code == 2


def test_invalid_ca_file_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    assert doctor("https://id.example.com", "--ca", str(tmp_path / "ca.pem")).exit_code == 2


def test_address_is_normalized_as_in_browsers() -> None:
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


# --- Findings and independence ------------------------------------------------------------


def test_ids_shared_with_check_have_the_same_texts() -> None:
    shared = KINDS.keys() & check.KINDS.keys()
    assert len(shared) == 5
    assert all(asdict(KINDS[id]) == asdict(check.KINDS[id]) for id in shared)


def test_every_problem_of_readyz_has_a_text() -> None:
    known = [*readiness.KIND_OF_PROBLEM, *readiness.DESCRIPTION_OF_PROBLEM]
    assert sorted(known) == sorted(health.PROBLEMS)


def test_every_finding_is_documented_and_tested() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", (ROOT / "docs/doctor.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((kind.id, kind.severity) for kind in KINDS.values())
    cases = [*DEFECTS, *DEFECTS_OF_AN_ACCOUNT, *DEFECTS_OVER_TLS]
    tested = (
        {case.partition(":")[0] for case in cases} | {id for _, id, _ in OTHER_SERVERS.values()} | DEMO_NOTES
    )
    tested_by_name = {
        *("certificate-ends-soon", "certificate-refused", "tls-old", "http-open"),
        *("plain-http", "inbox-public", "ready-public", "slow-clients", "source-believed", "source-shared"),
    }
    assert KINDS.keys() - tested == tested_by_name


def test_doctor_imports_itself_and_two_libraries_alone() -> None:
    """No library that reads settings or databases, nor the app, also in functions and for type checking."""
    names = {name for file in house.files(ROOT, "doctor") for _, name in house.imports(ROOT, file)}
    packages = {name.partition(".")[0] for name in names}
    assert packages <= {*sys.stdlib_module_names, "click", "dns", "doctor"}
