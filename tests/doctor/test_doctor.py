"""`manage.py doctor`: what is well passes, and each defect, planted once, is named and nothing else.

The real app answers; what stands in front of it breaks one thing.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import email
import email.policy
import json
import re
import socket
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
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result
from support.admin import Admin, inherited
from support.mailbox import link_in
from support.servers import free_port, two_free_ports
from support.site import ROOT, Site, load_settings, served, wait_for
from test_demo import Demo
from test_demo import tree as tree  # a fixture
from werkzeug.datastructures import Headers
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import run_wsgi_app

import manage
from app.cli import check, database_checks
from app.pages import health
from doctor import (
    cli,
    connectivity,
    enumeration,
    http_client,
    link_delivery,
    probe_session,
    rank_test,
    readiness,
)
from doctor.findings import Finding
from examples.demo import create_app

ALICE = "alice@example.com"
DOCTOR = ROOT / "doctor"
NOTES = {"inbox-here"}  # what the sound site is told of
TOKEN = re.compile(r"/reset/[\w-]{43}$")


@dataclass
class Said:
    status: int
    headers: Headers
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()


Ask = Callable[[dict[str, Any]], Said]
Defect = Callable[[Ask, dict[str, Any]], Said]


class Front:
    """Stands in front of the app, and breaks what it is told to."""

    def __init__(self, wsgi: Any) -> None:
        self.wsgi = wsgi
        self.defect: Defect = sound

    def ask(self, environ: dict[str, Any]) -> Said:
        parts, status, headers = run_wsgi_app(self.wsgi, environ, buffered=True)
        return Said(int(status.split()[0]), headers, b"".join(parts))

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        said = self.defect(self.ask, environ)
        if "Content-Length" in said.headers and environ["REQUEST_METHOD"] != "HEAD":
            said.headers["Content-Length"] = str(len(said.body))
        start_response(f"{said.status} said", list(said.headers))
        return [said.body]


def sound(ask: Ask, environ: dict[str, Any]) -> Said:
    return ask(environ)


def page(body: str, status: int = 200, type: str = "text/html", **headers: str) -> Said:
    return Said(
        status, Headers({"Content-Type": type, "Cache-Control": "no-store", **headers}), body.encode()
    )


def on(path: str, body: str, status: int = 200, type: str = "text/html", **headers: str) -> Defect:
    """Another answer at one address."""
    return lambda ask, environ: (
        page(body, status, type, **headers) if environ["PATH_INFO"] == path else ask(environ)
    )


def changed(change: Callable[[Said, dict[str, Any]], None]) -> Defect:
    """The app's answer, with a change."""

    def answer(ask: Ask, environ: dict[str, Any]) -> Said:
        asked = dict(environ)
        said = ask(environ)
        change(said, asked)
        return said

    return answer


def header(name: str, value: str | None, at: str = "") -> Defect:
    """A header of each answer (or of those whose address matches) that is another one, or none."""

    def change(said: Said, environ: dict[str, Any]) -> None:
        if re.search(at, environ["PATH_INFO"]):
            said.headers.pop(name, None)
            if value is not None:
                said.headers[name] = value

    return changed(change)


def replaced(name: str, old: str, new: str, at: str = "") -> Defect:
    """A part of a header."""

    def change(said: Said, environ: dict[str, Any]) -> None:
        if re.search(at, environ["PATH_INFO"]):
            values = [value.replace(old, new) for value in said.headers.getlist(name)]
            said.headers.setlist(name, values)

    return changed(change)


def body(old: str, new: str, at: str) -> Defect:
    def change(said: Said, environ: dict[str, Any]) -> None:
        if re.search(at, environ["PATH_INFO"]):
            said.body = re.sub(old, new, said.text).encode()

    return changed(change)


def sent(**environment: str | None) -> Defect:
    """A proxy that hands on something else than it got."""

    def answer(ask: Ask, environ: dict[str, Any]) -> Said:
        for name, value in environment.items():
            if name in environ:
                environ.pop(name)
                environ.update({name: value} if value is not None else {})
        return ask(environ)

    return answer


def origin_echoed(said: Said, environ: dict[str, Any]) -> None:
    if "HTTP_ORIGIN" in environ:
        said.headers["Access-Control-Allow-Origin"] = environ["HTTP_ORIGIN"]


def host_in_redirect(said: Said, environ: dict[str, Any]) -> None:
    if "Location" in said.headers and said.headers["Location"].startswith("/"):
        host = environ.get("HTTP_X_FORWARDED_HOST", environ["HTTP_HOST"])
        said.headers["Location"] = f"http://{host}{said.headers['Location']}"


def host_in_page(said: Said, environ: dict[str, Any]) -> None:
    if said.status == 200 and "html" in said.headers["Content-Type"]:
        host = environ.get("HTTP_X_ORIGINAL_HOST", "127.0.0.1")
        said.body += f"<!-- {host} -->".encode()


def prefix_believed(said: Said, environ: dict[str, Any]) -> None:
    if said.headers.get("Location", "").startswith("/"):
        said.headers["Location"] = environ.get("HTTP_X_FORWARDED_PREFIX", "") + said.headers["Location"]


def next_followed(ask: Ask, environ: dict[str, Any]) -> Said:
    found = re.search(r"next=(https?(?::|%3A)[^&]*)", environ["QUERY_STRING"])
    if environ["PATH_INFO"] == "/login" and found:
        return page("", 302, Location=found[1].replace("%3A", ":").replace("%2F", "/"))
    return ask(environ)


def next_linked(ask: Ask, environ: dict[str, Any]) -> Said:
    said = ask(environ)
    if environ["PATH_INFO"] == "/login" and "%5C%5Cdoctor" in environ["QUERY_STRING"]:
        said.body += b'<a href="\\\\doctor.invalid/x">on</a>'
    return said


def path_followed(ask: Ask, environ: dict[str, Any]) -> Said:
    """As some servers redirect to the path with a slash added or taken away."""
    if environ["PATH_INFO"].startswith("/\\"):
        return page("", 301, Location=f"{environ['PATH_INFO']}/")
    return ask(environ)


def form_without_token(ask: Ask, environ: dict[str, Any]) -> Said:
    said = ask(environ)
    if said.status == 400 and b"csrf_failed" in said.body:
        said.status, said.headers["Location"] = 303, "/check-mail"
    return said


def text_as_json(ask: Ask, environ: dict[str, Any]) -> Said:
    if environ.get("CONTENT_TYPE") == "text/plain":
        environ["CONTENT_TYPE"] = "application/json"
    return ask(environ)


def any_name(ask: Ask, environ: dict[str, Any]) -> Said:
    environ["HTTP_HOST"] = f"127.0.0.1:{environ['SERVER_PORT']}"
    return ask(environ)


def traced(ask: Ask, environ: dict[str, Any]) -> Said:
    return (
        page("TRACE / HTTP/1.1", type="message/http")
        if environ["REQUEST_METHOD"] == "TRACE"
        else ask(environ)
    )


def close(environ: dict[str, Any]) -> None:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def cut_short(ask: Ask, environ: dict[str, Any]) -> Said:
    if environ["PATH_INFO"] == "/check-mail":
        close(environ)
    return ask(environ)


def ready(*problems: str) -> Defect:
    return on("/readyz", json.dumps({"problems": problems}), 503, "application/json")


# What can be seen without an account: the finding, and how to plant it.
DEFECTS: list[tuple[str, str, Defect]] = [
    ("csp-missing", "none", header("Content-Security-Policy", None)),
    ("csp-missing", "reported only", replaced("Content-Security-Policy", "default", "", at="^/login$")),
    ("csp-weak", "inline", replaced("Content-Security-Policy", "style-src", "style-src 'unsafe-inline'")),
    ("csp-weak", "frames", replaced("Content-Security-Policy", "frame-ancestors 'none'", "", at="^/login$")),
    ("csp-weak", "any host", replaced("Content-Security-Policy", "default-src 'none'", "default-src https:")),
    ("csp-nonce-repeats", "on each page", header("Content-Security-Policy", "")),
    ("nosniff-missing", "on files", header("X-Content-Type-Options", None, at="^/static")),
    ("referrer-policy", "all of it", header("Referrer-Policy", "unsafe-url")),
    ("cacheable", "kept", header("Cache-Control", "public, max-age=60", at="^/reset$")),
    ("opener-policy", "none", header("Cross-Origin-Opener-Policy", None)),
    ("resource-policy", "none", header("Cross-Origin-Resource-Policy", "cross-origin")),
    ("permissions-policy", "none", header("Permissions-Policy", None)),
    ("version-told", "nginx", header("Server", "nginx/1.25.3")),
    ("version-told", "php", header("X-Powered-By", "PHP")),
    ("cors-open", "any", header("Access-Control-Allow-Origin", "*")),
    ("cors-open", "echoed", changed(origin_echoed)),
    ("cookie-missing", "dropped", header("Set-Cookie", None)),
    ("cookie-readable", "script", replaced("Set-Cookie", " HttpOnly;", "")),
    ("cookie-cross-site", "none", replaced("Set-Cookie", "SameSite=Lax", "SameSite=None")),
    ("cookie-shared", "domain", replaced("Set-Cookie", "Path=/", "Path=/; Domain=example.com")),
    ("host-believed", "redirect", changed(host_in_redirect)),
    ("host-believed", "page", changed(host_in_page)),
    ("host-believed", "prefix", changed(prefix_believed)),
    ("host-any", "front door", any_name),
    ("open-redirect", "next", next_followed),
    ("open-redirect", "backslashes", next_linked),
    ("open-redirect", "path", path_followed),
    ("debug-shown", "console", on("/console", "<h1>Werkzeug Debugger</h1>")),
    (
        "debug-shown",
        "traceback",
        body("There is nothing here", "Traceback (most recent call last)", at="doctor"),
    ),
    ("trace-answered", "echo", traced),
    ("metrics-public", "numbers", on("/metrics", "mails_total 3", type="text/plain")),
    ("file-served", "env", on("/.env", "SECRET_KEY=abc\n", type="text/plain")),
    ("file-served", "git", on("/.git/config", "[core]\n\tbare = false\n", type="text/plain")),
    ("file-served", "listing", on("/instance/", "<h1>Index of /instance/</h1>")),
    ("csrf-open", "form", form_without_token),
    ("csrf-open", "text", text_as_json),
    ("origin-open", "origin lost", sent(HTTP_ORIGIN=None)),
    ("page-fails", "500", on("/check-mail", "oh", 500)),
    ("no-answer", "closed", cut_short),
    ("not-alive", "503", on("/healthz", "oh", 503)),
    ("not-ready", "no reason", on("/readyz", "oh", 503)),
    ("not-ready", "database", ready(health.NO_DATABASE)),
    ("not-ready", "held", ready(health.MAIL_HELD)),
    ("not-ready", "news", ready("something new")),
    *(
        (kind.id, problem, ready(problem))
        for problem, kind in database_checks.KIND_OF_PROBLEM.items()
        if problem not in (health.NO_DATABASE, health.MAIL_HELD)
    ),
    ("redirected", "moved", on("/openapi.json", "", 301, Location="https://id.example.com/openapi.json")),
    ("not-sparekey", "404", on("/openapi.json", "nothing", 404)),
    (
        "address-differs",
        "servers",
        body(r'"url":"[^"]+"', '"url":"https://other.example"', at="^/openapi.json$"),
    ),
    ("host-lost", "its own", sent(HTTP_HOST="127.0.0.1.example")),
]


@dataclass
class Place:
    """A deployment of its own, with an inbox; `breaks` plants a defect."""

    site: Site
    front: Front
    url: str
    options: list[str] = field(default_factory=list)

    def doctor(self, *words: str, **options: Any) -> Result:
        return doctor(self.url, *self.options, *words, **options)

    def found(self, *words: str, **options: Any) -> set[str]:
        """The ids of what is found, besides what is no defect."""
        return {finding["id"] for finding in self.findings(*words, **options)} - NOTES

    def findings(self, *words: str, **options: Any) -> list[dict[str, str]]:
        report = self.doctor("--format", "json", *words, **options).stdout
        found: list[dict[str, str]] = json.loads(report)["findings"]
        return found

    @contextlib.contextmanager
    def breaks(self, defect: Defect) -> Iterator[None]:
        self.front.defect = defect
        try:
            yield
        finally:
            self.front.defect = sound

    def is_idle(self) -> bool:
        return all(message["state"] != "waiting" for message in self.site.messages())

    @property
    def inbox(self) -> Path:
        return Path(self.site.app.instance_path) / "inbox"


def doctor(*words: str, **options: Any) -> Result:
    return CliRunner().invoke(manage.cli, ["doctor", *words], catch_exceptions=False, **options)


@contextlib.contextmanager
def placed(fresh: Path, folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[Place]:
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
    }
    app = create_app(load_settings(**overrides))
    app.instance_path = str(folder)
    front = Front(app.wsgi_app)
    app.wsgi_app = front  # type: ignore[method-assign]  # Flask's seam
    with served(app, port, tls):
        yield Place(Site(app, None), front, url)  # type: ignore[arg-type]  # its mail goes to the inbox


@pytest.fixture(scope="module", autouse=True)
def a_server_that_tells_nothing() -> Iterator[None]:
    """Werkzeug's own tells its version, and writes a line for each request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WSGIRequestHandler, "version_string", lambda _: "front")
        patch.setattr(WSGIRequestHandler, "log_request", lambda *_: None)
        patch.setattr(WSGIRequestHandler, "protocol_version", "HTTP/1.1")  # connections are kept
        patch.setattr(WSGIRequestHandler, "disable_nagle_algorithm", True)  # or each answer waits 40 ms
        yield


@pytest.fixture(scope="module")
def place(fresh_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with placed(fresh_sqlite, tmp_path_factory.mktemp("place")) as made:
        yield made


@pytest.mark.parametrize(("id", "how", "defect"), DEFECTS, ids=[f"{id}: {how}" for id, how, _ in DEFECTS])
def test_each_defect_is_named_and_no_other(place: Place, id: str, how: str, defect: Defect) -> None:
    if id == "csp-nonce-repeats":
        defect = header("Content-Security-Policy", STRICT.format(nonce="A" * 22))
    if how == "reported only":
        defect = reported_only
    with place.breaks(defect):
        assert place.found() == {id}


STRICT = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; script-src 'nonce-{nonce}'"


def reported_only(ask: Ask, environ: dict[str, Any]) -> Said:
    said = ask(environ)
    said.headers["Content-Security-Policy-Report-Only"] = said.headers.pop("Content-Security-Policy")
    return said


def of_known(change: Callable[[Said], None], type: str = "json") -> Defect:
    """What somebody does who answers alice apart."""

    def answer(ask: Ask, environ: dict[str, Any]) -> Said:
        is_known = False
        if environ["REQUEST_METHOD"] == "POST" and type in environ.get("CONTENT_TYPE", ""):
            typed = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            is_known = b"alice" in typed
            environ["wsgi.input"] = BytesIO(typed)
        said = ask(environ)
        if is_known:
            change(said)
        return said

    return answer


def told(said: Said) -> None:
    said.body = said.body.replace(b'"response":{}', b'"response":{"sent":true}')


def marked(said: Said) -> None:
    said.headers["X-Queue"] = "reset"


def led_elsewhere(said: Said) -> None:
    said.headers["Location"] = "/check-mail?sent=1"


def slow(said: Said) -> None:
    time.sleep(0.1)  # more than a busy machine takes


def swallowed(ask: Ask, environ: dict[str, Any]) -> Said:
    is_json = environ["PATH_INFO"] == "/reset" and environ.get("CONTENT_TYPE") == "application/json"
    if is_json and environ["CONTENT_LENGTH"] != "2" and "HTTP_ORIGIN" not in environ:
        return page('{"meta":{"code":200},"response":{}}', type="application/json")
    return ask(environ)


def works_once() -> Defect:
    """Opening counts as using."""
    opened: set[str] = set()

    def answer(ask: Ask, environ: dict[str, Any]) -> Said:
        if TOKEN.search(environ["PATH_INFO"]):
            if environ["PATH_INFO"] in opened:
                return page("used", 400, **{"Referrer-Policy": "no-referrer"})
            opened.add(environ["PATH_INFO"])
        return ask(environ)

    return answer


def form_at_once(ask: Ask, environ: dict[str, Any]) -> Said:
    if TOKEN.search(environ["PATH_INFO"]) and environ["REQUEST_METHOD"] == "GET":
        return page("password_confirm", **{"Referrer-Policy": "no-referrer"})
    return ask(environ)


HANDLE, HTML, TEXT = "/reset/~", "/html$", r"/inbox/\d+$"
MAILED: list[tuple[str, str, Defect]] = [
    ("told-by-answer", "body", of_known(told)),
    ("told-by-answer", "header", of_known(marked)),
    ("told-by-answer", "form", of_known(led_elsewhere, "form")),
    ("told-by-time", "slow", of_known(slow)),
    ("mail-not-there", "swallowed", swallowed),
    ("link-elsewhere", "host", body(r"http://[\d.:]+/reset/", "https://evil.example/reset/", at="^/inbox/")),
    ("link-elsewhere", "objection", body(r"http://[\d.:]+/not-me/", "https://evil.example/not-me/", at=TEXT)),
    ("mail-without-link", "HTML", body("/reset/", "/other/", at=HTML)),
    ("mail-link-repeated", "text", body(r"(?s)<pre([^>]*)>(.*)</pre>", r"<pre\1>\2 \2</pre>", at=TEXT)),
    ("link-broken", "404", header("Set-Cookie", None, at=TOKEN.pattern)),
    ("link-spent-by-opening", "HEAD", works_once()),
    ("link-stays", "form", form_at_once),
    ("link-referrer", "same-origin", header("Referrer-Policy", "same-origin", at=TOKEN.pattern)),
    (
        "csp-nonce-repeats",
        "in the form",
        header("Content-Security-Policy", STRICT.format(nonce="B" * 22), at=HANDLE),
    ),
    ("csp-weak", "in the form", replaced("Content-Security-Policy", "'none'", "*", at=HANDLE)),
]


@pytest.mark.parametrize(("id", "how", "defect"), MAILED, ids=[f"{id}: {how}" for id, how, _ in MAILED])
def test_each_defect_of_the_mail_and_of_answers_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch, id: str, how: str, defect: Defect
) -> None:
    monkeypatch.setattr(link_delivery, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(probe_session, "POSTS_A_MINUTE", 1000)  # this site has no limits
    wait_for(place.is_idle)
    for mail in place.inbox.glob("*.eml"):
        mail.unlink()
    if id == "mail-not-there":
        monkeypatch.setattr(link_delivery, "MAIL_SECONDS", 0.3)
    with place.breaks(defect):
        assert place.found("--identity", ALICE) == {id}
    wait_for(place.is_idle)


def test_what_is_sound_passes(place: Place) -> None:
    ended = place.doctor()
    assert ended.exit_code == 0
    assert "1 note. " in ended.stdout
    assert "error" not in ended.stdout
    assert "skipped  the delivery of a link by email: name an account of yours" in ended.stdout


def test_only_an_inbox_on_this_machine_is_a_demo(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_session.Visit, "is_here", False)
    assert place.found() == {"plain-http", "inbox-public", "ready-public"}
    assert place.doctor().exit_code == 1


def test_a_report_says_where_and_what_to_do(place: Place) -> None:
    with place.breaks(header("Content-Security-Policy", None, at="^/login$")):
        ended, lenient = place.doctor(), place.doctor("--fail-level", "error", "--format", "json")
    assert (ended.exit_code, lenient.exit_code) == (1, 1)
    assert "error  csp-missing  /login, POST /login\n" in ended.stdout
    assert "→ Sparekey sends it" in ended.stdout
    report = json.loads(lenient.stdout)
    assert {finding["severity"] for finding in report["findings"]} == {"error", "info"}
    assert 50 < report["requests"] < http_client.REQUESTS_MAX
    with place.breaks(header("Cross-Origin-Opener-Policy", None)):
        assert [place.doctor("--fail-level", level).exit_code for level in ("error", "warning")] == [0, 1]


def test_when_the_limits_refuse_it_stops_and_says_how_far_it_came(place: Place) -> None:
    count = 0

    def limited(ask: Ask, environ: dict[str, Any]) -> Said:
        nonlocal count
        if environ["PATH_INFO"] == "/reset" and environ.get("CONTENT_TYPE") == "application/json":
            count += "HTTP_ORIGIN" not in environ
            if count > 10:  # the refusal, the mail, and 8 more
                return page("{}", 429, "application/json", **{"Retry-After": "33"})
        return ask(environ)

    wait_for(place.is_idle)
    with place.breaks(limited):
        ended = place.doctor("--identity", ALICE)
    assert ended.exit_code == 0
    assert (
        "only 8 answers arrived, and 16 are needed: the limits refused more; try again in 33" in ended.stdout
    )


def test_a_pasted_link_is_looked_at(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_delivery, "is_a_terminal", lambda: True)
    wait_for(place.is_idle)
    before = set(place.inbox.glob("*.eml"))
    place.site.ask("bob")
    wait_for(lambda: set(place.inbox.glob("*.eml")) - before)
    [mail] = set(place.inbox.glob("*.eml")) - before
    message = email.message_from_bytes(mail.read_bytes(), policy=email.policy.default)
    link = link_in(message)

    def hidden(ask: Ask, environ: dict[str, Any]) -> Said:
        return page("", 404) if environ["PATH_INFO"] == "/inbox/" else swallowed(ask, environ)

    words = ("--identity", "bob")
    with place.breaks(hidden):
        assert place.found(*words, input=f" {link} \n") == set()
        assert place.found(*words, input="https://evil.example/reset/" + "x" * 43 + "\n") == {
            "link-elsewhere"
        }
        assert place.found(*words, input=f"{link[:-4]}xxxx\n") == {"link-broken"}
        assert "no link was pasted" in place.doctor(*words, input="\n").stdout
        monkeypatch.undo()
        assert "there is no terminal to paste the link into" in place.doctor(*words).stdout
    assert not any(one["redeemed_at"] for one in place.site.links())


def test_a_telephone_number_is_compared_with_nobodys(place: Place) -> None:
    wait_for(place.is_idle)
    said = place.doctor("--identity", "+14155550124").stdout
    assert "a made-up phone number may belong to a user" in said
    assert probe_session.made_up("bob@example.com").endswith("@example.com")
    assert re.fullmatch("[a-z]{12}", probe_session.made_up("bob"))


# --- over TLS -----------------------------------------------------------------------------


@dataclass
class Secured(Place):
    authority: trustme.CA = field(default_factory=trustme.CA)
    context: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    def shows(self, certificate: trustme.LeafCert) -> None:
        certificate.configure_cert(self.context)


@pytest.fixture(scope="module")
def plain() -> Iterator[Any]:
    """What answers on the port for http."""

    class Plain:
        port = free_port()
        answer: Said

        def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response(f"{self.answer.status} said", list(self.answer.headers))
            return [self.answer.body]

    app = Plain()
    server = make_server("127.0.0.1", app.port, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield app
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def secured(fresh_sqlite: Path, tmp_path_factory: pytest.TempPathFactory, plain: Any) -> Iterator[Secured]:
    folder, authority = tmp_path_factory.mktemp("secured"), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    with placed(fresh_sqlite, folder, context) as made:
        options = ["--ca", str(folder / "ca.pem"), "--http-port", str(plain.port)]
        yield Secured(made.site, made.front, made.url, options, authority, context)


@pytest.fixture
def sound_tls(secured: Secured, plain: Any) -> Secured:
    secured.shows(secured.authority.issue_cert("localhost"))
    plain.answer = page("", 301, Location=f"{secured.url}/login")
    return secured


def test_what_is_sound_over_tls_passes(sound_tls: Secured) -> None:
    ended = sound_tls.doctor()
    assert ended.exit_code == 0, ended.stdout
    for line in ("The certificate is valid", "TLS 1.0 and 1.1 are refused", "http is closed, or redirects"):
        assert f"passed   {line}" in ended.stdout


@pytest.mark.parametrize(
    ("id", "defect"),
    [
        ("hsts-missing", header("Strict-Transport-Security", "max-age=300")),
        ("cookie-insecure", replaced("Set-Cookie", "Secure; ", "")),
        ("cookie-shared", replaced("Set-Cookie", "__Host-", "")),
        ("scheme-lost", on("/openapi.json", "", 400)),
    ],
)
def test_each_defect_of_what_came_over_tls_is_named(sound_tls: Secured, id: str, defect: Defect) -> None:
    if id == "scheme-lost":
        words = f"This service is reached at {sound_tls.url}, and not by http (X-Forwarded-Proto)."
        defect = on("/openapi.json", words, 400)
    with sound_tls.breaks(defect):
        assert sound_tls.found() == {id}


def in_days(number: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=number)


@pytest.mark.parametrize(
    ("id", "names", "ends", "said"),
    [
        ("certificate-ends-soon", "localhost", 5, "expires in 5 days"),
        ("certificate-refused", "localhost", -1, "certificate has expired"),
        ("certificate-refused", "other.example", 90, "Hostname mismatch"),
        ("certificate-refused", "stranger", 90, "unable to get local issuer"),
    ],
)
def test_each_defect_of_a_certificate_is_named(
    sound_tls: Secured, id: str, names: str, ends: int, said: str
) -> None:
    authority = trustme.CA() if names == "stranger" else sound_tls.authority
    name = "localhost" if names == "stranger" else names
    sound_tls.shows(authority.issue_cert(name, not_before=in_days(-9), not_after=in_days(ends)))
    [finding] = [one for one in sound_tls.findings() if one["id"] not in NOTES]
    assert finding["id"] == id
    assert said in finding["what"]


def test_old_tls_is_named(sound_tls: Secured) -> None:
    context = sound_tls.context
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
        assert sound_tls.found() == {"tls-old"}
    finally:
        context.set_ciphers("DEFAULT")
        context.minimum_version = ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("answer", "is_well"),
    [
        (page("the form"), False),
        (page("", 302, Location="http://localhost/login"), False),
        (page("", 302, Location="https://other.example/login"), False),
        (page("", 403), False),
        (page("", 308, Location="https://localhost/login"), True),
        (None, True),
    ],
)
def test_http_leads_to_https_or_is_closed(
    sound_tls: Secured, plain: Any, answer: Said | None, is_well: bool
) -> None:
    port = plain.port
    if answer is None:
        port = free_port()
    else:
        plain.answer = answer
    with contextlib.closing(http_client.Wire(sound_tls.url, sound_tls.options[1])) as way:
        found = list(connectivity.of_http(probe_session.Visit(way, http_port=port)))
    assert [finding.id for finding in found if isinstance(finding, Finding)] == (
        [] if is_well else ["http-open"]
    )


def test_as_an_operator_runs_it_it_passes(
    database: Callable[[], str], nginx: Any, authority: trustme.CA, tmp_path: Path
) -> None:
    """gunicorn, a worker, and the documented nginx with a prefix."""
    port = free_port()
    base = f"https://localhost:{port}/auth"
    admin = Admin(database(), free_port(), FLASK_RECOVERY_PUBLIC_URL=base, FLASK_RECOVERY_TRUSTED_PROXIES="1")
    try:
        admin.serves()
        nginx(port, admin.port)
        ended = doctor(base, "--ca", str(tmp_path / "ca.pem"), "--identity", ALICE)
        assert ended.exit_code == 0, ended.stdout
        assert "No findings." in ended.stdout
        assert "/readyz: it is not public (404)" in ended.stdout
        assert (
            "Response times do not reveal who has an account, as far as 12 and 12 answers show."
            in ended.stdout
        )
        lost = doctor(base.removesuffix("/auth"), "--ca", str(tmp_path / "ca.pem"))
        assert "not-sparekey" in lost.stdout
        assert doctor(base).exit_code == 1  # nobody knows its authority
    finally:
        admin.stops()


# --- the demo -----------------------------------------------------------------------------


def test_the_demo_passes(tree: Path) -> None:
    """In a process of its own, without any configuration, and below the limits that are on."""
    demo = Demo(tree, two_free_ports())
    try:
        demo.wait_for("Ctrl-C stops everything")
        command = [sys.executable, "manage.py", "doctor", demo.base, "--identity", ALICE]
        ended = subprocess.run(
            command, cwd=ROOT, env=inherited(), capture_output=True, text=True, timeout=100
        )
    finally:
        demo.stop()
    assert (ended.returncode, ended.stderr) == (0, "")
    said = ended.stdout
    passed = [check.passed for check in cli.CHECKS if f"passed   {check.passed}\n" in said]
    assert len(passed) == 15
    assert re.search(r"passed   The email arrived [\d.]+ seconds after", said)
    assert "Response times do not reveal who has an account, as far as 12 and 12 answers show" in said
    assert said.count("skipped") == 3  # of TLS
    assert re.search(r"\n1 note\. \d+ of at most 400 requests were made\.\n$", said)


# --- what is no Sparekey ------------------------------------------------------------------


@contextlib.contextmanager
def answering(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads a request, and then does what it likes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(2)
                        connection.recv(65_536)
                        talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def says(*parts: str) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall("".join(parts).encode("latin-1"))


def drips(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"y")
        time.sleep(0.02)


def continues(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def never_ends(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"y" * 100_000)


def is_silent(connection: socket.socket) -> None:
    connection.recv(1)


OK = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
SELF = "HTTP/1.1 302 Found\r\nLocation: /openapi.json\r\nContent-Length: 0\r\n\r\n"
STRANGERS: list[tuple[str, Callable[[socket.socket], None], str, str]] = [
    ("a web page", says(OK.replace("application/json", "text/html"), "<html>"), "not-sparekey", "text/html"),
    ("a list", says(OK, "[1]"), "not-sparekey", "200, application/json"),
    ("numbers", says(OK, '{"paths": 5, "servers": {}}'), "not-sparekey", "200"),
    (
        "an odd server",
        says(OK, '{"paths": {"/reset": 1, "/reset/{token}": 1}, "servers": [[]]}'),
        "not-sparekey",
        "200",
    ),
    ("a deep nest", says(OK, '{"a":' + "[" * 100_000), "not-sparekey", "200"),
    ("a redirect to itself", says(SELF), "redirected", "/openapi.json"),
    ("another protocol", says("SSH-2.0-OpenSSH\x00\xff\r\n"), "unreachable", "does not speak HTTP"),
    (
        "a thousand headers",
        says("HTTP/1.1 200 OK\r\n", "X: y\r\n" * 1000),
        "unreachable",
        "does not speak HTTP",
    ),
    ("half an answer", says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), "unreachable", "ended before"),
    (
        "bad chunks",
        says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "unreachable",
        "answer",
    ),
    ("nothing said", says(""), "unreachable", "closed without an answer"),
    ("silence", is_silent, "unreachable", "no complete answer within 0.4 seconds"),
    ("drops", drips, "unreachable", "no complete answer within 0.4 seconds"),
    ("go on, go on", continues, "unreachable", "no complete answer within 0.4 seconds"),
    ("no end", never_ends, "unreachable", "longer than 1,000,000 bytes"),
    (
        "a terminal's commands",
        says(OK.replace("application/json", "a\x1b[2Jb"), "{}"),
        "not-sparekey",
        "a�[2Jb",
    ),
]


@pytest.mark.parametrize(
    ("talk", "id", "said"), [row[1:] for row in STRANGERS], ids=[row[0] for row in STRANGERS]
)
def test_what_is_no_sparekey_is_said_in_clear_words(
    talk: Callable[[socket.socket], None], id: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "SECONDS", 0.4)
    with answering(talk) as host:
        ended = doctor(f"http://{host}")
    assert ended.exit_code == 1
    assert f"error  {id}" in ended.stdout
    assert said in " ".join(ended.stdout.split())
    assert ended.stdout.endswith("Correct this first. Nothing else was checked.\n")


def test_where_nothing_is_that_is_said() -> None:
    port = free_port()
    for url, said in {
        f"http://127.0.0.1:{port}": f"port {port} of 127.0.0.1 is closed",
        "http://nowhere.invalid": "DNS has no nowhere.invalid",
        f"http://{'x' * 70}.example": "is not a host name",
    }.items():
        ended = doctor(url)
        assert ended.exit_code == 1
        assert said in " ".join(ended.stdout.split())
    with answering(says("HTTP/1.1 400 Bad Request\r\n\r\n")) as host:
        assert "unreachable" in doctor(f"https://{host}").stdout  # it speaks no TLS


def test_a_deployment_that_dies_meanwhile_is_not_waited_for(place: Place) -> None:
    def dies(ask: Ask, environ: dict[str, Any]) -> Said:
        if environ["PATH_INFO"] != "/openapi.json":
            close(environ)
        return ask(environ)

    with place.breaks(dies):
        report = json.loads(place.doctor("--format", "json").stdout)
    assert {finding["id"] for finding in report["findings"]} == {"no-answer"}
    assert report["requests"] <= 1 + http_client.FAILURES_MAX + 2


@pytest.mark.parametrize(
    "url",
    [
        "id.example.com",
        "ftp://id.example.com",
        "https://",
        "https://a/?b",
        "https://u:p@a",
        "https://a:99999",
        "http://a b",
    ],
)
def test_an_address_that_is_none_is_wrong_usage(url: str, tmp_path: Path) -> None:
    assert doctor(url).exit_code == 2
    (tmp_path / "ca.pem").write_text("no certificate")
    assert doctor("https://id.example.com", "--ca", str(tmp_path / "ca.pem")).exit_code == 2


def test_addresses_are_read_as_browsers_read_them() -> None:
    assert http_client.Wire("HTTPS://Bücher.example:443/auth/").url == "https://xn--bcher-kva.example/auth"
    assert http_client.Wire("http://[::1]:80").url == "http://[::1]"


# --- is it chance? ------------------------------------------------------------------------


def test_chance_is_seldom_told_and_a_difference_seldom_missed() -> None:
    rng = Random(1)

    def told(shift: float, visits: int) -> int:
        samples = ([rng.gauss(0, 1) for _ in range(12)] for _ in range(2 * visits))
        return sum(rank_test.is_told(one, [took + shift for took in next(samples)]) for one in samples)

    assert told(0, 3000) <= 9  # 3 are to be expected
    assert rank_test.seen_from(12, 12) == 0.97
    assert (
        told(2.66, 300) >= 270
    )  # the shift that gives this AUC; each of two looks sees it nine times in ten


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (enumeration.Round([1.0] * 12, [2.0] * 12), "Response times do not reveal"),  # the other way round
        (enumeration.Round([1.0, 2.0] * 6, [1.0, 2.0] * 6), "Response times do not reveal"),
        (
            enumeration.Round([], [], "the limits refused more"),
            "they seem to differ, but could not be measured again",
        ),
        (
            enumeration.Round([9.0] * 12, [2.0] * 12),
            "in 100% of all pairs the known one takes longer (medians 9.0",
        ),
    ],
)
def test_nobody_is_accused_for_what_is_seen_once(second: enumeration.Round, said: str) -> None:
    first = enumeration.Round([9.0] * 12, [2.0] * 12)
    assert first.tells()
    [result] = enumeration._of_times(first, second)
    assert said in " ".join(map(str, vars(result).values()))


def test_no_id_means_one_thing_to_the_doctor_and_another_to_check() -> None:
    mine, others = {kind.id: kind for kind in cli.KINDS}, check.KINDS
    shared = mine.keys() & others.keys()
    assert len(shared) == 4
    assert all(asdict(mine[id]) == asdict(others[id]) for id in shared)


def test_the_doctor_knows_every_problem_that_readyz_names() -> None:
    known = [*readiness.KIND_OF_PROBLEM, *readiness.DESCRIPTION_OF_PROBLEM]
    assert sorted(known) == sorted(health.PROBLEMS)


# --- independence from the app ------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(DOCTOR.rglob("*.py")), ids=lambda path: path.stem)
def test_no_file_of_the_doctor_imports_the_app(path: Path) -> None:
    """Not within functions or for type checking either; nor what reads settings or a database."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"line {node.lineno} leaves the package"
            imported.add(node.module or "" if node.level == 0 else "doctor")
    packages = {name.partition(".")[0] for name in imported}
    assert packages <= {*sys.stdlib_module_names, "click", "dns", "doctor"}


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "doctor", "--help"]
    ended = subprocess.run(command, cwd=ROOT, env=inherited(), capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    usage, _, options = ended.stdout.partition("\n")
    assert usage == "Usage: python -m doctor [OPTIONS] URL"
    assert options.split() == doctor("--help").stdout.partition("\n")[2].split()  # however it is wrapped


def test_every_finding_of_the_doctor_stands_in_the_docs_and_is_planted() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", (ROOT / "docs/doctor.md").read_text(), re.MULTILINE)
    kinds = {kind.id: kind.severity for kind in cli.KINDS}
    assert len(kinds) == len(cli.KINDS)
    assert sorted(rows) == sorted(kinds.items())
    planted = {id for id, *_ in (*DEFECTS, *MAILED)} | {row[2] for row in STRANGERS} | NOTES
    of_tls = {
        "hsts-missing",
        "cookie-insecure",
        "scheme-lost",
        "certificate-ends-soon",
        "certificate-refused",
    }
    assert kinds.keys() - planted - of_tls == {
        "tls-old",
        "http-open",
        "plain-http",
        "inbox-public",
        "ready-public",
    }
