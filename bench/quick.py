"""The figures that a change may spoil, in two minutes: `make bench-quick`.

Sparekey beside stock Flask-Security-Too, each behind one gunicorn process with 8 threads, on SQLite, in
turns. Only ratios within one run mean anything; the whole comparison is `make bench`.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, field

import databases
import deliveries
import load
import measure
import stage
from databases import Databases
from peer import SPAREKEY, STOCK, Peer
from peers import alike
from report import number, table
from sink import Relay
from stage import say

# What DESIGN §7 asks for.
ASKS_LEAST, REDEEM_HASHES, REDEEM_MS, MAILS_LEAST, THREADS_LEAST = 60, 1.15, 3.0, 100, 3


@dataclass
class Found:
    """The measurements of one peer."""

    asks: list[float] = field(default_factory=list)  # a second, one for each round
    hash_ms: list[float] = field(default_factory=list)
    redeem_ms: list[float] = field(default_factory=list)

    @property
    def hashes(self) -> float:
        return statistics.median(self.redeem_ms) / statistics.median(self.hash_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description="The figures that a change may spoil, in two minutes.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of load in each round")
    parser.add_argument("--links", type=int, default=6, help="redeemed in each round")
    parser.add_argument("--mails", type=int, default=500)
    parser.add_argument("--far-mails", type=int, default=100, help="to a relay that is 20 ms away")
    options = parser.parse_args()
    stage.prepare()
    with databases.started("SQLite") as engine:
        peers = (SPAREKEY, STOCK)
        filled = {peer: stage.fill(peer, engine.create(), max(1000, options.mails)) for peer in peers}
        found = {peer: Found() for peer in peers}
        for turn in range(options.rounds):
            for peer in peers:
                say(f"round {turn + 1} of {options.rounds}: {peer.name}")
                look(peer, engine.copy(filled[peer]), found[peer], options)
        rows = [*asks_and_links(found[SPAREKEY], found[STOCK]), *mails(engine, filled[SPAREKEY], options)]
    print(table(["", "Sparekey", "stock Flask-Security-Too", "ratio", "aimed at"], rows), end="")


def look(peer: Peer, database: str, found: Found, options: argparse.Namespace) -> None:
    """Redeem links one at a time, then ask under load."""
    with Relay() as relay, stage.running(peer, database, relay.port) as site:
        took = measure.steps(site, relay, options.links)
        found.hash_ms += took["hash"]
        found.redeem_ms += took["redeem"]
        requests = measure.requests_of(site, alike.known(1000))
        load.send(site.port, requests, seconds=1.0)  # loads and compiles
        came = load.send(site.port, requests, seconds=options.seconds)
        assert measure.well(site, came) == len(came.waits), came.statuses
        found.asks.append(came.per_second)


def asks_and_links(ours: Found, stock: Found) -> list[list[str]]:
    asks, theirs = statistics.median(ours.asks), statistics.median(stock.asks)
    over = statistics.median(ours.redeem_ms) - REDEEM_HASHES * statistics.median(ours.hash_ms)
    ratio = ours.hashes / stock.hashes
    aim = f"≤ {REDEEM_HASHES} hashes and {REDEEM_MS:g} ms: {number(over)} ms over {REDEEM_HASHES} hashes"
    return [
        [
            "asks a second, known",
            number(asks),
            number(theirs),
            f"{number(asks / theirs)}×",
            f"≥ {ASKS_LEAST}×",
        ],
        ["one redemption, in hashes", number(ours.hashes, 2), number(stock.hashes, 2), f"{ratio:.2f}×", aim],
    ]


def mails(engine: Databases, filled: str, options: argparse.Namespace) -> list[list[str]]:
    say("mails to a relay on this machine")
    here = deliveries.rate(engine.copy(filled), options.mails)
    rows = [["mails a second, one thread", number(here), "", "", f"≥ {MAILS_LEAST}"]]
    if deliveries.THREADS not in deliveries.threads_to_try():
        return [
            *rows,
            ["`worker --threads 4` to one, relay 20 ms away", "skipped: no such option", "", "", ""],
        ]
    say("mails to a relay that is 20 ms away")
    far = [
        deliveries.rate(engine.copy(filled), options.far_mails, threads, deliveries.FAR_SECONDS)
        for threads in (1, deliveries.THREADS)
    ]
    rates = " and ".join(number(value) for value in far)
    ratio = f"{number(far[1] / far[0], 2)}×"
    return [
        *rows,
        ["one thread and `--threads 4`, relay 20 ms away", rates, "", ratio, f"≥ {THREADS_LEAST}×"],
    ]


if __name__ == "__main__":
    main()
