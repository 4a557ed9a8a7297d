"""The figures that a change may spoil, in two minutes: `make bench-quick`.

Sparekey beside stock Flask-Security-Too, each behind one gunicorn process with 8 threads, on SQLite, in
turns. Only ratios within one run mean anything; the whole comparison is `make bench`.
"""

from collections import defaultdict
from statistics import median

import databases
import load
import measure
import stage
from deliveries import FAR_SECONDS, rate
from peer import SPAREKEY, STOCK, Peer
from peers import alike
from report import number
from sink import Relay
from stage import say

ROUNDS, SECONDS, LINKS = 3, 4.0, 6
ACCOUNTS, MAILS, FAR_MAILS = 1000, 500, 100

Numbers = dict[str, list[float]]


def main() -> None:
    stage.prepare()
    numbers: dict[Peer, Numbers] = {peer: defaultdict(list) for peer in (SPAREKEY, STOCK)}
    with databases.started("SQLite") as engine:
        filled = {peer: stage.fill(peer, engine.create(), ACCOUNTS) for peer in numbers}
        for turn in range(ROUNDS):
            for peer in numbers:
                say(f"round {turn + 1} of {ROUNDS}: {peer.name}")
                look(peer, engine.copy(filled[peer]), numbers[peer])
        say("mails")
        here = rate(engine.copy(filled[SPAREKEY]), MAILS)
        one, four = (rate(engine.copy(filled[SPAREKEY]), FAR_MAILS, count, FAR_SECONDS) for count in (1, 4))
    ours, stock = ({name: median(waits) for name, waits in found.items()} for found in numbers.values())
    hashes, stock_hashes = (figures["redeem"] / figures["hash"] for figures in (ours, stock))
    over = ours["redeem"] - 1.15 * ours["hash"]
    print(f"""\
|  | Sparekey | stock Flask-Security-Too | ratio | aim |
| --- | --- | --- | --- | --- |
| requests a second, known | {number(ours["requests"])} | {number(stock["requests"])} \
| {number(ours["requests"] / stock["requests"])}× | ≥ 60× |
| one redemption, in hashes | {hashes:.2f} | {stock_hashes:.2f} \
| {hashes / stock_hashes:.2f}× | ≤ 1.15 and 3 ms; it is 1.15 and {number(over)} ms |
| mails a second, one thread | {number(here)} |  |  | ≥ 100 |
| the same, relay 20 ms away, `--threads 4` to one | {number(four)} to {number(one)} |  \
| {four / one:.2f}× | ≥ 3× |""")


def look(peer: Peer, database: str, numbers: Numbers) -> None:
    """Redeem links one at a time, then ask under load."""
    with Relay() as relay, stage.running(peer, database, relay.port) as site:
        for step, waits in measure.redemptions(site, relay, LINKS).items():
            numbers[step] += waits
        requests = measure.requests_of(site, alike.known(ACCOUNTS))
        load.send(site.port, requests, seconds=1.0)  # loads and compiles
        came = load.send(site.port, requests, seconds=SECONDS)
        assert set(came.statuses) <= peer.accepted, came.statuses
        numbers["requests"].append(came.per_second)


if __name__ == "__main__":
    main()
