"""The database: one engine, and how each of its connections is set up.

SQLite is the embedded default. Its transactions begin at the first write, so a request that only reads holds
no lock while it hashes a password.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any, cast

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import CursorResult, Delete, MetaData, Update, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.orm import DeclarativeBase

CONNECT_SECONDS = 10  # how long to wait for a server that does not answer
SILENCE_MS = 30_000  # and for one that has stopped answering
# Raised by the driver while the database is away, full or read-only: it may come back.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
BUSY_TIMEOUT_MS = 10_000  # how long a writer on SQLite waits for another before it gives up
POLL_MS = 3  # and how often it looks
db = SQLAlchemy(
    # Constraints need names, or a later migration cannot drop them.
    metadata=MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    ),
    engine_options={
        "hide_parameters": True,  # they are addresses and hashes, which do not belong in an error message
        "pool_pre_ping": True,  # a connection that the server closed meanwhile fails no request
    },
)
# By dialect: an INSERT that can say what happens on a conflict.
inserts: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def init_app(app: Flask) -> None:
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            event.listen(db.engine, "connect", _set_up_sqlite)
            event.listen(db.engine, "before_cursor_execute", _begin_write)
        else:
            event.listen(db.engine, "do_connect", _limit_waiting)
            event.listen(db.engine, "connect", _set_up_postgresql)


def change(statement: Update | Delete) -> int:
    """Return how many rows the statement changed, in this transaction. Loaded objects stay as they are."""
    result = db.session.execute(statement, execution_options={"synchronize_session": False})
    return cast(CursorResult[Any], result).rowcount


def limit_lock_wait() -> None:
    """Fail after 2 seconds rather than wait for a row that another process holds (PostgreSQL)."""
    if db.engine.dialect.name == "postgresql":
        db.session.execute(text("SET LOCAL lock_timeout = '2s'"))


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # an answer of 200 survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_write(
    _connection: Any, cursor: sqlite3.Cursor, _statement: str, _values: Any, context: Any, _several: bool
) -> None:
    """Begin a transaction at its first write, polling for the lock.

    SQLite itself looks ever more rarely, up to 100 ms apart, so a writer would starve beside busy ones.
    """
    is_write = context and (context.isinsert or context.isupdate or context.isdelete)
    if not is_write or cursor.connection.in_transaction:
        return
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 2000
    cursor.execute(f"PRAGMA busy_timeout = {POLL_MS}")
    while not cursor.connection.in_transaction and time.monotonic() < deadline:
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                break
    # Without a lock by now, the statement itself fails, as an error that SQLAlchemy knows.
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS // 2}")


def _limit_waiting(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
    """Notice in time that a server no longer answers. The URI may say otherwise."""
    parameters.setdefault("connect_timeout", CONNECT_SECONDS)
    parameters.setdefault("tcp_user_timeout", SILENCE_MS)


def _set_up_postgresql(connection: Any, _record: Any) -> None:
    from psycopg import IsolationLevel  # loaded only where it is the driver: 7 MiB

    # Whatever the server's default is: who waited for a lock must see what was committed meanwhile.
    connection.isolation_level = IsolationLevel.READ_COMMITTED


if TYPE_CHECKING:

    class Model(DeclarativeBase):
        """The type checker's db.Model."""

else:
    Model = db.Model
