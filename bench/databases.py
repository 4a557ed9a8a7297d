"""The database that all peers have, made anew for each look: SQLite, or a PostgreSQL that is there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg

PREFIX = "sparekey_bench_"  # nothing else of that server is touched


class Databases(Protocol):
    """What `Place` needs of them."""

    name: str

    def make(self, name: str) -> str:
        """An empty one, as a URI."""
        ...

    def copy(self, name: str) -> str:
        """A copy of that one, as a URI; it replaces the last one."""
        ...

    def drop(self) -> None: ...


class Sqlite:
    """Files in a folder that its owner removes."""

    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, name: str) -> str:
        return f"sqlite:///{self.folder / name}.db"

    def copy(self, name: str) -> str:
        run = self.folder / "run.db"
        for path in (run, Path(f"{run}-wal"), Path(f"{run}-shm")):
            path.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(self.folder / f"{name}.db")) as one,
            closing(sqlite3.connect(run)) as other,
        ):
            one.backup(other)
        return f"sqlite:///{run}"

    def drop(self) -> None:
        """Goes with the folder."""


class Postgresql:
    """Databases of our own on a server whose URI is given: a user that may make them, and any database."""

    name = "PostgreSQL"

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.made: set[str] = set()

    def make(self, name: str, template: str = "template1") -> str:
        own = PREFIX + name
        self._do(f'DROP DATABASE IF EXISTS "{own}" WITH (FORCE)')
        self._do(f'CREATE DATABASE "{own}" TEMPLATE "{template}"')
        self.made.add(own)
        return urlunsplit(urlsplit(self.uri)._replace(path=f"/{own}"))

    def copy(self, name: str) -> str:
        return self.make("run", template=PREFIX + name)

    def drop(self) -> None:
        for own in self.made:
            self._do(f'DROP DATABASE IF EXISTS "{own}" WITH (FORCE)')

    def _do(self, statement: str) -> None:
        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute(statement.encode())
