"""The relay is down, the disk is full, or the clock jumps, while real processes run."""

import os
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import servers
from support.admin import Admin
from support.mailbox import Mailbox, listening
from support.recovery import code_of
from support.servers import NO_TLS, free_port, skip_or_fail
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, fill, wait_for

OUTAGE_SECONDS = int(os.environ.get("OUTAGE_SECONDS", "1"))  # `make storm` takes 60
IS_LONG = OUTAGE_SECONDS > 10
BACK_SECONDS_MAX = 15  # from the relay's return to the last mail

ALICE, BOB = "alice@example.com", "bob@example.com"
NAMES = ("alice", "bob", ALICE, BOB, "+14155550123", "+14155550124")


def ask(admin: Admin, identity: str) -> tuple[int, str]:
    answer = httpx.post(f"{admin.base}/reset", json={"identity": identity}, timeout=30, verify=NO_TLS)
    return answer.status_code, answer.text


def median_milliseconds(admin: Admin, identity: str) -> float:
    seconds = []
    with httpx.Client(base_url=admin.base, timeout=30, verify=NO_TLS) as client:
        for _ in range(50 if IS_LONG else 5):
            start = time.perf_counter()
            assert client.post("/reset", json={"identity": identity}).status_code == 200
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000


@pytest.mark.parametrize("database", ["sqlite", "postgresql"] if IS_LONG else ["sqlite"], indirect=True)
@pytest.mark.requirement("R3")
def test_while_the_relay_is_down_requests_are_answered_alike_and_mails_follow(
    database: Callable[[], str], capsys: Any
) -> None:
    box = Mailbox(free_port())
    admin = Admin(database(), box.port)

    def recipients() -> list[str]:
        return sorted(recipient for [recipient] in box.envelopes[1:])

    try:
        admin.serves(workers=2)
        for _ in range(2):
            admin.starts("manage.py", "worker")
        with listening(box):
            usual = ask(admin, "nobody")
            ask(admin, "alice")
            box.wait_for(1)
            before = median_milliseconds(admin, "nobody")
        down_since = time.monotonic()
        assert [ask(admin, name) for name in NAMES] == [usual] * len(NAMES)
        known, unknown = median_milliseconds(admin, "alice"), median_milliseconds(admin, "nobody")
        while time.monotonic() < down_since + OUTAGE_SECONDS:
            time.sleep(0.1)
            assert ask(admin, "alice") == ask(admin, "nobody") == usual
        wait_for(lambda: "mail_held" in httpx.get(f"{admin.base}/readyz").json()["problems"])
        with listening(box):
            back_at = time.monotonic()
            wait_for(
                lambda: len(recipients()) >= len(NAMES) and recipients().count(BOB) == 3, BACK_SECONDS_MAX
            )
            seconds = time.monotonic() - back_at
    finally:
        log = admin.stops()
    # A request gets a second mail if the relay hung up on the first.
    assert recipients() in (sorted([ALICE] * alices + [BOB] * 3) for alices in (3, 4))
    # At most once for each worker and cause, and again where its two threads meet the causes in turn.
    assert 1 <= log.count("all mail is held") <= 6
    assert len({mail["Message-ID"] for mail in box.mails}) == len(box.mails)
    with capsys.disabled():
        print(f"\nrelay down for {OUTAGE_SECONDS} s: all mails {seconds:.1f} s after its return; one request")
        print(f"before {before:.1f} ms, during: known {known:.1f}, unknown {unknown:.1f} ms (medians)")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        skip_or_fail("a tmpfs can be mounted by root only")
    yield folder
    subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


def test_full_disk_refuses_requests_alike_and_loses_no_accepted_one(
    small_disk: Path, fresh_sqlite: Path
) -> None:
    path, ballast = small_disk / "site.db", small_disk / "ballast"
    shutil.copy(fresh_sqlite, path)
    box = Mailbox(free_port())
    with Admin(f"sqlite:///{path}", box.port) as admin:
        admin.serves()
        assert ask(admin, "alice")[0] == 200
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 1024)
        [(status, text)] = {ask(admin, name) for name in ("bob", "nobody")}
        assert (status, "Nothing was changed" in text) == (503, True)
        admin.starts("manage.py", "worker")
        with listening(box):
            time.sleep(1)  # the worker fails meanwhile
            assert httpx.get(f"{admin.base}/healthz").status_code == 200
            ballast.unlink()
            box.wait_for(1)
            assert ask(admin, "bob")[0] == 200
            box.wait_for(2)
            time.sleep(0.5)
    assert [box[0] for box in box.envelopes] == [ALICE, BOB]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        states = connection.execute("SELECT state, attempts FROM outbox_message").fetchall()
    assert states == [("sent", 1)] * 2


class ServerClock:
    """The clock of a database server, through libfaketime."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.file = folder / "clock"
        self.environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a real jump does not move that one
        }
        self.set(0)

    def set(self, minutes: int) -> None:
        """Set the difference from the true time."""
        draft = self.file.with_suffix(".new")
        draft.write_text(f"{minutes * 60:+}")
        draft.chmod(0o644)
        draft.rename(self.file)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerClock]:
    folder = tmp_path_factory.mktemp("clock")
    libraries, programs = (
        sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")),
        servers.find_postgresql(),
    )
    if not libraries or programs is None:
        skip_or_fail(
            "libfaketime or PostgreSQL is not installed (Debian: apt-get install libfaketime postgresql)"
        )
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)  # the server's user reads the clock's file, too
    clock = ServerClock(libraries[0], folder)
    with servers.postgresql(programs, clock.environ) as clock.server:
        yield clock


def test_database_clock_that_jumps_back_and_forward_stops_no_mail(
    clock: ServerClock, mailbox: Mailbox
) -> None:
    """While a message waits, and while a worker runs."""
    clock.set(0)
    with Admin(fill(clock.server.create()), mailbox.port) as admin:
        admin.serves()
        for name, minutes in (("alice", -40), ("bob", 10)):
            ask(admin, name)
            clock.set(minutes)
            if minutes < 0:  # the message is due in the future now
                assert admin.types("outbox", "retry", "1").returncode == 0
            worker = admin.starts("manage.py", "worker")
            mailbox.wait_for(len(mailbox.mails) + 1)
            clock.set(0)
            ask(admin, f"{name}@example.com")
            mailbox.wait_for(len(mailbox.mails) + 1)
            admin.ends(worker)
    assert len({mail["Message-ID"] for mail in mailbox.mails}) == len(mailbox.mails) == 4


@pytest.mark.requirement("R13", "R46", "R58")
def test_clocks_that_jump_back_and_forward_revive_nothing_and_keep_no_limit_closed(
    clock: ServerClock, make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the database's machine, and that of the web process."""
    limits = {"RATELIMIT_ENABLED": True, "RECOVERY_LIMIT_IDENTITY": "8 per hour"}
    clock.set(0)
    uri = fill(clock.server.create())
    site: Site = make_site(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_MAIL_COOLDOWN="5 minutes", **limits)
    passwords = iter((NEW_PASSWORD, "another password of bob", "a third password of bob", "and his last one"))

    def guess() -> int:
        return site.visitor().post_json("/login", json={"identity": "nobody", "password": "?"}).status_code

    alice = site.visitor()
    alice.submit("/login", identity="alice", password=OLD_PASSWORD, remember="y")
    copy = site.visitor()
    copy.client._cookies.update(alice.client._cookies)
    assert copy.is_signed_in()
    alice.submit("/", "/logout")
    used = [site.new_link("bob")]
    assert code_of(site, used[0], next(passwords)) == "redeemed"
    site.work()
    assert [guess() for _ in range(9)] == [400] * 8 + [429]
    true_time = time.time
    for minutes in (-120, 120, 0):
        clock.set(minutes)
        monkeypatch.setattr(time, "time", lambda minutes=minutes: true_time() + 60 * minutes)
        assert not copy.is_signed_in()
        assert {code_of(site, link, OLD_PASSWORD) for link in used} == {"link_used"}
        assert site.visitor().sign_in()
        used.append(site.new_link("bob"))
        assert code_of(site, used[-1], next(passwords)) == "redeemed"
        site.work()
        assert guess() == 400
