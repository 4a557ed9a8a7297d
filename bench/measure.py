"""What is measured of a peer: functions that return numbers, and nothing else."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import load
import sink
import stage
from databases import Databases
from peer import FLOOR, Peer, PeerError
from peers import alike
from servers import free_port
from stage import Running
from visitor import Message, Visitor

from doctor import rank_test

# By name: what the relay is, how long it takes over a mail, and the share of the time that it is looked at.
RELAYS = {
    "up, 0 ms": ("up", 0.0, 1.0),
    "up, 20 ms": ("up", 0.02, 0.5),
    "hanging": ("hanging", 0.0, 0.5),
    "down": ("down", 0.0, 0.5),
}
KINDS = ("known", "unknown")
WARM_UP = 60
WARM_UP_SECONDS = 3.0
MAIL_SECONDS_MAX = 30.0
ONE_HASH = Message("GET", "/bench/hash")

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where one peer is measured: its environment, and a database to copy from."""

    peer: Peer
    python: Path
    databases: Databases
    accounts: int
    log: Path

    def fill(self) -> None:
        stage.fill(self.peer, self.python, self.databases.make(self.peer.module), self.accounts)

    def run(self, mail_port: int) -> AbstractContextManager[Running]:
        """Start it on a database of its own."""
        database = self.databases.copy(self.peer.module)
        return stage.running(self.peer, self.python, database, mail_port, self.log)


class Relay:
    """Where a peer sends its mail: one port, and whatever is behind it at the time."""

    def __init__(self, state: str = "up") -> None:
        self.port, self.behind = free_port(), ExitStack()
        self.box = self.behind.enter_context(sink.running(state, port=self.port))

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.behind.close()

    def becomes(self, state: str, pause: float = 0.0) -> None:
        if state == "up" and self.box.pipe:
            self.box.slow_down(pause)  # connections stay, or Sparekey's worker would wait a while
        else:
            self.behind.close()
            self.box = self.behind.enter_context(sink.running(state, pause, self.port))


def crowd(site: Running, accounts: int) -> dict[str, Iterator[bytes]]:
    """Requests without end for a link, of everybody in turn, mixed: known, and as many unknown."""
    rng = random.Random(1)  # noqa: S311  # an order, not a secret
    with Visitor(site.port) as visitor:
        hidden = site.peer.prepare(visitor)
        asked = {}
        for kind, names in zip(KINDS, (alike.known, alike.unknown), strict=True):
            addresses = names(accounts)
            rng.shuffle(addresses)
            asked[kind] = cycle([visitor.raw(site.peer.ask(address, hidden)) for address in addresses])
    return asked


def asking(
    site: Running, relay: Relay, people: dict[str, Iterator[bytes]], connections: int, seconds: float
) -> dict[str, dict[str, Numbers]]:
    """`POST /reset` under load, by relay and kind: for as long as told where all is well, else shorter."""
    found: dict[str, dict[str, Numbers]] = {}
    warm_up = min(WARM_UP_SECONDS, seconds)
    load.send(site.port, _some(people["known"], WARM_UP), connections=connections, seconds=warm_up)
    states = dict(list(RELAYS.items())[:1]) if site.peer is FLOOR else RELAYS
    for name, (state, pause, share) in states.items():
        relay.becomes(state, pause)
        found[name] = {
            kind: _load(site, requests, connections, seconds * share, relay.box)
            for kind, requests in people.items()
        }
    return found


def _some(requests: Iterator[bytes], number: int) -> Iterator[bytes]:
    return (next(requests) for _ in range(number))


def _load(
    site: Running, requests: Iterator[bytes], connections: int, seconds: float, box: sink.Box
) -> Numbers:
    before = box.count()
    came = load.send(site.port, requests, connections=connections, seconds=seconds)
    well = sum(number for status, number in came.statuses.items() if status in site.peer.accepted)
    return {
        "per_second": came.per_second,
        "p50": came.median,
        "p99": came.p99,
        "n": len(came.waits),
        "well": well,
        "unanswered": came.unanswered,
        "mails_per_second": (box.count() - before) / came.seconds,
    }


def memory(site: Running, seconds: float) -> Numbers:
    """MiB before any hash, after one, and at most while two are made at once."""
    before = site.memory()
    with Visitor(site.port) as visitor:
        visitor.send(ONE_HASH)
    after, most = site.memory(), 0.0
    ask = load.request("GET", ONE_HASH.path)
    two = threading.Thread(
        target=load.send,
        args=(site.port, (ask for _ in count())),
        kwargs={"connections": 2, "seconds": seconds},
    )
    two.start()
    while two.is_alive():
        most = max(most, site.memory())
        time.sleep(0.002)
    return {"before": before, "after": after, "two": most}


def links(site: Running, box: sink.Box, addresses: list[str]) -> dict[str, str]:
    """Everybody's, out of the mails that they get."""
    box.forget()
    with Visitor(site.port) as visitor:
        hidden = site.peer.prepare(visitor)
        for address in addresses:
            visitor.send(site.peer.ask(address, hidden))
    found: dict[str, str] = {}

    def all_came() -> bool:
        came = ((mail.recipient, site.peer.link_in(mail.data)) for mail in box.mails())
        found.update({address: link for address, link in came if link})
        return found.keys() >= set(addresses)

    wait_for(all_came, MAIL_SECONDS_MAX)
    if missing := set(addresses) - found.keys():
        raise PeerError(f"{site.peer.name}: {len(missing)} of {len(addresses)} mails did not come")
    return found


def wait_for(is_so: Callable[[], bool], seconds: float) -> float:
    """How long it took, or the whole time."""
    start = time.monotonic()
    while time.monotonic() - start < seconds and not is_so():
        time.sleep(0.02)
    return time.monotonic() - start


def steps(site: Running, box: sink.Box, times: int) -> dict[str, list[float]]:
    """Milliseconds of landing, redeeming and signing in, one at a time, each between hashes alone."""
    people = alike.known(2 * times + 2)
    who_forgot, who_knows = people[: times + 1], people[times + 1 :]
    took: dict[str, list[float]] = {"hash": [], "land": [], "redeem": [], "sign in": []}
    links_of = links(site, box, who_forgot)
    for forgot, knows in zip(who_forgot, who_knows, strict=True):
        with Visitor(site.port) as visitor:
            took["hash"].append(visitor.send(ONE_HASH).took)
            landed = site.peer.land(visitor, links_of[forgot])
            took["land"].append(landed[1].took)
            took["hash"].append(visitor.send(ONE_HASH).took)
            answer = visitor.send(site.peer.redeem(visitor, landed, f"what {forgot} has now"))
            _must(answer.status in site.peer.redeemed, site, "redeem", answer.status)
            took["redeem"].append(answer.took)
        with Visitor(site.port) as visitor:
            message = site.peer.sign_in(visitor, knows, alike.PASSWORD)
            took["hash"].append(visitor.send(ONE_HASH).took)
            answer = visitor.send(message)
            _must(site.peer.is_in(answer), site, "sign in", answer.status)
            took["sign in"].append(answer.took)
    return {name: waits[len(waits) // (times + 1) :] for name, waits in took.items()}  # the first one loads


def _must(is_so: bool, site: Running, what: str, status: int) -> None:
    if not is_so:
        raise PeerError(f"{site.peer.name}: {what} was answered with {status}")


def oracle(site: Running, accounts: int, samples: int, seconds: float) -> Numbers:
    """Known and unknown, one at a time, in random order, for so many of each or so long."""
    rng = random.Random(2)  # noqa: S311  # an order, not a secret
    people = {"known": alike.known(accounts), "unknown": alike.unknown(accounts)}
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    turns = [kind for kind in KINDS for _ in range(samples)]
    rng.shuffle(turns)
    start = time.monotonic()
    with Visitor(site.port) as visitor:
        hidden = site.peer.prepare(visitor)
        for kind in turns:
            answer = visitor.send(site.peer.ask(rng.choice(people[kind]), hidden))
            took[kind].append(answer.took)
            if time.monotonic() - start > seconds:
                break
    return {
        "auc": rank_test.auc(took["unknown"], took["known"]),  # how often one who is known waits longer
        "n": min(len(waits) for waits in took.values()),
        **{kind: median(waits) for kind, waits in took.items()},
    }


def lost(place: Place, askers: int, seconds: float) -> Numbers:
    """Mails that never come: so many ask while the relay is down, and then it is up for so long."""
    with Relay("down") as relay, place.run(relay.port) as site:
        people = crowd(site, place.accounts)
        came = load.send(site.port, _some(people["known"], askers), connections=4, seconds=120)
        well = sum(number for status, number in came.statuses.items() if status in site.peer.accepted)
        relay.becomes("up")
        took = wait_for(lambda: relay.box.count() >= askers, seconds)
        return {"asked": askers, "told well": well, "came": relay.box.count(), "seconds": took}


def races(place: Place, rounds: int, runners: int) -> Numbers:
    """How often one link changes a password, when so many come with it at once."""
    successes = []
    with Relay() as relay, place.run(relay.port) as site:
        for address in alike.known(rounds):
            link = links(site, relay.box, [address])[address]
            posts = [_runner(site, link, f"what runner {number} wants") for number in range(runners)]
            came = load.send(site.port, iter(posts), connections=runners, seconds=60)
            successes.append(sum(came.statuses[status] for status in site.peer.redeemed))
    return {"rounds": rounds, "runners": runners, "successes": successes}


def _runner(site: Running, link: str, password: str) -> bytes:
    """Somebody with a browser of their own, about to press the button."""
    with Visitor(site.port) as visitor:
        return visitor.raw(site.peer.redeem(visitor, site.peer.land(visitor, link), password))
