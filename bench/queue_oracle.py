"""Do the times of an attacker's own mails tell whether an account exists? `bench/queue_oracle.py`.

The attacker has the accounts A and B, and requests mail for A, X and B in one go. The gap between the mails
of A and B is measured for an X with and without an account, in random order. The ROC AUC counts: how often it
is longer for an X with one. 0.5 tells nothing, 0 and 1 tell everything.

A flood of made-up identities shows how long an owner's mail waits meanwhile. With `--foreign`, the accounts
are another application's, among 500,000.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection

import databases
import foreign
import report
import stage
from databases import Databases
from oracle import SIGMAS, timed
from peer import SPAREKEY_JSON
from peers import alike
from sink import Relay
from stage import say, wait_for

from doctor import rank_test

MAIL_SECONDS_MAX = 30.0
WARM_UP = 20  # tries; workers start with no delivery to compare with
ACCOUNTS_A_TRY = 5  # at most, of a try of each kind
POLL_SECONDS = 0.1  # of an idle worker, as by default
FLOOD_A_MINUTE, FLOOD_SECONDS, FLOOD_RELAY_SECONDS = 2000, 120, 0.2
OWNER_SECONDS = 5  # between two requests of owners during the flood
AIM_SECONDS = 60.0  # for the slowest of their mails
ENVIRON = {"FLASK_RECOVERY_WORKER_POLL": f"{POLL_SECONDS} seconds"}


@dataclass
class Case:
    """A deployment, and the gaps in seconds, by what X is."""

    relay_seconds: float
    workers: int = 1
    options: tuple[str, ...] = ()
    database: str = ""
    gaps: dict[str, list[float]] = field(default_factory=lambda: {"known": [], "unknown": []})

    @property
    def half_width(self) -> float:
        known, unknown = map(len, self.gaps.values())
        return SIGMAS * rank_test.standard_error(known, unknown)

    @property
    def auc(self) -> float:
        return rank_test.auc(self.gaps["unknown"], self.gaps["known"])

    @property
    def tells(self) -> bool:
        return abs(self.auc - 0.5) > self.half_width

    @property
    def names(self) -> list[str]:
        worker = f"{self.workers} × `{' '.join(('worker', *self.options))}`"
        return [self.database, worker, f"{self.relay_seconds * 1000:.0f} ms"]

    def cells(self) -> list[str]:
        medians = [f"{statistics.median(gaps) * 1000:.1f}" for gaps in self.gaps.values()]
        auc = f"**{self.auc:.3f}**" if self.tells else f"{self.auc:.3f}"
        return [*self.names, str(len(self.gaps["known"])), f"{self.half_width:.3f}", *medians, auc]


def cases() -> Iterator[Case]:
    for workers in (1, 2):
        for threads in ("1", "4"):
            yield Case(0.02, workers, ("--threads", threads))
    yield Case(0.0)
    yield Case(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description="Do the times of mails tell whether an account exists?")
    parser.add_argument("--tries", type=int, default=400, help="of each kind; 0: none")
    parser.add_argument("--relay", type=float, help="only cases with a relay of so many milliseconds")
    parser.add_argument("--database", choices=databases.ENGINES, help="only this one")
    parser.add_argument("--flood", type=float, default=FLOOD_SECONDS, help="seconds; 0: none")
    parser.add_argument("--foreign", action="store_true", help="accounts of another application")
    options = parser.parse_args()
    stage.prepare()
    measured, waits = [], []
    for name in [options.database] if options.database else databases.available():
        with databases.started(name) as engine:
            filled = fill(engine, ACCOUNTS_A_TRY * (options.tries + WARM_UP), options.foreign)
            for case in cases():
                if options.tries and options.relay in (None, case.relay_seconds * 1000):
                    case.database = name
                    measure(case, engine, filled, options.tries)
                    measured.append(case)
            if options.flood:
                waits.append((name, flood(engine, filled, options.flood)))
    return print_results(measured, waits)


def fill(engine: Databases, count: int, is_foreign: bool) -> str:
    """Return a database with so many accounts, to copy from."""
    if not is_foreign:
        return stage.fill(SPAREKEY_JSON, engine.create(), count)
    database, environ = foreign.fill(engine, [(address, True, True, True) for address in alike.known(count)])
    ENVIRON.update(environ)
    return database


@contextmanager
def working(engine: Databases, filled: str, case: Case) -> Iterator[tuple[Relay, HTTPConnection]]:
    """Run a deployment on a copy of the database."""
    with ExitStack() as stack:
        relay = stack.enter_context(Relay("up", case.relay_seconds))
        running = stage.running(SPAREKEY_JSON, engine.copy(filled), relay.port, has_worker=False, **ENVIRON)
        site = stack.enter_context(running)
        for _ in range(case.workers):
            site.work(*case.options)
        client = HTTPConnection("127.0.0.1", site.port, timeout=60)
        yield relay, stack.enter_context(closing(client))


def measure(case: Case, engine: Databases, filled: str, tries: int) -> None:
    say(", relay ".join((" ".join(case.names[:2]), case.names[2])))
    order = ["known", "unknown"] * tries
    random.Random(1).shuffle(order)
    warm_up = ["known", "unknown"] * (WARM_UP // 2)
    people = iter(alike.known(ACCOUNTS_A_TRY * (tries + WARM_UP)))
    strangers = iter(alike.unknown(tries + WARM_UP))
    with working(engine, filled, case) as (relay, client):
        for number, kind in enumerate((*warm_up, *order)):
            first, last = next(people), next(people)
            gap = one_gap(client, relay, first, next(people if kind == "known" else strangers), last)
            # Until the workers are idle; at random, because they poll with a period.
            time.sleep(case.relay_seconds + random.uniform(0.05, 0.05 + POLL_SECONDS))
            if number >= len(warm_up):
                case.gaps[kind].append(gap)


def one_gap(client: HTTPConnection, relay: Relay, first: str, other: str, last: str) -> float:
    """Request three mails in one go. Return the seconds from the first mail to the last."""
    relay.forget()
    for address in (first, other, last):
        timed(client, "/reset", address)
    came: dict[str, float] = {}

    def has_own() -> bool:
        if relay.count() < 2:
            return False
        came.update((mail.recipient, mail.at) for mail in relay.mails())
        return {first, last} <= came.keys()

    wait_for(has_own, MAIL_SECONDS_MAX)
    return came[last] - came[first]


def flood(engine: Databases, filled: str, seconds: float) -> float:
    """Request mail for made-up identities. Return how long the slowest mail of an owner took."""
    say(f"{FLOOD_A_MINUTE} made-up identities a minute")
    owners, asked = iter(alike.known(ACCOUNTS_A_TRY * WARM_UP)), {}
    with working(engine, filled, Case(FLOOD_RELAY_SECONDS)) as (relay, client):
        start = time.monotonic()
        for number, stranger in enumerate(alike.unknown(int(seconds * FLOOD_A_MINUTE / 60))):
            due = start + number * 60 / FLOOD_A_MINUTE
            time.sleep(max(0.0, due - time.monotonic()))
            timed(client, "/reset", stranger)
            if due - start >= OWNER_SECONDS * len(asked):
                asked[owner := next(owners)] = time.monotonic()
                timed(client, "/reset", owner)
        wait_for(lambda: relay.count() >= len(asked), 2 * AIM_SECONDS)
        came = {mail.recipient: mail.at for mail in relay.mails()}
    return max(came.get(owner, float("inf")) - at for owner, at in asked.items())


def print_results(measured: list[Case], waits: list[tuple[str, float]]) -> int:
    """Print the tables. Returns 1 if the queue tells, or an owner's mail takes too long."""
    if measured:
        head = ["", "", "relay", "tries", "half-width", "known, ms", "unknown, ms", "AUC"]
        print(report.table(head, [case.cells() for case in measured]))
        print("Median gap between A's and B's mail. Bold: told, its 99.9 % interval does not hold 0.5.")
    for name, wait in waits:
        print(
            f"{name}: with {FLOOD_A_MINUTE} made-up identities a minute and a relay of"
            f" {FLOOD_RELAY_SECONDS * 1000:.0f} ms, the slowest mail of an owner took {wait:.1f} s."
        )
    return int(any(case.tells for case in measured) or any(wait > AIM_SECONDS for _, wait in waits))


if __name__ == "__main__":
    sys.exit(main())
