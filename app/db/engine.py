"""The database engine and the set-up of its connections.

SQLite is the embedded default. A transaction begins at its first write, so that a request that only reads
holds no lock while it hashes a password.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import CursorResult, Delete, MetaData, Update, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.orm import DeclarativeBase

CONNECT_TIMEOUT_SECONDS = 10
TCP_TIMEOUT_MS = 30_000
# Errors of a database that is away, full or read-only, and may come back.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
BUSY_TIMEOUT_MS = 10_000  # of a writer on SQLite that waits for another
LOCK_POLL_MS = 3
db = SQLAlchemy(
    # A migration can drop a constraint by its name only.
    metadata=MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    ),
    engine_options={
        "hide_parameters": True,  # addresses and hashes do not belong in error messages
        "pool_pre_ping": True,  # replaces connections that the server has closed
    },
)
# By dialect: INSERT with ON CONFLICT.
inserts: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def init_app(app: Flask) -> None:
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            event.listen(db.engine, "do_connect", _create_private_file)
            event.listen(db.engine, "connect", _set_up_sqlite)
            event.listen(db.engine, "before_cursor_execute", _begin_write)
        else:
            event.listen(db.engine, "do_connect", _limit_waiting)
            event.listen(db.engine, "connect", _set_up_postgresql)


def change(statement: Update | Delete) -> int:
    """Execute the statement and return the number of changed rows. Loaded objects are not updated."""
    result = db.session.execute(statement, execution_options={"synchronize_session": False})
    return cast(CursorResult[Any], result).rowcount


def limit_lock_wait() -> None:
    """Limit the wait for a row that another process has locked to 2 seconds (PostgreSQL)."""
    if db.engine.dialect.name == "postgresql":
        db.session.execute(text("SET LOCAL lock_timeout = '2s'"))


def _create_private_file(_dialect: Any, _record: Any, arguments: list[str], _parameters: Any) -> None:
    """Create a missing file with mode 0600, whatever the umask. SQLite gives its mode to -wal and -shm."""
    with suppress(OSError):  # it exists, or SQLite says why not
        os.close(os.open(arguments[0], os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # so that a response of 200 survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_write(
    _connection: Any, cursor: sqlite3.Cursor, _statement: str, _values: Any, context: Any, _several: bool
) -> None:
    """Begin a transaction at its first write, and poll for the lock.

    SQLite's own polls grow up to 100 ms apart, so that a writer starves beside busy ones.
    """
    is_write = context and (context.isinsert or context.isupdate or context.isdelete)
    if not is_write or cursor.connection.in_transaction:
        return
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 2000
    cursor.execute(f"PRAGMA busy_timeout = {LOCK_POLL_MS}")
    while not cursor.connection.in_transaction and time.monotonic() < deadline:
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                break
    # Without the lock, the statement itself fails with an error that SQLAlchemy wraps.
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS // 2}")


def _limit_waiting(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
    """Set timeouts for a server that does not answer, unless the URI sets its own."""
    parameters.setdefault("connect_timeout", CONNECT_TIMEOUT_SECONDS)
    parameters.setdefault("tcp_user_timeout", TCP_TIMEOUT_MS)


def _set_up_postgresql(connection: Any, _record: Any) -> None:
    from psycopg import IsolationLevel  # loaded only where it is the driver: 7 MiB

    # After a wait for a lock, a statement must see the rows that were committed meanwhile.
    connection.isolation_level = IsolationLevel.READ_COMMITTED


if TYPE_CHECKING:

    class Model(DeclarativeBase):
        """The type of db.Model, for the type checker."""

else:
    Model = db.Model
