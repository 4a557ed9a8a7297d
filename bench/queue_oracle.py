"""Do the times of an attacker's own mails tell whether an account exists? `bench/queue_oracle.py`.

The attacker has the accounts A and B, and requests mail for A, X and B in one go. The gap between the mails
of A and B is measured for an X with and without an account, in random order. The ROC AUC counts: how often it
is longer for an X with one. 0.5 tells nothing, 0 and 1 tell everything.

A flood of made-up identities shows how long an owner's mail waits meanwhile. With `--foreign`, the accounts
are another application's, among 500,000.
"""

import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection

import click
import databases
import report
import stage
from databases import Databases
from oracle import fill_shop, half_width, post, shown, tells
from peer import SPAREKEY_JSON
from peers import alike
from sink import Relay
from stage import say, wait_for

WARM_UP = 20  # tries; workers start with no delivery to compare with
ACCOUNTS_A_TRY = 5  # at most, of a try of each kind
POLL_SECONDS = 0.1  # of an idle worker, as by default
FLOOD_A_MINUTE, FLOOD_SECONDS, FLOOD_RELAY_SECONDS = 2000, 120.0, 0.2
OWNER_SECONDS = 5  # between two requests of owners during the flood
AIM_SECONDS = 60.0  # for the slowest of their mails
ENVIRON = {"FLASK_RECOVERY_WORKER_POLL": f"{POLL_SECONDS} seconds"}
# Workers, the threads of each, and the seconds of a relay for a mail.
CASES = ((1, 1, 0.02), (1, 4, 0.02), (2, 1, 0.02), (2, 4, 0.02), (1, 1, 0.0), (1, 1, 0.2))


@dataclass
class Deployment:
    """A database with accounts, and the settings for them."""

    engine: Databases
    database: str
    environ: dict[str, str]

    @contextmanager
    def working(
        self, workers: int, threads: int, relay_seconds: float
    ) -> Iterator[tuple[Relay, HTTPConnection]]:
        """Run on a copy of the database."""
        database, environ = self.engine.copy(self.database), self.environ
        with (
            Relay("up", relay_seconds) as relay,
            stage.running(SPAREKEY_JSON, database, relay.port, has_worker=False, **environ) as site,
            closing(HTTPConnection("127.0.0.1", site.port, timeout=60)) as client,
        ):
            for _ in range(workers):
                site.work("--threads", str(threads))
            yield relay, client

    def gaps(self, tries: int, workers: int, threads: int, relay_seconds: float) -> dict[str, list[float]]:
        """Return milliseconds between the mails of A and B, by what X is."""
        gaps: dict[str, list[float]] = {"known": [], "unknown": []}
        warm_up, order = [*gaps] * (WARM_UP // 2), [*gaps] * tries
        random.Random(1).shuffle(order)
        known = iter(alike.known(ACCOUNTS_A_TRY * (tries + WARM_UP)))
        unknown = iter(alike.unknown(tries + WARM_UP))
        with self.working(workers, threads, relay_seconds) as (relay, client):
            for number, kind in enumerate((*warm_up, *order)):
                first, last = next(known), next(known)
                gap = one_gap(client, relay, first, next(known if kind == "known" else unknown), last)
                # Until the workers are idle; at random, because they poll with a period.
                time.sleep(relay_seconds + random.uniform(0.05, 0.05 + POLL_SECONDS))
                if number >= len(warm_up):
                    gaps[kind].append(gap)
        return gaps

    def flood(self, seconds: float) -> float:
        """Request mail for made-up identities. Return how long the slowest mail of an owner took."""
        owners, asked = iter(alike.known(ACCOUNTS_A_TRY * WARM_UP)), {}
        with self.working(1, 1, FLOOD_RELAY_SECONDS) as (relay, client):
            start = time.monotonic()
            for number, stranger in enumerate(alike.unknown(int(seconds * FLOOD_A_MINUTE / 60))):
                due = start + number * 60 / FLOOD_A_MINUTE
                time.sleep(max(0.0, due - time.monotonic()))
                post(client, "/reset", {"email": stranger})
                if due - start >= OWNER_SECONDS * len(asked):
                    asked[owner := next(owners)] = time.monotonic()
                    post(client, "/reset", {"email": owner})
            wait_for(lambda: relay.count() >= len(asked), 2 * AIM_SECONDS)
            came = {mail.recipient: mail.at for mail in relay.mails()}
        return max(came.get(owner, float("inf")) - at for owner, at in asked.items())


def one_gap(client: HTTPConnection, relay: Relay, first: str, other: str, last: str) -> float:
    """Request three mails in one go. Return the milliseconds from the first mail to the last."""
    relay.forget()
    for address in (first, other, last):
        post(client, "/reset", {"email": address})

    def came() -> dict[str, float]:
        return {mail.recipient: mail.at for mail in relay.mails()}

    wait_for(lambda: relay.count() > 1 and {first, last} <= came().keys())
    return (came()[last] - came()[first]) * 1000


@click.command(help="Do the times of mails tell whether an account exists?")
@click.option("--tries", default=400, help="Of each kind.")
@click.option("--flood", default=FLOOD_SECONDS, help="Seconds.")
@click.option("--foreign", is_flag=True, help="Accounts of another application.")
def main(tries: int, flood: float, foreign: bool) -> None:
    stage.prepare()
    rows, waits, is_telling = [], {}, False
    for name in databases.available():
        with databases.started(name) as engine:
            if foreign:
                database, _, setting = fill_shop(engine)
            else:
                accounts = ACCOUNTS_A_TRY * (tries + WARM_UP)
                database, setting = stage.fill(SPAREKEY_JSON, engine.create(), accounts), {}
            deployment = Deployment(engine, database, ENVIRON | setting)
            for workers, threads, relay_seconds in CASES:
                case = [name, f"{workers} × `worker --threads {threads}`", f"{relay_seconds * 1000:.0f} ms"]
                say(", ".join(case))
                gaps = deployment.gaps(tries, workers, threads, relay_seconds)
                known, unknown = gaps.values()
                is_telling |= tells(unknown, known)
                medians = [f"{statistics.median(sample):.1f}" for sample in (known, unknown)]
                width = f"{half_width(unknown, known):.3f}"
                rows.append([*case, str(tries), width, *medians, shown(unknown, known)])
            say(f"{name}, {FLOOD_A_MINUTE} made-up identities a minute")
            waits[name] = deployment.flood(flood)
    print(report.table(["", "", "relay", "tries", "half-width", "known, ms", "unknown, ms", "AUC"], rows))
    print("Median gap between A's and B's mail. Bold: told, its 99.9 % interval does not hold 0.5.")
    print(f"With {FLOOD_A_MINUTE} made-up identities a minute and a relay of {FLOOD_RELAY_SECONDS} s,")
    for name, wait in waits.items():
        print(f"the slowest mail of an owner took {wait:.1f} s on {name}.")
    sys.exit(is_telling or any(wait > AIM_SECONDS for wait in waits.values()))


if __name__ == "__main__":
    main()
