"""The report: `docs/performance.md` and its chart, from the files in `bench/results/`.

`python bench/report.py` writes both again without measuring. The page has no date, so two runs can be
compared line by line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from peer import FLOOR, PEERS, SPAREKEY, SPAREKEY_JSON, STOCK, Peer

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE, CHART = ROOT / "docs" / "performance.md", ROOT / "docs" / "pictures" / "bench.svg"
PARTS = ("ask", "start", "memory", "steps", "oracle", "trouble")
RUNNERS = 32
TELLING = 0.6  # an AUC from here on is of use to a stranger (doctor/rank_test.py)
FLAT = 1.3  # medians of a million users to those of ten thousand
HERE, AWAY, HANGING = "up, 0 ms", "up, 20 ms", "hanging"  # relays
UNDER = ("gunicorn", "sqlalchemy", "argon2-cffi", "flask-mailman", "flask", "flask-sqlalchemy")

Results = dict[str, Any]
Row = list[str]


def save(folder: Path, name: str, results: Any) -> None:
    """Write `name`.json, rounded to what means anything."""
    folder.mkdir(parents=True, exist_ok=True)
    rounded = json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.4g}"))
    (folder / f"{name}.json").write_text(json.dumps(rounded, separators=(",", ":")) + "\n")


def load(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def main() -> None:
    import chart  # it draws with what is defined here

    compared, delivered, scaled = load("compare"), load("deliveries"), load("scale")
    clicked = load("browser")
    options = compared["options"]
    packages = {peer.package.lower() for peer in present(compared, FLOOR) if peer.package}
    PAGE.write_text(
        Path(__file__)
        .with_name("page.md")
        .read_text()
        .format(
            runners=RUNNERS,
            **compared["machine"],
            **{name: options[name] for name in ("accounts", "rounds", "connections", "seconds")},
            versions=", ".join(sorted(compared["versions"][name] for name in packages | set(UNDER))),
            comparison=comparison(compared),
            goals=goals(compared, delivered, scaled),
            scale=scale(scaled),
            browser=browser(clicked),
            recoveries=clicked["recoveries"],
        )
    )
    CHART.write_text(chart.svg(compared))


# --- Numbers ---


def number(value: float, digits: int = 1) -> str:
    """Return three figures or so: no more of them mean anything."""
    if abs(value) >= 10:
        digits = 0 if abs(value) >= 100 else min(digits, 1)
    return f"{value:,.{digits}f}"


def table(head: Row, rows: Iterable[Row]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def present(results: Results, *also: Peer) -> list[Peer]:
    return [peer for peer in (*PEERS, *also) if peer.name in results["peers"]]


def ask(results: Results, peer: Peer, relay: str, figure: str = "per_second") -> float:
    """Return the median of the rounds for known addresses: requests a second, or p99 in ms."""
    return median(measured[relay]["known"][figure] for measured in results["ask"][peer.name])


def step(results: Results, peer: Peer, name: str) -> float:
    """Return the median of the rounds' medians in ms: hash, land, redeem or sign in."""
    return median(median(measured[name]) for measured in results["steps"][peer.name])


def memory(results: Results, peer: Peer) -> float:
    """Return the MiB of the process that answers, by share, before any hash."""
    return median(measured["before"] for measured in results["memory"][peer.name])


def trouble_of(results: Results, peer: Peer) -> Results:
    """Return what went wrong; both of Sparekey's rows had it measured once."""
    measured: Results = results["trouble"][(SPAREKEY_JSON if peer is SPAREKEY else peer).name][0]
    return measured


def went_wrong(results: Results, peer: Peer) -> list[tuple[str, bool]]:
    """Return the AUC, the mails lost and the uses of one link, each with True if it is good."""
    auc = median(measured["auc"] for measured in results["oracle"][peer.name])
    auc = max(auc, 1 - auc)  # whichever kind waits longer
    measured = trouble_of(results, peer)
    missing, most = measured["asked"] - measured["came"], max(measured["successes"])
    used = "once" if most == 1 else f"{most} times"
    lost = f"{missing} of {measured['asked']}"
    return [(f"{auc:.2f}", auc < TELLING), (lost, missing == 0), (used, most == 1)]


# --- Tables ---


def comparison(results: Results) -> str:
    rows = []
    for peer in present(results):
        here, away, hanging = (number(ask(results, peer, relay)) for relay in (HERE, AWAY, HANGING))
        redeem = step(results, peer, "redeem") / step(results, peer, "hash")
        auc, lost, used = (words for words, _ in went_wrong(results, peer))
        mebibytes = number(memory(results, peer), 0)
        rows.append([peer.name, here, away, hanging, f"{redeem:.2f}", auc, lost, used, mebibytes])
    if FLOOR.name in results["peers"]:
        rows.append([FLOOR.name, number(ask(results, FLOOR, HERE)), *["–"] * 7])
    head = ["", "requests/s", "relay 20 ms away", "relay hangs", "redeem, hashes", "AUC"]
    return table([*head, "mails lost", "one link works", "MiB"], rows)


def goals(compared: Results, delivered: list[Results], scaled: Results) -> str:
    """Return a row for each figure that was aimed at, with the verdict."""
    ours = (SPAREKEY, SPAREKEY_JSON)
    others = [peer for peer in present(compared) if peer not in ours]

    def lead(relay: str) -> float:
        """Return how far the slower of ours is ahead of the fastest other peer."""
        fastest = max(ask(compared, peer, relay) for peer in others)
        return min(ask(compared, peer, relay) for peer in ours) / fastest

    def mails(threads: int, relay_ms: float) -> float:
        here = ("SQLite", threads, relay_ms)
        cases = {(case["database"], case["threads"], case["relay_ms"]): case for case in delivered}
        return median(cases[here]["mails_per_second"])

    stock = ask(compared, SPAREKEY, HERE) / ask(compared, STOCK, HERE)
    p99 = max(ask(compared, peer, HANGING, "p99") / ask(compared, peer, HERE, "p99") for peer in ours)
    hash_ms, redeem_ms = (max(step(compared, peer, name) for peer in ours) for name in ("hash", "redeem"))
    threads = mails(4, 20) / mails(1, 20)
    growth = {name: median_growth for name, _, _, median_growth in growths(scaled)}
    worst = max(growth, key=growth.__getitem__)
    mebibytes = max(memory(compared, peer) for peer in ours)
    rows = [
        ("requests, known, pages, to stock Flask-Security-Too", "≥ 60×", f"{number(stock)}×", stock >= 60),
        ("requests to the fastest other peer", "> 1×", f"{lead(HERE):.2f}×", lead(HERE) > 1),
        ("the same with a relay 20 ms away", "≥ 2×", f"{lead(AWAY):.2f}×", lead(AWAY) >= 2),
        ("p99 of a request while the relay hangs, to while it is up", "no more", f"{p99:.2f}×", p99 <= 1.1),
        (
            "redeeming a link by form",
            "≤ 1.15 hashes + 3 ms",
            f"{number(redeem_ms)} ms; {number(1.15 * hash_ms + 3)} ms allowed",
            redeem_ms <= 1.15 * hash_ms + 3,
        ),
        ("mails a second, one thread", "≥ 100", number(mails(1, 0)), mails(1, 0) >= 100),
        ("`worker --threads 4` to one thread, relay 20 ms away", "≥ 3×", f"{threads:.2f}×", threads >= 3),
        (
            f"a million users to ten thousand, at worst: {worst}",
            f"≤ {FLAT}×",
            f"{growth[worst]:.2f}×",
            growth[worst] <= FLAT,
        ),
        ("memory of the web process by share", "≤ 90 MiB", f"{number(mebibytes, 0)} MiB", mebibytes <= 90),
    ]
    verdicts = ([*row[:3], "reached" if row[3] else "**not reached**"] for row in rows)
    return table(["", "goal", "measured", ""], verdicts)


def browser(results: Results) -> str:
    """Return the tables of a person's waits and of the pages."""
    steps = next(iter(results["times"].values()), {})
    rows = [
        [
            name,
            *(
                f"{number(median(waits[name]))} ({number(quantiles(waits[name], n=100)[98])})"
                for waits in results["times"].values()
            ),
        ]
        for name in steps
    ]
    pages = [
        [f"`{path}`", number(page["bytes"] / 1000), str(page["elsewhere"]), number(page["shift"], 2)]
        for path, page in results["pages"].items()
    ]
    return (
        table(["", *results["times"]], rows)
        + "\n"
        + table(["", "kB", "files from elsewhere", "layout shift"], pages)
    )


def growths(scaled: Results) -> Iterable[tuple[str, Results, Results, float]]:
    """Yield each step of each engine: its name, the smallest size, the largest, and their ratio."""
    for engine, sizes in scaled.items():
        by_users = sorted(sizes, key=int)
        small, large = sizes[by_users[0]], sizes[by_users[-1]]
        for name in small:
            ratio = large[name]["median_ms"] / small[name]["median_ms"]
            yield f"{name}, {engine}", small[name], large[name], ratio


def scale(scaled: Results) -> str:
    rows = []
    for name, small, large, ratio in growths(scaled):
        cells = [f"{number(size['median_ms'], 2)} ({number(size['p99_ms'], 2)})" for size in (small, large)]
        rows.append([name, *cells, f"**{ratio:.2f}**" if ratio > FLAT else f"{ratio:.2f}"])
    users = sorted(next(iter(scaled.values())), key=int)
    return table(["", f"{int(users[0]):,} users", f"{int(users[-1]):,} users", "×"], rows)


if __name__ == "__main__":
    main()
