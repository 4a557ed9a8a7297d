"""Does the time of an answer tell whether an account exists? `bench/oracle.py`.

`POST /reset` and `POST /login` through gunicorn as the demo runs it, on SQLite with a worker beside it, for
accounts that are there and for all that lead nowhere. They are asked for one at a time, in random order, so
that whatever else the machine does meets all of them alike. What counts is the ROC AUC of each against
`live`: how often an answer of the one takes longer than an answer of the other. 0.5 tells nothing, 0 and 1
tell everything. The relay is up, slow, hanging or down meanwhile.

Stock Flask-Security-Too is measured beside it (`peers/stock.py`), or nobody knows what this can see.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from aiosmtpd.controller import Controller
from conftest import Admin, Mailbox, fill, wait_for
from servers import free_port

from doctor import rank_test

CLASSES = ("live", "absent", "inactive", "unconfirmed", "throttled", "passwordless")
RELAYS = ("up", "slow", "hanging", "down")
TOLERANCE = 0.03
THREADS = 8  # as in the demo
DAILY_CAP = 10  # RECOVERY_MAIL_DAILY_CAP as it comes
ASKS_EACH = 8  # so that no live account reaches it
SLOW_SECONDS = 1.0
SLOW_SAMPLES = 20  # stock lets its askers wait for the relay
WARM_UP = 10  # of each class: the first ones load, compile and hash what is kept
CSRF_TOKEN = re.compile(rb'"csrf_token":"[^"]*"')

# What is sent; stock Flask-Security understands the first two as well.
BODIES = {
    "/reset": {"email": "{address}"},
    "/login": {"email": "{address}", "password": "not the password"},
    "/register": {"email": "{address}"},
    "/us-signin": {"identity": "{address}", "passcode": "123456"},
    "/us-signin/send-code": {"identity": "{address}", "chosen_method": "email"},
}
FEATURES = {
    "FLASK_SECURITY_REGISTERABLE": "true",
    "FLASK_SECURITY_UNIFIED_SIGNIN": "true",
    "FLASK_SECURITY_TOTP_SECRETS": json.dumps({"1": secrets.token_urlsafe(24)}),
}

People = dict[str, list[str]]


@dataclass
class Measured:
    """The answers of one endpoint: nanoseconds, and what was said, by class."""

    app: str
    path: str
    relay: str
    times: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    said: dict[str, set[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(set))

    @property
    def count(self) -> int:
        return len(self.times["live"])

    @property
    def error(self) -> float:
        return rank_test.error(self.count, self.count)

    def told_by_time(self, name: str) -> bool:
        return abs(self.auc(name) - 0.5) > max(TOLERANCE, 3 * self.error)

    def told_by_words(self, name: str) -> bool:
        return self.said[name] != self.said["live"]

    def auc(self, name: str) -> float:
        return rank_test.auc(self.times["live"], self.times[name])


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is below in `finally` is done then, too
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        people = make_people(options.seed, max(options.samples, options.stock))
        hashed = fill_sparekey(folder / "fresh.db", people)
        for state in RELAYS:
            rows += ask_sparekey(folder, state, people, options)
        rows += ask_features(folder, people, options)
        for state in RELAYS if options.stock else ():
            rows += ask_stock(folder, state, people, hashed, options)
    return report(rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Does the time of an answer tell whether an account exists?")
    parser.add_argument("--samples", type=int, default=1000, help="requests of each class")
    parser.add_argument("--stock", type=int, default=100, help="the same for stock Flask-Security; 0: none")
    parser.add_argument("--seed", type=int, default=1, help="of the order and of the names")
    return parser.parse_args()


def make_people(seed: int, samples: int) -> People:
    """As many identities of each class, all of one length, and no class beside another in an index."""
    rng = random.Random(seed)  # noqa: S311  # an order, not a secret
    each = max(samples // ASKS_EACH, 2 * WARM_UP)
    names: set[str] = set()
    while len(names) < each * len(CLASSES):
        names.add("".join(rng.choices(string.ascii_lowercase, k=12)))
    shuffled = sorted(names)
    rng.shuffle(shuffled)
    addresses = [f"{name}@example.com" for name in shuffled]
    return {kind: addresses[number :: len(CLASSES)] for number, kind in enumerate(CLASSES)}


def fill_sparekey(path: Path, people: People) -> str:
    """A database to copy from. Returns the one hash that all passwords have."""
    with redirect_stdout(sys.stderr):  # the migrations talk, and the table is to be pasted
        fill(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as database, database:
        [[hashed]] = database.execute("SELECT password FROM user WHERE username = 'alice'")
        add_accounts(database, people, hashed)
        for address in people["throttled"] * DAILY_CAP:  # what it had today already
            sent = database.execute(
                "INSERT INTO outbox_message (kind, nonce, message_id, state, attempts, created_at, due_at)"
                " VALUES ('reset_instructions', randomblob(32), hex(randomblob(16)), 'sent', 1,"
                "  strftime('%Y-%m-%d %H:%M:%f000', 'now'), strftime('%Y-%m-%d %H:%M:%f000', 'now'))"
            )
            database.execute(
                "INSERT INTO reset_link"
                " (user_id, message_id, token_hash, email, password_state, client, issued_at, expires_at)"
                " SELECT id, ?, lower(hex(randomblob(32))), email, '', 'browser',"
                "  strftime('%Y-%m-%d %H:%M:%f000', 'now'), strftime('%Y-%m-%d %H:%M:%f000', 'now', '1 hour')"
                " FROM user WHERE email = ?",
                (sent.lastrowid, address),
            )
    return str(hashed)


def add_accounts(database: sqlite3.Connection, people: People, hashed: str) -> None:
    """Mixed, so that a class does not lie together on the pages of the table either."""
    for row in zip(*people.values(), strict=True):
        for kind, address in zip(people, row, strict=True):
            if kind != "absent":
                database.execute(
                    "INSERT INTO user (email, password, active, confirmed_at, fs_uniquifier)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (
                        address,
                        None if kind == "passwordless" else hashed,
                        kind != "inactive",
                        None if kind == "unconfirmed" else "2025-01-01 00:00:00.000000",
                        address,
                    ),
                )


@contextmanager
def relay(state: str) -> Iterator[Mailbox]:
    """What listens where mail is sent to; only `up` and `slow` ever get any."""
    if state == "hanging":
        with socket.create_server(("127.0.0.1", 0)) as nobody_serves:
            yield Mailbox(nobody_serves.getsockname()[1])
        return
    box = Mailbox(free_port(), delay={"DATA": SLOW_SECONDS} if state == "slow" else {})
    if state == "down":
        yield box
        return
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


@contextmanager
def running(database: Path, mail_port: int, **environ: str) -> Iterator[Admin]:
    """Whoever starts processes with it leaves none behind."""
    admin = Admin(f"sqlite:///{database}", mail_port, FLASK_SECURITY_CONFIRMABLE="true", **environ)
    try:
        yield admin
    finally:
        for process in list(admin.running):
            try:
                admin.ends(process)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask_sparekey(folder: Path, state: str, people: People, options: argparse.Namespace) -> list[Measured]:
    path, rows = folder / f"{state}.db", []
    shutil.copy(folder / "fresh.db", path)
    with relay(state) as box, running(path, box.port) as admin:
        admin.serves(threads=THREADS)
        admin.starts("manage.py", "worker")
        if state == RELAYS[0]:  # signing in sends no mail
            rows.append(
                ask(admin, Measured("Sparekey", "/login", "-"), people, options.samples, options.seed)
            )
        rows.append(ask(admin, Measured("Sparekey", "/reset", state), people, options.samples, options.seed))
        if state == "up":
            check_mails(path, box, people)
    return rows


def ask_features(folder: Path, people: People, options: argparse.Namespace) -> list[Measured]:
    """What is open to everybody only where it is switched on."""
    path = folder / "features.db"
    shutil.copy(folder / "fresh.db", path)
    with relay("up") as box, running(path, box.port, **FEATURES) as admin:
        admin.serves(threads=THREADS)
        admin.starts("manage.py", "worker")
        return [
            ask(admin, Measured("Sparekey", path, "up"), people, options.samples, options.seed)
            for path in BODIES
            if path not in ("/reset", "/login")
        ]


def check_mails(path: Path, box: Mailbox, people: People) -> None:
    """The classes are what they are called: only who is live got mail."""

    def all_is_done() -> bool:
        with closing(sqlite3.connect(path)) as database:
            return not database.execute("SELECT 1 FROM outbox_message WHERE state = 'waiting'").fetchone()

    wait_for(all_is_done, seconds=300)
    assert reached(box), "no mail came"
    assert reached(box) <= set(people["live"]), "mail for somebody who must not get any"


def reached(box: Mailbox) -> set[str]:
    return {address for envelope in box.envelopes for address in envelope}


def ask_stock(
    folder: Path, state: str, people: People, hashed: str, options: argparse.Namespace
) -> list[Measured]:
    path, rows = folder / f"stock-{state}.db", []
    samples = min(options.stock, SLOW_SAMPLES) if state in ("slow", "hanging") else options.stock
    with relay(state) as box, running(path, box.port) as admin:
        # Its own, or gunicorn reads Sparekey's.
        its_own = ["--config", "bench/peers/gunicorn.conf.py", "--pythonpath", "bench/peers"]
        size = ["--workers", "1", "--threads", str(THREADS), *its_own]
        admin.starts("-m", "gunicorn", "--bind", f"127.0.0.1:{admin.port}", *size, "stock:create_app()")
        wait_for(lambda: is_up(admin.port), seconds=20)
        with closing(sqlite3.connect(path)) as database, database:
            add_accounts(database, people, hashed)
        if state == RELAYS[0]:
            rows.append(ask(admin, Measured("stock", "/login", "-"), people, samples, options.seed))
        rows.append(ask(admin, Measured("stock", "/reset", state), people, samples, options.seed))
        if state == "up":
            assert reached(box) & set(people["live"]), "no mail came"
    return rows


def is_up(port: int) -> bool:
    with suppress(OSError), closing(HTTPConnection("127.0.0.1", port, timeout=5)) as client:
        client.request("GET", "/login")
        return client.getresponse().status == 200
    return False


def ask(admin: Admin, result: Measured, people: People, samples: int, seed: int) -> Measured:
    """Everybody, in random order, over one connection. Both applications understand these words."""
    rng = random.Random(f"{seed} {result.path} {result.relay}")  # noqa: S311
    first, then = (
        [kind for kind in CLASSES for _ in range(n)] for n in (min(WARM_UP, samples // 10), samples)
    )
    rng.shuffle(first)
    rng.shuffle(then)
    turns = {kind: rng.sample(people[kind], len(people[kind])) for kind in CLASSES}
    gc.disable()
    with closing(HTTPConnection("127.0.0.1", admin.port, timeout=60)) as client:
        for number, kind in enumerate((*first, *then)):
            turns[kind].append(address := turns[kind].pop(0))
            if (result.path, kind) == ("/register", "absent"):  # who has signed up is not absent any more
                address = f"{rng.getrandbits(60):012x}"[-12:] + "@example.com"
            took, said = timed(client, result.path, address)
            if number >= len(first):
                result.times[kind].append(took)
                result.said[kind].add(said)
    gc.enable()
    return result


def timed(client: HTTPConnection, path: str, address: str) -> tuple[int, tuple[int, bytes]]:
    words = {name: value.format(address=address) for name, value in BODIES[path].items()}
    body, headers = json.dumps(words), {"Content-Type": "application/json"}
    start = time.perf_counter_ns()
    client.request("POST", path, body, headers)
    answer = client.getresponse()
    text = answer.read()
    took = time.perf_counter_ns() - start
    return took, (answer.status, CSRF_TOKEN.sub(b"", text))  # stock's answers hold one, never the same


def report(rows: list[Measured]) -> int:
    """The table. 1 when Sparekey's answers tell."""
    print("| | | relay | n | error | live |", " | ".join(CLASSES[1:]), "|")
    print("|---|---|---|---|---|---|" + "---|" * (len(CLASSES) - 1))
    for row in rows:
        cells = [cell(row, name) for name in CLASSES]
        print(
            f"| {row.app} | {row.path} | {row.relay} | {row.count} | {row.error:.3f} |",
            " | ".join(cells),
            "|",
        )
    print("\nMedian in ms, AUC against `live`. Bold: told by time. †: told by status or text.")
    ours = [(row, name) for row in rows if row.app == "Sparekey" for name in CLASSES[1:]]
    told = [(row, name) for row, name in ours if row.told_by_time(name) or row.told_by_words(name)]
    for row, name in told:
        print(f"{row.path} (relay {row.relay}) tells live from {name}: AUC {row.auc(name):.3f}")
    return 1 if told else 0


def cell(row: Measured, name: str) -> str:
    median = f"{statistics.median(row.times[name]) / 1e6:.2f}"
    if name == "live":
        return median
    value = f"{row.auc(name):.3f}"
    return (
        f"{median}, " + (f"**{value}**" if row.told_by_time(name) else value) + "†" * row.told_by_words(name)
    )


if __name__ == "__main__":
    sys.exit(main())
