"""Does the time of an answer tell whether an account exists? `bench/oracle.py`.

Accounts of several classes are asked for one at a time, in random order, so that other work of the machine
meets all of them alike; with the worker beside it, while the relay is up, slow, hanging or down. The ROC AUC
of each class against `live` counts: how often its answer takes longer. 0.5 tells nothing, 0 and 1 tell
everything. Stock Flask-Security-Too shows what this can see. With `--foreign`, the accounts are another
application's.
"""

import gc
import json
import random
import re
import secrets
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path

import click
import databases
import report
import stage
from databases import Databases
from peer import SPAREKEY_JSON, STOCK, Peer
from peers import alike
from sink import Relay
from sqlalchemy import text
from stage import say, wait_for

from doctor import rank_test

CLASSES = ("live", "absent", "inactive", "unconfirmed", "throttled", "passwordless")
RELAYS = {"up": ("up", 0.0), "slow": ("up", 1.0), "hanging": ("hanging", 0.0), "down": ("down", 0.0)}
DAILY_CAP, ASKS_EACH = 10, 8  # mails a day; fewer requests for each live account, so that none is throttled
SLOW_SAMPLES = 20  # of stock, whose requests wait for the relay
WARM_UP = 10  # of each class
CSRF_TOKEN = re.compile(rb'"csrf_token":"[^"]*"')
# Requests, by path, some by an identity kind of the admin's. Stock Flask-Security understands the first two.
BODIES = {
    "/login": {"email": "{address}", "password": "not the password"},
    "/reset": {"email": "{address}"},
    "/login, number": {"email": "E{number}", "password": "not the password"},
    "/reset, number": {"email": "E{number}"},
    "/register": {"email": "{address}"},
    "/us-signin": {"identity": "{address}", "passcode": "123456"},
    "/us-signin/send-code": {"identity": "{address}", "chosen_method": "email"},
}
CHANGES = {
    "absent": "DELETE FROM {table}",
    "inactive": "UPDATE {table} SET active = false",
    "unconfirmed": "UPDATE {table} SET confirmed_at = NULL",
    "passwordless": "UPDATE {table} SET password = NULL",
}
SHOP_ACCOUNTS = 500_000  # in shop.sql
SHOP = {"table": "users", "active": "active", "confirmed": "confirmed_at", "hash": "bcrypt"}
SHOP |= {"sign_in_url": "http://127.0.0.1:1/login"}
CODES, TRIES = "/reset/code", 5  # wrong codes, with request ids that have tries
KINDS = ["email", {"employee_number": {"pattern": r"E\d{7}"}}]
FILL_COLUMNS = """UPDATE user SET employee_number = 'E' || substr(email, 6, 7),
    confirmed_at = '2025-01-01 00:00:00'"""
OWN = {"FLASK_SECURITY_USER_IDENTITY_ATTRIBUTES": json.dumps(KINDS), "FLASK_SECURITY_CONFIRMABLE": "true"}
FEATURES = {
    "FLASK_SECURITY_REGISTERABLE": "true",
    "FLASK_SECURITY_UNIFIED_SIGNIN": "true",
    "FLASK_SECURITY_TOTP_SECRETS": json.dumps({"1": secrets.token_urlsafe(24)}),
}

Answer = tuple[int, bytes]


# --- Does a difference exceed chance? ---


def half_width(sample: Sequence[float], other: Sequence[float]) -> float:
    """Return that of the 99.9 % interval of an AUC around 0.5."""
    return rank_test.Z_ALPHA * rank_test.standard_error(len(sample), len(other))


def tells(sample: Sequence[float], other: Sequence[float]) -> bool:
    return abs(rank_test.auc(sample, other) - 0.5) > half_width(sample, other)


def shown(sample: Sequence[float], other: Sequence[float]) -> str:
    """Return the AUC, bold if it tells."""
    auc = f"{rank_test.auc(sample, other):.3f}"
    return f"**{auc}**" if tells(sample, other) else auc


@dataclass
class Measured:
    """The answers of one endpoint: milliseconds and words, by class."""

    name: str
    path: str
    relay: str
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    words: dict[str, set[Answer]] = field(default_factory=lambda: defaultdict(set))

    def told_by_words(self, kind: str) -> bool:
        return self.words[kind] != self.words["live"]

    def tells(self) -> bool:
        live = self.times["live"]
        return any(self.told_by_words(kind) or tells(live, self.times[kind]) for kind in CLASSES)

    def cells(self) -> list[str]:
        live = self.times["live"]
        cells = [f"{half_width(live, live):.3f}", f"{statistics.median(live):.2f}"]
        for kind in CLASSES[1:]:
            mark = "†" if self.told_by_words(kind) else ""
            cells.append(f"{statistics.median(self.times[kind]):.2f}, {shown(live, self.times[kind])}{mark}")
        return [self.name, self.path, self.relay, str(len(live)), *cells]


@dataclass
class Target:
    """A peer, its accounts by class, and how they are asked for."""

    peer: Peer
    engine: Databases
    samples: int
    is_foreign: bool = False

    def __post_init__(self) -> None:
        """Make a database with accounts of each class, no class beside another in an index."""
        count = len(CLASSES) * max(self.samples // ASKS_EACH, 2 * WARM_UP)
        everyone = alike.known(SHOP_ACCOUNTS if self.is_foreign else count)
        self.addresses = random.Random(1).sample(everyone, count)
        self.people = {kind: self.addresses[first :: len(CLASSES)] for first, kind in enumerate(CLASSES)}
        if self.is_foreign:
            self.database, accounts, setting = fill_shop(self.engine)
        else:
            self.database = accounts = fill_own(self.peer, self.engine, count)
            setting = OWN if self.peer.is_sparekey else {}
        self.environ = {"FLASK_RECOVERY_MAIL_DAILY_CAP": str(DAILY_CAP)} | setting
        with databases.connection(accounts) as connection:
            for kind, change in CHANGES.items():
                statement = change.format(table="users" if self.is_foreign else "user")
                rows = [{"email": address} for address in self.people[kind]]
                connection.execute(text(f"{statement} WHERE email = :email"), rows)
        if self.peer.is_sparekey:
            self.throttle()

    def throttle(self) -> None:
        """Use up what the throttled accounts may be mailed in a day."""
        addresses = self.people["throttled"]
        with Relay() as relay, stage.running(self.peer, self.database, relay.port, **self.environ) as site:
            for number in range(1, DAILY_CAP + 1):
                with site.client() as client:
                    for address in addresses:
                        client.send(site.peer.ask(client, address, {}))
                wait_for(lambda: relay.count() >= number * len(addresses), 300)  # noqa: B023  # called at once
            assert relay.count() == DAILY_CAP * len(addresses), relay.count()

    def ask(self, state: str, *paths: str, **features: str) -> list[Measured]:
        """Measure some endpoints of one server."""
        say(f"{self.peer.name}, relay {state}: {', '.join(paths)}")
        rows = [Measured(f"{self.peer.name}, {self.engine.name}", path, state) for path in paths]
        is_slow = self.peer is STOCK and state in ("slow", "hanging")
        samples = min(self.samples, SLOW_SAMPLES) if is_slow else self.samples
        database, environ = self.engine.copy(self.database), self.environ | features
        with (
            Relay(*RELAYS[state]) as relay,
            stage.running(self.peer, database, relay.port, **environ) as site,
            closing(HTTPConnection("127.0.0.1", site.port, timeout=60)) as client,
        ):
            for row in rows:
                ids = self.request_ids(client, relay) if row.path == CODES else {}
                self.measure(row, client, samples, ids)
            if state == "up" and paths[-1] in ("/reset", "/reset, number"):
                self.check_mails(relay)
        return rows

    def measure(self, row: Measured, client: HTTPConnection, samples: int, ids: dict[str, list[str]]) -> None:
        """Ask for all classes in random order, over one connection."""
        rng = random.Random(f"{row.path} {row.relay}")
        turns = {kind: cycle(rng.sample(people, len(people))) for kind, people in self.people.items()}
        warm_up, order = [*CLASSES] * min(WARM_UP, samples // 10), [*CLASSES] * samples
        rng.shuffle(order)
        gc.disable()
        for number, kind in enumerate((*warm_up, *order)):
            address = next(turns[kind])
            if row.path == "/register" and kind == "absent":  # a new one, since registering ends absence
                address = alike.UNKNOWN.format(rng.randrange(10**7))
            if ids:
                fields = {"request_id": ids[address].pop(), "code": f"{rng.randrange(10**8):08}"}
            else:
                values = {"address": address, "number": address[5:12]}
                fields = {name: text.format(**values) for name, text in BODIES[row.path].items()}
            took, words = post(client, row.path.partition(",")[0], fields)
            if number >= len(warm_up):
                row.times[kind].append(took)
                row.words[kind].add(words)
        gc.enable()

    def request_ids(self, client: HTTPConnection, relay: Relay) -> dict[str, list[str]]:
        """Request links, and return enough request ids for each address, each as often as it may be tried."""
        ids: dict[str, list[str]] = defaultdict(list)
        for address in self.addresses * (2 + self.samples // len(self.people["live"]) // TRIES):
            _, (_, words) = post(client, "/reset", {"email": address})
            ids[address] += [json.loads(words)["response"]["request_id"]] * TRIES
        wait_for(lambda: relay.count() >= len(self.people["live"]), 300)
        return ids

    def check_mails(self, relay: Relay) -> None:
        """Raise AssertionError if Sparekey mailed to an account that must not get any."""
        count = -1
        while count < relay.count():  # until no more come
            count = relay.count()
            time.sleep(1)
        reached, live = {mail.recipient for mail in relay.mails()}, set(self.people["live"])
        assert reached & live, "no mail came"
        told = live.union(self.people["passwordless"])  # RECOVERY_PASSWORDLESS: "explain"
        assert reached <= told or not self.peer.is_sparekey, "mail for an account that must not get any"


def fill_own(peer: Peer, engine: Databases, count: int) -> str:
    """Return a database with so many accounts; Sparekey's are confirmed and have numbers, too."""
    database = stage.fill(peer, engine.create(), count)
    if peer.is_sparekey:
        stage.manage(stage.environ_of(peer, database), "db", "add-identity", "employee_number")
        with databases.connection(database) as connection:
            connection.execute(text(FILL_COLUMNS))
    return database


def fill_shop(engine: Databases) -> tuple[str, str, dict[str, str]]:
    """Return a database for Sparekey, another application's with its accounts, and the setting for them."""
    database = engine.create()
    shop = f"{database}-shop" if engine.name == "SQLite" else database
    setting = SHOP | ({"file": shop.removeprefix("sqlite:///")} if shop != database else {})
    with databases.connection(shop) as connection:
        for statement in Path(__file__).with_name("shop.sql").read_text().split(";\n"):
            connection.exec_driver_sql(statement)
    environ = {"FLASK_RECOVERY_ACCOUNTS": json.dumps(setting)}
    stage.manage(stage.environ_of(SPAREKEY_JSON, database) | environ, "db", "upgrade")
    return database, shop, environ


def post(client: HTTPConnection, path: str, fields: dict[str, str]) -> tuple[float, Answer]:
    """Return the milliseconds of an answer, its status and its text."""
    body = json.dumps(fields)
    start = time.perf_counter_ns()
    client.request("POST", path, body, {"Content-Type": "application/json"})
    answer = client.getresponse()
    words = answer.read()
    took = (time.perf_counter_ns() - start) / 1e6
    return took, (answer.status, CSRF_TOKEN.sub(b'"csrf_token":""', words))  # a token is never the same


@click.command(help="Does the time of an answer tell whether an account exists?")
@click.option("--samples", default=1000, help="Requests of each class.")
@click.option("--stock", default=100, help="The same for stock Flask-Security; 0: none.")
@click.option("--foreign", is_flag=True, help="Another application's accounts, on each database; no stock.")
def main(samples: int, stock: int, foreign: bool) -> None:
    stage.prepare()
    rows: list[Measured] = []
    for name in databases.available() if foreign else ["SQLite"]:
        with databases.started(name) as engine:
            ours = Target(SPAREKEY_JSON, engine, samples, foreign)
            for relay in RELAYS:
                rows += ours.ask(relay, "/reset")
            if foreign:
                continue
            rows += ours.ask("up", "/login", "/login, number", "/reset, number")
            rows += ours.ask("up", "/register", "/us-signin", "/us-signin/send-code", **FEATURES)
            rows += ours.ask("up", CODES, FLASK_RECOVERY_CODE="true")
            if stock:
                theirs = Target(STOCK, engine, stock)
                for relay in RELAYS:
                    rows += theirs.ask(relay, "/reset")
                rows += theirs.ask("up", "/login")
    print(report.table(["", "", "relay", "n", "half-width", *CLASSES], [row.cells() for row in rows]))
    print("Median in ms, AUC against `live`. Bold: told by time: its 99.9 % interval does not hold 0.5.")
    print("†: told by status or text.")
    sys.exit(any(row.tells() for row in rows if not row.name.startswith(STOCK.name)))


if __name__ == "__main__":
    main()
