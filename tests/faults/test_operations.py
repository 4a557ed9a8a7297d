"""What docs/operations.md promises: keys change under load, a restore revives nothing, an upgrade loses nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import servers, warm
from support.admin import Admin
from support.mailbox import Mailbox, link_in, text_of
from support.servers import NO_TLS, skip_or_fail
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, ROOT, SECRETS, wait_for

OLD_KEY = SECRETS["FLASK_SECRET_KEY"]
NEW_KEY = "Qm3vX8rT1wY6zA0bN5cK9dL2eJ7fH4gS"
PAUSE_SECONDS = 0.1  # of each who makes load: the restarts shall take no minutes
GUNICORN = ("-m", "gunicorn", "--workers", "2", "--threads", "4", "app:create_app()")
ALONE = {"Connection": "close"}  # as nginx asks: a connection that is kept would be closed by a restart


class Machines:
    """Two that serve the same address, and a worker. `settle` restarts them one by one, with these keys."""

    def __init__(self, uri: str, mail_port: int) -> None:
        self.admin = Admin(uri, mail_port, FLASK_RECOVERY_MAIL_DAILY_CAP="1000")
        self.socket = socket.create_server(("127.0.0.1", self.admin.port), backlog=512)
        self.running: dict[str, warm.Running] = {}

    def settle(self, key: str, *fallbacks: str) -> None:
        self.admin.environ |= {
            "FLASK_SECRET_KEY": key,
            "FLASK_SECRET_KEY_FALLBACKS": json.dumps(fallbacks),
        }
        for name in ("one", "two", "worker"):
            if name in self.running:
                self.end(name)
            # gunicorn as systemd starts it behind sparekey-web.socket: the socket is there already, and stays.
            words = ("manage.py", "worker") if name == "worker" else GUNICORN
            opened = None if name == "worker" else self.socket
            with Path(os.devnull).open("w") as nowhere:
                self.running[name] = warm.start(words, self.admin.environ, None, nowhere, listening=opened)
            if name != "worker":
                self.wait_until_it_serves(self.running[name])

    def wait_until_it_serves(self, process: warm.Running) -> None:
        """Its two processes are there, and have had the time to load."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_for(lambda: len(children.read_text().split()) == 2, 20)
        for _ in range(20):
            httpx.get(f"{self.admin.base}/healthz", headers=ALONE, timeout=30, verify=NO_TLS)
        time.sleep(0.4)

    def end(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        assert process.wait(timeout=40) in (0, -signal.SIGTERM)  # the latter: it had not begun yet

    def stop(self) -> None:
        self.socket.close()
        for name in list(self.running):
            self.end(name)


class Browser:
    """Keeps cookies, and a connection to nobody."""

    def __init__(self, base: str, cookies: Any = None) -> None:
        self.client = httpx.Client(base_url=base, cookies=cookies, headers=ALONE, timeout=60, verify=NO_TLS)

    def form(self, page: str) -> dict[str, str]:
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.client.get(page).text)
        assert found, page
        return {"csrf_token": found[1]}

    def sign_in(self, **fields: str) -> None:
        fields |= {**self.form("/login"), "identity": "alice", "password": OLD_PASSWORD}
        self.client.post("/login", data=fields)
        assert self.is_signed_in()

    def is_signed_in(self) -> bool:
        return self.client.get("/change").status_code == 200

    def only(self, cookie: str) -> Browser:
        """Another browser that has this cookie alone."""
        return Browser(str(self.client.base_url), {cookie: self.client.cookies[cookie]})


@contextmanager
def load(*people: Callable[[], Any]) -> Iterator[list[int]]:
    """All of them do what they do, again and again. What fails for one of them fails the test."""
    over, counts, failed = threading.Event(), [0] * len(people), []

    def act(number: int) -> None:
        while not over.wait(PAUSE_SECONDS) and not failed:
            try:
                people[number]()
                counts[number] += 1
            except Exception as error:
                failed.append(f"{people[number].__name__}: {error!r}")

    threads = [threading.Thread(target=act, args=(number,)) for number in range(len(people))]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        over.set()
        for thread in threads:
            thread.join()
        assert not failed, failed


def of_bob(mailbox: Mailbox) -> list[str]:
    """The links that were mailed to bob, in order."""
    pairs = zip(list(mailbox.envelopes), list(mailbox.mails), strict=False)
    return [link_in(mail) for to, mail in pairs if to == ["bob@example.com"] and "/reset/" in text_of(mail)]


@pytest.mark.parametrize("database", os.environ.get("ROTATIONS", "sqlite").split(), indirect=True)
@pytest.mark.requirement("R64")
def test_keys_change_under_load_and_nobody_notices(
    database: Callable[[], str], mailbox: Mailbox, capsys: Any
) -> None:
    machines = Machines(database(), mailbox.port)
    base = machines.admin.base
    try:
        machines.settle(OLD_KEY)
        signed_in, remembered, visitor = Browser(base), Browser(base), Browser(base)
        signed_in.sign_in()
        remembered.sign_in(remember="y")
        open_form = visitor.form("/reset")
        visitor.client.post("/reset", json={"identity": "alice"})
        link = link_in(mailbox.wait_for(1))
        not_me = objection_in(mailbox.mails[0])
        mailbox.refuse_only["sso@example.com"] = "451 later"  # an account that can be told of nothing yet
        passwords = iter(f"the password number {number}" for number in range(10_000))

        def who_is_signed_in() -> None:
            assert signed_in.is_signed_in()

        def who_signs_in() -> None:
            """Its form may be made by one machine and taken by the other."""
            Browser(base).sign_in()

        def who_stays_signed_in() -> None:
            assert remembered.only("sparekey_remember").is_signed_in()

        def whose_form_is_open() -> None:
            answer = visitor.client.post("/reset", data={**open_form, "identity": "nobody"})
            assert answer.status_code == 303, answer.text

        def whose_link_is_open() -> None:
            answer = httpx.get(
                link, headers={**ALONE, "Accept": "application/json"}, timeout=60, verify=NO_TLS
            )
            assert answer.status_code == 200, answer.text

        def who_recovers() -> None:
            before = len(of_bob(mailbox))
            asked = httpx.post(
                f"{base}/reset", json={"identity": "bob"}, headers=ALONE, timeout=60, verify=NO_TLS
            )
            assert asked.status_code == 200
            wait_for(lambda: len(of_bob(mailbox)) > before, 40)
            new = {"password": next(passwords)}
            answer = httpx.post(of_bob(mailbox)[-1], json=new, headers=ALONE, timeout=60, verify=NO_TLS)
            assert answer.status_code == 200, answer.text

        people = (
            who_signs_in,
            who_is_signed_in,
            who_stays_signed_in,
            whose_form_is_open,
            whose_link_is_open,
            who_recovers,
        )
        with load(*people) as counts:
            machines.settle(OLD_KEY, NEW_KEY)  # known everywhere before anything is made with it
            machines.settle(NEW_KEY, OLD_KEY)
            wait_for(lambda n=counts[-1]: counts[-1] > n, 40)
        assert min(counts) > 2
        with capsys.disabled():
            print(
                f"\n{sum(counts)} requests and recoveries on {base_of(machines)} while six processes changed keys: none failed"
            )

        new = Browser(base)
        new.sign_in()
        machines.settle(NEW_KEY)
        # What the old key made ends with it; what the new one made goes on.
        assert new.is_signed_in()
        assert not signed_in.is_signed_in()
        assert not remembered.only("sparekey_remember").is_signed_in()
        answer = httpx.get(link, headers={**ALONE, "Accept": "application/json"})
        assert answer.json()["response"]["error_code"] == "link_invalid"
        assert httpx.post(not_me, json={}, headers=ALONE).status_code == 400
    finally:
        machines.stop()


def base_of(machines: Machines) -> str:
    return machines.admin.environ["FLASK_SQLALCHEMY_DATABASE_URI"].partition(":")[0]


def objection_in(mail: Any) -> str:
    found = re.search(r"https?://\S+/not-me/\S+", text_of(mail))
    assert found
    return found[0]


@BOTH
@pytest.mark.requirement("R64")
def test_what_the_old_key_has_sealed_and_mailed_outlives_it_in_the_fallbacks(
    database: Callable[[], str], mailbox: Mailbox
) -> None:
    uri = database()
    before = Admin(uri, mailbox.port)
    after = Admin(
        uri, mailbox.port, FLASK_SECRET_KEY=NEW_KEY, FLASK_SECRET_KEY_FALLBACKS=json.dumps([OLD_KEY])
    )
    try:
        before.serves()
        httpx.post(f"{before.base}/reset", json={"identity": "alice"})
        assert before.types("worker", "--once").stdout == "1 processed\n"
        objection = objection_in(mailbox.mails[0])
        httpx.post(f"{before.base}/reset", json={"identity": "bob"})  # waits, sealed with the old key
        after.serves()
        assert after.types("worker", "--once").stdout == "1 processed\n"
        assert mailbox.envelopes[-1] == ["bob@example.com"]
        answer = httpx.post(objection.replace(before.base, after.base), json={})
        assert answer.json()["response"]["state"] == "done"
    finally:
        before.stops()
        after.stops()


# --- restore ------------------------------------------------------------------------------------------------


def back_up(uri: str, to: Path) -> None:
    """While everything runs, by the commands of docs/operations.md."""
    if uri.startswith("sqlite"):
        words = command_in_the_docs("VACUUM INTO")
        path = uri.removeprefix("sqlite:///")
        words = words.replace("/opt/sparekey/instance/sparekey.db", path).replace(
            "/var/backups/sparekey/sparekey.db", str(to)
        )
        words = words.replace("runuser -u sparekey -- ", "")
        subprocess.run(words, shell=True, check=True)  # noqa: S602  # as it is printed
    else:
        subprocess.run([program("pg_dump"), "--format=custom", f"--file={to}", uri], check=True)


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


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        skip_or_fail(f"{name} is not installed (Debian: apt-get install postgresql-client)")
    return found


def command_in_the_docs(holding: str) -> str:
    page = (ROOT / "docs" / "operations.md").read_text()
    [line] = [line for line in page.splitlines() if holding in line and line.startswith("runuser")]
    return line


@BOTH
def test_a_restore_revives_nothing_that_has_ended(
    database: Callable[[], str], mailbox: Mailbox, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    uri, backup = database(), tmp_path / "backup"
    server = request.getfixturevalue("postgresql") if uri.startswith("postgresql") else None
    admin = Admin(uri, mailbox.port)
    try:
        admin.serves()
        thief = Browser(admin.base)
        thief.sign_in()
        httpx.post(f"{admin.base}/reset", json={"identity": "alice"})
        admin.types("worker", "--once")
        link = link_in(mailbox.mails[0])
        httpx.post(f"{admin.base}/reset", json={"identity": "bob"})
        back_up(uri, backup)
        # Since then: the mail that waited goes out, the link is used, and with it every session ends.
        admin.types("worker", "--once")
        assert httpx.post(link, json={"password": NEW_PASSWORD}, timeout=30).status_code == 200
        assert not thief.is_signed_in()
        admin.types("worker", "--once")
        assert len(mailbox.mails) == 3
        admin.stops()

        admin.environ["FLASK_SQLALCHEMY_DATABASE_URI"] = restore(uri, backup, server)
        ended = admin.types("after-restore", "--yes")
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.split() == [
            "links",
            "revoked",
            "1",
            "mails",
            "discarded",
            "1",
            "accounts",
            "signed",
            "out",
            "4",
        ]
        assert admin.types("db", "upgrade").returncode == 0
        admin.serves()
        answer = httpx.post(link, json={"password": "set with a link of the past"}, timeout=30)
        assert answer.json()["response"]["error_code"] == "link_revoked"
        assert not thief.is_signed_in()
        assert admin.types("worker", "--once").stdout == "0 processed\n"
        # And whoever asks now is served at once.
        httpx.post(f"{admin.base}/reset", json={"identity": "alice"})
        assert admin.types("worker", "--once").stdout == "1 processed\n"
        new = link_in(mailbox.mails[-1])
        assert httpx.post(new, json={"password": NEW_PASSWORD}, timeout=30).status_code == 200
        assert "after-restore" in admin.types("events", "--kind", "admin").stdout
    finally:
        admin.stops()


def test_a_restore_without_that_revives_a_used_link(
    database: Callable[[], str], mailbox: Mailbox, tmp_path: Path
) -> None:
    """So the test above tests something."""
    uri = database()
    admin = Admin(uri, mailbox.port)
    try:
        admin.serves()
        httpx.post(f"{admin.base}/reset", json={"identity": "alice"})
        admin.types("worker", "--once")
        link = link_in(mailbox.mails[0])
        back_up(uri, tmp_path / "backup")
        for password, path in ((NEW_PASSWORD, None), ("by whoever reads the mailbox", tmp_path / "backup")):
            if path:
                admin.stops()
                restore(uri, path, None)
                admin.serves()
            assert httpx.post(link, json={"password": password}, timeout=30).status_code == 200
    finally:
        admin.stops()


def test_after_restore_asks_first(database: Callable[[], str], mailbox: Mailbox) -> None:
    admin = Admin(database(), mailbox.port)
    asked = subprocess.run(
        [sys.executable, "manage.py", "after-restore"],
        cwd=ROOT,
        env=admin.environ,
        input="n\n",
        capture_output=True,
        text=True,
    )
    assert (asked.returncode, "signs everybody out" in asked.stdout) == (1, True)
    assert admin.types("events").stdout == "no matching events\n"


# --- units --------------------------------------------------------------------------------------------------


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        skip_or_fail("systemd-analyze is not installed (Debian: apt-get install systemd)")
    units = [
        path
        for path in (ROOT / "docs" / "deploy").iterdir()
        if path.suffix in (".service", ".timer", ".socket")
    ]
    assert len(units) == 5
    for path in units:
        words = path.read_text()
        for program in ("/opt/sparekey/.venv/bin/gunicorn", "/opt/sparekey/.venv/bin/python"):
            words = words.replace(program, sys.executable)
        (tmp_path / path.name).write_text(words)
    found = subprocess.run(
        [verifier, "verify", "--recursive-errors=no", *(str(tmp_path / path.name) for path in units)],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    about_ours = [line for line in found.stderr.splitlines() if "sparekey" in line]
    assert (found.returncode, about_ours) == (0, [])


def test_every_unit_has_the_same_secrets() -> None:
    """What one process knows and another does not would be found out late."""
    services = (ROOT / "docs" / "deploy").glob("*.service")
    secrets = {
        path.name: {
            line for line in path.read_text().splitlines() if line.startswith(("LoadCred", "Environment"))
        }
        for path in services
    }
    assert len(secrets) == 3
    assert len({frozenset(lines) for lines in secrets.values()}) == 1, secrets
