"""The database engine and the set-up of its connections.

SQLite is the embedded default. A transaction begins at its first write, so that a request that only reads
holds no lock while it hashes a password.
"""

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import CursorResult, Delete, MetaData, Update, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    TimeoutError as PoolTimeout,
)
from sqlalchemy.orm import DeclarativeBase

CONNECT_TIMEOUT_SECONDS = 10
TCP_TIMEOUT_MS = 30_000
# Errors of a database that is away, full, read-only, or without a free connection, and may come back.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError, PoolTimeout)
UNDEFINED = ("42P01", "42703")  # SQLSTATEs of a missing table or column
BUSY_TIMEOUT_MS = 10_000  # of a writer on SQLite that waits for another
LOCK_POLL_MS = 3
ATTACHED = "application"  # the name of the application's file on a connection (SQLite)
# Locks Sparekey's file alone. BEGIN IMMEDIATE would stop the application, too, at each request.
LOCK_OWN_FILE = "UPDATE main.sparekey_version SET version_num = version_num WHERE 0"
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


class AccountsAway(OperationalError):
    """The application's accounts cannot be read or written: it is away, or does not fit RECOVERY_ACCOUNTS."""

    def __init__(self, reason: str) -> None:
        super().__init__(None, None, Exception(f"RECOVERY_ACCOUNTS: {reason}"))

    def __str__(self) -> str:
        return str(self.orig)


def reason_of(error: Exception) -> str:
    """Return the first line of a database error, or the class of the driver's error if it has no text."""
    cause = getattr(error, "orig", None) or error
    return next(iter(str(cause).splitlines()), "") or type(cause).__name__


def describe(error: Exception) -> str:
    """Return what a database error means to the admin, and where to look."""
    reason = reason_of(error)
    if isinstance(error, AccountsAway):
        return f"the application's accounts cannot be used. {reason}"
    if isinstance(error, (DataError, IntegrityError)):
        return f"the database refuses this: {reason}"
    state = getattr(getattr(error, "orig", None), "sqlstate", "")
    is_missing = reason.startswith(("no such ", "table ")) or state in UNDEFINED
    hint = ". Is it set up? manage.py db upgrade" if is_missing else " (SQLALCHEMY_DATABASE_URI)"
    return f"the database cannot be used: {reason}{hint}"


def init_app(app: Flask) -> None:
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            event.listen(db.engine, "do_connect", _create_private_file)
            event.listen(db.engine, "connect", _set_up_sqlite)
            event.listen(db.engine, "before_cursor_execute", _begin_write)
            event.listen(db.engine, "checkin", _detach)
        else:
            event.listen(db.engine, "do_connect", _limit_waiting)
            event.listen(db.engine, "connect", _set_up_postgresql)


def change(statement: Update | Delete) -> int:
    """Execute the statement and return the number of changed rows. Loaded objects are not updated."""
    result = db.session.execute(statement, execution_options={"synchronize_session": False})
    return cast(CursorResult[Any], result).rowcount


def limit_lock_wait(seconds: int = 2) -> None:
    """Limit the wait for a row that another process has locked (PostgreSQL)."""
    if db.engine.dialect.name == "postgresql":
        db.session.execute(text(f"SET LOCAL lock_timeout = '{seconds}s'"))


def attach(path: str) -> None:
    """Attach the application's file to the session's connection, unless it is attached (SQLite)."""
    connection = db.session.connection()
    if path and ATTACHED not in connection.info:
        uri = f"{Path(path).as_uri()}?mode=rw"  # which makes no file
        connection.exec_driver_sql(f"ATTACH ? AS {ATTACHED}", (uri,))
        connection.info[ATTACHED] = True
        # One row that is not UTF-8 must not keep all others from being read.
        driver: Any = connection.connection.dbapi_connection
        driver.text_factory = lambda text: text.decode(errors="replace")


def _detach(connection: sqlite3.Connection | None, record: Any) -> None:
    """Detach the application's file, because another may take its place, as a restored backup does."""
    if connection and record.info.pop(ATTACHED, False):
        connection.execute(f"DETACH {ATTACHED}")
        connection.text_factory = str


def _create_private_file(_dialect: Any, _record: Any, arguments: list[str], options: dict[str, Any]) -> None:
    """Create a missing file with mode 0600, whatever the umask. SQLite gives its mode to -wal and -shm."""
    options["uri"] = True  # for `attach`
    with suppress(OSError):  # it exists, or SQLite says why not
        os.close(os.open(arguments[0], os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA main.journal_mode = WAL")  # of Sparekey's file alone
    connection.execute("PRAGMA synchronous = FULL")  # so that a response of 200 survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_write(
    connection: Any, cursor: sqlite3.Cursor, statement: str, _values: Any, context: Any, _several: bool
) -> None:
    """Begin a transaction at its first write, and poll for the lock.

    SQLite's own polls grow up to 100 ms apart, so that a writer starves beside busy ones.
    """
    is_write = context and (context.isinsert or context.isupdate or context.isdelete)
    if not is_write or cursor.connection.in_transaction:
        return
    lock, wait_ms = "BEGIN IMMEDIATE", BUSY_TIMEOUT_MS // 2
    if f"{ATTACHED}." in statement:
        wait_ms //= 2
    elif ATTACHED in connection.info:
        cursor.execute("BEGIN")
        lock = LOCK_OWN_FILE
    deadline = time.monotonic() + wait_ms / 1000
    cursor.execute(f"PRAGMA busy_timeout = {LOCK_POLL_MS}")
    while time.monotonic() < deadline:
        try:
            cursor.execute(lock)
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                break
    # Without the lock, the statement itself fails with an error that SQLAlchemy wraps.
    cursor.execute(f"PRAGMA busy_timeout = {wait_ms}")


def _limit_waiting(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
    """Set timeouts for a server that does not answer, unless the URI sets its own."""
    parameters.setdefault("connect_timeout", CONNECT_TIMEOUT_SECONDS)
    parameters.setdefault("tcp_user_timeout", TCP_TIMEOUT_MS)
    parameters.setdefault("keepalives_idle", TCP_TIMEOUT_MS // 2000)  # while a result is awaited
    parameters.setdefault("keepalives_interval", 5)


def _set_up_postgresql(connection: Any, _record: Any) -> None:
    from psycopg import IsolationLevel  # loaded only where it is the driver: 7 MiB

    # After a wait for a lock, a statement must see the rows that were committed meanwhile.
    connection.isolation_level = IsolationLevel.READ_COMMITTED


if TYPE_CHECKING:

    class Model(DeclarativeBase):
        """The type of db.Model, for the type checker."""

else:
    Model = db.Model
