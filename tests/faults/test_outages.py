"""The relay is down for a while, the disk is full, the clock jumps: what was promised is kept."""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller
from support import servers
from support.admin import Admin
from support.mailbox import Mailbox
from support.servers import NO_TLS, free_port, skip_or_fail
from support.site import fill, wait_for

OUTAGE_SECONDS = int(os.environ.get("OUTAGE_SECONDS", "3"))  # `make storm` takes 60
# What happens is the worker's doing, not the database's: the long form tries both.
ENGINES = ["sqlite", "postgresql"] if OUTAGE_SECONDS > 10 else ["sqlite"]
BACK_SECONDS_MAX = 15  # after the relay's return everything has arrived

ALICE, BOB = "alice@example.com", "bob@example.com"
NAMES = ("alice", "bob", "alice@example.com", "bob@example.com", "+14155550123", "+14155550124")


@contextmanager
def listening(box: Mailbox) -> Iterator[None]:
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield
    finally:
        controller.stop()


def ask(admin: Admin, identity: str) -> tuple[int, str]:
    answer = httpx.post(f"{admin.base}/reset", json={"identity": identity}, timeout=30, verify=NO_TLS)
    return answer.status_code, answer.text


def timed(admin: Admin, identity: str, times: int = 50) -> float:
    """The median of some requests, in milliseconds."""
    waits = []
    with httpx.Client(base_url=admin.base, timeout=30) as client:
        for _ in range(times):
            start = time.perf_counter()
            assert client.post("/reset", json={"identity": identity}).status_code == 200
            waits.append((time.perf_counter() - start) * 1000)
    return statistics.median(waits)


@pytest.mark.parametrize("database", ENGINES, indirect=True)
@pytest.mark.requirement("R3")
def test_while_the_relay_is_down_requests_answer_as_always_and_mails_come_after(
    database: Callable[[], str], capsys: Any
) -> None:
    box = Mailbox(free_port())
    admin = Admin(database(), box.port)

    def came() -> list[str]:
        return sorted(recipient for [recipient] in box.envelopes[1:])

    try:
        admin.serves(workers=2)
        for _ in range(2):
            admin.starts("manage.py", "worker")
        with listening(box):
            usual = ask(admin, "nobody")
            ask(admin, "alice")
            box.wait_for(1)
            before = timed(admin, "nobody")
        down_since = time.monotonic()
        assert [ask(admin, name) for name in NAMES] == [usual] * len(NAMES)
        known, unknown = timed(admin, "alice"), timed(admin, "nobody")
        while time.monotonic() < down_since + OUTAGE_SECONDS:
            time.sleep(0.1)
            assert ask(admin, "alice") == ask(admin, "nobody") == usual
        assert "mail_held" in httpx.get(f"{admin.base}/readyz").json()["problems"]
        with listening(box):
            back_at = time.monotonic()
            wait_for(lambda: len(came()) >= len(NAMES) and came().count(BOB) == 3, seconds=BACK_SECONDS_MAX)
            took = time.monotonic() - back_at
    finally:
        log = admin.stops()
    # Whoever asks again and again during the outage gets one mail more, if the relay hung up on the first.
    assert came() in (sorted([ALICE] * alices + [BOB] * 3) for alices in (3, 4))
    assert 2 <= log.count("all mail is held") <= 4  # each says it once for each cause, not at each look
    assert len({mail["Message-ID"] for mail in box.mails}) == len(box.mails)
    with capsys.disabled():
        print(f"\nrelay down for {OUTAGE_SECONDS} s: all mails {took:.1f} s after its return; one request")
        print(f"before {before:.1f} ms, during: known {known:.1f}, unknown {unknown:.1f} ms (medians)")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        skip_or_fail("a tmpfs can be mounted by root only")
    yield folder
    subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_loses_nothing_that_was_accepted(small_disk: Path, fresh_sqlite: Path) -> None:
    path = small_disk / "site.db"
    shutil.copy(fresh_sqlite, path)
    ballast = small_disk / "ballast"
    box = Mailbox(free_port())
    admin = Admin(f"sqlite:///{path}", box.port)
    try:
        admin.serves()
        assert ask(admin, "alice")[0] == 200
        fill_up(ballast)
        refused = {ask(admin, name) for name in ("bob", "nobody")}
        [(status, text)] = refused  # known or not
        assert (status, "Nothing was changed" in text) == (503, True)
        admin.starts("manage.py", "worker")
        with listening(box):
            time.sleep(1)
            assert httpx.get(f"{admin.base}/healthz").status_code == 200
            ballast.unlink()
            box.wait_for(1)
            assert ask(admin, "bob")[0] == 200
            box.wait_for(2)
            time.sleep(0.5)
    finally:
        admin.stops()
    assert [box[0] for box in box.envelopes] == ["alice@example.com", "bob@example.com"]
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        states = connection.execute("SELECT state, attempts FROM outbox_message").fetchall()
    connection.close()
    assert states == [("sent", 1)] * 2


def fill_up(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError:
            return


class ServersClock:
    """The clock of a database server, through libfaketime."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.file, self.minutes = folder / "clock", 0
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # no real jump moves that one
        }
        self.jumps_by(0)

    def jumps_by(self, minutes: int) -> None:
        self.minutes += minutes
        draft = self.file.with_suffix(".new")
        draft.write_text(f"{self.minutes * 60:+}")
        draft.chmod(0o644)
        draft.rename(self.file)


class OwnClock:
    """SQLite runs in our processes, and libfaketime breaks their sleep. So the jump is seen from the other
    side: every time in the database moves the other way.
    """

    COLUMNS = (
        ("outbox_message", "created_at"),
        ("outbox_message", "due_at"),
        ("outbox_message", "settled_at"),
        ("worker_sign", "seen_at"),
        ("reset_link", "issued_at"),
        ("reset_link", "expires_at"),
        ("recovery_event", "at"),
    )

    def __init__(self, path: Path) -> None:
        self.path = path

    def jumps_by(self, minutes: int) -> None:
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            for table, column in self.COLUMNS:
                moved = f"strftime('%Y-%m-%d %H:%M:%f', {column}, '{-minutes:+} minutes') || '000'"
                connection.execute(f"UPDATE {table} SET {column} = {moved} WHERE {column} IS NOT NULL")


@pytest.fixture(params=["sqlite", "postgresql"])
def clock_and_uri(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServersClock | OwnClock, str]]:
    folder = tmp_path_factory.mktemp("clock")
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("fresh_sqlite"), folder / "clock.db")
        yield OwnClock(folder / "clock.db"), f"sqlite:///{folder}/clock.db"
        return
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        skip_or_fail("libfaketime is not installed (Debian: apt-get install libfaketime)")
    programs = servers.find_postgresql()
    if programs is None:
        skip_or_fail("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)  # the server reads the clock's file, too
    clock = ServersClock(libraries[0], folder)
    with servers.postgresql(programs, clock.environ) as server:
        yield clock, fill(server.create())


def test_a_clock_that_jumps_back_and_forward_stops_no_mail(clock_and_uri: Any) -> None:
    """While mail waits for a relay that is away, and while it flows."""
    clock, uri = clock_and_uri
    box = Mailbox(free_port())
    admin = Admin(uri, box.port)
    try:
        admin.serves()
        admin.starts("manage.py", "worker")
        for name, minutes in (("alice", -40), ("bob", 10)):
            ask(admin, name)
            clock.jumps_by(minutes)
            if minutes < 0:  # what waits is due in the future now
                assert admin.types("outbox", "retry", "1").returncode == 0
            with listening(box):
                box.wait_for(len(box.mails) + 1, seconds=15)
                clock.jumps_by(-minutes)
                ask(admin, f"{name}@example.com")
                box.wait_for(len(box.mails) + 1, seconds=15)
    finally:
        admin.stops()
    assert len({mail["Message-ID"] for mail in box.mails}) == len(box.mails) == 4
