"""Many who ask at once: one commit for all of them, and each gets the answer that is true for them."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import servers
from conftest import BOTH, Site, wait_for
from sqlalchemy import event, text
from sqlalchemy.exc import DataError, OperationalError

from app.db import group_commit
from app.db.engine import db, keep_lazily
from app.mail import outbox

ASKERS = 8


def ask_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first one is held up until all others wait for it."""
    execute, all_wait, is_first = group_commit._execute, threading.Event(), threading.Lock()

    def hold_up(batch: Any) -> None:
        if is_first.acquire(blocking=False):
            assert all_wait.wait(20)
        execute(batch)

    monkeypatch.setattr(group_commit, "_execute", hold_up)
    site.app.extensions["outbox_full"] = math.inf, False  # which nobody looks up now
    queue = site.app.extensions["recovery_together"]
    with ThreadPoolExecutor(ASKERS) as threads:
        answers = [threads.submit(site.ask, f"u{number}@example.com") for number in range(ASKERS)]
        try:
            wait_for(lambda: len(queue._waiting) == ASKERS - 1)
        finally:
            all_wait.set()
        return sorted(answer.result().status_code for answer in answers)


@BOTH
def test_who_comes_at_once_is_committed_together(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[Any] = []
    with site.app.app_context():
        event.listen(db.engine, "commit", commits.append)
    assert ask_at_once(site, monkeypatch) == [200] * ASKERS
    assert len(commits) == 2  # of the first, and of all the others
    assert len(site.messages()) == ASKERS
    assert site.events() == ["requested"] * ASKERS


def test_one_that_can_not_be_written_takes_no_other_along(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = outbox.written

    def break_one(kind: str, **what: Any) -> Any:
        if what["identity"].startswith("u3@"):
            return text("INSERT INTO nowhere VALUES (1)"), {}
        return written(kind, **what)

    monkeypatch.setattr(outbox, "written", break_one)
    monkeypatch.setattr(group_commit, "ALIKE", (DataError,))  # such a fault, and not an outage
    answers = ask_at_once(site, monkeypatch)
    assert answers == [200] * (ASKERS - 1) + [503]
    assert len(site.messages()) == len(site.events()) == ASKERS - 1


def test_nor_does_one_that_the_driver_itself_refuses(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As text that is none: no error of the database's."""
    written = outbox.written

    def spoil_one(kind: str, **what: Any) -> Any:
        statement, values = written(kind, **what)
        return statement, {**values, "kind": "\ud800"} if what["identity"].startswith("u3@") else values

    monkeypatch.setattr(outbox, "written", spoil_one)
    assert ask_at_once(site, monkeypatch) == [200] * (ASKERS - 1) + [500]
    assert len(site.messages()) == len(site.events()) == ASKERS - 1


def test_where_no_connection_is_free_all_wait_for_one_no_longer_than_each(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.app.app_context():
        pool: Any = db.engine.pool
        monkeypatch.setattr(pool, "_timeout", 0.5)
        taken = [db.engine.connect() for _ in range(pool.size() + pool._max_overflow)]
    began = time.monotonic()
    assert set(ask_at_once(site, monkeypatch)) == {500}
    assert time.monotonic() - began < 0.5 * ASKERS / 2
    for connection in taken:
        connection.close()


def test_when_the_database_goes_away_everybody_hears_of_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_away(_connection: Any) -> None:
        raise OperationalError("COMMIT", {}, Exception("gone"))

    with site.app.app_context():
        event.listen(db.engine, "commit", go_away)
    assert ask_at_once(site, monkeypatch) == [503] * ASKERS
    with site.app.app_context():
        event.remove(db.engine, "commit", go_away)
    assert site.messages() == site.events() == []


def test_a_row_that_somebody_holds_for_long_stops_nobody_else(
    postgresql: servers.PostgreSQL, fresh_postgresql: str, make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site: Site = make_site(SQLALCHEMY_DATABASE_URI=postgresql.create(fresh_postgresql))
    site.ask("u3@example.com")
    with site.app.app_context():
        frozen = db.engine.connect()
    with frozen:
        frozen.execute(text("SELECT * FROM outbox_message WHERE id = 1 FOR UPDATE"))
        assert ask_at_once(site, monkeypatch) == [200] * (ASKERS - 1) + [503]


@BOTH
def test_what_is_kept_lazily_leaves_the_next_transaction_as_durable_as_ever(site: Site) -> None:
    asked, prompt = {"sqlite": ("PRAGMA synchronous", 2), "postgresql": ("SHOW synchronous_commit", "on")}[
        site.app.extensions["recovery_settings"].SQLALCHEMY_DATABASE_URI.split(":")[0].split("+")[0]
    ]
    with site.app.app_context():
        for end in (db.session.commit, db.session.rollback):
            keep_lazily()
            assert db.session.scalar(text(asked)) != prompt
            outbox.enqueue("reset_instructions", identity="alice", client="browser")
            end()
            assert db.session.scalar(text(asked)) == prompt
            db.session.rollback()
