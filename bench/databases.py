"""Databases to measure on: SQLite files, or a PostgreSQL server that is started for the bench."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import stage
from sqlalchemy import Connection, NullPool, create_engine
from stage import servers


class SQLite:
    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> str:
        """Return the URI of a new database."""
        return f"sqlite:///{self.folder}/{len(list(self.folder.glob('*.db')))}.db"

    def copy(self, uri: str) -> str:
        """Copy a database. The copy replaces the one that was made before."""
        path, original = self.folder / "copy", uri.removeprefix("sqlite:///")
        for old in self.folder.glob("copy*"):
            old.unlink()
        with closing(sqlite3.connect(original)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        return f"sqlite:///{path}"


class PostgreSQL(servers.PostgreSQL):
    """The tests' server, but it syncs each commit to the disk."""

    name = "PostgreSQL"
    settings = ("shared_buffers=512MB", "max_wal_size=4GB")

    def copy(self, uri: str) -> str:
        self.execute("DROP DATABASE IF EXISTS copy WITH (FORCE)")
        self.execute(f"CREATE DATABASE copy TEMPLATE {uri.rsplit('/', 1)[1]}")
        return self.dsn("copy")


Databases = SQLite | PostgreSQL


def available() -> list[str]:
    """Return the engines of this machine."""
    if servers.find_postgresql():
        return ["SQLite", "PostgreSQL"]
    stage.say("PostgreSQL is left out: its server is not installed (Debian: apt-get install postgresql)")
    return ["SQLite"]


@contextmanager
def started(name: str) -> Iterator[Databases]:
    if name == "SQLite":
        with TemporaryDirectory(dir=stage.KEPT) as folder:  # on a disk, as /tmp may not be
            yield SQLite(Path(folder))
    else:
        programs = servers.find_postgresql()
        assert programs, "PostgreSQL's server is not installed"
        with servers.postgresql(programs, kind=PostgreSQL) as server:
            yield server


@contextmanager
def connection(database: str) -> Iterator[Connection]:
    """Write to a database directly, in one transaction."""
    engine = create_engine(database.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.begin() as connected:
        yield connected
