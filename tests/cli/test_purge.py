"""`manage.py purge` deletes what is older than its retention, and nothing that still counts."""

import json
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert, text
from support.commands import run
from support.recovery import code_of, object_to
from support.site import BOTH, NEW_PASSWORD, Site, at_work

from app.accounts.models import FsRefreshTracker, SignedOut, User
from app.cli import purge as purging
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.mail.outbox import OutboxMessage
from app.recovery import not_me
from app.recovery.link import ResetLink
from app.recovery.reset_code import CodeRequest, ResetCode

DELETED = {"links": 1, "code_requests": 2, "mails": 1, "mails_not_sent": 1, "dead_letters": 0, "events": 4,
    "refresh_tokens": 0, "sign_outs": 0}  # fmt: skip


def days_ago(days: float) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)


def set_age(site: Site, days: float) -> None:
    """Date every link, message and event back."""
    at = days_ago(days)
    site.change(ResetLink, issued_at=at, expires_at=at + timedelta(hours=1))
    site.change(OutboxMessage, created_at=at, due_at=at)
    site.change(OutboxMessage, OutboxMessage.state != "waiting", settled_at=at)
    site.change(RecoveryEvent, at=at)
    site.change(CodeRequest, at=at)


def purge(site: Site, *words: str) -> Any:
    return json.loads(run(site, "purge", "--format", "json", *words).output)


@BOTH
def test_purge_deletes_everything_but_accounts_after_retention(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CODE=True)
    site.new_link()
    site.ask("nobody")
    site.work()
    accounts = site.rows(User)
    set_age(site, 30.9)
    assert set(purge(site)["deleted"].values()) == {0}
    set_age(site, 181)
    assert purge(site, "--dry-run") == {"dry_run": True, "deleted": DELETED}
    assert "links           1" in run(site, "purge", "--dry-run").output
    assert len(site.links()) == 1
    assert purge(site) == {"dry_run": False, "deleted": DELETED}
    assert (site.links(), site.messages(), site.rows(ResetCode)) == ([], [], [])
    assert site.rows(User) == accounts
    [admin_event] = site.rows(RecoveryEvent)
    assert admin_event["kind"] == "admin"
    assert "1 links, 2 code requests, 1 mails, 1 mails not sent, 4 events" in admin_event["reason"]
    assert run(site, "purge").output.splitlines()[0].split() == ["what", "deleted"]


@BOTH
def test_purge_keeps_waiting_message_and_open_link(site: Site) -> None:
    site.ask("alice")
    set_age(site, 400)
    purge(site)
    assert [row["state"] for row in site.messages()] == ["waiting"]
    site.change(OutboxMessage, created_at=days_ago(0), due_at=days_ago(0))
    site.work()
    # A link is issued before the first attempt, and expires after the last.
    site.change(ResetLink, issued_at=days_ago(60))
    site.change(OutboxMessage, due_at=days_ago(60), settled_at=days_ago(60))
    purge(site)
    assert len(site.links()) == len(site.messages()) == 1
    assert code_of(site, site.last_link()) == "redeemed"


@pytest.mark.parametrize(
    ("settings", "days"),
    [({}, 80), ({"RECOVERY_KEEP_LINKS": "60 days"}, 45), ({"RECOVERY_MAIL_COOLDOWN": "60 days"}, 45)],
    ids=["dead letter", "link", "cool-down"],
)
def test_purge_keeps_link_and_its_message_as_long_as_the_setting(
    make_site: Any, settings: dict[str, str], days: int
) -> None:
    """Without its message, a link would look like one that an admin handed over."""
    site: Site = make_site(**settings)
    if not settings:  # a dead letter is kept for 90 days
        site.mailbox.refuse["RCPT"] = "550 5.1.1 no"
    site.ask()
    site.work()
    set_age(site, days)
    purge(site)
    assert [row["state"] for row in site.messages()] == ["sent" if settings else "given_up"]
    assert [row["message_id"] for row in site.links()] == [row["id"] for row in site.messages()] == [1]
    set_age(site, days + 17)
    purge(site)
    assert (site.links(), site.messages()) == ([], [])


def test_purge_keeps_objection_working_as_long_as_promised(site: Site) -> None:
    code_of(site, site.new_link())
    site.work()
    set_age(site, not_me.VALID.days - 0.01)
    purge(site)
    object_to(site, site.mailbox.mails[-1])
    assert not site.password_works(NEW_PASSWORD)


@BOTH
def test_purge_keeps_tokens_and_sign_outs_as_long_as_a_sign_in_can_last(make_site: Any) -> None:
    site: Site = make_site(REMEMBER_COOKIE_DURATION="30 days")
    visitor = site.visitor()
    visitor.sign_in()
    visitor.submit("/", "/logout")
    [row] = site.rows(SignedOut)
    assert timedelta(days=30) < row["ends_at"] - days_ago(0) <= timedelta(days=31)
    token = {"user_id": 1, "gen": 1, "last_used_at": days_ago(0)}
    ends = {"old": days_ago(40), "new": days_ago(-3)}
    tokens = [{"refresh_family": name, "name": name, "expires_at": at, **token} for name, at in ends.items()]
    with site.app.app_context():
        db.session.execute(insert(FsRefreshTracker), tokens)
        db.session.commit()
    deleted = purge(site)["deleted"]
    assert (deleted["refresh_tokens"], deleted["sign_outs"]) == (1, 0)
    assert [row["refresh_family"] for row in site.rows(FsRefreshTracker)] == ["new"]
    site.change(SignedOut, ends_at=days_ago(0.01))
    assert purge(site)["deleted"]["sign_outs"] == 1
    assert site.rows(SignedOut) == []


def fill(site: Site, count: int) -> None:
    """Add so many sent messages, each with a link, and as many events."""
    at, numbers = days_ago(400), range(1, count + 1)
    mail = {"kind": "reset_instructions", "nonce": b"x", "state": "sent", "attempts": 1, "user_id": 1}
    link = {"user_id": 1, "email": "a", "password_state": "x", "client": "browser", "issued_at": at}
    event = {"kind": "requested", "reason": "reset_instructions", "at": at}
    times = {"created_at": at, "due_at": at, "settled_at": at}
    tables: dict[Any, list[Any]] = {
        OutboxMessage: [{"id": n, "message_id": f"<{n}@here>", **mail, **times} for n in numbers],
        ResetLink: [{"message_id": n, "token_hash": str(n), "expires_at": at, **link} for n in numbers],
        RecoveryEvent: [{"id": n, **event} for n in numbers],
    }
    with site.app.app_context():
        for table, rows in tables.items():
            db.session.execute(insert(table), rows)
            if db.engine.dialect.name == "postgresql":
                name = table.__tablename__
                db.session.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {count})"))
        db.session.commit()


def start_purge(site: Site) -> tuple[threading.Thread, dict[str, int]]:
    """Purge in a thread, which counts what it deletes."""
    deleted: dict[str, int] = {}

    def purge_all() -> None:
        with site.app.app_context():
            deleted.update(purging.run())

    thread = threading.Thread(target=purge_all)
    thread.start()
    return thread, deleted


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "BATCH", 20)


@BOTH
@pytest.mark.usefixtures("small_batches")
def test_concurrent_purges_worker_and_requests_lose_nothing(site: Site) -> None:
    fill(site, 200)
    with at_work(site) as stop:
        purges = [start_purge(site) for _ in range(2)]
        for number in range(5):
            assert site.ask("alice" if number % 2 else "bob").status_code == 200
        for thread, _ in purges:
            thread.join()
        site.mailbox.wait_for(2)
        stop.set()
    for name in ("links", "mails", "events"):
        assert sum(deleted[name] for _, deleted in purges) == 200, name
    assert {row["user_id"] for row in site.links()} == {1, 2}
    assert site.events().count("requested") == 5


@BOTH
@pytest.mark.usefixtures("small_batches")
def test_purge_killed_after_any_statement_is_finished_by_the_next(site: Site) -> None:
    class Killed(Exception):
        pass

    fill(site, 60)
    with site.app.app_context():
        engine = db.engine
    deaths = 0
    while site.links() or site.messages():
        executed, deadly = 0, deaths * 3 + 2

        def die(*_: Any, deadly: int = deadly) -> None:
            nonlocal executed
            executed += 1
            if executed == deadly:
                raise Killed

        event.listen(engine, "after_cursor_execute", die)
        try:
            with site.app.app_context():
                purging.run()
        except Killed:
            deaths += 1
        finally:
            event.remove(engine, "after_cursor_execute", die)
    assert deaths > 3
    assert not [row for row in site.links() if row["message_id"] is None]


def test_purge_lets_other_writers_pass_on_sqlite(site: Site) -> None:
    fill(site, 1_500)
    path, waits = str(site.app.config["SQLALCHEMY_DATABASE_URI"]).removeprefix("sqlite:///"), []
    thread, _ = start_purge(site)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as database:
        while thread.is_alive():
            began = time.monotonic()
            database.execute("UPDATE user SET active = active WHERE username = 'alice'")
            waits.append(time.monotonic() - began)
            time.sleep(0.002)
    assert len(waits) > 20
    assert max(waits) < 1, sorted(waits)[-5:]
