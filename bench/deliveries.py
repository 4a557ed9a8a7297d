"""How many mails a second leave the outbox? `bench/deliveries.py`.

The requests wait in the outbox before the worker starts, each of an account of its own. Time counts from the
first mail to the last, because starting up is not sending. Every account must get its mail, and none twice.
"""

from itertools import islice, product
from pathlib import Path

import click
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
THREADS = (1, 4)
FAR_SECONDS, FAR_SHARE = 0.02, 10  # a relay in another town gets a tenth of the mails


@click.command(help="How many mails a second leave the outbox?")
@click.option("--mails", default=2000, help="In each round.")
@click.option("--rounds", default=3)
@stage.results_option
def main(mails: int, rounds: int, results: Path) -> None:
    stage.prepare()
    cases = []
    for name in databases.available():
        with databases.started(name) as engine:
            filled = stage.fill(SPAREKEY_JSON, engine.create(), mails)
            for distance, threads in product((0.0, FAR_SECONDS), THREADS):
                say(f"{name}: {threads} threads, {distance * 1000:.0f} ms")
                count = mails // FAR_SHARE if distance else mails
                rates = [rate(engine.copy(filled), count, threads, distance) for _ in range(rounds)]
                case = {"database": name, "threads": threads, "relay_ms": distance * 1000}
                cases.append({**case, "mails_per_second": rates})
    report.save(results, "deliveries", cases)


def rate(database: str, mails: int, threads: int = 1, distance: float = 0.0) -> float:
    """Return mails a second. Raises AssertionError when one is missing or comes twice."""
    addresses = alike.known(mails)
    with (
        Relay(distance=distance) as relay,
        stage.running(SPAREKEY_JSON, database, relay.port, has_worker=False) as site,
    ):
        requests = islice(measure.requests_of(site, addresses), mails)
        asked = load.send(site.port, requests, seconds=PATIENCE_SECONDS)
        assert asked.statuses == {200: mails}, asked.statuses
        site.start("manage.py", "worker", "--threads", str(threads))
        wait_for(lambda: relay.count() >= mails, PATIENCE_SECONDS)
        came = relay.mails()
    assert sorted(mail.recipient for mail in came) == sorted(addresses), f"{len(came)} of {mails} mails"
    return (mails - 1) / (came[-1].at - came[0].at)


if __name__ == "__main__":
    main()
