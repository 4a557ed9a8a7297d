"""Sparekey beside what people would pick instead: `bench/compare.py`.

Everybody runs behind the same gunicorn, on SQLite, with the same cost of a hash and the same relay. Each is
looked at once a round, in an order that changes, so that whatever else the machine does meets all of them
alike. What comes out are ratios within one run; the report says what was measured, on what, and how often.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import chart
import measure
import report
import stage
from databases import Databases, Postgresql, Sqlite
from measure import Place
from peer import FLOOR, PEERS, SPAREKEY

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
STARTED = time.monotonic()


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is below in `finally` is done then, too
    stage.KEPT.mkdir(parents=True, exist_ok=True)
    python = stage.python_of_peers()
    with tempfile.TemporaryDirectory(dir=stage.KEPT) as name:  # on the disk: /tmp may be none
        databases = Postgresql(options.postgresql) if options.postgresql else Sqlite(Path(name))
        try:
            results = compare(databases, Path(name), python, options)
        finally:
            databases.drop()
    say("done")
    (stage.KEPT / "results.json").write_text(json.dumps(results, indent=1))
    picture = Path(os.path.relpath(options.chart, options.out.parent)).as_posix()
    for path, text in ((options.out, report.text(results, picture)), (options.chart, chart.svg(results))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        say(f"{path} is written")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sparekey beside what people would pick instead.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of load with a relay that is up; else half"
    )
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="links redeemed in a round")
    parser.add_argument("--samples", type=int, default=150, help="answers timed of each kind in a round")
    parser.add_argument("--oracle-seconds", type=float, default=6.0, help="and for no longer than this")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--races", type=int, default=10, help="links that 32 redeem at once")
    parser.add_argument("--askers", type=int, default=20, help="who ask while the relay is down")
    parser.add_argument("--up-seconds", type=float, default=15.0, help="how long it is up then")
    parser.add_argument("--postgresql", metavar="URI", help="on that server, in databases of our own")
    parser.add_argument("--only", nargs="*", default=[], help="modules of peers/, to try them")
    parser.add_argument("--quick", action="store_true", help="very little of everything: does it run?")
    parser.add_argument("--out", type=Path, default=stage.KEPT / "bench.md")
    parser.add_argument("--chart", type=Path, default=stage.KEPT / "bench.svg")
    options = parser.parse_args()
    for name, value in QUICK.items() if options.quick else ():
        if getattr(options, name) == parser.get_default(name):
            setattr(options, name, value)
    return options


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:5.0f} s  {text}", file=sys.stderr, flush=True)


def compare(databases: Databases, folder: Path, python: Path, options: argparse.Namespace) -> dict[str, Any]:
    places = make_places(databases, folder / "log", python, options)
    results: dict[str, Any] = {
        "machine": {**machine(folder), "database": databases.name},
        "versions": stage.versions_of_peers(python),
        "options": {name: value for name, value in vars(options).items() if isinstance(value, (int, float))},
        "peers": [place.peer.name for place in places],
        **{part: {place.peer.name: [] for place in places} for part in report.PARTS},
    }
    for number in range(options.rounds):
        turn = number * len(places) // options.rounds
        for place in places[turn:] + places[:turn]:
            say(f"round {number + 1} of {options.rounds}: {place.peer.name}")
            one_round(place, results, number, options)
    for place in places:
        if place.peer not in (FLOOR, SPAREKEY):  # of Sparekey's two ways, the one whose answers are plain
            say(f"what goes wrong: {place.peer.name}")
            up = SPAREKEY_UP_SECONDS if place.peer.sparekey else options.up_seconds
            results["lost"][place.peer.name].append(measure.lost(place, options.askers, up))
            results["races"][place.peer.name].append(measure.races(place, options.races, report.RUNNERS))
    return results


def make_places(databases: Databases, log: Path, python: Path, options: argparse.Namespace) -> list[Place]:
    """Everybody with a database to copy from."""
    places: dict[str, list[Place]] = {}
    for peer in (*PEERS, FLOOR):
        if options.only and peer.module not in options.only:
            continue
        own = Path(sys.executable) if peer.sparekey else python
        place = Place(peer, own, databases, options.accounts, log)
        if peer.module not in places:
            say(f"{options.accounts} accounts: {peer.name}")
            place.fill()
        places.setdefault(peer.module, []).append(place)
    return [place for several in places.values() for place in several]


def one_round(place: Place, results: dict[str, Any], number: int, options: argparse.Namespace) -> None:
    """One start: what is looked at one by one, then the load."""
    name = place.peer.name
    with measure.Relay() as relay, place.run(relay.port) as site:
        if place.peer is not FLOOR:
            results["start"][name].append(site.start_seconds)
            results["memory"][name].append(measure.memory(site, min(1.0, options.seconds)))
            results["steps"][name].append(measure.steps(site, relay.box, options.steps))
            results["oracle"][name].append(
                measure.oracle(site, options.accounts, options.samples, options.oracle_seconds)
            )
        people = measure.crowd(site, options.accounts)
        if number % 2:  # who comes second may meet what the first has left to do
            people = dict(reversed(people.items()))
        results["ask"][name].append(measure.asking(site, relay, people, options.connections, options.seconds))


def machine(folder: Path) -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "durable_write_ms": durable_write(folder / "page"),
        "sparekey": _revision(),
    }


def _cpu() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or "unknown"


def _revision() -> str:
    words = ["git", "describe", "--always", "--dirty"]
    with suppress(OSError, subprocess.CalledProcessError):
        said = subprocess.run(words, cwd=stage.ROOT, check=True, capture_output=True, text=True)  # noqa: S603
        return said.stdout.strip()
    return "unknown"


def durable_write(path: Path) -> float:
    """Milliseconds that a page takes to the disk."""
    waits = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(WRITES):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            waits.append((time.perf_counter() - start) * 1000)
    return median(waits)


if __name__ == "__main__":
    sys.exit(main())
