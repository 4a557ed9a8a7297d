"""The promises of docs/operations.md: keys change under load, and a restore revives nothing. The units."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask.testing import FlaskCliRunner
from support import servers, warm
from support.admin import Admin, inherited
from support.commands import run
from support.http_browser import ALONE, HttpBrowser
from support.mailbox import Mailbox, link_in, text_of
from support.recovery import code_of, objection_in
from support.servers import NO_TLS, skip_or_fail
from support.site import BOTH, ROOT, SECRETS, Site, wait_for

import manage
from app.accounts.models import User
from app.db.engine import db

OLD_KEY = SECRETS["FLASK_SECRET_KEY"]
NEW_KEY = "Qm3vX8rT1wY6zA0bN5cK9dL2eJ7fH4gS"
PAUSE_SECONDS = 0.1  # between the requests of one person, so that restarts do not take minutes
WORKER = ("manage.py", "worker")
GUNICORN = ("-m", "gunicorn", "--workers", "1", "--threads", "4", "app:create_app()")
UNITS = ROOT / "docs" / "deploy"


# --- Keys ---


class Machines:
    """Two web servers at one address, and a worker."""

    def __init__(self, uri: str, mail_port: int) -> None:
        self.admin = Admin(uri, mail_port, FLASK_RECOVERY_MAIL_DAILY_CAP="1000")
        self.socket = socket.create_server(("127.0.0.1", self.admin.port), backlog=512)
        self.running: dict[str, warm.Running] = {}

    def restart(self, key: str, *fallbacks: str) -> None:
        """Restart them one by one, with these keys."""
        self.admin.environ |= {"FLASK_SECRET_KEY": key, "FLASK_SECRET_KEY_FALLBACKS": json.dumps(fallbacks)}
        for name in ("one", "two", "worker"):
            if name in self.running:
                self.end(name)
            # gunicorn as systemd starts it behind sparekey-web.socket, which stays open.
            words, listening = (WORKER, None) if name == "worker" else (GUNICORN, self.socket)
            with Path(os.devnull).open("w") as log:
                self.running[name] = warm.start(words, self.admin.environ, None, log, listening=listening)
            if listening:
                self.wait_until_up(self.running[name])

    def wait_until_up(self, process: warm.Running) -> None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_for(lambda: children.read_text(), 20)
        for _ in range(10):  # until either machine has very likely answered
            httpx.get(f"{self.admin.base}/healthz", headers=ALONE, timeout=30, verify=NO_TLS)

    def end(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        assert process.wait(timeout=40) in (0, -signal.SIGTERM)  # the latter while it starts

    def stop(self) -> None:
        self.socket.close()
        for name in list(self.running):
            self.end(name)


@contextmanager
def load(*people: Callable[[], Any]) -> Iterator[list[int]]:
    """Repeat everything that people do, each in a thread. Yields the counts; a failure fails the test."""
    is_over, counts, failures = threading.Event(), [0] * len(people), []

    def act(number: int) -> None:
        while not is_over.wait(PAUSE_SECONDS) and not failures:
            try:
                people[number]()
                counts[number] += 1
            except Exception as error:
                failures.append(f"{people[number].__name__}: {error!r}")

    threads = [threading.Thread(target=act, args=(number,)) for number in range(len(people))]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
        assert not failures, failures


def links_to(mailbox: Mailbox, address: str) -> list[str]:
    mails = zip(list(mailbox.envelopes), list(mailbox.mails), strict=False)
    return [link_in(mail) for to, mail in mails if to == [address] and "/reset/" in text_of(mail)]


@pytest.mark.parametrize("database", os.environ.get("ROTATIONS", "sqlite").split(), indirect=True)
@pytest.mark.requirement("R64")
def test_keys_change_under_load_without_a_failed_request(
    database: Callable[[], str], mailbox: Mailbox, capsys: Any
) -> None:
    uri = database()
    machines = Machines(uri, mailbox.port)
    base = machines.admin.base
    http = httpx.Client(headers=ALONE, timeout=60, verify=NO_TLS)
    try:
        machines.restart(OLD_KEY)
        signed_in, remembered, visitor = HttpBrowser(base), HttpBrowser(base), HttpBrowser(base)
        signed_in.sign_in()
        remembered.sign_in(remember="y")
        open_form = visitor.form("/reset")
        http.post(f"{base}/reset", json={"identity": "alice"})
        link = link_in(mailbox.wait_for(1))
        objection = objection_in(mailbox.mails[0])
        passwords = iter(f"the password number {number}" for number in range(10_000))

        def sign_in() -> None:
            """One machine may make the form, and the other take it."""
            HttpBrowser(base).sign_in()

        def stay_signed_in() -> None:
            assert signed_in.is_signed_in()

        def be_remembered() -> None:
            assert remembered.with_only("sparekey_remember").is_signed_in()

        def submit_an_open_form() -> None:
            answer = visitor.client.post("/reset", data={**open_form, "identity": "nobody"})
            assert answer.status_code == 303, answer.text

        def open_links() -> None:
            answers = [http.get(url, headers={"Accept": "application/json"}) for url in (link, objection)]
            assert [answer.status_code for answer in answers] == [200, 303]

        def recover() -> None:
            before = len(links_to(mailbox, "bob@example.com"))
            assert http.post(f"{base}/reset", json={"identity": "bob"}).status_code == 200
            wait_for(lambda: len(links_to(mailbox, "bob@example.com")) > before, 40)
            link = links_to(mailbox, "bob@example.com")[-1]
            answer = http.post(link, json={"password": next(passwords)})
            assert answer.status_code == 200, answer.text

        people = (sign_in, stay_signed_in, be_remembered, submit_an_open_form, open_links, recover)
        with load(*people) as counts:
            machines.restart(OLD_KEY, NEW_KEY)  # every process knows a key before one uses it
            machines.restart(NEW_KEY, OLD_KEY)
            wait_for(lambda n=counts[-1]: counts[-1] > n, 40)
        assert min(counts) > 2
        with capsys.disabled():
            print(
                f"\n{sum(counts)} requests and recoveries during two changes of keys: none failed ({uri[:6]})"
            )

        new = HttpBrowser(base)
        new.sign_in()
        machines.restart(NEW_KEY)
        assert new.is_signed_in()
        assert not signed_in.is_signed_in()
        assert not remembered.with_only("sparekey_remember").is_signed_in()
        answer = http.get(link, headers={"Accept": "application/json"})
        assert answer.json()["response"]["error_code"] == "link_invalid"
        assert http.post(objection, json={}).status_code == 400
    finally:
        machines.stop()


# --- Restore ---


def back_up(uri: str, target: Path) -> None:
    """Run the command of docs/operations.md while the database is in use."""
    if not uri.startswith("sqlite"):
        subprocess.run([program("pg_dump"), "--format=custom", f"--file={target}", uri], check=True)
        return
    page = (ROOT / "docs" / "operations.md").read_text()
    [command] = [line for line in page.splitlines() if "VACUUM INTO" in line and line.startswith("runuser")]
    for documented, actual in {
        "/opt/sparekey/instance/sparekey.db": uri.removeprefix("sqlite:///"),
        "/var/backups/sparekey/sparekey.db": str(target),
        "runuser -u sparekey -- ": "",
    }.items():
        assert documented in command
        command = command.replace(documented, actual)
    subprocess.run(command, shell=True, check=True)  # noqa: S602  # as it is printed


def restore(uri: str, backup: Path, server: servers.PostgreSQL | None) -> str:
    if server is None:
        path = uri.removeprefix("sqlite:///")
        for end in ("", "-wal", "-shm"):
            Path(path + end).unlink(missing_ok=True)
        shutil.copy(backup, path)
        return uri
    new = server.create("template0")
    subprocess.run([program("pg_restore"), f"--dbname={new}", "--no-owner", str(backup)], check=True)
    return new


def program(name: str, package: str = "postgresql-client") -> str:
    path = shutil.which(name)
    if path is None:
        skip_or_fail(f"{name} is not installed (Debian: apt-get install {package})")
    return path


@BOTH
def test_restore_revives_nothing_that_has_ended(
    database: Callable[[], str], make_site: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    uri, backup = database(), tmp_path / "backup"
    server = request.getfixturevalue("postgresql") if uri.startswith("postgresql") else None
    site: Site = make_site(SQLALCHEMY_DATABASE_URI=uri)
    thief, bob, copy = (site.visitor() for _ in range(3))
    assert thief.sign_in()
    assert bob.sign_in("bob")
    copy.client._cookies.update(bob.client._cookies)
    link = site.new_link()
    site.ask("bob")
    back_up(uri, backup)
    # After the backup, the waiting mail goes out, the link is redeemed, and sessions end.
    site.work()
    assert code_of(site, link, "set before the restore") == "redeemed"
    bob.submit("/", "/logout")
    assert not thief.is_signed_in()
    assert not copy.is_signed_in()
    site.work()
    assert len(site.mailbox.mails) == 3
    with site.app.app_context():
        db.session.remove()
        db.engine.dispose()

    restored: Site = make_site(SQLALCHEMY_DATABASE_URI=restore(uri, backup, server))
    for browser in (thief, copy):
        browser.client.application = restored.app
        assert browser.is_signed_in()  # until the command
    asked = FlaskCliRunner(restored.app).invoke(manage.cli, ["after-restore"], input="n\n")
    assert (asked.exit_code, "signs everyone out" in asked.stdout) == (1, True)
    assert "after-restore" not in run(restored, "events", "--kind", "admin").stdout
    report = " ".join(run(restored, "after-restore", "--yes").stdout.split())
    assert report == "links revoked 1 messages discarded 1 accounts signed out 4"
    run(restored, "db", "upgrade")
    assert code_of(restored, link, "set with an ended link") == "link_revoked"
    assert not thief.is_signed_in()
    assert not copy.is_signed_in()
    assert restored.work() == 0
    assert code_of(restored, restored.new_link(), "set after the restore") == "redeemed"
    assert "after-restore" in run(restored, "events", "--kind", "admin").stdout


# --- Units ---


def test_systemd_accepts_the_units_which_have_the_same_secrets(tmp_path: Path) -> None:
    verifier = program("systemd-analyze", "systemd")
    units = [path for path in UNITS.iterdir() if path.suffix in (".service", ".timer", ".socket")]
    assert len(units) == 5
    for path in units:
        text = path.read_text()
        for documented in ("/opt/sparekey/.venv/bin/gunicorn", "/opt/sparekey/.venv/bin/python"):
            text = text.replace(documented, sys.executable)
        (tmp_path / path.name).write_text(text)
    command = [verifier, "verify", "--recursive-errors=no", *(str(tmp_path / path.name) for path in units)]
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    result = subprocess.run(command, capture_output=True, text=True, env=environ)
    complaints = [line for line in result.stderr.splitlines() if "sparekey" in line]
    assert (result.returncode, complaints) == (0, [])
    lines = [path.read_text().splitlines() for path in UNITS.glob("*.service")]
    secrets = [{line for line in unit if line.startswith(("LoadCred", "Environment"))} for unit in lines]
    assert len(secrets) == 3
    assert secrets[0] == secrets[1] == secrets[2] != set()


def test_admin_script_runs_with_the_settings_of_the_units(tmp_path: Path) -> None:
    """docs/deploy/sparekey, in other folders and without another user."""
    script = (UNITS / "sparekey").read_text()
    for documented, actual in (
        ("/opt/sparekey", str(ROOT)),
        ("/etc/sparekey", str(tmp_path)),
        ("runuser -u sparekey -- .venv/bin/python", sys.executable),
    ):
        assert documented in script
        script = script.replace(documented, actual)
    shutil.copy(ROOT / "config/production.toml", tmp_path / "sparekey.toml")
    names = ("secret-key", "password-salt", "secret-key-fallbacks", "mail-password", "metrics-token")
    for name, content in zip(names, [*SECRETS.values(), "[]", "a password", ""], strict=True):
        (tmp_path / name).write_text(f"{content}\n")
    command = ["sh", "-c", script, "sparekey"]
    result = subprocess.run([*command, "check"], env=inherited(), capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "The configuration is fine." in result.stdout
    (tmp_path / "more-secrets").write_text('FLASK_RECOVERY_SITE_NAME="$(echo Lagoon)"\n')
    shown = subprocess.run([*command, "config", "diff"], env=inherited(), capture_output=True, text=True)
    assert "Lagoon" in shown.stdout


def test_documented_commands_correct_an_address_and_erase_an_account(site: Site) -> None:
    site.new_link("bob")
    site.ask("bob")
    page = (ROOT / "docs/operations.md").read_text()
    typed = "".join(part.partition("END\n")[0] for part in page.split("sparekey shell <<'END'\n")[1:])
    for documented, actual in (('"ana"', '"alice"'), ("#7", "#2")):
        assert documented in typed
        typed = typed.replace(documented, actual)
    FlaskCliRunner(site.app).invoke(manage.cli, ["shell"], input=typed)
    rows = site.rows(User)
    assert ("ana@example.com" in [row["email"] for row in rows], 2 in [row["id"] for row in rows]) == (
        True,
        False,
    )
    site.work()
    assert [mail["To"] for mail in site.mailbox.mails[1:]] == ["alice@example.com"]
