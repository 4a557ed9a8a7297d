"""Does the time of an answer tell whether an account exists? `bench/oracle.py`.

Accounts of several classes are asked for one at a time, in random order, so that other work of the machine
meets all of them alike; with the worker beside it, while the relay is up, slow, hanging or down. The ROC AUC
of each class against `live` counts: how often its answer takes longer. 0.5 tells nothing, 0 and 1 tell
everything. Stock Flask-Security-Too shows what this can see. With `--employee-numbers`, people name
themselves by an identity kind of the admin's. With `--foreign`, the accounts are another application's. With
`--codes`, wrong codes are entered instead, with request ids that asked for these accounts and have tries.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import re
import secrets
import sqlite3
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import databases
import foreign
import report
import stage
from databases import Databases
from peer import SPAREKEY_JSON, STOCK, Peer
from sink import Relay
from stage import say, wait_for

from doctor import rank_test

CLASSES = ("live", "absent", "inactive", "unconfirmed", "throttled", "passwordless")
RELAYS = {"up": ("up", 0.0), "slow": ("up", 1.0), "hanging": ("hanging", 0.0), "down": ("down", 0.0)}
SIGMAS = 3.29  # of the 99.9 % interval
DAILY_CAP, ASKS_EACH = 10, 8  # mails a day; fewer requests for each live account, so that none is throttled
SLOW_SAMPLES = 20  # of stock, whose requests wait for the relay
WARM_UP = 10  # of each class
JSON = {"Content-Type": "application/json"}
CSRF_TOKEN = re.compile(rb'"csrf_token":"[^"]*"')
# Requests; stock Flask-Security understands the first two as well.
BODIES = {
    "/login": {"email": "{address}", "password": "not the password"},
    "/reset": {"email": "{address}"},
    "/register": {"email": "{address}"},
    "/us-signin": {"identity": "{address}", "passcode": "123456"},
    "/us-signin/send-code": {"identity": "{address}", "chosen_method": "email"},
}
CODES, TRIES = "/reset/code", 5  # with each request id
FEATURES = {
    "FLASK_SECURITY_REGISTERABLE": "true",
    "FLASK_SECURITY_UNIFIED_SIGNIN": "true",
    "FLASK_SECURITY_TOTP_SECRETS": json.dumps({"1": secrets.token_urlsafe(24)}),
}
SETTING = "FLASK_SECURITY_USER_IDENTITY_ATTRIBUTES"
ENVIRON = {"FLASK_SECURITY_CONFIRMABLE": "true", "FLASK_RECOVERY_MAIL_DAILY_CAP": str(DAILY_CAP)}

People = dict[str, list[str]]


@dataclass
class Measured:
    """The answers of one endpoint: nanoseconds and words, by class."""

    name: str
    path: str
    relay: str
    times: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    words: dict[str, set[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(set))

    @property
    def half_width(self) -> float:
        count = len(self.times["live"])
        return SIGMAS * rank_test.standard_error(count, count)

    def auc(self, kind: str) -> float:
        return rank_test.auc(self.times["live"], self.times[kind])

    def told_by_time(self, kind: str) -> bool:
        return abs(self.auc(kind) - 0.5) > self.half_width

    def told_by_words(self, kind: str) -> bool:
        return self.words[kind] != self.words["live"]

    def cell(self, kind: str) -> str:
        median, auc = f"{statistics.median(self.times[kind]) / 1e6:.2f}", f"{self.auc(kind):.3f}"
        if kind == "live":
            return median
        mark = "†" if self.told_by_words(kind) else ""
        return f"{median}, " + (f"**{auc}**" if self.told_by_time(kind) else auc) + mark


def main() -> int:
    parser = argparse.ArgumentParser(description="Does the time of an answer tell whether an account exists?")
    parser.add_argument("--samples", type=int, default=1000, help="requests of each class")
    parser.add_argument("--stock", type=int, default=100, help="the same for stock Flask-Security; 0: none")
    parser.add_argument("--employee-numbers", action="store_true", help="ask by number; without stock")
    kind = "of another application, among 500,000, on each database: /reset, without stock"
    parser.add_argument("--foreign", action="store_true", help=f"accounts {kind}")
    parser.add_argument("--codes", action="store_true", help="enter wrong codes instead; without stock")
    options = parser.parse_args()
    if options.employee_numbers or options.foreign or options.codes:
        options.stock = 0
    if options.employee_numbers:
        ENVIRON[SETTING] = json.dumps(["email", {"employee_number": {"pattern": r"E\d{12}"}}])
    stage.prepare()
    people = make_people(max(options.samples, options.stock))
    samples = {SPAREKEY_JSON: options.samples, **({STOCK: options.stock} if options.stock else {})}
    if options.foreign:
        return print_table(
            row for name in databases.available() for row in run_foreign(name, people, options.samples)
        )
    rows: list[Measured] = []
    with databases.started("SQLite") as engine:
        for peer, count in samples.items():
            filled = fill(peer, engine, people)
            if options.codes:
                rows += run(peer, filled, "up", [CODES], people, count, FLASK_RECOVERY_CODE="true")
                break
            for relay in RELAYS:
                is_slow = peer is STOCK and relay in ("slow", "hanging")
                most = min(count, SLOW_SAMPLES) if is_slow else count
                paths = ["/login", "/reset"] if relay == "up" else ["/reset"]  # signing in sends no mail
                rows += run(peer, engine.copy(filled), relay, paths, people, most)
            if peer.is_sparekey:
                paths = list(BODIES)[2:]
                rows += run(peer, engine.copy(filled), "up", paths, people, count, **FEATURES)
    return print_table(rows)


def make_people(samples: int) -> People:
    """Return as many addresses of each class, all of one length, no class beside another in an index."""
    each = max(samples // ASKS_EACH, 2 * WARM_UP)
    numbers = random.Random(1).sample(range(10**12), each * len(CLASSES))
    addresses = [f"person{number:012}@example.com" for number in numbers]
    return {kind: addresses[number :: len(CLASSES)] for number, kind in enumerate(CLASSES)}


def run_foreign(name: str, people: People, samples: int) -> list[Measured]:
    """Measure accounts of another application's table on one database."""
    ENVIRON.pop("FLASK_SECURITY_CONFIRMABLE", None)  # the application confirms addresses
    accounts = [
        (address, kind != "passwordless", kind != "inactive", kind != "unconfirmed")
        for row in zip(*people.values(), strict=True)  # mixed, also on the pages of the table
        for kind, address in zip(people, row, strict=True)
        if kind != "absent"
    ]
    with databases.started(name) as engine:
        database, environ = foreign.fill(engine, accounts)
        ENVIRON.update(environ)
        throttle(database, people["throttled"])
        rows: list[Measured] = []
        for relay in RELAYS:
            rows += run(SPAREKEY_JSON, engine.copy(database), relay, ["/reset"], people, samples)
    for row in rows:
        row.name += f", {name}"
    return rows


def run(
    peer: Peer, database: str, state: str, paths: list[str], people: People, samples: int, **features: str
) -> list[Measured]:
    """Measure some endpoints of one server."""
    say(f"{peer.name}, relay {state}: {', '.join(paths)}")
    rows = [Measured(peer.name, path, state) for path in paths]
    with (
        Relay(*RELAYS[state]) as relay,
        stage.running(peer, database, relay.port, **ENVIRON, **features) as site,
    ):
        for row in rows:
            ids = request_ids(site, people, samples) if row.path == CODES else {}
            wait_for(lambda: relay.count() >= len(people["live"]) * bool(ids), 300)  # noqa: B023  # called at once
            ask(site.port, row, people, samples, ids)
        if state == "up" and not features:
            check_mails(peer, relay, people)
    return rows


def fill(peer: Peer, engine: Databases, people: People) -> str:
    """Return a database with these people, to copy from."""
    database = stage.fill(peer, engine.create(), 1)
    if peer.is_sparekey:
        words = ("manage.py", "db", "add-identity", "employee_number")
        stage.run(sys.executable, *words, cwd=stage.ROOT, env=stage.environ_of(peer, database))
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as sql, sql:
        [[hashed]] = sql.execute("SELECT password FROM user")
        for row in zip(*people.values(), strict=True):  # mixed, also on the pages of the table
            for kind, address in zip(people, row, strict=True):
                if kind != "absent":
                    password = None if kind == "passwordless" else hashed
                    confirmed = None if kind == "unconfirmed" else "2025-01-01 00:00:00.000000"
                    sql.execute(
                        "INSERT INTO user (email, password, active, confirmed_at, fs_uniquifier)"
                        " VALUES (?, ?, ?, ?, ?)",
                        (address, password, kind != "inactive", confirmed, address),
                    )
        if peer.is_sparekey:
            number = "'E' || substr(email, 7, 12)"
            sql.execute(f"UPDATE user SET employee_number = {number} WHERE email LIKE 'person%'")
    if peer.is_sparekey:
        throttle(database, people["throttled"])
    return database


def throttle(database: str, addresses: list[str]) -> None:
    """Use up what these accounts may be mailed in a day."""
    with Relay() as relay, stage.running(SPAREKEY_JSON, database, relay.port, **ENVIRON) as site:
        for number in range(1, DAILY_CAP + 1):
            with site.client() as client:
                for address in addresses:
                    client.send(site.peer.ask(client, address, {}))
            expected = number * len(addresses)
            wait_for(lambda: relay.count() >= expected, 300)  # noqa: B023  # called at once
        assert relay.count() == DAILY_CAP * len(addresses), relay.count()


def check_mails(peer: Peer, relay: Relay, people: People) -> None:
    """Raise AssertionError if Sparekey mailed to somebody who must not get any."""

    def is_settled() -> bool:
        before = relay.count()
        time.sleep(1)
        return relay.count() == before

    wait_for(is_settled, 300)
    reached, live = {mail.recipient for mail in relay.mails()}, set(people["live"])
    assert reached & live, "no mail came"
    told = live.union(people["passwordless"])  # RECOVERY_PASSWORDLESS: "explain"
    assert reached <= told or not peer.is_sparekey, "mail for somebody who must not get any"


def request_ids(site: Any, people: People, samples: int) -> dict[str, list[str]]:
    """Request links, and return enough request ids for each address, each as often as it may be tried."""
    ids: dict[str, list[str]] = {}
    addresses = [address for row in zip(*people.values(), strict=True) for address in row]
    with closing(HTTPConnection("127.0.0.1", site.port, timeout=60)) as client:
        for address in addresses * (2 + samples // len(people["live"]) // TRIES):
            client.request("POST", "/reset", json.dumps({"email": address}), JSON)
            signed = json.loads(client.getresponse().read())["response"]["request_id"]
            ids.setdefault(address, []).extend([signed] * TRIES)
    return ids


def asked_classes() -> tuple[str, ...]:
    """Return the classes to ask for: by employee number two alone, because 0.03 needs many requests."""
    return CLASSES[:2] if SETTING in ENVIRON else CLASSES


def ask(port: int, row: Measured, people: People, samples: int, ids: dict[str, list[str]]) -> None:
    """Ask for all classes in random order, over one connection."""
    rng = random.Random(f"{row.path} {row.relay}")
    turns = {kind: rng.sample(addresses, len(addresses)) for kind, addresses in people.items()}
    kinds = [*asked_classes()]
    warm_up, order = kinds * min(WARM_UP, samples // 10), kinds * samples
    rng.shuffle(order)
    gc.disable()
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        for number, kind in enumerate((*warm_up, *order)):
            turns[kind].append(address := turns[kind].pop(0))
            if row.path == "/register" and kind == "absent":  # a new one, since registering ends absence
                address = f"person{rng.randrange(10**12):012}@example.com"
            body = {"request_id": ids[address].pop(0), "code": f"{rng.randrange(10**8):08}"} if ids else None
            took, words = timed(client, row.path, address, body)
            if number >= len(warm_up):
                row.times[kind].append(took)
                row.words[kind].add(words)
    gc.enable()


def timed(
    client: HTTPConnection, path: str, address: str, fields: dict[str, str] | None = None
) -> tuple[int, tuple[int, bytes]]:
    identity = f"E{address[6:18]}" if SETTING in ENVIRON and path != "/register" else address
    fields = fields or {name: value.format(address=identity) for name, value in BODIES[path].items()}
    body = json.dumps(fields)
    start = time.perf_counter_ns()
    client.request("POST", path, body, JSON)
    answer = client.getresponse()
    text = answer.read()
    took = time.perf_counter_ns() - start
    return took, (answer.status, CSRF_TOKEN.sub(b"", text))  # a token is never the same


def print_table(measured: Iterable[Measured]) -> int:
    """Print the table. Returns 1 if Sparekey's answers tell."""
    rows = list(measured)
    cells = [
        [row.name, row.path, row.relay, str(len(row.times["live"])), f"{row.half_width:.3f}"]
        + [row.cell(kind) for kind in asked_classes()]
        for row in rows
    ]
    print(report.table(["", "", "relay", "n", "half-width", *asked_classes()], cells))
    print("Median in ms, AUC against `live`. Bold: told by time: its 99.9 % interval does not hold 0.5.")
    print("†: told by status or text.")
    ours = [row for row in rows if row.name != STOCK.name]
    return int(
        any(row.told_by_time(kind) or row.told_by_words(kind) for row in ours for kind in asked_classes())
    )


if __name__ == "__main__":
    sys.exit(main())
