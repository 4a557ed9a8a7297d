"""How many mails a second leave the outbox? `bench/deliveries.py`.

The requests wait in the outbox before the worker starts, each of an account of its own. Time counts from the
first mail to the last, because starting up is not sending. Every account must get its mail, and none twice.
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

import databases
import load
import measure
import report
import stage
from peer import SPAREKEY_JSON
from peers import alike
from sink import Relay
from stage import say, wait_for

PATIENCE_SECONDS = 300.0
THREADS = 4
FAR_SECONDS, FAR_SHARE = 0.02, 10  # a relay in another town gets a tenth of the mails


def main() -> None:
    parser = argparse.ArgumentParser(description="How many mails a second leave the outbox?")
    parser.add_argument("--mails", type=int, default=2000, help="in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=stage.KEPT, help="the folder of deliveries.json")
    options = parser.parse_args()
    stage.prepare()
    results = []
    for name in databases.available():
        with databases.started(name) as engine:
            filled = stage.fill(SPAREKEY_JSON, engine.create(), options.mails)
            for distance in (0.0, FAR_SECONDS):
                for threads in threads_to_try():
                    say(f"{name}: {threads} threads, {distance * 1000:.0f} ms")
                    mails = options.mails // FAR_SHARE if distance else options.mails
                    copies = (engine.copy(filled) for _ in range(options.rounds))
                    rates = [rate(copy, mails, threads, distance) for copy in copies]
                    case = {"database": name, "threads": threads, "relay_ms": distance * 1000}
                    results.append({**case, "mails_per_second": rates})
    report.save(options.results, "deliveries", results)


def threads_to_try() -> tuple[int, ...]:
    """Return (1,) where the worker has no option for more."""
    environ = stage.environ_of(SPAREKEY_JSON, "sqlite://")
    words = stage.run(sys.executable, "manage.py", "worker", "--help", cwd=stage.ROOT, env=environ)
    return (1, THREADS) if "--threads" in words else (1,)


def rate(database: str, mails: int, threads: int = 1, distance: float = 0.0) -> float:
    """Return mails a second. Raises AssertionError when one is missing or comes twice."""
    addresses = alike.known(mails)
    options = ("--threads", str(threads)) if len(threads_to_try()) > 1 else ()
    with (
        Relay(distance=distance) as relay,
        stage.running(SPAREKEY_JSON, database, relay.port, has_worker=False) as site,
    ):
        requests = islice(measure.requests_of(site, addresses), mails)
        asked = load.send(site.port, requests, seconds=PATIENCE_SECONDS)
        assert asked.statuses == {200: mails}, asked.statuses
        site.start("manage.py", "worker", *options)
        wait_for(lambda: relay.count() >= mails, PATIENCE_SECONDS)
        came = relay.mails()
    assert sorted(mail.recipient for mail in came) == sorted(addresses), f"{len(came)} of {mails} mails"
    return (mails - 1) / (came[-1].at - came[0].at)


if __name__ == "__main__":
    main()
