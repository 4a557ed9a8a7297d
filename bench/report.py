"""What was measured, for people: `text` makes a page of the results. No date in it: reruns are to compare."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peer import FLOOR, PEERS, SPAREKEY, SPAREKEY_JSON, Peer

PARTS = ("ask", "start", "memory", "steps", "oracle", "lost", "races")
RUNNERS = 32
SET_UP = {
    "SQLite": """WAL and `synchronous=FULL` for all, as Sparekey sets it. What
  they have by default, a rollback journal, syncs more often. Django has persistent connections and
  `transaction_mode` IMMEDIATE besides, as its documentation advises.""",
    "PostgreSQL": "Django has persistent connections, as its documentation advises.",
}
TELLING = 0.6  # an AUC from here on is of use to a stranger (doctor/rank_test.py)

Results = dict[str, Any]
Row = list[str]

INTRO = """\
# Beside what people would pick instead

Made by `make bench`. Every number is of one run on one machine, so only ratios mean anything. Where a
number is a median of rounds, the lowest and the highest stand in brackets.
"""
CARE = """\
## Read with care

- **One machine runs everything**: the server, the relay, the client, and Sparekey's worker, which mails
  meanwhile. Who mails inline is slowed down by the relay's share of the machine, Sparekey by its worker's.
- **Sparekey does more for a request**: it seals what was typed, counts limits and writes an audit trail; its
  pages check a token against forgery, as Django's do. Flask-Security-Too has that switched off here, and the
  tutorials have none.
- **Sparekey gets a mail out later.** What it has answered waits in its queue until a worker comes to it.
  Under this load requests come in faster than one worker mails, so the queue grows. The others answer when
  the mail is out, or lose it.
- **All addresses are different**, since Sparekey makes one message of many requests for the same one.
- Sparekey's redeem refuses the password that one has already, which costs a second hash, beside the first
  where a core is free.
- A relay that hangs takes connections and says nothing. As they come, the libraries wait for ever; here they
  give up after 3 seconds, and without that "hanging" would be worse.
- Rates for *unknown* are of requests that do next to nothing (Django, the tutorials). That they are so much
  higher is what tells who has an account.
- The rate of a peer whose relay is down is that of failing at once.
- Flask-Security-Too hashes the password's hash once more for each link (sha256_crypt, 535,000 rounds, by its
  library in Python): there its time goes when an address is known. For an unknown one it hashes with argon2.
"""


def text(results: Results, picture: str) -> str:
    """The page; `picture` is where the chart is, seen from it."""
    parts = (
        _short,
        _how,
        _rates,
        _waits,
        _ratios,
        _steps,
        _oracle,
        _trouble,
        _memory,
    )
    shown = f"![Requests a second, and what goes wrong, for each]({picture})\n"
    return "\n".join([INTRO, shown, *(part(results) for part in parts), CARE])


def spread(values: Iterable[float], digits: int = 1, unit: str = "") -> str:
    """The median, and the lowest and the highest, of rounds."""
    several = list(values)
    if not several:
        return "–"
    low, middle, high = (number(value, digits) for value in (min(several), median(several), max(several)))
    return f"{middle}{unit}" if len(several) == 1 else f"{middle}{unit} ({low}–{high})"


def number(value: float, digits: int = 1) -> str:
    """With three figures or so: no more of them mean anything."""
    if abs(value) >= 10:
        digits = 0 if abs(value) >= 100 else min(digits, 1)
    return f"{value:,.{digits}f}"


def table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def present(results: Results, *also: Peer) -> list[Peer]:
    return [peer for peer in (*PEERS, *also) if peer.name in results["peers"]]


def rate(results: Results, peer: Peer, relay: str = "up, 0 ms", kind: str = "known") -> float:
    """Requests a second: the median of the rounds."""
    return median(found[relay][kind]["per_second"] for found in results["ask"][peer.name])


def tells(results: Results, peer: Peer) -> float:
    """The AUC, whichever way it tells."""
    auc = median(found["auc"] for found in results["oracle"][peer.name])
    return max(auc, 1 - auc)


def trouble_of(results: Results, peer: Peer) -> Peer:
    """Sparekey's two ways meet the same trouble; it was looked at once."""
    return SPAREKEY_JSON if peer is SPAREKEY and SPAREKEY_JSON.name in results["peers"] else peer


def lost_of(results: Results, peer: Peer) -> str:
    found = results["lost"][trouble_of(results, peer).name]
    return f"{found[0]['asked'] - found[0]['came']} of {found[0]['asked']}" if found else "–"


def redeemed_of(results: Results, peer: Peer) -> str:
    found = results["races"][trouble_of(results, peer).name]
    return times(max(found[0]["successes"])) if found else "–"


def times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _short(results: Results) -> str:
    base = rate(results, SPAREKEY) if SPAREKEY.name in results["peers"] else 0.0
    rows = [
        [
            peer.name,
            number(rate(results, peer)),
            f"{number(base / rate(results, peer), 2)}×",
            *(
                ["–"] * 3
                if peer is FLOOR
                else [
                    f"{tells(results, peer):.2f}",
                    lost_of(results, peer),
                    redeemed_of(results, peer),
                ]
            ),
        ]
        for peer in present(results, FLOOR)
    ]
    head = ["", "requests/s", "Sparekey's pages", "AUC", "mails lost", "one link redeemed, at most"]
    return f"""\
## In short

Who is known asks for a link, and the relay takes no time; what time tells of who has an account (0.5:
nothing, 1: everything); what is lost while the relay is down; how often one link changes a password when
{RUNNERS} come with it at once.

{table(head, rows)}"""


def _how(results: Results) -> str:
    machine, options, versions = results["machine"], results["options"], results["versions"]
    of = {peer.package for peer in present(results, FLOOR) if peer.package}
    under = {"gunicorn", "SQLAlchemy", "argon2-cffi", "Flask-Mailman", "Flask", "Flask-SQLAlchemy"}
    by_name = {name.lower(): f"{name} {version}" for name, version in versions.items()}
    told = ", ".join(sorted((by_name[name.lower()] for name in of | under), key=str.lower))
    return f"""\
## How

- **Machine**: {machine["cpu"]}, {machine["cores"]} cores, {machine["system"]};
  Python {machine["python"]}, SQLite {machine["sqlite"]}; a page written and synced takes
  {machine["durable_write_ms"]:.2f} ms.
- **Versions**: {told}; Sparekey of this tree.
- **Server**: gunicorn, 1 process with 8 threads, as the demo; Sparekey's worker is one process more.
- **Database**: {machine["database"]}, {options["accounts"]:,} accounts. {SET_UP[machine["database"]]}
- **Hash**: argon2id, 19 MiB, 2 passes, 1 lane, for all.
- **Mail**: text and HTML, through the library that each recommends (Flask-Mailman, `django.core.mail`), to a
  relay on this machine; a new connection for each mail, as they do. They wait for the relay for 3 seconds,
  Sparekey's worker for its 10.
- **Sparekey**: CSRF, headers, audit trail and limits are on; limits and budgets are so high that nobody meets
  them. *Pages* is the form that a browser sends, *JSON* what a program sends. django-allauth's limits are
  off: they keep lists of times, which at this rate get longer than they are meant to be.
- **Rounds**: {options["rounds"]}, each with everybody once, in turning order, on fresh databases.
  {options["connections"]} connections for {options["seconds"]:g} seconds while the relay takes no time,
  half as long otherwise, after a warm-up.
- **The floor** is a bare Flask view on the same server that writes one row, durably, and does nothing else.
"""


def _by_relay(results: Results, kind: str, cell: Callable[[Peer, list[Results]], str]) -> str:
    """A table with a column for each relay; the floor knows only the first."""
    relays = list(next(iter(results["ask"].values()))[0])
    rows = []
    for peer in present(results, FLOOR):
        rounds = results["ask"][peer.name]
        cells = [
            cell(peer, [found[relay][kind] for found in rounds]) if relay in rounds[0] else ""
            for relay in relays
        ]
        rows.append([peer.name, *cells])
    return table([f"{kind}; relay is", *relays], rows)


def _rates(results: Results) -> str:
    def cell(_peer: Peer, found: list[Results]) -> str:
        well = sum(one["well"] for one in found) / max(1, sum(one["n"] for one in found))
        return spread(one["per_second"] for one in found) + ("" if well == 1 else " †")

    tables = [_by_relay(results, kind, cell) for kind in ("known", "unknown")]
    return (
        "## Asking for a link: requests a second\n\n† not all, or none, were told that all is well.\n\n"
        + "\n".join(tables)
        + _delivered(results)
    )


def _delivered(results: Results) -> str:
    if SPAREKEY.name not in results["peers"]:
        return ""
    rounds = results["ask"][SPAREKEY.name]
    sent = spread((found["up, 0 ms"]["known"]["mails_per_second"] for found in rounds), 0)
    return (
        f"\nBeside this, on the same cores, Sparekey's one worker delivered {sent} mails/s (up, 0 ms).\n"
        "Where unknown ones had come before, it was still busy with those.\n"
    )


def _waits(results: Results) -> str:
    def cell(_peer: Peer, found: list[Results]) -> str:
        late = spread(one["p99"] for one in found)
        return f"{number(median(one['p50'] for one in found))} / {late}, n {sum(one['n'] for one in found):,}"

    tables = [_by_relay(results, kind, cell) for kind in ("known", "unknown")]
    return "## Asking for a link: milliseconds, p50 / p99\n\n" + "\n".join(tables)


def _ratios(results: Results) -> str:
    out = []
    for ours in (SPAREKEY, SPAREKEY_JSON):
        if ours.name not in results["peers"]:
            continue
        columns = [(relay, kind) for relay in results["ask"][ours.name][0] for kind in ("known", "unknown")]
        rows = []
        for peer in present(results, FLOOR):
            if peer is ours:
                continue
            theirs = results["ask"][peer.name][0]
            cells = [
                f"{number(rate(results, ours, *column) / rate(results, peer, *column), 2)}×"
                if column[0] in theirs
                else ""
                for column in columns
            ]
            rows.append([peer.name, *cells])
        out.append(table([f"{ours.name}, to", *(f"{relay}; {kind}" for relay, kind in columns)], rows))
    return "## Asking for a link: Sparekey's rate to that of each\n\n" + "\n".join(out)


def _steps(results: Results) -> str:
    head = ["", "one hash, ms", "landing, ms"]
    for step in ("redeem", "sign in"):
        head += [f"{step}, ms", "in hashes", "a hash and … ms"]
    rows = []
    for peer in present(results):
        rounds = results["steps"][peer.name]
        middles = [{name: median(waits) for name, waits in found.items()} for found in rounds]
        row = [peer.name, spread(found["hash"] for found in middles)]
        row += [f"{spread(found['land'] for found in middles)}, {peer.landing}"]
        for step in ("redeem", "sign in"):
            row += [
                spread(found[step] for found in middles),
                f"{spread((found[step] / found['hash'] for found in middles), 2)}",
                spread(found[step] - found["hash"] for found in middles),
            ]
        rows.append(row)
    times = sum(len(found["redeem"]) for found in results["steps"][present(results)[0].name])
    return f"""\
## Landing, redeeming, signing in

One at a time, {times} of each in all, between hashes alone in the same process.

{table(head, rows)}"""


def _oracle(results: Results) -> str:
    rows = []
    for peer in present(results):
        rounds = results["oracle"][peer.name]
        rows.append(
            [
                peer.name,
                spread((found["auc"] for found in rounds), 3),
                spread((found["known"] for found in rounds), 2),
                spread((found["unknown"] for found in rounds), 2),
                str(sum(found["n"] for found in rounds)),
            ]
        )
    return f"""\
## Does time tell who has an account?

ROC AUC: how often a known address waits longer than an unknown one. 0.5 tells nothing; 0 and 1 tell
everything. One client, one request at a time, in random order; the relay is up, 0 ms. `make oracle` looks
closer.

{table(["", "AUC", "known, ms", "unknown, ms", "n of each, at least"], rows)}"""


def _trouble(results: Results) -> str:
    rows = []
    for peer in present(results):
        found, raced = results["lost"][peer.name], results["races"][peer.name]
        if not found:
            continue
        one, wins = found[0], raced[0]["successes"]
        often = sum(number > 1 for number in wins)
        rows.append(
            [
                peer.name,
                f"{one['told well']} of {one['asked']}",
                f"{one['came']} of {one['asked']}",
                f"{one['seconds']:.0f} s"
                if one["came"] == one["asked"]
                else f"waited {one['seconds']:.0f} s",
                f"{often} of {len(wins)}",
                f"{median(wins):g} ({min(wins)}–{max(wins)})",
            ]
        )
    head = [
        "",
        "told that all is well",
        "mails that came",
        "last one after",
        "rounds with more",
        "changes a link",
    ]
    return f"""\
## What goes wrong

The relay is down while some ask, and then it is up again; Sparekey's worker looks for it every 5 seconds. And
{RUNNERS} come with one link at once, each with a password of their own: one of them should get it.

{table(head, rows)}"""


def _memory(results: Results) -> str:
    rows = []
    for peer in present(results):
        rounds = results["memory"][peer.name]
        sizes = [spread((found[when] for found in rounds), 0) for when in ("before", "after", "two")]
        more = spread((found["two"] - found["before"] for found in rounds), 0)
        rows.append([peer.name, *sizes, more, spread(results["start"][peer.name], 2)])
    head = ["", "before any hash", "after one", "while two are made", "more than before", "start, s"]
    return f"""\
## Memory and start

MiB of the process that answers (PSS: what is shared counts by its share; RSS where there is no PSS), and
seconds from the start of the server until it answers.

{table(head, rows)}"""


if __name__ == "__main__":
    print(text(json.loads(Path(sys.argv[1]).read_text()), "bench.svg"))
