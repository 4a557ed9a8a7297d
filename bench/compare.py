"""Sparekey beside what people would pick instead: `bench/compare.py`.

All peers run behind the same gunicorn, on the same database, with the same cost of a hash and the same
relay. Each is looked at once a round, in an order that changes, so that other work of the machine meets all
of them alike. Only ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import chart
import databases
import measure
import report
import stage
from databases import Databases
from peer import FLOOR, PEERS, SPAREKEY, Peer
from sink import Relay
from stage import Site, say

QUICK = {
    "rounds": 1,
    "seconds": 0.6,
    "connections": 2,
    "steps": 2,
    "samples": 20,
    "oracle_seconds": 1.0,
    "accounts": 1000,
    "races": 1,
    "askers": 5,
    "up_seconds": 2.0,
}
SPAREKEY_UP_SECONDS = 60.0  # its worker looks for a relay that is away every 5 seconds, and may be late
WRITES = 200


def main() -> None:
    options = arguments()
    stage.prepare()
    with databases.started(options.engine) as engine:
        results = Comparison(engine, options).run()
    (stage.KEPT / "results.json").write_text(json.dumps(results, indent=1))
    picture = Path(os.path.relpath(options.chart, options.out.parent)).as_posix()
    for path, text in ((options.out, report.text(results, picture)), (options.chart, chart.svg(results))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        say(f"{path} is written")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sparekey beside what people would pick instead.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of load with a relay at 0 ms; else half")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="links redeemed in a round")
    parser.add_argument("--samples", type=int, default=150, help="answers timed of each kind in a round")
    parser.add_argument("--oracle-seconds", type=float, default=6.0, help="and for no longer than this")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--races", type=int, default=10, help="links that 32 redeem at once")
    parser.add_argument("--askers", type=int, default=20, help="who ask while the relay is down")
    parser.add_argument("--up-seconds", type=float, default=15.0, help="how long it is up then")
    parser.add_argument("--engine", choices=databases.ENGINES, default="SQLite")
    parser.add_argument("--only", nargs="*", default=[], help="modules of peers/, to try them")
    parser.add_argument("--quick", action="store_true", help="very little of everything: does it run?")
    parser.add_argument("--out", type=Path, default=stage.KEPT / "bench.md")
    parser.add_argument("--chart", type=Path, default=stage.KEPT / "bench.svg")
    quick = "--quick" in sys.argv
    parser.set_defaults(**(QUICK if quick else {}))
    return parser.parse_args()


class Comparison:
    """One run over all peers."""

    def __init__(self, engine: Databases, options: argparse.Namespace) -> None:
        self.engine, self.options = engine, options
        self.python = stage.python_of_peers()
        self.peers = [p for p in (*PEERS, FLOOR) if not options.only or p.module in options.only]
        self.filled: dict[str, str] = {}  # databases, by module
        self.results: dict[str, Any] = {
            "machine": {**machine(), "database": engine.name},
            "versions": versions(self.python),
            "options": {name: value for name, value in vars(options).items() if type(value) in (int, float)},
            "peers": [peer.name for peer in self.peers],
            **{part: {peer.name: [] for peer in self.peers} for part in report.PARTS},
        }

    def run(self) -> dict[str, Any]:
        for peer in self.peers:
            if peer.module not in self.filled:
                say(f"{self.options.accounts:,} accounts: {peer.name}")
                new = self.engine.create()
                self.filled[peer.module] = stage.fill(peer, new, self.options.accounts, self.python_of(peer))
        for number in range(self.options.rounds):
            turn = number * len(self.peers) // self.options.rounds
            for peer in self.peers[turn:] + self.peers[:turn]:
                say(f"round {number + 1} of {self.options.rounds}: {peer.name}")
                self.one_round(peer, number)
        for peer in self.peers:
            if peer not in (FLOOR, SPAREKEY):  # Sparekey's JSON tells outcomes apart
                say(f"what goes wrong: {peer.name}")
                self.trouble(peer)
        return self.results

    def python_of(self, peer: Peer) -> str:
        return sys.executable if peer.is_sparekey else self.python

    def site(self, peer: Peer, relay: Relay) -> AbstractContextManager[Site]:
        """Start a peer on a copy of its database."""
        database = self.engine.copy(self.filled[peer.module])
        return stage.running(peer, database, relay.port, self.python_of(peer))

    def one_round(self, peer: Peer, number: int) -> None:
        """Start a peer once; first look at its steps one by one, then put it under load."""
        options, found = self.options, {part: self.results[part][peer.name] for part in report.PARTS}
        with Relay() as relay, self.site(peer, relay) as site:
            if peer is not FLOOR:
                found["start"].append(site.start_seconds)
                found["memory"].append(measure.memory(site, min(1.0, options.seconds)))
                found["steps"].append(measure.steps(site, relay, options.steps))
                found["oracle"].append(
                    measure.oracle(site, options.accounts, options.samples, options.oracle_seconds)
                )
            people = measure.crowd(site, options.accounts)
            if number % 2:  # the second kind may meet work that the first has left
                people = dict(reversed(people.items()))
            found["ask"].append(measure.asking(site, relay, people, options.connections, options.seconds))

    def trouble(self, peer: Peer) -> None:
        options = self.options
        up_seconds = SPAREKEY_UP_SECONDS if peer.is_sparekey else options.up_seconds
        with Relay("down") as relay, self.site(peer, relay) as site:
            lost = measure.lost(site, relay, options.accounts, options.askers, up_seconds)
        with Relay() as relay, self.site(peer, relay) as site:
            races = measure.races(site, relay, options.races, report.RUNNERS)
        self.results["trouble"][peer.name].append({**lost, "successes": races})


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "durable_write_ms": durable_write(stage.KEPT / "page"),
    }


def cpu() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or "unknown"


def durable_write(path: Path) -> float:
    """Return the milliseconds that a page takes to the disk."""
    waits = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(WRITES):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            waits.append((time.perf_counter() - start) * 1000)
    path.unlink()
    return median(waits)


def versions(python: str) -> dict[str, str]:
    """Return the peers' packages, by name in small letters: "Flask 3.1.3"."""
    ask = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    return {line.split()[0].lower(): line for line in stage.run(python, "-c", ask).splitlines()}


if __name__ == "__main__":
    main()
