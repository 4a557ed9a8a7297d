"""The report: `docs/performance.md` and its chart, from the files in `bench/results/`.

`python bench/report.py` writes both again without measuring. The page has no date, so two runs can be
compared line by line.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from peer import FLOOR, PEERS, SPAREKEY, SPAREKEY_JSON, STOCK, Peer

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE, CHART = ROOT / "docs" / "performance.md", ROOT / "docs" / "pictures" / "bench.svg"
PARTS = ("ask", "memory", "steps", "oracle", "trouble")
RUNNERS = 32
TELLING = 0.6  # an AUC from here on is of use to a stranger (doctor/rank_test.py)
HERE, AWAY, HANGING = "up, 0 ms", "up, 20 ms", "hanging"  # relays
UNDER = ("gunicorn", "sqlalchemy", "argon2-cffi", "flask-mailman", "flask", "flask-sqlalchemy")

Results = dict[str, Any]


def save(folder: Path, name: str, results: Any) -> None:
    """Write `name`.json, rounded to what means anything."""
    folder.mkdir(parents=True, exist_ok=True)
    rounded = json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.4g}"))
    (folder / f"{name}.json").write_text(json.dumps(rounded, separators=(",", ":")) + "\n")


def main() -> None:
    compared, delivered, scaled, clicked = (
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("compare", "deliveries", "scale", "browser")
    )
    peers = {peer: figures_of(compared, peer) for peer in PEERS}
    floor = requests(compared, FLOOR, HERE)
    packages = {*UNDER, *(peer.package.lower() for peer in (*PEERS, FLOOR) if peer.package)}
    shared = {"compared": compared, "peers": peers, "floor": floor}
    page = {
        "clicked": clicked,
        "growths": growths(scaled),
        "users": sorted(map(int, next(iter(scaled.values())))),
        "versions": sorted(compared["versions"][name] for name in packages),
        **goals(peers, delivered, growths(scaled)),
    }
    PAGE.write_text(render("page.md.j2", **shared, **page))
    rates = [floor, *(figures["here"] for figures in peers.values())]
    CHART.write_text(render("chart.svg.j2", **shared, **axis(rates)))


def render(name: str, **values: Any) -> str:
    """Fill in a template of this folder. Only that of the chart is markup."""
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(("svg.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.globals.update(number=number, median=median, p99=lambda waits: quantiles(waits, n=100)[98])
    jinja.globals.update(floor_name=FLOOR.name, runners=RUNNERS)
    return jinja.get_template(name).render(values)


def number(value: float, digits: int = 1) -> str:
    """Return three figures or so: no more of them mean anything."""
    if abs(value) >= 10:
        digits = 0 if abs(value) >= 100 else min(digits, 1)
    return f"{value:,.{digits}f}"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


# --- Figures: medians of the rounds ---


def requests(results: Results, peer: Peer, relay: str, figure: str = "per_second") -> float:
    """Return requests a second for known addresses, or their p99 in ms."""
    return median(measured[relay]["known"][figure] for measured in results["ask"][peer.name])


def figures_of(results: Results, peer: Peer) -> Results:
    steps = results["steps"][peer.name]
    hash_ms, redeem_ms = (median(median(each[name]) for each in steps) for name in ("hash", "redeem"))
    auc = median(measured["auc"] for measured in results["oracle"][peer.name])
    auc = max(auc, 1 - auc)  # whichever kind waits longer
    # For Sparekey, trouble is measured once.
    [trouble] = results["trouble"][(SPAREKEY_JSON if peer is SPAREKEY else peer).name]
    lost, used = trouble["asked"] - trouble["came"], max(trouble["successes"])
    return {
        "here": requests(results, peer, HERE),
        "away": requests(results, peer, AWAY),
        "hanging": requests(results, peer, HANGING),
        "p99_growth": requests(results, peer, HANGING, "p99") / requests(results, peer, HERE, "p99"),
        "hash_ms": hash_ms,
        "redeem_ms": redeem_ms,
        "went_wrong": (  # in words, and True if it is good
            (f"{auc:.2f}", auc < TELLING),
            (f"{lost} of {trouble['asked']}", lost == 0),
            ("once" if used == 1 else f"{used} times", used == 1),
        ),
        "mebibytes": median(measured["before"] for measured in results["memory"][peer.name]),
    }


def goals(peers: dict[Peer, Results], delivered: list[Results], steps: list[Results]) -> Results:
    """Return the figures with a goal. The slower of Sparekey's rows counts, and the fastest other peer."""
    ours = [peers[peer] for peer in (SPAREKEY, SPAREKEY_JSON)]
    others = [figures for peer, figures in peers.items() if not peer.is_sparekey]
    mails = {
        (case["threads"], case["relay_ms"]): median(case["mails_per_second"])
        for case in delivered
        if case["database"] == "SQLite"
    }
    return {
        "to_stock": peers[SPAREKEY]["here"] / peers[STOCK]["here"],
        **{
            f"lead_{relay}": min(each[relay] for each in ours) / max(each[relay] for each in others)
            for relay in ("here", "away")
        },
        **{
            name: max(each[name] for each in ours)
            for name in ("p99_growth", "hash_ms", "redeem_ms", "mebibytes")
        },
        "mails": mails[1, 0],
        "threads": mails[4, 20] / mails[1, 20],
        "worst": max(steps, key=lambda step: step["ratio"]),
    }


def growths(scaled: Results) -> list[Results]:
    """Return each step of each engine: its name, the smallest size, the largest, and their ratio."""
    found = []
    for engine, sizes in scaled.items():
        small, large = sizes[min(sizes, key=int)], sizes[max(sizes, key=int)]
        for name in small:
            ratio = large[name]["median_ms"] / small[name]["median_ms"]
            found.append({"name": f"{name}, {engine}", "sizes": (small[name], large[name]), "ratio": ratio})
    return found


def axis(rates: list[float]) -> Results:
    """Return the chart's logarithmic axis: it begins at a power of ten below the slowest."""
    low = math.floor(math.log10(min(rates)))
    high = max(math.log10(max(rates)), low + 1)

    def share(rate: float) -> float:
        return (math.log10(rate) - low) / (high - low)

    decades = [10**power for power in range(max(0, low), math.floor(high) + 1)]
    return {"share": share, "decades": decades}


if __name__ == "__main__":
    main()
