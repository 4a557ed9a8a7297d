"""How does cost grow with the number of users? `bench/scale.py`, on SQLite and on a PostgreSQL of its own.

Databases of each size are filled, and whatever a request, the worker or an admin does is timed in each: sizes
take turns, so that whatever else the machine does meets all alike. What counts is the ratio of the medians to
those of the smallest size. Then the same by the number of mails that wait.

Everything is read once before, so that no figure is that of a cold disk. SQLite has the cache that the
application gives it (2 MB a connection), and the rest is in the system's; PostgreSQL has 1 GB, and fsync on.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import costs
import crowd
import curves
import plans
import servers
import sink
from conftest import load_settings
from costs import Cost, Place
from flask_security.utils import hash_password
from sqlalchemy import text

from app import create_app
from app.db.engine import db

KEPT = ROOT / "instance" / "bench" / "scale.json"
SIZES = "10000,1000000"
WAITING, WAITING_MANY = 1_000, 1_000_000
RECENT_LINKS = 9_000
BULK_ROUNDS = 3

Samples = dict[str, dict[str, list[float]]]  # by name, then by size or state: milliseconds


class Durable(servers.PostgreSQL):
    """As it comes, but for its memory."""

    settings = ("shared_buffers=1GB", "max_wal_size=4GB", "max_parallel_maintenance_workers=2")


@dataclass
class Engine:
    """Where databases are made: `create` makes an empty one, `copy` another like it."""

    name: str
    folder: Path
    create: Callable[[], str]
    copy: Callable[[str], str]


@dataclass
class Measured:
    """What was seen on one engine."""

    engine: str
    version: str = ""
    fills: dict[str, tuple[float, int]] = field(default_factory=dict)  # seconds, bytes; by size
    users: Samples = field(default_factory=dict)
    bulk: Samples = field(default_factory=dict)  # of 10,000 rows
    waiting: Samples = field(default_factory=dict)
    scans: list[dict[str, Any]] = field(default_factory=list)


def main() -> None:
    options = arguments()
    if options.again:
        write(options)
        return
    logging.disable(logging.ERROR)  # thousands of lines that all is well
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is large is deleted then, too
    measured = []
    with tempfile.TemporaryDirectory(prefix="sparekey-scale-") as name, sink.running() as box:
        for engine in engines(Path(name), options.engine):
            measured.append(Measured(engine.name))
            for _ in measure(engine, measured[-1], options, box.port):
                keep(measured, options)
                write(options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How does cost grow with the number of users?")
    parser.add_argument("--sizes", default=SIZES, help="of the crowd, the smallest first")
    parser.add_argument("--rounds", type=int, default=10, help="in which the sizes take turns")
    parser.add_argument("--each", type=int, default=30, help="how often in each round")
    parser.add_argument(
        "--waiting", type=int, default=WAITING_MANY, help="mails that wait; 0: leave that out"
    )
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], help="this one only")
    parser.add_argument("--out", type=Path, default=ROOT / "instance/bench/scale.md", help="the tables")
    parser.add_argument("--chart", type=Path, help="the curves; beside the tables")
    parser.add_argument("--again", action="store_true", help="only write what was measured last")
    parser.add_argument("--stay", action="store_true", help="name each database, and wait for Enter")
    options = parser.parse_args()
    options.sizes = [int(size) for size in options.sizes.split(",")]
    options.chart = options.chart or options.out.with_suffix(".svg")
    return options


def engines(folder: Path, only: str | None) -> Iterator[Engine]:
    """Each is gone before the next comes: they are large."""
    if only != "postgresql":
        with sqlite(folder) as engine:
            yield engine
    programs = servers.find_postgresql()
    if programs is None:
        say("PostgreSQL's programs are not installed (Debian: apt-get install postgresql): SQLite only")
    elif only != "sqlite":
        with servers.postgresql(programs, kind=Durable) as server:
            yield Engine(
                "PostgreSQL", server.folder, server.create, lambda uri: server.create(uri.rsplit("/", 1)[1])
            )


@contextmanager
def sqlite(folder: Path) -> Iterator[Engine]:
    place = folder / "sqlite"
    place.mkdir()

    def create() -> str:
        return f"sqlite:///{place}/{len(list(place.glob('*.db')))}.db"

    def copy(uri: str) -> str:
        crowd.run(uri, "PRAGMA wal_checkpoint(TRUNCATE)")
        new = create()
        shutil.copy(uri.removeprefix("sqlite:///"), new.removeprefix("sqlite:///"))
        return new

    yield Engine("SQLite", place, create, copy)
    shutil.rmtree(place)


def measure(engine: Engine, found: Measured, options: argparse.Namespace, mail_port: int) -> Iterator[None]:
    """Part by part: what is there can be kept."""
    uris = {}
    for size in options.sizes:
        uris[size], start = engine.create(), time.perf_counter()
        crowd.fill(uris[size], size)
        found.fills[str(size)] = time.perf_counter() - start, crowd.size_of(uris[size])
        say(f"{engine.name}: {size:,} users in {found.fills[str(size)][0]:.0f} s")
    smallest = engine.copy(uris[options.sizes[0]]) if options.waiting else ""
    warm(engine.folder)
    places = {str(size): Place(uri, size, mail_port) for size, uri in uris.items()}
    found.version = version_of(places[str(options.sizes[0])])
    found.users = in_turns(places, costs.COSTS, options)
    yield
    found.bulk = bulk(places)
    found.scans = plans.whole_tables(places[str(options.sizes[-1])], costs.COSTS)
    stay(places, options)
    for place in places.values():
        place.close()
    yield
    if options.waiting:
        found.waiting = measure_waiting(engine, smallest, options, mail_port)
        yield


def measure_waiting(engine: Engine, smallest: str, options: argparse.Namespace, mail_port: int) -> Samples:
    """The same crowd with more and more in its outbox."""
    users, many = options.sizes[0], options.waiting
    settings = {"RECOVERY_MAIL_WAITING_MAX": 2 * many}  # or so many would never wait
    uris = {
        f"{WAITING:,} wait": lambda uri, sealed: crowd.add_waiting(uri, WAITING, sealed, is_due=True),
        f"{many:,} wait": lambda uri, sealed: crowd.add_waiting(uri, many, sealed, is_due=True),
        f"{many:,} were tried": lambda uri, sealed: crowd.add_waiting(uri, many, sealed, is_due=False),
        f"{RECENT_LINKS:,} links this hour": lambda uri, _: crowd.add_links(uri, users, RECENT_LINKS),
    }
    places = {}
    for name, add in uris.items():
        uri = engine.copy(smallest)
        add(uri, sealed_by(uri))
        places[name] = Place(uri, users, mail_port, **settings)
    warm(engine.folder)
    found = in_turns(places, costs.WAITING_COSTS, options)
    stay(places, options)
    for place in places.values():
        place.close()
    return found


def sealed_by(uri: str) -> str:
    """What a message says, as the outbox keeps it: any will do."""
    place = Place(uri, 1, 25)
    with place.app.app_context():
        costs.outbox.enqueue("reset_instructions", **costs.of_nobody(place))
        sealed = db.session.scalar(text("SELECT sealed FROM outbox_message WHERE state = 'waiting'"))
        db.session.rollback()
    place.close()
    return str(sealed)


def in_turns(places: dict[str, Place], measured: Sequence[Cost], options: argparse.Namespace) -> Samples:
    """Round by round, so that what others do on this machine meets all alike. The first loads and compiles,
    and does not count."""
    rng = random.Random(1)  # noqa: S311  # an order, not a secret
    found: Samples = {cost.name: {name: [] for name in places} for cost in measured}
    name_of = {id(place): name for name, place in places.items()}
    for number in range(options.rounds + 1):
        for cost in measured:
            took = found[cost.name]
            if any(sum(so_far) > costs.LONG_MS for so_far in took.values()) and number > 1:
                continue  # so slow that we know it by now
            for place, wait in costs.in_turn(cost, list(places.values()), options.each if number else 3, rng):
                if number:
                    took[name_of[id(place)]].append(wait)
        say(f"round {number} of {options.rounds}")
    return found


def bulk(places: dict[str, Place]) -> Samples:
    found: Samples = {name: {size: [] for size in places} for name in costs.BULK}
    for _ in range(BULK_ROUNDS):
        for name, goes in costs.BULK.items():
            for size, place in places.items():
                found[name][size].append(goes(place) * 1000)
    return found


def warm(folder: Path) -> None:
    """Read all of it once."""
    for file in folder.rglob("*"):
        with suppress(OSError):  # a file that came and went
            if file.is_file():
                with file.open("rb", buffering=0) as data:
                    while data.read(1 << 24):
                        pass


def stay(places: dict[str, Place], options: argparse.Namespace) -> None:
    if options.stay:
        for name, place in places.items():
            say(f"{name}: {place.uri}")
        input()


def version_of(place: Place) -> str:
    with place.app.app_context():
        if place.uri.startswith("sqlite"):
            return sqlite3.sqlite_version
        return str(db.session.scalar(text("SHOW server_version"))).split()[0]


def hash_milliseconds() -> float:
    """What a password costs that is hashed as it should be."""
    app, took = create_app(load_settings()), []
    with app.app_context():
        for _ in range(11):
            start = time.perf_counter()
            hash_password(crowd.PASSWORD)
            took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took)


def keep(measured: list[Measured], options: argparse.Namespace) -> None:
    """What is there so far."""
    seen = {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "hash_ms": hash_milliseconds(),
        "sizes": [str(size) for size in options.sizes],
        "engines": [as_json(found) for found in measured],
    }
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    KEPT.write_text(json.dumps(seen, indent=1))


def write(options: argparse.Namespace) -> None:
    """Tables and curves of what was kept."""
    seen = json.loads(KEPT.read_text())
    chart = os.path.relpath(options.chart, options.out.parent)
    for file, made in ((options.out, curves.as_markdown(seen, chart)), (options.chart, curves.as_svg(seen))):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made)
    say(f"written to {options.out} and {options.chart}")


def as_json(found: Measured) -> dict[str, Any]:
    return {
        "engine": found.engine,
        "version": found.version,
        "fills": found.fills,
        **{name: summary(getattr(found, name)) for name in ("users", "bulk", "waiting")},
        "scans": found.scans,
    }


def summary(samples: Samples) -> dict[str, dict[str, dict[str, float]]]:
    return {
        name: {
            place: {"n": len(took), "median": statistics.median(took), "p99": p99(took)}
            for place, took in by_place.items()
        }
        for name, by_place in samples.items()
    }


def p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100, method="inclusive")[98] if len(took) > 1 else took[0]


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
