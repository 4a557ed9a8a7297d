"""How many mails a second leave the outbox: one worker and four, on SQLite and on PostgreSQL.

The requests lie there already when the workers start, each of an account of its own; the sink takes mail at
once. Counting starts when each worker has its connection, since starting up is not sending. Every account
must get its mail, and none twice.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import servers
import sink
from conftest import Admin, fill, load_settings, wait_for
from sqlalchemy import insert

from app import create_app
from app.accounts.models import User
from app.db.engine import db
from app.mail import outbox

PATIENCE_SECONDS = 300


class Durable(servers.PostgreSQL):
    """As it comes: what is committed is on the disk."""

    settings = ()


FAR_SECONDS = 0.02  # to a relay in another town, and back
FAR_FEWER = 10  # such a relay gets a tenth of the mails
CROWDS = (
    ("sqlite", 1, 0.0),
    ("sqlite", 4, 0.0),
    ("postgresql", 1, 0.0),
    ("postgresql", 4, 0.0),
    ("sqlite", 1, FAR_SECONDS),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="How many mails a second leave the outbox?")
    parser.add_argument("--mails", type=int, default=2000, help="in each round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[tuple[str, int, float], list[float]] = {crowd: [] for crowd in CROWDS}
    with databases() as new, redirect_stdout(sys.stderr):  # the migrations talk
        for _ in range(options.rounds):
            for engine, workers, distance in CROWDS:
                if engine in new:
                    mails = max(1, options.mails // FAR_FEWER) if distance else options.mails
                    found[engine, workers, distance].append(rate(new[engine](), workers, mails, distance))
    print(
        f"\n## Mails a second\n\n{options.mails:,} reset mails, each to somebody else, lie in the outbox"
        f" (`bench/deliveries.py`); {options.rounds} rounds.\n"
    )
    print("| database | workers | relay | mails/s, median of rounds | min to max |")
    print("| --- | --- | --- | --- | --- |")
    for (engine, workers, distance), rates in found.items():
        if rates:
            where = f"{distance * 1000:.0f} ms away" if distance else "here"
            spread = f"{min(rates):.0f} to {max(rates):.0f}"
            print(f"| {engine} | {workers} | {where} | {statistics.median(rates):.0f} | {spread} |")


@contextmanager
def databases() -> Iterator[dict[str, Callable[[], str]]]:
    """By engine: makes a new one, migrated. PostgreSQL writes as durably as it comes."""
    with TemporaryDirectory() as folder:
        count = iter(range(1000))
        new = {"sqlite": lambda: fill(f"sqlite:///{folder}/{next(count)}.db")}
        programs = servers.find_postgresql()
        if programs is None:
            print("PostgreSQL's server is not installed: left out", file=sys.stderr)
            yield new
            return
        with servers.postgresql(programs, kind=Durable) as server:
            yield {**new, "postgresql": lambda: fill(server.create())}


def rate(uri: str, workers: int, mails: int, distance: float = 0.0) -> float:
    """Mails a second. Raises AssertionError when one is missing or comes twice."""
    people = [f"u{number}@example.com" for number in range(mails)]
    ask_for(uri, people)
    with sink.running(distance=distance) as box:
        admin = Admin(uri, box.port, FLASK_RECOVERY_MAIL_HOURLY_MAX="10000000")
        for _ in range(workers):
            admin.starts("manage.py", "worker")
        try:
            wait_for(lambda: box.connections() >= workers, PATIENCE_SECONDS)
            before, start = box.count(), time.perf_counter()
            wait_for(lambda: box.count() >= mails, PATIENCE_SECONDS)
            seconds = time.perf_counter() - start
        finally:
            log = admin.stops()
        complaints = (line for line in log.splitlines() if "[INFO" not in line)
        print(*complaints, sep="\n", file=sys.stderr)
        assert sorted(mail.recipient for mail in box.mails()) == sorted(people)
    return (mails - before) / seconds


def ask_for(uri: str, people: list[str]) -> None:
    """Everybody has an account, and has asked."""
    app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=uri))
    with app.test_request_context():
        rows = [{"email": who, "password": "-", "active": True, "fs_uniquifier": who} for who in people]
        db.session.execute(insert(User.__table__), rows)
        for who in people:
            asked = {"identity": who, "client": "browser", "source": "127.0.0.1", "user_agent": "bench"}
            outbox.enqueue("reset_instructions", same=who, **asked)
        db.session.commit()
        db.engine.dispose()


if __name__ == "__main__":
    main()
