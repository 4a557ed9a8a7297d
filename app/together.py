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

from .db import DATABASE_AWAY, db, is_locked

Write = tuple[Executable, dict[str, Any]]  # a statement that is the same for all, and its values


# What happens to all alike: to try one after the other would only make the last one wait for all.
ALIKE = (*DATABASE_AWAY, NoConnectionFree)


def init_app(app: Flask) -> None:
    app.extensions["recovery_together"] = _Queue()


def write(*writes: Write) -> None:
    """Commit them, all or none. Commits what the session holds first: whoever waits holds no connection.

    Raises what the database does.
    """
    if db.session().in_transaction():
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
    is_of_all = error is None or isinstance(error, ALIKE) or not isinstance(error, Exception)
    is_of_all = is_of_all and not is_locked(error)
    if len(batch) > 1 and not is_of_all:
        for entry in batch:  # one that can not be written must not take the others along
            _commit([entry])
        return
    for entry in batch:
        entry.is_done, entry.error = True, error


# Somebody may hold one row for long, a process that froze or an admin; the others must not wait for that.
_PATIENCE = text("SET LOCAL lock_timeout = 2000")


def _execute(batch: list[_Entry]) -> None:
    rows: dict[Executable, list[dict[str, Any]]] = defaultdict(list)
    for entry in batch:
        for statement, values in entry.writes:
            rows[statement].append(values)
    with db.engine.begin() as connection:
        if db.engine.dialect.name != "sqlite":
            connection.execute(_PATIENCE)
        for statement, several in rows.items():
            # In one order everywhere, or two processes could each wait for a row of the other's.
            connection.execute(statement, sorted(several, key=lambda row: row.get("same") or ""))
