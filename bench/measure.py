"""What is measured of a running peer: functions that return numbers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle, islice
from statistics import median
from typing import Any

import httpx
import load
import peer
from peer import FLOOR
from peers import alike
from sink import Relay
from stage import Site, wait_for

from doctor import rank_test

# By name: the relay's state, its seconds for a mail, and the share of the time that each kind gets.
RELAYS = {
    "up, 0 ms": ("up", 0.0, 1.0),
    "up, 20 ms": ("up", 0.02, 0.5),
    "hanging": ("hanging", 0.0, 0.5),
    "down": ("down", 0.0, 0.5),
}
NAMES = {"known": alike.known, "unknown": alike.unknown}
WARM_UP = 60
WARM_UP_SECONDS = 3.0
MAIL_SECONDS_MAX = 30.0
ORACLE_SECONDS = 6.0
HASH_PATH = "/bench/hash"

Numbers = dict[str, Any]


def requests_of(site: Site, addresses: list[str]) -> Iterator[bytes]:
    """Yield a request for a link for each address, again and again.

    Only one is built. In the others the name is replaced, since all names have the same length.
    """
    names = [address.partition("@")[0].encode() for address in addresses]
    with site.client() as client:
        hidden = site.peer.hidden(client, site.peer.reset_path)
        first = peer.raw(site.peer.ask(client, addresses[0], hidden))
    return (first.replace(names[0], name) for name in cycle(names))


def crowd(site: Site, accounts: int) -> dict[str, Iterator[bytes]]:
    """Return requests of known and unknown addresses in random order."""
    rng = random.Random(1)
    return {kind: requests_of(site, rng.sample(names(accounts), accounts)) for kind, names in NAMES.items()}


def asking(
    site: Site, relay: Relay, people: dict[str, Iterator[bytes]], connections: int, seconds: float
) -> dict[str, dict[str, Numbers]]:
    """Measure `POST /reset` under load, by relay and kind."""
    load.send(site.port, islice(people["known"], WARM_UP), connections, min(WARM_UP_SECONDS, seconds))
    found: dict[str, dict[str, Numbers]] = {}
    for name, (state, pause, share) in RELAYS.items():
        if site.peer is FLOOR and found:
            break  # it sends no mail
        relay.becomes(state, pause)
        found[name] = {
            kind: ask(site, relay, requests, connections, seconds * share)
            for kind, requests in people.items()
        }
    return found


def ask(site: Site, relay: Relay, requests: Iterator[bytes], connections: int, seconds: float) -> Numbers:
    before = relay.count()
    came = load.send(site.port, requests, connections, seconds)
    return {
        "per_second": came.per_second,
        "p50": came.median,
        "p99": came.p99,
        "n": len(came.waits),
        "well": well(site, came),
        "mails_per_second": (relay.count() - before) / came.seconds,
    }


def well(site: Site, came: load.Load) -> int:
    """Return how many were told that all is well."""
    return sum(came.statuses[status] for status in site.peer.accepted)


def memory(site: Site) -> Numbers:
    """Return MiB before any hash, after one, and at most while two are made at once."""
    before = site.memory()
    with site.client() as client:
        client.get(HASH_PATH)
        request = peer.raw(client.build_request("GET", HASH_PATH))
    after = most = site.memory()
    two = threading.Thread(target=load.send, args=(site.port, (request for _ in count()), 2, 1.0))
    two.start()
    while two.is_alive():
        most = max(most, site.memory())
        time.sleep(0.002)
    return {"before": before, "after": after, "two": most}


def links(site: Site, relay: Relay, addresses: list[str]) -> dict[str, str]:
    """Ask for each address, and return the links out of the mails."""
    relay.forget()
    with site.client() as client:
        hidden = site.peer.hidden(client, site.peer.reset_path)
        for address in addresses:
            client.send(site.peer.ask(client, address, hidden))

    def mailed() -> dict[str, str]:
        return {mail.recipient: link for mail in relay.mails() if (link := peer.link_in(mail.data))}

    # Other mails may come: the notice of a reset just before.
    wait_for(lambda: mailed().keys() >= set(addresses), MAIL_SECONDS_MAX)
    found = mailed()
    assert found.keys() >= set(addresses), f"{site.peer.name}: {len(found)} of {len(addresses)} mails came"
    return found


def timed(act: Callable[[], httpx.Response]) -> tuple[float, httpx.Response]:
    """Return the milliseconds of an answer beside it."""
    start = time.perf_counter()
    answer = act()
    return (time.perf_counter() - start) * 1000, answer


def steps(site: Site, relay: Relay, times: int) -> dict[str, list[float]]:
    """Return milliseconds of landing, redeeming and signing in, one at a time, each beside a hash alone."""
    people = alike.known(2 * times + 2)
    forgot, knows = people[: times + 1], people[times + 1 :]
    links_of = links(site, relay, forgot)
    rows = [
        {**redeem(site, address, links_of[address]), **sign_in(site, other)}
        for address, other in zip(forgot, knows, strict=True)
    ]
    return {step: [row[step] for row in rows[1:]] for step in rows[0]}  # the first one loads and compiles


def redeem(site: Site, address: str, link: str) -> dict[str, float]:
    with site.client() as client:
        land_ms, landed = timed(lambda: site.peer.land(client, link))
        hash_ms, _ = timed(lambda: client.get(HASH_PATH))
        request = site.peer.redeem(client, landed, f"what {address} has now")
        redeem_ms, answer = timed(lambda: client.send(request))
    assert answer.status_code in site.peer.redeemed, f"{site.peer.name}: a link: {answer.status_code}"
    return {"hash": hash_ms, "land": land_ms, "redeem": redeem_ms, "gets": len(landed.history) + 1}


def sign_in(site: Site, address: str) -> dict[str, float]:
    with site.client() as client:
        request = site.peer.sign_in(client, address, alike.PASSWORD)
        sign_in_ms, answer = timed(lambda: client.send(request))
    assert answer.status_code in site.peer.accepted, f"{site.peer.name}: sign-in: {answer.status_code}"
    return {"sign in": sign_in_ms}


def oracle(site: Site, accounts: int, samples: int) -> Numbers:
    """Time known and unknown addresses one at a time, in random order, for six seconds at most."""
    rng = random.Random(2)
    people = {kind: names(accounts) for kind, names in NAMES.items()}
    took: dict[str, list[float]] = {kind: [] for kind in NAMES}
    turns = [kind for kind in NAMES for _ in range(samples)]
    rng.shuffle(turns)
    start = time.monotonic()
    with site.client() as client:
        hidden = site.peer.hidden(client, site.peer.reset_path)
        for kind in turns:
            request = site.peer.ask(client, rng.choice(people[kind]), hidden)
            took[kind].append(timed(lambda: client.send(request))[0])  # noqa: B023  # called at once
            if time.monotonic() - start > ORACLE_SECONDS:
                break
    return {
        "auc": rank_test.auc(took["unknown"], took["known"]),  # how often a known address waits longer
        "n": min(len(waits) for waits in took.values()),
        **{kind: median(waits) for kind, waits in took.items()},
    }


def lost(site: Site, relay: Relay, askers: int, seconds: float) -> Numbers:
    """Ask while the relay is down. Return how many mails come once it is up."""
    requests = islice(requests_of(site, alike.known(askers)), askers)
    came = load.send(site.port, requests, connections=4, seconds=60)
    relay.becomes("up")
    took = wait_for(lambda: relay.count() >= askers, seconds)
    return {"asked": askers, "told well": well(site, came), "came": relay.count(), "seconds": took}


def races(site: Site, relay: Relay, rounds: int, runners: int) -> list[int]:
    """Return how often each of some links changed a password when many came with it at once."""
    successes = []
    for address in alike.known(rounds):
        link = links(site, relay, [address])[address]
        posts = [runner(site, link, f"what runner {number} wants") for number in range(runners)]
        came = load.send(site.port, iter(posts), connections=runners, seconds=60)
        successes.append(sum(came.statuses[status] for status in site.peer.redeemed))
    return successes


def runner(site: Site, link: str, password: str) -> bytes:
    """Return the request of one browser that has opened the link."""
    with site.client() as client:
        return peer.raw(site.peer.redeem(client, site.peer.land(client, link), password))
