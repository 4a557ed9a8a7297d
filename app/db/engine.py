"""The database: one engine, and how each connection is set up.

SQLite is the embedded default. A transaction begins at the first write, as the driver has it, so a request
that only reads holds no lock while it hashes a password; it is begun here, to wait for its turn.
"""

from __future__ import annotations

import math
import sqlite3
import time
from typing import TYPE_CHECKING, Any, cast

import psycopg
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import CursorResult, Delete, MetaData, Update, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InterfaceError, InternalError, InvalidatePoolError, OperationalError
from sqlalchemy.orm import DeclarativeBase

CONNECT_SECONDS = 10  # how long to wait for a server that does not answer
SILENCE_MS = 30_000  # and for one that has stopped to
# What the driver raises while the database is away, full or read-only: it may come back.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
BUSY_TIMEOUT_MS = 10_000  # how long a writer waits for another before it gives up
IMPATIENCE_MS = 3  # and how long, at most, from one look at the lock to the next
IDLE_SECONDS = 0.1  # after which a connection may be gone
db = SQLAlchemy(
    # Constraints need names, or a later migration can not drop them.
    metadata=MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    ),
    engine_options={
        "hide_parameters": True,  # they are addresses and hashes: they do not belong in an error message
        "pool_use_lifo": True,  # SQLite's pages are known to the connection that wrote last
    },
)
# By dialect: an INSERT that can say what happens on a conflict.
inserts: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def change(statement: Update | Delete, values: dict[str, Any] | None = None) -> int:
    """Run it in the current transaction. How many rows it changed; loaded objects stay as they are."""
    result = db.session.execute(statement, values, execution_options={"synchronize_session": False})
    return cast(CursorResult[Any], result).rowcount


def is_locked(error: BaseException | None) -> bool:
    """Whether PostgreSQL gave up to wait for a row that somebody holds."""
    return isinstance(getattr(error, "orig", None), psycopg.errors.LockNotAvailable)


def keep_lazily(patience_ms: int = 0) -> None:
    """What the transaction that begins now writes survives the end of this process, but a power cut, or a
    crash of PostgreSQL, only once a later one was committed as ever, which syncs all before it. For what
    would merely be done again; it spares the disk, and on SQLite whoever waits for the write lock meanwhile.
    Call it before the first write.

    `patience_ms`: how long it waits for a lock on PostgreSQL; 0: as long as the server says.
    """
    connection = db.session.connection()
    if connection.dialect.name == "sqlite":
        connection.info["is_lazy"] = True
        connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
        return
    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
    if patience_ms:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {patience_ms}")


@event.listens_for(Engine, "before_cursor_execute")
def _be_impatient(
    _connection: Any, cursor: Any, _statement: str, _values: Any, context: Any, _several: bool
) -> None:
    """SQLite looks ever more rarely whether a database is still locked, up to 100 ms apart, so who waits
    beside others who write all the time waits for long: here it looks again soon, and so gets its turn. This
    is where the driver would begin a transaction, at the first write.
    """
    connection = cursor.connection
    is_write = context and (context.isinsert or context.isupdate or context.isdelete)
    if not isinstance(connection, sqlite3.Connection) or not is_write or connection.in_transaction:
        return
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 2000
    cursor.execute(f"PRAGMA busy_timeout = {IMPATIENCE_MS}")
    while not connection.in_transaction and time.monotonic() < deadline:
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                break
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS // 2}")  # else it is for the statement to fail


@event.listens_for(Engine, "checkin")
def _note_the_time(_connection: Any, record: Any) -> None:
    if record is not None:
        record.info["idle_since"] = time.monotonic()


@event.listens_for(Engine, "checkout")
def _is_it_still_there(connection: Any, record: Any, _proxy: Any) -> None:
    """A connection that the database has closed meanwhile must not fail a request. Asked only of one that was
    idle: SQLAlchemy's pool_pre_ping would cost a round trip each time."""
    idle = time.monotonic() - record.info.get("idle_since", math.inf)
    if idle > IDLE_SECONDS and not isinstance(connection, sqlite3.Connection):
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except psycopg.Error:
            raise InvalidatePoolError from None  # it takes another one


@event.listens_for(Engine, "reset")
def _be_prompt_again(connection: Any, record: Any, _state: Any) -> None:
    """Before anybody else gets this connection."""
    if record is not None and record.info.pop("is_lazy", False):
        connection.rollback()
        connection.execute("PRAGMA synchronous = FULL")


@event.listens_for(Engine, "do_connect")
def _notice_a_lost_server(dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
    """A PostgreSQL that no longer answers at all is noticed in time; a URI may say otherwise."""
    if dialect.name == "postgresql":
        parameters.setdefault("connect_timeout", CONNECT_SECONDS)
        parameters.setdefault("tcp_user_timeout", SILENCE_MS)


@event.listens_for(Engine, "connect")
def _set_up(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # an answer of 200 survives a power cut
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()
    else:
        # Whatever the server's default is: who has waited for a lock must see what was written meanwhile.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED


if TYPE_CHECKING:

    class Model(DeclarativeBase):
        """What db.Model is, in words that the type checker knows."""

else:
    Model = db.Model
