"""The figures that a change may spoil, in two minutes: `make bench-quick`.

Sparekey beside stock Flask-Security-Too, each behind one gunicorn process with 8 threads, on SQLite, in
turns. Only ratios within one run mean anything; the whole comparison is `make bench`.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median

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

ROUNDS, SECONDS, LINKS = 3, 4.0, 6
ACCOUNTS, MAILS, FAR_MAILS = 1000, 500, 100

Numbers = dict[str, list[float]]


def main() -> None:
    stage.prepare()
    found: dict[Peer, Numbers] = {peer: defaultdict(list) for peer in (SPAREKEY, STOCK)}
    with databases.started("SQLite") as engine:
        filled = {peer: stage.fill(peer, engine.create(), ACCOUNTS) for peer in found}
        for turn in range(ROUNDS):
            for peer, numbers in found.items():
                say(f"round {turn + 1} of {ROUNDS}: {peer.name}")
                look(peer, engine.copy(filled[peer]), numbers)
        rows = [*asks_and_links(found[SPAREKEY], found[STOCK]), *mails(engine, filled[SPAREKEY])]
    print(table(["", "Sparekey", "stock Flask-Security-Too", "ratio", "aim"], rows), end="")


def look(peer: Peer, database: str, numbers: Numbers) -> None:
    """Redeem links one at a time, then ask under load."""
    with Relay() as relay, stage.running(peer, database, relay.port) as site:
        for step, waits in measure.steps(site, relay, LINKS).items():
            numbers[step] += waits
        requests = measure.requests_of(site, alike.known(ACCOUNTS))
        load.send(site.port, requests, seconds=1.0)  # loads and compiles
        came = load.send(site.port, requests, seconds=SECONDS)
        assert measure.well(site, came) == len(came.waits), came.statuses
        numbers["asks"].append(came.per_second)


def asks_and_links(ours: Numbers, stock: Numbers) -> list[list[str]]:
    rates = [median(peer["asks"]) for peer in (ours, stock)]
    hashes = [median(peer["redeem"]) / median(peer["hash"]) for peer in (ours, stock)]
    in_hashes = [number(value, 2) for value in hashes]
    over = number(median(ours["redeem"]) - 1.15 * median(ours["hash"]))
    redeem_aim = f"≤ 1.15 and 3 ms; it is 1.15 and {over} ms"
    return [
        ["asks a second, known", *map(number, rates), f"{number(rates[0] / rates[1])}×", "≥ 60×"],
        ["one redemption, in hashes", *in_hashes, f"{hashes[0] / hashes[1]:.2f}×", redeem_aim],
    ]


def mails(engine: Databases, filled: str) -> list[list[str]]:
    say("mails")
    here = number(deliveries.rate(engine.copy(filled), MAILS))
    rows = [["mails a second, one thread", here, "", "", "≥ 100"]]
    name = "the same, relay 20 ms away, `--threads 4` to one"
    threads = deliveries.threads_to_try()
    if len(threads) == 1:
        return [*rows, [name, "skipped: the worker has no --threads", "", "", ""]]
    away = deliveries.FAR_SECONDS
    one, four = (deliveries.rate(engine.copy(filled), FAR_MAILS, count, away) for count in threads)
    return [*rows, [name, f"{number(four)} to {number(one)}", "", f"{number(four / one, 2)}×", "≥ 3×"]]


if __name__ == "__main__":
    main()
