"""Databases to measure on: SQLite files, or a PostgreSQL server that is started for the bench."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import stage
from stage import servers

ENGINES = ("SQLite", "PostgreSQL")


class Durable(servers.PostgreSQL):
    """The tests' server, but it syncs each commit to the disk."""

    settings = ("shared_buffers=512MB", "max_wal_size=4GB")


@dataclass(frozen=True)
class Databases:
    """One engine's databases, by URI."""

    name: str
    create: Callable[[], str]
    copy: Callable[[str], str]  # replaces the copy that was made before


def available() -> list[str]:
    """Return the engines of this machine."""
    if servers.find_postgresql():
        return list(ENGINES)
    stage.say("PostgreSQL is left out: its server is not installed (Debian: apt-get install postgresql)")
    return ["SQLite"]


@contextmanager
def started(name: str) -> Iterator[Databases]:
    if name == "SQLite":
        with TemporaryDirectory(dir=stage.KEPT) as folder:  # on a disk, as /tmp may not be
            yield sqlite(Path(folder))
        return
    programs = servers.find_postgresql()
    assert programs, "PostgreSQL's server is not installed"
    with servers.postgresql(programs, kind=Durable) as server:

        def copy(uri: str) -> str:
            server.execute("DROP DATABASE IF EXISTS copy WITH (FORCE)")
            server.execute(f"CREATE DATABASE copy TEMPLATE {uri.rsplit('/', 1)[1]}")
            return server.dsn("copy")

        yield Databases(name, server.create, copy)


def sqlite(folder: Path) -> Databases:
    def create() -> str:
        return f"sqlite:///{folder}/{len(list(folder.glob('*.db')))}.db"

    def copy(uri: str) -> str:
        path = folder / "copy"
        for old in folder.glob("copy*"):
            old.unlink()
        original = uri.removeprefix("sqlite:///")
        with closing(sqlite3.connect(original)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        return f"sqlite:///{path}"

    return Databases("SQLite", create, copy)
