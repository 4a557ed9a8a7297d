"""What the tests stand on: a real SMTP server, a site with accounts, and verbs to use it.

A `Site` is one deployment. `site.ask("alice")`, `site.work()`, `site.last_link()` and a `Visitor`'s
`open`, `submit` and `post_json` tell most stories.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO
from urllib.parse import urljoin, urlsplit

import flask_migrate
import httpx
import pytest
import servers
import trustme
import warm
from aiosmtpd.controller import Controller
from flask import Flask
from flask.testing import FlaskClient
from flask_security.utils import hash_password
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from playwright.sync_api import Browser, Page, sync_playwright
from security_table import pytest_addoption as pytest_addoption  # `make security`
from security_table import pytest_terminal_summary as pytest_terminal_summary
from servers import NO_TLS, free_port, wait_until
from sqlalchemy import select, update
from werkzeug.serving import make_server
from werkzeug.test import TestResponse
from werkzeug.wsgi import ClosingIterator

from app import create_app, settings
from app.accounts.models import User
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.mail import worker
from app.mail.outbox import OutboxMessage
from app.recovery.link import ResetLink
from app.settings import schema

ROOT = Path(__file__).resolve().parent.parent
OLD_PASSWORD = "the old password of alice"
NEW_PASSWORD = "a brand new password for alice"
PUBLIC_URL = "http://127.0.0.1:5000"

SECRETS = {
    "FLASK_SECRET_KEY": "zKq4wX1mP8vT0rJ7yB5nD2sG9hL6cF3a",
    "FLASK_SECURITY_PASSWORD_SALT": "uE6oI2aY9tR4wQ1pL8kJ5hG3fD7sZ0xC",
}

# Where alice's three names, and how many others, lead nowhere. All get the same answer.
NOBODYS = {
    "absent address": "nobody@example.com",
    "absent username": "nobody",
    "absent number": "+14155550199",
    "inactive": "inactive@example.com",
    "without password": "sso@example.com",
    "no identity at all": "!!! what is this ???",
}


class CompiledTemplates(BytecodeCache):
    """Each template is compiled once in a run, not once by each app. A changed one has another checksum."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self.kept.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.kept[bucket.key, bucket.checksum] = bucket.code


Flask.jinja_options = {"bytecode_cache": CompiledTemplates()}


def skip_or_fail(reason: str) -> NoReturn:
    """A part that this machine can not run: skipped with a reason, but a failure in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"needed in CI: {reason}")
    pytest.skip(reason)


def inherited() -> dict[str, str]:
    """What a process of ours gets from this one: no settings, only how to run and be measured."""
    return {name: text for name, text in os.environ.items() if name.startswith(("PATH", "COVERAGE"))}


def uncounted() -> dict[str, str]:
    """The same, without being measured: whoever is killed reports nothing, and it makes the start slow."""
    return {name: text for name, text in inherited().items() if not name.startswith("COVERAGE")}


@dataclass
class Mailbox:
    """A real SMTP server on this machine. `refuse` makes it answer with an error instead."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[list[str]] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)  # SMTP command -> reply
    refuse_only: dict[str, str] = field(default_factory=dict)  # recipient -> reply
    delay: dict[str, float] = field(default_factory=dict)  # SMTP command -> seconds before the reply
    arrived: threading.Condition = field(default_factory=threading.Condition)
    raw: list[bytes] = field(default_factory=list)
    connections: int = 0
    hang_up: Callable[[], Any] = lambda: None  # on whoever came last

    async def handle_EHLO(
        self, server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.connections += 1
        self.hang_up = partial(asyncio.get_running_loop().call_soon_threadsafe, server.transport.close)
        session.host_name = hostname
        return responses

    async def handle_RSET(self, _server: Any, _session: Any, _envelope: Any) -> str:
        return self.refuse.get("RSET", "250 OK")

    async def handle_MAIL(
        self, _server: Any, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if "MAIL" in self.refuse:
            return self.refuse["MAIL"]
        envelope.mail_from, envelope.mail_options = address, options
        return "250 OK"

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        await asyncio.sleep(self.delay.get("RCPT", 0))
        if "RCPT" in self.refuse:
            return self.refuse["RCPT"]
        if address in self.refuse_only:
            return self.refuse_only[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        await asyncio.sleep(self.delay.get("DATA", 0))
        if "DATA" in self.refuse:
            return self.refuse["DATA"]
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        with self.arrived:
            self.envelopes.append(envelope.rcpt_tos)
            self.raw.append(envelope.original_content)
            self.mails.append(message)
            self.arrived.notify_all()
        return "250 accepted"

    def wait_for(self, count: int, seconds: float = 20) -> EmailMessage:
        with self.arrived:
            enough = self.arrived.wait_for(lambda: len(self.mails) >= count, seconds)
            assert enough, f"{len(self.mails)} of {count} mails came"
            return self.mails[count - 1]


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def html_of(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content())


def link_in(mail: EmailMessage) -> str:
    found = re.search(r"https?://\S+/reset/\S+", text_of(mail))
    assert found, text_of(mail)
    return found[0]


class Visitor:
    """One browser without JavaScript, or one program: keeps cookies, finds the form's token."""

    def __init__(self, app: Flask) -> None:
        base = urlsplit(app.config["RECOVERY_PUBLIC_URL"])
        self.client: FlaskClient = app.test_client()
        self.base = f"{base.scheme}://{base.netloc}"

    def open(self, url: str, **options: Any) -> TestResponse:
        return self.client.open(url, base_url=self.base, **options)

    def submit(self, page: str, url: str | None = None, **fields: Any) -> TestResponse:
        """Open a page, and post its form."""
        form = self.open(page, follow_redirects=True)
        target = url or re.search(r'<form method="post" action="([^"]+)"', form.text)[1]  # type: ignore[index]
        fields.setdefault("csrf_token", csrf_token(form))
        referer = {"Referer": urljoin(self.base, page)}  # as browsers send it; Flask-WTF asks for it on https
        return self.client.post(target, base_url=self.base, data=fields, headers=referer)

    def post_json(self, url: str, **options: Any) -> TestResponse:
        return self.client.post(url, base_url=self.base, **options)

    def sign_in(self, identity: str = "alice", password: str = OLD_PASSWORD) -> bool:
        self.submit("/login", identity=identity, password=password)
        return self.is_signed_in()

    def is_signed_in(self) -> bool:
        return self.open("/change").status_code == 200

    def set_password(self, link: str, password: str = NEW_PASSWORD, again: str | None = None) -> TestResponse:
        return self.submit(link, password=password, password_confirm=password if again is None else again)


def csrf_token(page: TestResponse) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
    return found[1] if found else ""


@dataclass
class Site:
    """One deployment with its database and its mail."""

    app: Flask
    mailbox: Mailbox

    def visitor(self) -> Visitor:
        return Visitor(self.app)

    def ask(self, identity: str = "alice@example.com") -> TestResponse:
        return self.visitor().post_json("/reset", json={"identity": identity})

    def work(self) -> int:
        """Do what the worker would do now."""
        with self.app.app_context():
            return worker.work_until_done()

    def last_link(self) -> str:
        return link_in(self.mailbox.mails[-1])

    def new_link(self, identity: str = "alice@example.com") -> str:
        """Ask, work, and read the mail."""
        before = len(self.mailbox.mails)
        assert self.ask(identity).status_code == 200
        self.work()
        assert len(self.mailbox.mails) == before + 1
        return self.last_link()

    def password_works(self, password: str, identity: str = "alice") -> bool:
        return self.visitor().sign_in(identity, password)

    def change(self, model: Any = User, *which: Any, **values: Any) -> None:
        """Write to the database directly, as a script would."""
        with self.app.app_context():
            which = which or ((User.email == "alice@example.com",) if model is User else ())
            db.session.execute(update(model).where(*which).values(**values))
            db.session.commit()

    def rows(self, model: Any) -> list[dict[str, Any]]:
        with self.app.app_context():
            table = model.__table__
            return [dict(row) for row in db.session.execute(select(table).order_by(table.c.id)).mappings()]

    def messages(self) -> list[dict[str, Any]]:
        return self.rows(OutboxMessage)

    def links(self) -> list[dict[str, Any]]:
        return self.rows(ResetLink)

    def events(self) -> list[str]:
        return [row["kind"] for row in self.rows(RecoveryEvent)]


def load_settings(**overrides: Any) -> schema.Settings:
    return settings.load({**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}, **overrides)


def add_accounts(app: Flask) -> None:
    """Alice and bob can recover; the others can not."""
    datastore = app.extensions["security"].datastore
    for name, number in (("alice", 23), ("bob", 24)):
        datastore.create_user(
            email=f"{name}@example.com",
            username=name,
            us_phone_number=f"+141555501{number}",
            password=hash_password(OLD_PASSWORD),
        )
    datastore.create_user(email="inactive@example.com", password=hash_password(OLD_PASSWORD), active=False)
    datastore.create_user(email="sso@example.com", password=None)
    db.session.commit()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        skip_or_fail("Chromium is not installed (Debian: apt-get install chromium)")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A tab of a browser that was never here, without JavaScript: nothing of ours needs it."""
    with chromium.new_context(ignore_https_errors=True, java_script_enabled=False) as context:
        tab = context.new_page()
        tab.set_default_timeout(15_000)
        yield tab


BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


def fill(uri: str) -> str:
    """Migrate a database and add the accounts: once, since hashing and migrating take time."""
    app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=uri))
    with app.app_context():
        flask_migrate.upgrade()
        add_accounts(app)
        db.engine.dispose()
    return uri


@pytest.fixture(scope="session")
def fresh_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fresh") / "fresh.db"
    fill(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.PostgreSQL]:
    programs = servers.find_postgresql()
    if programs is None:
        skip_or_fail("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    with servers.postgresql(programs) as server:
        yield server


@pytest.fixture(scope="session")
def fresh_postgresql(postgresql: servers.PostgreSQL) -> str:
    return fill(postgresql.create()).rsplit("/", 1)[1]


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes databases with the accounts in them: on SQLite, or on what the test is marked BOTH for."""

    def on_sqlite() -> str:
        path = tmp_path / f"site{len(list(tmp_path.glob('site*.db')))}.db"
        shutil.copy(request.getfixturevalue("fresh_sqlite"), path)
        return f"sqlite:///{path}"

    def on_postgresql() -> str:
        server: servers.PostgreSQL = request.getfixturevalue("postgresql")
        return server.create(request.getfixturevalue("fresh_postgresql"))

    return {"sqlite": on_sqlite, "postgresql": on_postgresql}[getattr(request, "param", "sqlite")]


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox(free_port())
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture
def make_site(database: Callable[[], str], mailbox: Mailbox) -> Iterator[Any]:
    """Builds sites; keyword arguments are settings. All share one mailbox."""
    made: list[Flask] = []

    def make(**overrides: Any) -> Site:
        defaults = {
            "SQLALCHEMY_DATABASE_URI": overrides.get("SQLALCHEMY_DATABASE_URI") or database(),
            "MAIL_SERVER": "127.0.0.1",
            "MAIL_PORT": mailbox.port,
            "MAIL_DEFAULT_SENDER": "no-reply@example.com",
            "RECOVERY_MAIL_COOLDOWN": "0 seconds",
            "RECOVERY_MAIL_DAILY_CAP": 1000,
            "RATELIMIT_ENABLED": False,
        }
        app = create_app(load_settings(**{**defaults, **overrides}))
        made.append(app)
        return Site(app, mailbox)

    yield make
    for app in made:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


@pytest.fixture
def site(make_site: Any) -> Site:
    built: Site = make_site()
    return built


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[servers.Redis]:
    program = servers.find_redis()
    if program is None:
        skip_or_fail("Redis is not installed (Debian: apt-get install redis-server)")
    server = servers.Redis(program, tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    made.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "tls.pem")
    )
    return made


@pytest.fixture
def nginx(authority: trustme.CA, tmp_path: Path) -> Iterator[Callable[[int, int], Path]]:
    """The documented nginx configuration, with this test's ports and certificate in it."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        skip_or_fail("nginx is not installed (Debian: apt-get install nginx-light)")
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int, behind: int) -> Path:
        log = tmp_path / "access.log"
        site = (ROOT / "docs" / "deploy" / "nginx.conf").read_text()
        for documented, ours in {
            "listen 443": f"listen 127.0.0.1:{port}",
            "server_name id.example.com": "server_name localhost",
            "/etc/ssl/certs/id.example.com.pem": str(tmp_path / "tls.pem"),
            "/etc/ssl/private/id.example.com.key": str(tmp_path / "tls.pem"),
            "/var/log/nginx/sparekey.log": str(log),
            "127.0.0.1:8000": f"127.0.0.1:{behind}",
        }.items():
            assert documented in site
            site = site.replace(documented, ours)
        places = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        whole = (
            f"events {{}} pid {tmp_path}/pid; error_log {tmp_path}/error.log; http {{ {places}\n{site}\n}}"
        )
        (tmp_path / "nginx.conf").write_text(whole)
        command = [program, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-g", "daemon off;"]
        running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        with httpx.Client(verify=False) as client:  # noqa: S501  # its certificate is made here
            url = f"https://localhost:{port}/"
            wait_until(lambda: _answers(client, url), running[-1], "nginx")
        return log

    yield start
    for process in running:
        process.terminate()
        process.wait(timeout=20)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code > 0
    except httpx.TransportError:
        return False


def closed_at_once(app: Any) -> Any:
    """Answers whole: Werkzeug's server leaves a static file open when the browser resets the connection."""

    def answer(environ: Any, start_response: Any) -> list[bytes]:
        with closing(ClosingIterator(app(environ, start_response))) as parts:
            return list(parts)

    return answer


@contextmanager
def served(app: Flask, port: int, tls: Any = None) -> Iterator[None]:
    """The app on a real socket, and a worker beside it."""
    server = make_server("127.0.0.1", port, closed_at_once(app), threaded=True, ssl_context=tls)
    stop = threading.Event()

    def work() -> None:
        with app.app_context():
            worker.run(stop)

    threads = [threading.Thread(target=server.serve_forever), threading.Thread(target=work)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()


@contextmanager
def at_work(site: Site, threads: int = 1) -> Iterator[threading.Event]:
    """A worker in a thread; it sends in so many of its own."""
    stop = threading.Event()

    def work() -> None:
        with site.app.app_context():
            worker.run(stop, threads)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(timeout=30)
        assert not thread.is_alive()


def wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


Process = subprocess.Popen[str] | warm.Running


class Admin:
    """Runs the commands that the README promises, in processes of their own: cold ones import everything."""

    def __init__(self, database_uri: str, mail_port: int, is_cold: bool = False, **environ: str) -> None:
        self.is_cold = is_cold
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.running: dict[Process, TextIO] = {}
        self.environ = {
            **inherited(),
            **SECRETS,
            "FLASK_RECOVERY_PUBLIC_URL": self.base,
            "FLASK_SQLALCHEMY_DATABASE_URI": database_uri,
            "FLASK_MAIL_SERVER": "127.0.0.1",
            "FLASK_MAIL_PORT": str(mail_port),
            "FLASK_RATELIMIT_ENABLED": "false",
            "FLASK_RECOVERY_MAIL_COOLDOWN": "0 seconds",
            **environ,
        }

    def types(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of manage.py that ends by itself."""
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
            process = self._starts(("manage.py", *words), said, complained)
            try:
                process.wait(timeout=60)
            finally:
                process.kill()
            said.seek(0)
            complained.seek(0)
            return subprocess.CompletedProcess(words, process.wait(), said.read(), complained.read())

    def starts(self, *words: str) -> Process:
        """A process that stays."""
        # A file, not a pipe: a pipe that nobody reads fills up and stops its writer.
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed when the process is gone
        process = self._starts(words, None, log)
        self.running[process] = log
        return process

    def _starts(self, words: tuple[str, ...], stdout: TextIO | None, stderr: TextIO) -> Process:
        if not self.is_cold and warm.can_start(words, self.environ):
            return warm.start(words, self.environ, stdout, stderr)
        command = [sys.executable, *words]
        return subprocess.Popen(command, cwd=ROOT, env=self.environ, text=True, stdout=stdout, stderr=stderr)

    def ends(self, process: Process) -> str:
        """Ask it to end, and return what it wrote to stderr."""
        log = self.running.pop(process)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        log.seek(0)
        with log:
            return log.read()

    def serves(self, workers: int = 1, threads: int = 4) -> None:
        size = ["--workers", str(workers), "--threads", str(threads)]
        self.starts("-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", *size, "app:create_app()")
        for _ in range(200):
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.base}/healthz", verify=NO_TLS).status_code == 200:
                    return
            time.sleep(0.05)
        pytest.fail("gunicorn did not answer")

    def stops(self) -> str:
        """End all of it, and return what was written to stderr."""
        return "".join(self.ends(process) for process in list(self.running))
