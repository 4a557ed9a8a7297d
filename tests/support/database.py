"""The database of a site: as a URL, as text, and the statements that it runs."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy import event

from app.accounts.models import User
from app.db.engine import db

from .site import Site


def database_uri(site: Site) -> str:
    with site.app.app_context():
        return db.engine.url.render_as_string(hide_password=False)


def dump(site: Site) -> str:
    """Return everything that is stored (SQLite)."""
    with closing(sqlite3.connect(database_uri(site).removeprefix("sqlite:///"))) as connection:
        return "\n".join(connection.iterdump())


@contextmanager
def statements_of(site: Site) -> Iterator[list[str]]:
    """Yield the statements that run, in order."""
    statements: list[str] = []
    with site.app.app_context():
        engine = db.engine

    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def fault_at(site: Site, number: int, error: Exception) -> Iterator[list[str]]:
    """Raise an error once, at the n-th statement or commit. Yields those that ran."""
    ran: list[str] = []
    with site.app.app_context():
        engine = db.engine

    def note(_connection: object, _cursor: object = None, statement: str = "COMMIT", *_: object) -> None:
        ran.append(statement)
        if len(ran) == number + 1:
            raise error

    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "commit", note)
    try:
        yield ran
    finally:
        event.remove(engine, "before_cursor_execute", note)
        event.remove(engine, "commit", note)


def delete_account(site: Site, username: str = "alice") -> None:
    with site.app.app_context():
        db.session.delete(db.session.query(User).filter_by(username=username).one())
        db.session.commit()
