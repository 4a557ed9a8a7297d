"""How does cost grow with the number of users? `bench/scale.py`, on SQLite and on PostgreSQL.

A database of each size stands behind a server of its own. They are asked in turns, one request at a time, so
that other work of the machine meets all of them alike. The ratio of the medians to those of the smallest size
counts. Hashes are the cheapest there are, because the database is measured.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import random
import secrets
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import databases
import load
import measure
import peer
import stage
from databases import Databases
from peer import SPAREKEY_JSON
from peers import alike
from sink import Relay
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, insert, select
from stage import Site, say

FLAT = 1.3
DAYS = 30  # over which past recoveries are spread
CHUNK = 10_000  # rows inserted at once
BULK = 10_000  # rows purged and imported
BULK_ROUNDS = 3
METRICS_TOKEN = "cQ7vX2mK9tR4wL8pJ5hG3fD6sZ1x"  # noqa: S105
ENVIRON = {"BENCH_CHEAP_HASH": "1", "FLASK_RECOVERY_METRICS_TOKEN": METRICS_TOKEN}
IMPORTED_HASH = "pbkdf2:sha256:600000$Yn3wU1hZ8gTq2LdK$" + "5d" * 32  # as Werkzeug writes it

PAGE = """\
# What more users cost

Made by `bench/scale.py` on {cores} cores, Python {python}. With U users there are U/10 past recoveries, each
with its link, its mails and its events, spread over the last {days} days. Sizes take turns.

Milliseconds: median (p99). × is the ratio of the median to that of the smallest size; above {flat} it is
bold. Passwords are hashed as cheaply as can be. Purging and importing are commands, whose start counts, too.
"""

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

    def sends(self, what: str, requests: list[bytes]) -> None:
        """Send them one after the other."""
        came = load.send(self.site.port, iter(requests), connections=1, seconds=60)
        assert set(came.statuses) == {200}, f"{what}: {came.statuses}"
        self.note(what, came.waits)


def main() -> None:
    parser = argparse.ArgumentParser(description="How does cost grow with the number of users?")
    parser.add_argument("--sizes", default="10000,1000000", help="numbers of users, the smallest first")
    parser.add_argument("--rounds", type=int, default=10, help="in which the sizes take turns")
    parser.add_argument("--each", type=int, default=30, help="requests of each kind in a round")
    parser.add_argument("--engine", choices=databases.ENGINES, help="only this one")
    options = parser.parse_args()
    options.sizes = [int(size) for size in options.sizes.split(",")]
    stage.prepare()
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    print(PAGE.format(**machine, days=DAYS, flat=FLAT))
    for name in [options.engine] if options.engine else databases.available():
        with databases.started(name) as engine, ExitStack() as stack:
            sizes = [start(engine, users, stack) for users in options.sizes]
            for number in range(options.rounds + 1):
                say(f"{name}: round {number} of {options.rounds}")
                for size in random.sample(sizes, len(sizes)):
                    recover(size, options.each)
                    if not number:
                        size.took.clear()  # the first round loads and compiles
            for _ in range(BULK_ROUNDS):
                for size in sizes:
                    bulk(size)
            print(f"## {name}\n\n{table(sizes)}", flush=True)


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
        for table_, rows in (("user", accounts(users)), *recoveries(users // 10)):
            multiply(connection, table_, rows)
    with sql.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    sql.dispose()
    say(f"{engine.name}: {users:,} users in {time.perf_counter() - began:.0f} s")
    running = stage.running(SPAREKEY_JSON, database, relay.port, has_worker=False, **ENVIRON)
    return Size(users, stack.enter_context(running), relay, random.Random(1))  # noqa: S311


def sql_engine(database: str) -> Engine:
    return create_engine(database.replace("postgresql://", "postgresql+psycopg://"))


def accounts(users: int) -> Iterator[Row]:
    for address in alike.known(users)[2:]:
        yield {"email": address, "fs_uniquifier": address}


def recoveries(count: int) -> Iterator[tuple[str, Iterator[Row]]]:
    """Yield what differs between past recoveries, by table."""
    first = 100  # numbers below are of the one that was real
    moments = [datetime.now(UTC).replace(tzinfo=None) - timedelta(DAYS) * n / count for n in range(count)]

    def mails() -> Iterator[Row]:
        for number, at in enumerate(moments, first):
            own = {"id": number, "nonce": secrets.token_bytes(32), "message_id": f"<{number}@localhost>"}
            yield {**own, "created_at": at, "due_at": at, "settled_at": at}

    def links() -> Iterator[Row]:
        for number, at in enumerate(moments, first):
            own = {"message_id": number, "token_hash": secrets.token_hex(32), "user_id": number % count + 1}
            yield {**own, "issued_at": at, "expires_at": at + timedelta(hours=1), "redeemed_at": at}

    yield "outbox_message", mails()
    yield "reset_link", links()
    for _ in range(2):
        yield "recovery_event", ({"at": at, "request_id": secrets.token_hex(16)} for at in moments)


def multiply(connection: Connection, name: str, rows: Iterator[Row]) -> None:
    """Insert copies of a table's first row that differ in these columns."""
    table_ = Table(name, MetaData(), autoload_with=connection)
    first = connection.execute(select(table_).order_by(table_.c.id).limit(1)).mappings().one()
    common = {column: value for column, value in first.items() if column != "id"}
    chunk: list[Row] = []
    for row in rows:
        chunk.append({**common, **row})
        if len(chunk) == CHUNK:
            connection.execute(insert(table_), chunk)
            chunk.clear()
    if chunk:
        connection.execute(insert(table_), chunk)
    if connection.dialect.name == "postgresql":
        sequence = f"pg_get_serial_sequence('\"{name}\"', 'id')"
        connection.exec_driver_sql(f'SELECT setval({sequence}, max(id)) FROM "{name}"')


# --- What is measured ---


def recover(size: Size, count: int) -> None:
    """Let some people recover their accounts, and others try."""
    numbers = size.rng.sample(range(2, size.users), count)
    known = [alike.known_address(number) for number in numbers]
    asked = measure.requests_of(size.site, known)
    size.sends("POST /reset, known", [next(asked) for _ in known])
    mail(size, known)
    asked = measure.requests_of(size.site, [alike.unknown_address(number) for number in numbers])
    size.sends("POST /reset, unknown", [next(asked) for _ in known])
    links = [link for mail_ in size.relay.mails() if (link := peer.link_in(mail_.data))]
    with size.site.client() as client:
        json_ = {"Accept": "application/json"}
        own = client.build_request
        passwords = dict.fromkeys(SPAREKEY_JSON.passwords, "the new password of somebody")
        landing = [peer.raw(own("GET", link, headers=json_)) for link in links]
        redeeming = [peer.raw(own("POST", link, json=passwords)) for link in links]
        login = {"password": "the new password of somebody"}
        signing_in = [peer.raw(own("POST", "/login", json={**login, "identity": name})) for name in known]
        ready = peer.raw(own("GET", "/readyz"))
        metrics = peer.raw(own("GET", "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}))
    size.sends("GET /reset/<token>", landing)
    size.sends("POST /reset/<token>, cheap hash", redeeming)
    size.sends("POST /login, cheap hash", signing_in)
    size.note("GET /readyz", load.send(size.site.port, iter([ready] * 5), connections=1).waits)
    size.sends("GET /metrics", [metrics] * 5)


def mail(size: Size, known: list[str]) -> None:
    """Run the worker once; it mails to those who are known."""
    size.relay.forget()
    manage(size, "worker", "--once")
    times = [mail_.at for mail_ in size.relay.mails() if mail_.recipient in known]
    assert len(times) == len(known), f"{len(times)} of {len(known)} mails came"
    mean = (times[-1] - times[0]) * 1000 / (len(times) - 1)
    size.note("the worker, a mail", [mean])


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


# --- The tables ---


def table(sizes: list[Size]) -> str:
    heads = [f"{size.users:,} users" for size in sizes]
    lines = [f"| | {heads[0]} |{''.join(f' {head} | × |' for head in heads[1:])}"]
    lines.append("| --- |" + " --: |" * (2 * len(sizes) - 1))
    for what, first in sizes[0].took.items():
        cells = [cell(first)]
        for size in sizes[1:]:
            ratio = statistics.median(size.took[what]) / statistics.median(first)
            cells += [cell(size.took[what]), f"**{ratio:.2f}**" if ratio > FLAT else f"{ratio:.2f}"]
        lines.append(f"| {what.replace('<', '&lt;').replace('>', '&gt;')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(waits: list[float]) -> str:
    def figures(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"

    return f"{figures(statistics.median(waits))} ({figures(load.percentile_99(waits))})"


if __name__ == "__main__":
    main()
