"""How does cost grow with the number of users? `bench/scale.py`, on SQLite and on PostgreSQL.

A database of each size stands behind a server of its own. They are asked in turns, one request at a time, so
that other work of the machine meets all of them alike. The ratio of the medians to those of the smallest size
counts. Hashes are the cheapest there are, because the database is measured.
"""

from __future__ import annotations

import argparse
import csv
import random
import secrets
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import databases
import httpx
import load
import measure
import report
import stage
from databases import Databases
from peer import SPAREKEY_JSON, link_in, raw
from peers import alike
from sink import Relay
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, insert, select
from sqlalchemy.exc import SAWarning
from stage import Site, say

DAYS = 30  # over which past recoveries are spread
CHUNK = 10_000  # rows inserted at once
BULK, BULK_ROUNDS = 10_000, 3  # rows purged and imported
METRICS_TOKEN = "cQ7vX2mK9tR4wL8pJ5hG3fD6sZ1x"
PASSWORD = "the new password of somebody"
ENVIRON = {"BENCH_CHEAP_HASH": "1", "FLASK_RECOVERY_METRICS_TOKEN": METRICS_TOKEN}
IMPORTED_HASH = "pbkdf2:sha256:600000$Yn3wU1hZ8gTq2LdK$" + "5d" * 32  # as Werkzeug writes it

Row = dict[str, Any]


@dataclass
class Size:
    """One database of so many users, and the server on it."""

    users: int
    site: Site
    relay: Relay
    rng: random.Random
    took: dict[str, list[float]] = field(default_factory=dict)  # milliseconds, by what was done

    def note(self, what: str, waits: list[float]) -> None:
        self.took.setdefault(what, []).extend(waits)

    def sends(self, what: str, requests: list[httpx.Request], status: int = 200) -> None:
        """Send them one after the other."""
        came = load.send(self.site.port, map(raw, requests), connections=1, seconds=60)
        assert set(came.statuses) == {status}, f"{what}: {came.statuses}"
        self.note(what, came.waits)


def main() -> None:
    parser = argparse.ArgumentParser(description="How does cost grow with the number of users?")
    parser.add_argument("--sizes", default="10000,1000000", help="numbers of users, the smallest first")
    parser.add_argument("--rounds", type=int, default=10, help="in which the sizes take turns")
    parser.add_argument("--each", type=int, default=30, help="requests of each kind in a round")
    parser.add_argument("--engine", choices=databases.ENGINES, help="only this one")
    parser.add_argument("--results", type=Path, default=stage.KEPT, help="the folder of scale.json")
    options = parser.parse_args()
    stage.prepare()
    results = {}
    for name in [options.engine] if options.engine else databases.available():
        with databases.started(name) as engine, ExitStack() as stack:
            sizes = [start(engine, int(users), stack) for users in options.sizes.split(",")]
            for turn in range(options.rounds + 1):
                say(f"{name}: round {turn} of {options.rounds}")
                for size in random.sample(sizes, len(sizes)):
                    recover(size, options.each)
                    if not turn:
                        size.took.clear()  # the first round loads and compiles
            for _ in range(BULK_ROUNDS):
                for size in sizes:
                    bulk(size)
            results[name] = {
                size.users: {step: summary(waits) for step, waits in size.took.items()} for size in sizes
            }
    report.save(options.results, "scale", results)


# --- The databases ---


def start(engine: Databases, users: int, stack: ExitStack) -> Size:
    """Fill a database, and start a server on it."""
    database, began = engine.create(), time.perf_counter()
    stage.fill(SPAREKEY_JSON, database, 2)
    relay = stack.enter_context(Relay())
    with stage.running(SPAREKEY_JSON, database, relay.port, **ENVIRON) as site:
        address = alike.known(1)[0]
        measure.redeem(site, address, measure.links(site, relay, [address])[address])
        stage.wait_for(lambda: relay.count() == 2)  # the notice, too
    sql = sql_engine(database)
    with sql.begin() as connection:
        for kind, rows in (("user", accounts(users)), *recoveries(users // 10)):
            multiply(connection, kind, rows)
    with sql.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    sql.dispose()
    say(f"{engine.name}: {users:,} users in {time.perf_counter() - began:.0f} s")
    running = stage.running(SPAREKEY_JSON, database, relay.port, has_worker=False, **ENVIRON)
    return Size(users, stack.enter_context(running), relay, random.Random(1))


def sql_engine(database: str) -> Engine:
    return create_engine(database.replace("postgresql://", "postgresql+psycopg://"))


def accounts(users: int) -> Iterator[Row]:
    for address in alike.known(users)[2:]:
        yield {"email": address, "fs_uniquifier": address, "fs_webauthn_user_handle": address}


def recoveries(count: int) -> Iterator[tuple[str, Iterator[Row]]]:
    """Yield what differs between past recoveries, by table."""
    first = 100  # numbers below are of the one that was real
    moments = [datetime.now(UTC).replace(tzinfo=None) - timedelta(DAYS) * n / count for n in range(count)]

    def mails() -> Iterator[Row]:
        for key, at in enumerate(moments, first):
            own = {"id": key, "nonce": secrets.token_bytes(32), "message_id": f"<{key}@localhost>"}
            yield {**own, "created_at": at, "due_at": at, "settled_at": at}

    def links() -> Iterator[Row]:
        for key, at in enumerate(moments, first):
            own = {"message_id": key, "token_hash": secrets.token_hex(32), "user_id": key % count + 1}
            yield {**own, "issued_at": at, "expires_at": at + timedelta(hours=1), "redeemed_at": at}

    yield "outbox_message", mails()
    yield "reset_link", links()
    yield "recovery_event", ({"at": at} for at in moments * 2)


def multiply(connection: Connection, name: str, rows: Iterator[Row]) -> None:
    """Insert copies of a table's first row that differ in these columns."""
    with warnings.catch_warnings(action="ignore", category=SAWarning):  # on indexes of expressions
        table_ = Table(name, MetaData(), autoload_with=connection)
    first = connection.execute(select(table_).order_by(table_.c.id).limit(1)).mappings().one()
    common = {column: value for column, value in first.items() if column != "id"}
    while chunk := [{**common, **row} for row in islice(rows, CHUNK)]:
        connection.execute(insert(table_), chunk)
    if connection.dialect.name == "postgresql":
        sequence = f"pg_get_serial_sequence('\"{name}\"', 'id')"
        connection.exec_driver_sql(f'SELECT setval({sequence}, max(id)) FROM "{name}"')


# --- What is measured ---


def recover(size: Size, count: int) -> None:
    """Let some people recover their accounts, and others try."""
    numbers = size.rng.sample(range(2, size.users), count)
    known = [alike.KNOWN.format(number) for number in numbers]
    passwords = dict.fromkeys(SPAREKEY_JSON.passwords, PASSWORD)
    with size.site.client() as client:
        get, post = partial(client.build_request, "GET"), partial(client.build_request, "POST")
        size.sends("POST /reset, known", [post("/reset", json={"identity": name}) for name in known])
        links = mail(size, known)
        unknown = [alike.UNKNOWN.format(number) for number in numbers]
        size.sends("POST /reset, unknown", [post("/reset", json={"identity": name}) for name in unknown])
        as_json, token = {"Accept": "application/json"}, {"Authorization": f"Bearer {METRICS_TOKEN}"}
        size.sends("GET /reset/&lt;token&gt;", [get(link, headers=as_json) for link in links])
        size.sends("POST /reset/&lt;token&gt;, cheap hash", [post(link, json=passwords) for link in links])
        logins = [{"identity": name, "password": PASSWORD} for name in known]
        size.sends("POST /login, cheap hash", [post("/login", json=login) for login in logins])
        size.sends("GET /readyz", [get("/readyz")] * 5, status=503)  # no worker stays
        size.sends("GET /metrics", [get("/metrics", headers=token)] * 5)


def mail(size: Size, known: list[str]) -> list[str]:
    """Run the worker once, and return the links that it has mailed."""
    size.relay.forget()
    manage(size, "worker", "--once")
    links = {link: mail_.at for mail_ in size.relay.mails() if (link := link_in(mail_.data))}
    assert len(links) == len(known), f"{len(links)} of {len(known)} mails came"
    seconds = max(links.values()) - min(links.values())
    size.note("the worker, a mail", [seconds * 1000 / (len(links) - 1)])
    return list(links)


def manage(size: Size, *words: str) -> float:
    """Run a command, and return its milliseconds, its start included."""
    began = time.perf_counter()
    with stage.LOG.open("ab") as log:
        stage.run(sys.executable, "manage.py", *words, cwd=stage.ROOT, env=size.site.environ, stderr=log)
    return (time.perf_counter() - began) * 1000


def bulk(size: Size) -> None:
    """Purge old events and import accounts."""
    old = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=4000)
    engine = sql_engine(size.site.environ["FLASK_SQLALCHEMY_DATABASE_URI"])
    with engine.begin() as connection:
        multiply(connection, "recovery_event", ({"at": old} for _ in range(BULK)))
    engine.dispose()
    size.note(f"purge of {BULK:,} events", [manage(size, "purge")])
    with TemporaryDirectory() as folder:
        path = Path(folder, "accounts.csv")
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("email", "password_hash"))
            rows.writerows((f"{secrets.token_hex(8)}@example.net", IMPORTED_HASH) for _ in range(BULK))
        size.note(f"import of {BULK:,} accounts", [manage(size, "users", "import", str(path))])


def summary(waits: list[float]) -> dict[str, float]:
    return {"median_ms": statistics.median(waits), "p99_ms": load.percentile_99(waits)}


if __name__ == "__main__":
    main()
