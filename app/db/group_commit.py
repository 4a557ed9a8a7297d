"""Writes of several requests that come at once, in one transaction.

A durable commit waits for the disk, and SQLite lets one connection write at a time. So whoever comes while
a commit is under way waits for its end, and all who have waited go into the next one: a flood costs a commit
for each batch, not one for each request. Nobody is answered before what they wrote is safe.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from flask import Flask, current_app
from sqlalchemy import Executable, text
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from .engine import DATABASE_AWAY, db, is_locked

PATIENCE_MS = 2_000  # for a row that somebody holds (PostgreSQL): a process that froze, or an admin
ALIKE = (*DATABASE_AWAY, NoConnectionFree)  # what meets everybody who writes
Write = tuple[Executable, dict[str, Any]]  # a statement that is the same for all, and its values


def init_app(app: Flask) -> None:
    app.extensions["recovery_together"] = _Queue()


def write(*writes: Write) -> None:
    """Commit them, all or none. Commits what the session holds first: whoever waits holds no connection.

    Raises what the database does.
    """
    if db.session.registry.has() and db.session().in_transaction():
        db.session.commit()
    queue: _Queue = current_app.extensions["recovery_together"]
    queue.write(_Entry(writes))


@dataclass
class _Entry:
    """What one request writes."""

    writes: tuple[Write, ...]
    is_done: bool = False
    error: BaseException | None = None


class _Queue:
    """Whoever has the turn writes for all who wait."""

    def __init__(self) -> None:
        self._waiting: list[_Entry] = []
        self._list, self._turn = threading.Lock(), threading.Lock()

    def write(self, entry: _Entry) -> None:
        with self._list:
            self._waiting.append(entry)
        with self._turn:
            if not entry.is_done:
                with self._list:
                    batch, self._waiting = self._waiting, []
                _commit(batch)
        if entry.error is not None:
            raise entry.error


def _commit(batch: list[_Entry]) -> None:
    error: BaseException | None = None
    try:
        _execute(batch)
    except BaseException as failure:
        error = failure
    if len(batch) > 1 and _may_be_of_one(error):
        for entry in batch:  # what can not be written must not take the others along
            _commit([entry])
        return
    for entry in batch:
        entry.is_done, entry.error = True, error


def _may_be_of_one(error: BaseException | None) -> bool:
    """Whether it may be the fault of one entry. What meets all alike is not tried again for each in turn, or
    the last one would wait for all."""
    meets_all = isinstance(error, ALIKE) and not is_locked(error)
    return isinstance(error, Exception) and not meets_all


def _execute(batch: list[_Entry]) -> None:
    rows: dict[Executable, list[dict[str, Any]]] = defaultdict(list)
    for entry in batch:
        for statement, values in entry.writes:
            rows[statement].append(values)
    with db.engine.begin() as connection:
        if db.engine.dialect.name != "sqlite":
            connection.execute(text(f"SET LOCAL lock_timeout = {PATIENCE_MS}"))
        for statement, several in rows.items():
            # In one order everywhere, or two processes could each wait for a row of the other's.
            connection.execute(statement, sorted(several, key=lambda row: row.get("same") or ""))
