"""Measurements of a running peer: functions that return numbers."""

import random
import time
from collections.abc import Iterator
from itertools import cycle, islice

import httpx
import load
import peer
from peer import FLOOR
from peers import alike
from sink import Relay
from stage import Site, wait_for

from doctor import rank_test

# By name: the relay's state, its seconds for a mail, and the share of the time.
RELAYS = {"up, 0 ms": ("up", 0.0, 1.0), "up, 20 ms": ("up", 0.02, 0.5), "hanging": ("hanging", 0.0, 0.5)}
WARM_UP = 60
WARM_UP_SECONDS = 3.0
ORACLE_SECONDS = 6.0


def requests_of(site: Site, addresses: list[str]) -> Iterator[bytes]:
    """Yield a request for a link for each address, again and again.

    Only one is built. In the others the name is replaced, since all names have the same length.
    """
    names = [address.partition("@")[0].encode() for address in addresses]
    with site.client() as client:
        hidden = site.peer.hidden(client)
        first = peer.raw(site.peer.ask(client, addresses[0], hidden))
    return (first.replace(names[0], name) for name in cycle(names))


def asking(
    site: Site, relay: Relay, accounts: int, connections: int, seconds: float
) -> dict[str, dict[str, float]]:
    """Measure `POST /reset` for known addresses under load, by relay."""
    requests = requests_of(site, random.Random(1).sample(alike.known(accounts), accounts))
    load.send(site.port, islice(requests, WARM_UP), connections, min(WARM_UP_SECONDS, seconds))
    measured: dict[str, dict[str, float]] = {}
    for name, (state, pause, share) in RELAYS.items():
        if site.peer is FLOOR and measured:
            break  # it sends no mail
        relay.becomes(state, pause)
        came = load.send(site.port, requests, connections, seconds * share)
        assert state != "up" or set(came.statuses) <= site.peer.accepted, f"{site.peer.name}: {came.statuses}"
        measured[name] = {"per_second": came.per_second, "p99": load.p99(came.waits), "n": len(came.waits)}
    return measured


def links(site: Site, relay: Relay, addresses: list[str]) -> dict[str, str]:
    """Ask for each address, and return the links out of the mails."""
    relay.forget()
    with site.client() as client:
        hidden = site.peer.hidden(client)
        for address in addresses:
            client.send(site.peer.ask(client, address, hidden))

    def mailed() -> dict[str, str]:
        return {mail.recipient: link for mail in relay.mails() if (link := peer.link_in(mail.data))}

    # Other mails may come: the notice of a reset just before.
    wait_for(lambda: mailed().keys() >= set(addresses))
    found = mailed()
    assert found.keys() >= set(addresses), f"{site.peer.name}: {len(found)} of {len(addresses)} mails came"
    return found


def waited(answer: httpx.Response) -> float:
    """Return the milliseconds from the request to the end of its answer."""
    return answer.elapsed.total_seconds() * 1000


def redemptions(site: Site, relay: Relay, times: int) -> dict[str, list[float]]:
    """Return milliseconds of redeeming links one at a time, each beside a hash alone."""
    addresses = alike.known(times + 1)
    links_of = links(site, relay, addresses)
    _, *rows = [redeem(site, address, links_of[address]) for address in addresses]  # the first one compiles
    return {"hash": [hash_ms for hash_ms, _ in rows], "redeem": [redeem_ms for _, redeem_ms in rows]}


def redeem(site: Site, address: str, link: str) -> tuple[float, float]:
    """Return milliseconds of a hash, and of redeeming a link."""
    with site.client() as client:
        landed = site.peer.land(client, link)
        hash_ms = waited(client.get("/bench/hash"))
        answer = client.send(site.peer.redeem(client, landed, f"what {address} has now"))
    assert answer.status_code in site.peer.redeemed, f"{site.peer.name}: a link: {answer.status_code}"
    return hash_ms, waited(answer)


def oracle(site: Site, accounts: int, samples: int) -> float:
    """Time known and unknown addresses one at a time, in random order, for six seconds at most.

    Returns the AUC: how often a known address waits longer.
    """
    rng = random.Random(2)
    kinds = {"known": alike.known(accounts), "unknown": alike.unknown(accounts)}
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    turns = [*kinds] * samples
    rng.shuffle(turns)
    end = time.monotonic() + ORACLE_SECONDS
    with site.client() as client:
        hidden = site.peer.hidden(client)
        for kind in turns:
            request = site.peer.ask(client, rng.choice(kinds[kind]), hidden)
            took[kind].append(waited(client.send(request)))
            if time.monotonic() > end:
                break
    return rank_test.auc(took["unknown"], took["known"])


def delivered_late(site: Site, relay: Relay, askers: int, seconds: float) -> int:
    """Ask while the relay is down. Return how many mails come once it is up."""
    requests = islice(requests_of(site, alike.known(askers)), askers)
    load.send(site.port, requests, connections=4, seconds=60)
    relay.becomes("up")
    wait_for(lambda: relay.count() >= askers, seconds)
    return relay.count()


def races(site: Site, relay: Relay, rounds: int, runners: int) -> list[int]:
    """Return how often each of some links changed a password when many came with it at once."""
    successes = []
    for address in alike.known(rounds):
        link = links(site, relay, [address])[address]
        posts = []
        for number in range(runners):
            with site.client() as client:  # a browser that has opened the link
                landed = site.peer.land(client, link)
                posts.append(peer.raw(site.peer.redeem(client, landed, f"what runner {number} wants")))
        came = load.send(site.port, iter(posts), connections=runners, seconds=60)
        successes.append(sum(came.statuses[status] for status in site.peer.redeemed))
    return successes
