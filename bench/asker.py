"""How long an asker waits on SQLite while three others redeem: `make bench`.

Through gunicorn with eight threads, and a worker beside it. Prints medians of one run, alone and beside
the redemptions, since the machine's own speed says nothing.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import httpx
from aiosmtpd.controller import Controller
from conftest import Admin, Mailbox, fill, link_in
from servers import free_port

ASKS = 200
ACCOUNTS = 240
REDEEMERS = 3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        box = Mailbox(free_port())
        controller = Controller(box, hostname="127.0.0.1", port=box.port)
        controller.start()
        admin = Admin(with_accounts(fill(f"sqlite:///{folder}/bench.db")), box.port)
        try:
            admin.serves(threads=8)
            admin.starts("manage.py", "worker")
            alone = ask(admin, ASKS)
            busy = ask_beside_busy_worker(admin, box)
            beside = ask_beside_redeemers(admin, [link_in(mail) for mail in box.mails])
        finally:
            log = admin.stops()
            controller.stop()
            print(*(line for line in log.splitlines() if " INFO " not in line), sep="\n")
    rows = {"alone": alone, "beside a busy worker": busy, f"beside {REDEEMERS} who redeem": beside}
    for name, waits in rows.items():
        median, late = statistics.median(waits), percentile(waits)
        print(
            f"{name:<20} {len(waits)} asks: median {median:.1f}, p99 {late:.1f}, longest {max(waits):.0f} ms"
        )


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
    with httpx.Client(base_url=admin.base, timeout=60) as client:
        waits = [timed(client, f"u{number}@example.com") for number in range(ACCOUNTS)]
    box.wait_for(ACCOUNTS, seconds=120)
    return waits


def ask(admin: Admin, times: int, stop: threading.Event | None = None) -> list[float]:
    """Milliseconds of each request."""
    waits: list[float] = []
    with httpx.Client(base_url=admin.base, timeout=60) as client:
        while len(waits) < times and not (stop and stop.is_set()):
            waits.append(timed(client, "nobody"))
            time.sleep(0.01)
    return waits


def timed(client: httpx.Client, identity: str) -> float:
    start = time.perf_counter()
    assert client.post("/reset", json={"identity": identity}).status_code == 200
    return (time.perf_counter() - start) * 1000


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
    waits = ask(admin, 10_000, done)
    for thread in threads:
        thread.join()
    return waits


def percentile(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100)[98]


if __name__ == "__main__":
    main()
