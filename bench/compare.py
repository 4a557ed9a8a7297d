"""Sparekey beside what people would pick instead: `bench/compare.py`.

All peers run behind the same gunicorn, on the same database, with the same cost of a hash and the same
relay. Each is looked at once a round, in an order that changes, so that other work of the machine meets all
of them alike. Only ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import databases
import measure
import report
import stage
from databases import Databases
from peer import FLOOR, PEERS, SPAREKEY, Peer
from sink import Relay
from stage import Site, say

CONNECTIONS = 8
ASKERS = 20  # while the relay is down
UP_SECONDS = {True: 60.0, False: 15.0}  # until a mail is lost; Sparekey's worker looks every 5 seconds
# How much is measured in a round; --quick only shows that it runs.
FULL = {"rounds": 2, "seconds": 4.0, "links": 10, "samples": 150, "accounts": 10_000, "races": 10}
QUICK = {"rounds": 1, "seconds": 0.6, "links": 2, "samples": 20, "accounts": 1000, "races": 1}


def main() -> None:
    options = arguments()
    stage.prepare()
    with databases.started("SQLite") as engine:
        comparison = Comparison(engine, QUICK if options.quick else FULL, options.only)
        try:
            comparison.run()
        finally:  # a failure keeps everything measured before it
            report.save(options.results, "compare", comparison.results)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sparekey beside what people would pick instead.")
    parser.add_argument("--only", nargs="*", default=[], help="modules of peers/, to try them")
    parser.add_argument("--quick", action="store_true", help="very little of everything: does it run?")
    parser.add_argument("--results", type=Path, default=stage.KEPT, help="the folder of compare.json")
    return parser.parse_args()


class Comparison:
    """One run over all peers."""

    def __init__(self, engine: Databases, sizes: dict[str, Any], only: list[str]) -> None:
        self.engine, self.sizes = engine, sizes
        self.python = stage.python_of_peers()
        self.peers = [peer for peer in (*PEERS, FLOOR) if not only or peer.module in only]
        self.filled: dict[str, str] = {}  # databases, by module
        self.results: dict[str, Any] = {
            "machine": machine(),
            "versions": versions(self.python),
            "options": {**sizes, "connections": CONNECTIONS, "askers": ASKERS},
            "peers": [peer.name for peer in self.peers],
            **{part: {peer.name: [] for peer in self.peers} for part in report.PARTS},
        }

    def run(self) -> None:
        for peer in self.peers:
            if peer.module not in self.filled:
                say(f"accounts: {peer.name}")
                new, count = self.engine.create(), self.sizes["accounts"]
                self.filled[peer.module] = stage.fill(peer, new, count, self.python_of(peer))
        for number in range(self.sizes["rounds"]):
            turn = number * len(self.peers) // self.sizes["rounds"]
            for peer in self.peers[turn:] + self.peers[:turn]:
                say(f"round {number + 1}: {peer.name}")
                self.one_round(peer, number)
        for peer in self.peers:
            if peer not in (FLOOR, SPAREKEY):  # Sparekey's JSON tells outcomes apart
                say(f"what goes wrong: {peer.name}")
                self.trouble(peer)

    def python_of(self, peer: Peer) -> str:
        return sys.executable if peer.is_sparekey else self.python

    def site(self, peer: Peer, relay: Relay) -> AbstractContextManager[Site]:
        """Start a peer on a copy of its database."""
        database = self.engine.copy(self.filled[peer.module])
        return stage.running(peer, database, relay.port, self.python_of(peer))

    def one_round(self, peer: Peer, number: int) -> None:
        """Start a peer once; first look at its steps one by one, then put it under load."""
        sizes, found = self.sizes, {part: self.results[part][peer.name] for part in report.PARTS}
        with Relay() as relay, self.site(peer, relay) as site:
            if peer is not FLOOR:
                found["start"].append(site.start_seconds)
                found["memory"].append(measure.memory(site))
                found["steps"].append(measure.steps(site, relay, sizes["links"]))
                found["oracle"].append(measure.oracle(site, sizes["accounts"], sizes["samples"]))
            people = measure.crowd(site, sizes["accounts"])
            if number % 2:  # the second kind may meet work that the first has left
                people = dict(reversed(people.items()))
            found["ask"].append(measure.asking(site, relay, people, CONNECTIONS, sizes["seconds"]))

    def trouble(self, peer: Peer) -> None:
        with Relay("down") as relay, self.site(peer, relay) as site:
            lost = measure.lost(site, relay, ASKERS, UP_SECONDS[peer.is_sparekey])
        with Relay() as relay, self.site(peer, relay) as site:
            races = measure.races(site, relay, self.sizes["races"], report.RUNNERS)
        self.results["trouble"][peer.name].append({**lost, "successes": races})


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown CPU")


def versions(python: str) -> dict[str, str]:
    """Return the peers' packages, by name in small letters: "Flask 3.1.3"."""
    ask = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    return {line.split()[0].lower(): line for line in stage.run(python, "-c", ask).splitlines()}


if __name__ == "__main__":
    main()
