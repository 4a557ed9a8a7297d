"""The database: one engine, one clock, and how each connection is set up.

SQLite is the embedded default. The driver's own transaction start is kept: a transaction begins at
the first write, so a request that only reads holds no lock while it hashes a password.
"""

from __future__ import annotations

import sqlite3
from typing import Any, cast

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ColumnElement, CursorResult, DateTime, Delete, MetaData, Update, event, literal, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

CLOCK_SLACK_SECONDS = 60  # what lies further in the future was written before the clock was set back
CONNECT_SECONDS = 10  # how long to wait for a server that does not answer
SILENCE_MS = 30_000  # and for one that has stopped to
# What the driver raises while the database is away, full or read-only: it may come back.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
BUSY_TIMEOUT_MS = 10_000  # how long a writer waits for another before it gives up

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
    # Parameters are addresses and hashes: they do not belong in an error message.
    # And a connection that the database has closed meanwhile must not fail a request.
    engine_options={"hide_parameters": True, "pool_pre_ping": True},
)


class utcnow(FunctionElement[Any]):  # noqa: N801  # reads as an SQL function, like func.now
    """The database's time, naive UTC, plus a number of seconds: one clock for many machines."""

    type = DateTime()
    name = "utcnow"
    inherit_cache = True

    def __init__(self, plus_seconds: float | ColumnElement[float] = 0.0) -> None:
        number = isinstance(plus_seconds, (int, float))
        super().__init__(literal(float(plus_seconds)) if number else plus_seconds)


@compiles(utcnow, "sqlite")
def _utcnow_on_sqlite(element: utcnow, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    # Six digits, as SQLAlchemy stores a DateTime: text compares like time only at equal length.
    return f"(strftime('%Y-%m-%d %H:%M:%f', julianday('now') + ({seconds}) / 86400.0) || '000')"


@compiles(utcnow, "postgresql")
def _utcnow_on_postgresql(element: utcnow, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(timezone('utc', clock_timestamp()) + make_interval(secs => {seconds}))"


# By dialect: an INSERT that can say what happens on a conflict.
inserts: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def change(statement: Update | Delete) -> int:
    """Run it in the current transaction. How many rows it changed; loaded objects stay as they are."""
    result = db.session.execute(statement.execution_options(synchronize_session=False))
    return cast(CursorResult[Any], result).rowcount


def keep_lazily() -> None:
    """What the transaction that begins now writes survives the end of this process, but a power cut only once
    a later one was committed as ever, which syncs all before it. For what would merely be done again; it
    spares the disk, and on SQLite whoever waits for the write lock meanwhile. Call it before the first write.
    """
    if db.engine.dialect.name != "sqlite":
        db.session.execute(_ASYNCHRONOUSLY)
        return
    connection = db.session.connection()
    connection.info["is_lazy"] = True
    connection.exec_driver_sql("PRAGMA synchronous = NORMAL")


_ASYNCHRONOUSLY = text("SET LOCAL synchronous_commit = off")


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
def _set_up_sqlite(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # an answer of 200 survives a power cut
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()
