"""A database that loses its last commits, in a crash without a sync or a failover to a standby that lags.

`make storm` runs the long form and prints what is lost.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from faults.storm import Storm, brewing
from faults.test_storm import IS_LONG, SEED, add_accounts
from support import servers
from support.admin import Admin
from support.mailbox import Mailbox, link_in
from support.servers import NO_TLS, PostgreSQL, skip_or_fail
from support.site import fill, wait_for

CRASHES = 40 if IS_LONG else 3
ACCOUNTS = 3000  # more than the requests, so that no second request hides that the first was lost
PAUSE = 0.1 if IS_LONG else 0.2  # seconds between two requests of a visitor
LAGS = (0, 1, 5) if IS_LONG else (1,)
# The storm kills a database with the default, and an asynchronous standby promises nothing.
DURABILITIES = ["on", "off"] if IS_LONG else ["off"]
MODES = ["asynchronous", "synchronous"] if IS_LONG else ["synchronous"]
# The transaction that issues a link returns before its commit is on the disk, and others do not.
LINKS_WITHOUT_SYNC = """
    CREATE FUNCTION commit_without_sync() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('synchronous_commit', 'off', true); RETURN NEW; END $$;
    CREATE TRIGGER without_sync BEFORE INSERT ON reset_link FOR EACH ROW EXECUTE FUNCTION commit_without_sync()"""
SENT_WITHOUT_LINK = """
    SELECT count(*) FROM outbox_message m WHERE m.kind = 'reset_instructions' AND m.state = 'sent'
    AND NOT EXISTS (SELECT 1 FROM reset_link l WHERE l.message_id = m.id)"""


class Forgetful(PostgreSQL):
    """A server that loses in a crash what it has committed without a sync."""

    settings = ("fsync=off", "wal_writer_delay=10s")


@contextmanager
def server(kind: type[PostgreSQL] = PostgreSQL) -> Iterator[PostgreSQL]:
    programs = servers.find_postgresql()
    if programs is None:
        skip_or_fail("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    with servers.postgresql(programs, kind=kind) as running:
        yield running


def ask_database(uri: str, statement: str) -> Any:
    with psycopg.connect(uri, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchone() if cursor.description else None


def landing(link: str) -> str:
    answer = httpx.get(link, headers={"Accept": "application/json"}, timeout=30, verify=NO_TLS)
    return str(answer.json()["response"].get("error_code", "works"))


def test_crash_that_loses_a_mailed_link_brings_the_same_link_again(mailbox: Mailbox) -> None:
    with server(Forgetful) as database:
        uri = fill(database.create())
        ask_database(uri, LINKS_WITHOUT_SYNC)
        admin = Admin(uri, mailbox.port)
        accept = mailbox.handle_DATA

        async def crash_and_accept(*arguments: Any) -> str:
            mailbox.handle_DATA = accept  # type: ignore[method-assign]
            database.crash()
            return await accept(*arguments)

        mailbox.handle_DATA = crash_and_accept  # type: ignore[method-assign]
        try:
            admin.serves()
            assert httpx.post(f"{admin.base}/reset", json={"identity": "alice"}).status_code == 200
            admin.types("worker", "--once")
            link = link_in(mailbox.wait_for(1))
            assert landing(link) == "link_invalid"  # lost
            state, reason = ask_database(uri, "SELECT state, reason FROM outbox_message")
            assert (state, "lost its link" in str(reason)) == ("waiting", True)
            ask_database(uri, "UPDATE outbox_message SET due_at = created_at")
            admin.types("worker", "--once")
            assert link_in(mailbox.wait_for(2)) == link
            assert mailbox.mails[0]["Message-ID"] == mailbox.mails[1]["Message-ID"]
            assert landing(link) == "works"
            assert ask_database(uri, "SELECT state FROM outbox_message") == ("sent",)
        finally:
            admin.stops()


@pytest.mark.parametrize("durability", DURABILITIES)
def test_links_that_are_sent_exist_after_crashes(durability: str, tmp_path: Path, capsys: Any) -> None:
    """With the default, and with `synchronous_commit = off`, which an operator may set for speed."""
    with server() as database:
        uri = fill(database.create())
        live = sorted(add_accounts(uri, ACCOUNTS))
        database.execute(f"ALTER SYSTEM SET synchronous_commit = {durability}")
        database.crash()
        chance, without_link = random.Random(SEED), 0
        with brewing(Storm(uri, tmp_path, SEED, webs=1, workers=1)) as storm:
            with storm.traffic(live, PAUSE):
                for _ in range(CRASHES):
                    time.sleep(chance.uniform(0.5, 1.5))
                    database.crash()
            storm.settle(is_long=False)
            without_link = ask_database(uri, SENT_WITHOUT_LINK)[0]
            storm.follow_links()
        gone = [link for link, code in storm.landings.items() if code == "link_invalid"]
        with capsys.disabled():
            print(
                f"\nsynchronous_commit = {durability}, {CRASHES} crashes: {len(storm.landings)} links mailed,"
            )
            print(f"{without_link} sent messages without a link, {len(gone)} links do not exist")
    assert without_link == 0
    if durability == "on":
        assert gone == []


class Standby(PostgreSQL):
    """A copy of a server that follows it."""

    def __init__(self, primary: PostgreSQL) -> None:
        self.programs, self.environ, self.folder = (
            primary.programs,
            primary.environ,
            primary.folder / "standby",
        )
        self.port, self.process, self.made = servers.free_port(), None, 0
        self.folder.mkdir()
        if self.user:
            shutil.chown(self.folder, self.user)
        connection = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "tests")
        program = shutil.which("pg_basebackup") or "pg_basebackup"  # on Debian, of another folder than initdb
        self.run(program, *connection, "-D", str(self.folder / "data"), "-R", "-c", "fast")

    def promote(self) -> None:
        self.run("pg_ctl", "promote", "-D", str(self.folder / "data"))


def fail_over(primary: PostgreSQL, standby: Standby, lag: float) -> float:
    """Hold the primary's log back from the standby, kill the primary, and promote. Return the time of the kill."""
    if lag:
        [sender] = ask_database(primary.dsn("postgres"), "SELECT pid FROM pg_stat_replication")
        os.kill(sender, signal.SIGSTOP)
        time.sleep(lag)
    primary.kill()
    killed_at = time.time()
    standby.promote()
    return killed_at


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lag", LAGS)
def test_failover_loses_what_the_standby_has_not_got(
    mode: str, lag: float, tmp_path: Path, capsys: Any
) -> None:
    with server() as primary:
        uri = fill(primary.create())
        live = sorted(add_accounts(uri, ACCOUNTS))
        standby = Standby(primary)
        try:
            standby.start()
            wait_for_standby(primary)
            if mode == "synchronous":
                primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                primary.execute("SELECT pg_reload_conf()")
            hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
            both = f"postgresql://tests@/d1?{hosts}&target_session_attrs=read-write"
            with brewing(Storm(both, tmp_path, SEED, webs=1, workers=1)) as storm:
                with storm.traffic(live, PAUSE):
                    time.sleep(2)
                    killed_at = fail_over(primary, standby, lag)
                    time.sleep(2)
                storm.settle(is_long=False)
                storm.follow_links()
        finally:
            standby.stop()
    books = Books(storm)
    with capsys.disabled():
        print(f"\n{mode} standby, {lag} s behind: {books}")
    if mode == "synchronous":
        assert books.lost == []
    assert all(killed_at - lag - 1 < at < killed_at + 1 for at in books.lost)


def wait_for_standby(primary: PostgreSQL) -> None:
    statement = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    wait_for(lambda: ask_database(primary.dsn("postgres"), statement) == (1,))


class Books:
    """What was promised before a failover, and does not hold after it."""

    def __init__(self, storm: Storm) -> None:
        arrivals = [arrival for arrival in storm.relay.arrivals if arrival.link]
        newest = {arrival.recipient: arrival.at for arrival in arrivals}
        self.requests = [r.at for r in storm.requests if newest.get(r.identity, 0) < r.at]
        self.links = [a.at for a in arrivals if storm.landings[a.link] == "link_invalid"]
        won = [attempt for attempt in storm.attempts if attempt.code == "redeemed"]
        self.passwords = [a.at for a in won if storm.landings[a.link] != "link_used"]
        self.lost = [*self.requests, *self.links, *self.passwords]
        self.counts = (len(storm.requests), len(storm.landings), len(won))

    def __str__(self) -> str:
        requests, links, passwords = self.counts
        return (
            f"{len(self.requests)} of {requests} requests got no mail, {len(self.links)} of {links} mailed links "
            f"do not exist, {len(self.passwords)} of {passwords} new passwords are undone"
        )
