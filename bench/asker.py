"""How long `POST /reset` takes on SQLite (synchronous=FULL): a part of `make bench`.

Through gunicorn as the demo runs it, with a worker beside it. Alone, beside a worker that mails as fast as
it can, and beside three who redeem; and what a plain durable write takes on this disk, since the machine's
own speed says nothing.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from contextlib import closing, redirect_stdout
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import httpx
from aiosmtpd.controller import Controller
from conftest import Admin, Mailbox, fill, link_in
from servers import free_port

ASKS = 400
ACCOUNTS = 240
REDEEMERS = 3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        box = Mailbox(free_port())
        controller = Controller(box, hostname="127.0.0.1", port=box.port)
        controller.start()
        with redirect_stdout(sys.stderr):  # the migrations talk
            uri = fill(f"sqlite:///{folder}/bench.db")
        admin = Admin(with_accounts(uri), box.port)
        try:
            writes = durable_writes(folder)
            admin.serves(threads=8)
            admin.starts("manage.py", "worker")
            ask(admin, ASKS // 4)  # the first ones load and compile
            time.sleep(2)
            alone = ask(admin, ASKS)
            busy = ask_beside_busy_worker(admin, box)
            beside = ask_beside_redeemers(admin, [link_in(mail) for mail in box.mails])
        finally:
            log = admin.stops()
            controller.stop()
            complaints = (line for line in log.splitlines() if "[INFO" not in line)
            print(*complaints, sep="\n", file=sys.stderr)
    rows = {
        "a durable write": writes,
        "alone": alone,
        "beside a busy worker": busy,
        f"beside {REDEEMERS} who redeem": beside,
    }
    print("\n## How long an asker waits\n\nOne at a time, on SQLite (`bench/asker.py`); milliseconds.\n")
    print("| | asks | median | p99 | longest |\n| --- | --- | --- | --- | --- |")
    for name, waits in rows.items():
        median, late = statistics.median(waits), percentile(waits)
        print(f"| {name} | {len(waits)} | {median:.1f} | {late:.1f} | {max(waits):.0f} |")


def with_accounts(uri: str) -> str:
    """More accounts, with alice's password."""
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        for number in range(ACCOUNTS):
            database.execute(
                "INSERT INTO user (email, password, active, fs_uniquifier)"
                " SELECT ?, password, 1, ? FROM user WHERE username = 'alice'",
                (f"u{number}@example.com", f"u{number}"),
            )
    return uri


def ask_beside_busy_worker(admin: Admin, box: Mailbox) -> list[float]:
    """Everybody asks, and the worker mails as fast as it can."""
    with closing(HTTPConnection("127.0.0.1", admin.port, timeout=60)) as client:
        waits = [timed(client, f"u{number}@example.com") for number in range(ACCOUNTS)]
    box.wait_for(ACCOUNTS, seconds=120)
    return waits


def ask(admin: Admin, times: int, stop: threading.Event | None = None, pause: float = 0) -> list[float]:
    """Milliseconds of each request, one after the other."""
    waits: list[float] = []
    with closing(HTTPConnection("127.0.0.1", admin.port, timeout=60)) as client:
        while len(waits) < times and not (stop and stop.is_set()):
            waits.append(timed(client, f"nobody{len(waits)}@example.com"))
            time.sleep(pause)
    return waits


def timed(client: HTTPConnection, identity: str) -> float:
    """One request over a connection that is kept, without what a client library takes."""
    body, headers = json.dumps({"identity": identity}), {"Content-Type": "application/json"}
    start = time.perf_counter()
    client.request("POST", "/reset", body, headers)
    answer = client.getresponse()
    answer.read()
    waited = (time.perf_counter() - start) * 1000
    assert answer.status == 200
    return waited


def durable_writes(folder: str) -> list[float]:
    """A page, written and synced."""
    waits = []
    with open(f"{folder}/page", "wb", buffering=0) as file:
        for _ in range(ASKS):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            waits.append((time.perf_counter() - start) * 1000)
    return waits


def ask_beside_redeemers(admin: Admin, links: list[str]) -> list[float]:
    done = threading.Event()

    def redeem() -> None:
        body = {"password": "a password for the bench", "password_confirm": "a password for the bench"}
        with httpx.Client(timeout=60) as client:
            while links:
                answer = client.post(links.pop(), json=body)
                assert answer.status_code == 200, answer.text
        done.set()

    threads = [threading.Thread(target=redeem) for _ in range(REDEEMERS)]
    for thread in threads:
        thread.start()
    waits = ask(admin, 10_000, done, pause=0.01)
    for thread in threads:
        thread.join()
    return waits


def percentile(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100)[98]


if __name__ == "__main__":
    main()
