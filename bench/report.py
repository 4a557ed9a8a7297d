"""The page of a comparison: `text`. It bears no date, so that runs can be compared line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from peer import FLOOR, PEERS, SPAREKEY, SPAREKEY_JSON, Peer

PARTS = ("ask", "start", "memory", "steps", "oracle", "trouble")
RUNNERS = 32
TELLING = 0.6  # an AUC from here on is of use to a stranger (doctor/rank_test.py)
UNDER = ("gunicorn", "sqlalchemy", "argon2-cffi", "flask-mailman", "flask", "flask-sqlalchemy")

Results = dict[str, Any]
Row = list[str]

PAGE = Path(__file__).with_name("page.md").read_text()


def text(results: Results, picture: str) -> str:
    """Return the page; `picture` is where the chart is, seen from it."""
    options = results["options"]
    packages = {peer.package.lower() for peer in present(results, FLOOR) if peer.package}
    versions = sorted(results["versions"][name] for name in packages | set(UNDER))
    return PAGE.format(
        picture=picture,
        runners=RUNNERS,
        **results["machine"],
        **{name: options[name] for name in ("accounts", "rounds", "connections", "seconds")},
        versions=", ".join(versions),
        steps_each=options["links"] * options["rounds"],
        **{part.__name__: part(results) for part in (short, rates, delivered, waits)},
        **{part.__name__: part(results) for part in (steps, oracle, trouble, memory)},
    )


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Return the median, and the lowest and the highest if there are several."""
    several = list(values)
    low, middle, high = (number(value, digits) for value in (min(several), median(several), max(several)))
    return middle if len(several) == 1 else f"{middle} ({low}–{high})"


def number(value: float, digits: int = 1) -> str:
    """Return three figures or so: no more of them mean anything."""
    if abs(value) >= 10:
        digits = 0 if abs(value) >= 100 else min(digits, 1)
    return f"{value:,.{digits}f}"


def table(head: Row, rows: Iterable[Row]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def present(results: Results, *also: Peer) -> list[Peer]:
    return [peer for peer in (*PEERS, *also) if peer.name in results["peers"]]


def rate(results: Results, peer: Peer, relay: str = "up, 0 ms", kind: str = "known") -> float:
    """Return requests a second: the median of the rounds."""
    return median(found[relay][kind]["per_second"] for found in results["ask"][peer.name])


def ratio(results: Results, peer: Peer, relay: str = "up, 0 ms", kind: str = "known") -> str:
    """Return the rate of Sparekey's pages to the peer's."""
    if SPAREKEY.name not in results["peers"]:
        return "–"
    return f"{number(rate(results, SPAREKEY, relay, kind) / rate(results, peer, relay, kind), 2)}×"


def trouble_of(results: Results, peer: Peer) -> Results:
    """Return what went wrong; both of Sparekey's rows had it measured once."""
    measured = SPAREKEY_JSON if peer is SPAREKEY else peer
    found: Results = results["trouble"][measured.name][0]
    return found


def went_wrong(results: Results, peer: Peer) -> list[tuple[str, bool]]:
    """Return what time tells, the mails lost and the uses of a link, each with True if all is well."""
    auc = median(found["auc"] for found in results["oracle"][peer.name])
    telling = max(auc, 1 - auc)  # whichever kind waits longer
    found = trouble_of(results, peer)
    missing, most = found["asked"] - found["came"], max(found["successes"])
    used = "once" if most == 1 else f"{most} times"
    lost = f"{missing} of {found['asked']}"
    return [(f"{telling:.2f}", telling < TELLING), (lost, missing == 0), (used, most == 1)]


def short(results: Results) -> str:
    rows = []
    for peer in present(results, FLOOR):
        wrong = ["–"] * 3 if peer is FLOOR else [words for words, _ in went_wrong(results, peer)]
        rows.append([peer.name, number(rate(results, peer)), ratio(results, peer), *wrong])
    head = ["", "requests/s", "Sparekey's pages to it", "AUC", "mails lost", "one link redeemed, at most"]
    return table(head, rows)


def by_relay(results: Results, cell: Callable[[Peer, str, str, list[Results]], str]) -> str:
    """Return a table for each kind, with a column for each relay; the floor knows only the first."""
    relays = list(results["ask"][present(results, FLOOR)[0].name][0])
    tables = []
    for kind in ("known", "unknown"):
        rows = []
        for peer in present(results, FLOOR):
            rounds = results["ask"][peer.name]
            there = [relay for relay in relays if relay in rounds[0]]
            cells = [cell(peer, relay, kind, [found[relay][kind] for found in rounds]) for relay in there]
            rows.append([peer.name, *cells, *[""] * (len(relays) - len(there))])
        tables.append(table([f"{kind}; relay is", *relays], rows))
    return "\n".join(tables)


def rates(results: Results) -> str:
    def cell(peer: Peer, relay: str, kind: str, rounds: list[Results]) -> str:
        is_well = all(found["well"] == found["n"] for found in rounds)
        mark = "" if is_well else " †"
        of_rounds = spread(found["per_second"] for found in rounds)
        return f"{of_rounds}, {ratio(results, peer, relay, kind)}{mark}"

    return by_relay(results, cell)


def waits(results: Results) -> str:
    def cell(_peer: Peer, _relay: str, _kind: str, rounds: list[Results]) -> str:
        middle = number(median(found["p50"] for found in rounds))
        return f"{middle} / {spread(found['p99'] for found in rounds)}"

    return by_relay(results, cell)


def delivered(results: Results) -> str:
    if SPAREKEY.name not in results["peers"]:
        return ""
    rounds = results["ask"][SPAREKEY.name]
    sent = spread((found["up, 0 ms"]["known"]["mails_per_second"] for found in rounds), 0)
    return f"Beside this, on the same cores, Sparekey's worker delivered {sent} mails/s (up, 0 ms, known).\n"


def steps(results: Results) -> str:
    rows = []
    for peer in present(results):
        rounds = results["steps"][peer.name]
        middles = [{step: median(waits) for step, waits in found.items()} for found in rounds]
        gets = int(middles[0]["gets"])
        row = [peer.name, spread(found["hash"] for found in middles)]
        row += [f"{spread(found['land'] for found in middles)}, {gets} GET{'s' * (gets > 1)}"]
        for step in ("redeem", "sign in"):
            row += [
                spread(found[step] for found in middles),
                spread((found[step] / found["hash"] for found in middles), 2),
                spread(found[step] - found["hash"] for found in middles),
            ]
        rows.append(row)
    head = ["", "one hash, ms", "landing, ms"]
    for step in ("redeem", "sign in"):
        head += [f"{step}, ms", "in hashes", "a hash and … ms"]
    return table(head, rows)


def oracle(results: Results) -> str:
    rows = []
    for peer in present(results):
        rounds = results["oracle"][peer.name]
        digits = {"auc": 3, "known": 2, "unknown": 2}
        cells = [spread((found[name] for found in rounds), places) for name, places in digits.items()]
        rows.append([peer.name, *cells, str(sum(found["n"] for found in rounds))])
    return table(["", "AUC", "known, ms", "unknown, ms", "n of each, at least"], rows)


def trouble(results: Results) -> str:
    rows = []
    for peer in present(results):
        if peer is SPAREKEY:
            continue
        found = trouble_of(results, peer)
        waited = "" if found["came"] == found["asked"] else "waited "
        wins = found["successes"]
        rows.append(
            [
                peer.name,
                f"{found['told well']} of {found['asked']}",
                f"{found['came']} of {found['asked']}",
                f"{waited}{found['seconds']:.0f} s",
                f"{sum(count > 1 for count in wins)} of {len(wins)}",
                f"{median(wins):g} ({min(wins)}–{max(wins)})",
            ]
        )
    told, came, last = "told that all is well", "mails that came", "last one after"
    return table(["", told, came, last, "rounds with more", "changes a link"], rows)


def memory(results: Results) -> str:
    rows = []
    for peer in present(results):
        rounds = results["memory"][peer.name]
        sizes = [spread((found[when] for found in rounds), 0) for when in ("before", "after", "two")]
        rows.append([peer.name, *sizes, spread(results["start"][peer.name], 2)])
    return table(["", "before any hash", "after one", "while two are made", "start, s"], rows)
