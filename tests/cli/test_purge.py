"""What is over is deleted in time; what still counts never, whenever a purge runs and whatever happens to it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import event, insert, select, text
from support.admin import Admin
from support.mailbox import Mailbox, text_of
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, ROOT, Site, at_work, load_settings

from app.accounts.models import FsRefreshTracker
from app.cli import retention
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.mail.outbox import OutboxMessage
from app.recovery import not_me
from app.recovery.link import ResetLink
from app.settings.problems import SettingsError

GONE = {"links": 1, "mails": 1, "mails_not_sent": 1, "dead_letters": 0, "events": 4, "refresh_tokens": 0}


def days_ago(days: float) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)


def age(site: Site, days: float) -> None:
    """All that is there happened so long ago."""
    at = days_ago(days)
    site.change(ResetLink, ResetLink.id > 0, issued_at=at, expires_at=at + timedelta(hours=1))
    settled = {"created_at": at, "due_at": at, "settled_at": at}
    site.change(OutboxMessage, OutboxMessage.state != "waiting", **settled)
    site.change(OutboxMessage, OutboxMessage.state == "waiting", created_at=at, due_at=at)
    site.change(RecoveryEvent, RecoveryEvent.id > 0, at=at)


def purges(site: Site, *words: str) -> Result:
    ended = site.app.test_cli_runner().invoke(retention.purge, words)
    assert ended.exit_code == 0, ended.output
    return ended


@BOTH
def test_what_is_over_is_deleted_after_its_time(site: Site) -> None:
    site.new_link()
    site.ask("nobody")
    site.work()
    age(site, 30.9)
    assert set(json.loads(purges(site, "--format", "json").output)["deleted"].values()) == {0}
    age(site, 181)
    dry = json.loads(purges(site, "--dry-run", "--format", "json").output)
    assert len(site.links()) == 1  # that deleted nothing
    wet = json.loads(purges(site, "--format", "json").output)
    assert wet == {"dry_run": False, "deleted": {**GONE, "events": 4}}
    assert dry["deleted"] == wet["deleted"]
    assert (site.links(), site.messages()) == ([], [])
    said = site.rows(RecoveryEvent)[-1]
    assert (said["kind"], "1 links, 1 mails, 1 mails not sent, 4 events" in said["reason"]) == ("admin", True)


def test_the_command_says_what_went(site: Site) -> None:
    site.new_link()
    age(site, 40)
    assert "links           1" in purges(site, "--dry-run").output
    assert purges(site).output.splitlines()[0].split() == ["what", "deleted"]
    assert retention.purge.help


@BOTH
def test_what_still_counts_stays(make_site: Any) -> None:
    site: Site = make_site()
    site.ask("alice")  # waits, however long
    age(site, 400)
    purges(site)
    assert [row["state"] for row in site.messages()] == ["waiting"]
    site.change(OutboxMessage, OutboxMessage.id > 0, created_at=days_ago(0), due_at=days_ago(0))
    site.work()
    # A link whose mail was tried again for a long time: issued long ago, and open.
    site.change(ResetLink, ResetLink.id > 0, issued_at=days_ago(60))
    site.change(OutboxMessage, OutboxMessage.id > 0, due_at=days_ago(60), settled_at=days_ago(60))
    purges(site)
    assert len(site.links()) == len(site.messages()) == 1
    assert site.visitor().set_password(site.last_link()).status_code == 302


@BOTH
def test_a_dead_letter_stays_longer_and_its_link_with_it(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = "550 no"
    site.ask()
    site.work()
    site.mailbox.refuse.clear()
    age(site, 80)
    purges(site)
    assert [row["state"] for row in site.messages()] == ["given_up"]
    assert len(site.links()) == 1
    age(site, 91)
    purges(site)
    assert (site.links(), site.messages()) == ([], [])


@BOTH
def test_a_mail_stays_as_long_as_its_link(make_site: Any) -> None:
    """Or the link would pass for one that was handed over, which counts for nobody."""
    site: Site = make_site(RECOVERY_KEEP_LINKS="60 days")
    site.new_link()
    age(site, 45)
    purges(site)
    assert [row["message_id"] for row in site.links()] == [row["id"] for row in site.messages()]
    age(site, 61)
    purges(site)
    assert (site.links(), site.messages()) == ([], [])


def test_what_the_budget_counts_stays_whatever_is_set(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="60 days")
    site.new_link()
    age(site, 45)
    purges(site)
    assert len(site.links()) == 1


def test_this_was_not_me_works_as_long_as_it_says(site: Site) -> None:
    visitor = site.visitor()
    visitor.set_password(site.new_link())
    site.work()
    age(site, not_me.VALID_SECONDS / 86_400 - 0.01)
    purges(site)
    [notice] = [text_of(mail) for mail in site.mailbox.mails if "was changed" in mail["Subject"]]
    [link] = [word for word in notice.split() if "/not-me/" in word]
    assert site.visitor().post_json(link, json={}).json["response"]["state"] == "done"
    assert not site.password_works(NEW_PASSWORD)


def test_less_than_that_is_refused() -> None:
    for what in ("LINKS", "MAILS", "DEAD_LETTERS", "EVENTS"):
        with pytest.raises(SettingsError, match="at least 31 days"):
            load_settings(**{f"RECOVERY_KEEP_{what}": "30 days"})


@BOTH
def test_refresh_tokens_that_have_ended_go(site: Site) -> None:
    def family(name: str, ended: float) -> dict[str, Any]:
        at = {"last_used_at": days_ago(0), "expires_at": days_ago(ended)}
        return {"refresh_family": name, "name": name, "user_id": 1, "gen": 1, **at}

    with site.app.app_context():
        db.session.execute(insert(FsRefreshTracker), [family("old", 40), family("new", -3)])
        db.session.commit()
    purges(site)
    assert [row["refresh_family"] for row in site.rows(FsRefreshTracker)] == ["new"]


# --- many rows ---------------------------------------------------------------------------------------------


def fill(site: Site, many: int, days: float = 400) -> None:
    """So many mails, with a link each, and events."""
    at = days_ago(days)
    with site.app.app_context():
        mail = {"kind": "reset_instructions", "nonce": b"x", "state": "sent", "attempts": 1, "user_id": 1}
        times = {"created_at": at, "due_at": at, "settled_at": at}
        numbers = range(1, many + 1)
        mails = [{"id": n, "message_id": f"<{n}@here>", **mail, **times} for n in numbers]
        link = {"user_id": 1, "email": "a", "password_state": "x", "client": "browser", "issued_at": at}
        links = [{"message_id": n, "token_hash": str(n), "expires_at": at, **link} for n in numbers]
        events = [{"id": n, "kind": "requested", "reason": "reset_instructions", "at": at} for n in numbers]
        for table, rows in ((OutboxMessage, mails), (ResetLink, links), (RecoveryEvent, events)):
            db.session.execute(insert(table), rows)
            if db.engine.dialect.name == "postgresql":
                name = table.__tablename__
                db.session.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {many})"))
        db.session.commit()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 20)


@BOTH
@pytest.mark.usefixtures("small_batches")
def test_two_at_once_beside_a_worker_and_people_lose_nothing(site: Site) -> None:
    fill(site, 300)
    found: list[dict[str, int]] = []

    def run() -> None:
        with site.app.app_context():
            found.append(retention.run())

    threads = [threading.Thread(target=run) for _ in range(2)]
    with at_work(site) as stop:
        for thread in threads:
            thread.start()
        for number in range(5):
            assert site.ask("alice" if number % 2 else "bob").status_code == 200
        for thread in threads:
            thread.join()
        site.mailbox.wait_for(2)
        stop.set()
    assert {name: sum(each[name] for each in found) for name in ("links", "mails", "events")} == {
        "links": 300,
        "mails": 300,
        "events": 300,
    }
    assert {row["user_id"] for row in site.links()} == {1, 2}
    assert site.events().count("requested") == 5


@BOTH
@pytest.mark.usefixtures("small_batches")
def test_killed_after_any_statement_it_is_finished_by_the_next(site: Site, make_site: Any) -> None:
    class Killed(Exception):
        pass

    fill(site, 60)
    with site.app.app_context():
        engine = db.engine
    deaths = 0
    while site.links() or site.messages():
        seen, deadly = 0, deaths * 3 + 2

        def die(*_: Any, deadly: int = deadly) -> None:
            nonlocal seen
            seen += 1
            if seen == deadly:
                raise Killed

        event.listen(engine, "after_cursor_execute", die)
        try:
            with site.app.app_context():
                retention.run()
        except Killed:
            deaths += 1
        finally:
            event.remove(engine, "after_cursor_execute", die)
    assert deaths > 3
    assert not [row for row in site.links() if row["message_id"] is None]


@BOTH
def test_no_statement_of_a_purge_scans_a_table(site: Site) -> None:
    fill(site, 2000, days=1)
    with site.app.app_context():
        is_sqlite = db.engine.dialect.name == "sqlite"
        db.session.execute(text("ANALYZE"))
        db.session.commit()
        for purge in retention.purges():
            if purge.table is FsRefreshTracker:
                continue  # there are none here: tests/test_queries.py asks
            some = select(purge.table.id).where(*purge.conditions).order_by(purge.by).limit(retention.BATCH)
            words = str(some.compile(db.engine, compile_kwargs={"literal_binds": True}))
            explain = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
            plan = [str(row[-1]) for row in db.session.execute(text(explain + words.replace(":", "\\:")))]
            top = [line for line in plan if purge.table.__tablename__ in line]
            assert top, plan
            assert not [line for line in top if "Seq Scan" in line or line.startswith("SCAN")], plan
            assert not [line for line in plan if "TEMP B-TREE" in line], plan


@pytest.fixture
def operator(database: Callable[[], str], mailbox: Mailbox) -> Iterator[Admin]:
    admin = Admin(database(), mailbox.port)
    yield admin
    admin.stops()


@BOTH
def test_it_runs_as_a_process_and_may_be_killed(operator: Admin, mailbox: Mailbox) -> None:
    killed = subprocess.Popen([sys.executable, "manage.py", "purge"], cwd=ROOT, env=operator.environ)
    time.sleep(0.4)
    killed.kill()
    killed.wait()
    ended = operator.types("purge", "--format", "json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["dry_run"] is False


def test_nobody_who_asks_waits_long_beside_it(site: Site) -> None:
    """SQLite's write lock is held for a batch, and then left to others for as long."""
    fill(site, 5_000)
    done = threading.Event()

    def run() -> None:
        with site.app.app_context():
            retention.run()
        done.set()

    path = str(site.app.config["SQLALCHEMY_DATABASE_URI"]).removeprefix("sqlite:///")
    thread, waits = threading.Thread(target=run), []
    thread.start()
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as database:
        while not done.is_set():
            began = time.monotonic()
            database.execute("UPDATE user SET active = active WHERE username = 'alice'")
            waits.append(time.monotonic() - began)
            time.sleep(0.002)
    thread.join()
    assert len(waits) > 20
    assert max(waits) < 1, sorted(waits)[-5:]


def test_a_password_that_was_set_stays(site: Site) -> None:
    """Nothing of an account is purged."""
    site.visitor().set_password(site.new_link())
    age(site, 400)
    purges(site)
    assert site.password_works(NEW_PASSWORD)
    assert site.password_works(OLD_PASSWORD, "bob")
