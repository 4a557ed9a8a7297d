"""Sparekey beside what people would pick instead: `bench/compare.py`.

All peers run behind the same gunicorn, on the same database, with the same cost of a hash and the same
relay. Each is looked at once a round, in an order that changes, so that other work of the machine meets all
of them alike. Only ratios within one run mean anything.
"""

import os
import platform
import re
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
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


@click.command(help="Sparekey beside what people would pick instead.")
@click.option("--quick", is_flag=True, help="Very little of everything: does it run?")
@stage.results_option
def main(quick: bool, results: Path) -> None:
    stage.prepare()
    with databases.started("SQLite") as engine:
        comparison = Comparison(engine, QUICK if quick else FULL)
        try:
            comparison.run()
        finally:  # a failure keeps everything measured before it
            report.save(results, "compare", comparison.results)


class Comparison:
    """One run over all peers."""

    def __init__(self, engine: Databases, sizes: dict[str, Any]) -> None:
        self.engine, self.sizes = engine, sizes
        self.filled: dict[str, str] = {}  # databases, by module
        self.results: dict[str, Any] = {
            "machine": machine(),
            "versions": versions(),
            "options": {**sizes, "connections": CONNECTIONS, "askers": ASKERS},
            **{part: {peer.name: [] for peer in (*PEERS, FLOOR)} for part in report.PARTS},
        }

    def run(self) -> None:
        peers = [*PEERS, FLOOR]
        for peer in {peer.module: peer for peer in peers}.values():
            say(f"accounts: {peer.module}")
            self.filled[peer.module] = stage.fill(peer, self.engine.create(), self.sizes["accounts"])
        for number in range(self.sizes["rounds"]):
            turn = number * len(peers) // self.sizes["rounds"]
            for peer in peers[turn:] + peers[:turn]:
                say(f"round {number + 1}: {peer.name}")
                self.one_round(peer)
        for peer in PEERS:
            if peer is not SPAREKEY:  # its JSON tells outcomes apart
                say(f"what goes wrong: {peer.name}")
                self.trouble(peer)

    def site(self, peer: Peer, relay: Relay) -> AbstractContextManager[Site]:
        """Start a peer on a copy of its database."""
        return stage.running(peer, self.engine.copy(self.filled[peer.module]), relay.port)

    def one_round(self, peer: Peer) -> None:
        """Start a peer once; first look at its steps one by one, then put it under load."""
        sizes, parts = self.sizes, {part: self.results[part][peer.name] for part in report.PARTS}
        with Relay() as relay, self.site(peer, relay) as site:
            if peer is not FLOOR:
                parts["memory"].append({"before": site.memory()})  # before any hash
                parts["steps"].append(measure.redemptions(site, relay, sizes["links"]))
                parts["oracle"].append({"auc": measure.oracle(site, sizes["accounts"], sizes["samples"])})
            asked = measure.asking(site, relay, sizes["accounts"], CONNECTIONS, sizes["seconds"])
            parts["ask"].append({name: {"known": figures} for name, figures in asked.items()})

    def trouble(self, peer: Peer) -> None:
        with Relay("down") as relay, self.site(peer, relay) as site:
            came = measure.delivered_late(site, relay, ASKERS, UP_SECONDS[peer.is_sparekey])
        with Relay() as relay, self.site(peer, relay) as site:
            successes = measure.races(site, relay, self.sizes["races"], report.RUNNERS)
        self.results["trouble"][peer.name].append({"asked": ASKERS, "came": came, "successes": successes})


def machine() -> dict[str, Any]:
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": cpu[1] if cpu else "unknown CPU",
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def versions() -> dict[str, str]:
    """Return the peers' packages, by name in small letters: "Flask 3.1.3"."""
    ask = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    return {
        line.split()[0].lower(): line for line in stage.run(str(stage.PEERS_PYTHON), "-c", ask).splitlines()
    }


if __name__ == "__main__":
    main()
