"""How does cost grow with the number of users? `bench/scale.py`, on SQLite and on PostgreSQL.

A database of each size stands behind a server of its own. They are asked in turns, one request at a time, so
that other work of the machine meets all of them alike. The ratio of the medians to those of the smallest size
counts. Hashes are the cheapest there are, because the database is measured.
"""

import random
import secrets
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
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
from sqlalchemy import Connection, MetaData, Table, insert, select
from sqlalchemy.exc import SAWarning
from stage import Site, say

DAYS = 30  # over which past recoveries are spread
CHUNK = 10_000  # rows inserted at once
BULK, BULK_ROUNDS = 10_000, 3  # rows purged and imported
METRICS_TOKEN = "cQ7vX2mK9tR4wL8pJ5hG3fD6sZ1x"
PASSWORD = "the new password of somebody"
ENVIRON = {
    "FLASK_RECOVERY_METRICS_TOKEN": METRICS_TOKEN,
    "FLASK_RECOVERY_AUTH": "id",
    "BENCH_CHEAP_HASH": "1",
}
IMPORTED_HASH = "pbkdf2:sha256:600000$Yn3wU1hZ8gTq2LdK$" + "5d" * 32  # as Werkzeug writes it

Row = dict[str, Any]


@dataclass
class Size:
    """One database of so many users, and the server on it."""

    users: int
    site: Site
    relay: Relay
    rng: random.Random
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # milliseconds

    def sends(self, what: str, requests: list[httpx.Request], status: int = 200) -> None:
        """Send them one after the other."""
        came = load.send(self.site.port, map(raw, requests), connections=1, seconds=60)
        assert set(came.statuses) == {status}, f"{what}: {came.statuses}"
        self.took[what] += came.waits

    def runs(self, what: str, *words: str) -> None:
        """Run a command, whose start counts, too."""
        began = time.perf_counter()
        stage.manage(self.site.environ, *words)
        self.took[what].append((time.perf_counter() - began) * 1000)

    def summary(self) -> dict[str, dict[str, float]]:
        return {
            what: {"median_ms": statistics.median(waits), "p99_ms": load.p99(waits)}
            for what, waits in self.took.items()
        }


@click.command(help="How does cost grow with the number of users?")
@click.option("--users", default=[10_000, 1_000_000], multiple=True, help="The smallest number first.")
@click.option("--rounds", default=10, help="In which the sizes take turns.")
@click.option("--each", default=30, help="Requests of each kind in a round.")
@stage.results_option
def main(users: tuple[int, ...], rounds: int, each: int, results: Path) -> None:
    stage.prepare()
    measured = {}
    for name in databases.available():
        with databases.started(name) as engine, ExitStack() as stack:
            sizes = [start(engine, count, stack) for count in users]
            for turn in range(rounds + 1):
                say(f"{name}: round {turn} of {rounds}")
                for size in random.sample(sizes, len(sizes)):
                    recover(size, each)
                    if not turn:
                        size.took.clear()  # the first round loads and compiles
            for _, size in product(range(BULK_ROUNDS), sizes):
                bulk(size)
            measured[name] = {size.users: size.summary() for size in sizes}
    report.save(results, "scale", measured)


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
    with databases.connection(database) as connection:
        for name, rows in rows_of(users):
            multiply(connection, name, rows)
        connection.exec_driver_sql("ANALYZE")
    say(f"{engine.name}: {users:,} users in {time.perf_counter() - began:.0f} s")
    running = stage.running(SPAREKEY_JSON, database, relay.port, has_worker=False, **ENVIRON)
    return Size(users, stack.enter_context(running), relay, random.Random(1))


def rows_of(users: int) -> Iterator[tuple[str, Iterator[Row]]]:
    """Yield what differs between the accounts and between past recoveries, by table."""
    count, first = users // 10, 100  # numbers below are of the one that was real
    moments = [datetime.now(UTC).replace(tzinfo=None) - timedelta(DAYS) * n / count for n in range(count)]

    def mails() -> Iterator[Row]:
        for key, at in enumerate(moments, first):
            own = {"id": key, "nonce": secrets.token_bytes(32), "message_id": f"<{key}@localhost>"}
            yield {**own, "created_at": at, "due_at": at, "settled_at": at}

    def links() -> Iterator[Row]:
        for key, at in enumerate(moments, first):
            own = {"message_id": key, "token_hash": secrets.token_hex(32), "user_id": key % count + 1}
            yield {**own, "issued_at": at, "expires_at": at + timedelta(hours=1), "redeemed_at": at}

    unique = ("email", "fs_uniquifier", "fs_webauthn_user_handle")
    yield "user", (dict.fromkeys(unique, address) for address in alike.known(users)[2:])
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
        client.post("/login", json=logins[0])
        size.sends("GET /auth, session", [get("/auth")] * count)


def mail(size: Size, known: list[str]) -> list[str]:
    """Run the worker once, and return the links that it has mailed."""
    size.relay.forget()
    stage.manage(size.site.environ, "worker", "--once")
    links = {link: mail_.at for mail_ in size.relay.mails() if (link := link_in(mail_.data))}
    assert len(links) == len(known), f"{len(links)} of {len(known)} mails came"
    seconds = max(links.values()) - min(links.values())
    size.took["the worker, a mail"].append(seconds * 1000 / (len(links) - 1))
    return list(links)


def bulk(size: Size) -> None:
    """Purge old events and import accounts."""
    old = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=4000)
    with databases.connection(size.site.environ["FLASK_SQLALCHEMY_DATABASE_URI"]) as connection:
        multiply(connection, "recovery_event", ({"at": old} for _ in range(BULK)))
    size.runs(f"purge of {BULK:,} events", "purge")
    with TemporaryDirectory() as folder:
        path = Path(folder, "accounts.csv")
        rows = (f"{secrets.token_hex(8)}@example.net,{IMPORTED_HASH}\n" for _ in range(BULK))
        path.write_text("".join(["email,password_hash\n", *rows]))
        size.runs(f"import of {BULK:,} accounts", "users", "import", str(path))


if __name__ == "__main__":
    main()
