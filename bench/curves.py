"""What bench/scale.py has seen: as tables, and as curves (SVG, without any dependency)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Any

Seen = dict[str, Any]
Table = dict[str, dict[str, dict[str, float]]]  # by name, then by size: median and p99

FLAT = 1.3
WIDTH, PANEL, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 52, 330, 46, 34
LABEL = 15  # from one line of words to the next
TICKS = (0.5, 0.75, 1, 1.3, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000)

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; } .title { font-size: 14px; font-weight: 600; }
.quiet { fill: #656d76; } .axis { stroke: #d0d7de; } .band { fill: #1f883d; opacity: .1; }
.line { fill: none; stroke: #57606a; stroke-width: 1.5; opacity: .75; } .lead { stroke: #d0d7de; fill: none; }
.steep { stroke: #cf222e; stroke-width: 2; opacity: 1; }
text.steep { fill: #cf222e; stroke: none; font-weight: 600; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .quiet { fill: #8d96a0; } .axis, .lead { stroke: #30363d; }
.band { fill: #3fb950; opacity: .15; }
.line { stroke: #9198a1; } .steep { stroke: #ff7b72; } text.steep { fill: #ff7b72; } }
"""


WORDS = """# What more users cost

Measured by `bench/scale.py` in one process, on {machine}. With U users there are U/10 settled mails with a
link each, U/5 events and U/10 refresh tokens, spread over the last 30 days. Sizes take turns, so that
whatever else the machine does meets all alike, and all was read once before: no figure is that of a cold
disk. SQLite has the cache that Sparekey gives it, 2 MB a connection, and the system's behind it; PostgreSQL
has 1 GB of its own, and fsync on.

Milliseconds: median (p99). × is the ratio of the median to that of the first column; above {flat} it is
bold. A password is hashed as cheaply as can be: as it comes, each hash takes {hash_ms:.0f} ms more,
whatever the size."""


OF_WAITING = """RECOVERY_MAIL_WAITING_MAX is set above their number here; it comes as 100,000. What takes
long was done a few times only."""


def as_markdown(seen: Seen, chart: str) -> str:
    words = WORDS.format(machine=seen["machine"], flat=FLAT, hash_ms=seen["hash_ms"])
    parts = [words, f"![Cost by the number of users]({chart})"]
    for engine in seen["engines"]:
        parts += of_engine(engine, seen["sizes"])
    return "\n\n".join(parts) + "\n"


def of_engine(engine: Seen, sizes: list[str]) -> Iterator[str]:
    yield f"## {engine['engine']} {engine['version']}"
    fills = (
        f"{short(size)} users take {bytes_ / 1e6:,.0f} MB, and {seconds:.0f} s to fill"
        for size, (seconds, bytes_) in engine["fills"].items()
    )
    yield "; ".join(fills) + "."
    heads = [f"{short(size)} users" for size in sizes]
    yield table({**engine["users"], **engine["bulk"]}, sizes, heads)
    if engine["waiting"]:
        states = list(next(iter(engine["waiting"].values())))
        yield f"With {short(sizes[0])} users, and mails that wait. {OF_WAITING}"
        yield table(engine["waiting"], states, states)
    yield scans(engine["scans"])


def table(rows: Table, places: list[str], heads: list[str]) -> str:
    """The ratio is to the first place. Bold: not flat."""
    lines = [
        "| | " + " | ".join([heads[0], *(f"{head} | ×" for head in heads[1:])]) + " |",
        "| --- |" + " --: |" * (2 * len(heads) - 1),
    ]
    for name, row in rows.items():
        first, *others = (row[place] for place in places)
        cells = [cell(first)]
        for other in others:
            ratio = other["median"] / first["median"]
            times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2f}"
            cells += [cell(other), f"**{times}**" if ratio > FLAT else times]
        lines.append(f"| {escape(name, quote=False)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: dict[str, float]) -> str:
    def said(number: float) -> str:
        return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"

    return f"{said(value['median'])} ({said(value['p99'])})"


def scans(found: list[dict[str, Any]]) -> str:
    if not found:
        return "No statement reads a whole table."
    lines = [f"- {escape(scan['for'], quote=False)}: {', '.join(scan['tables'])}" for scan in found]
    return "\n".join(["Statements that read a whole table:", "", *dict.fromkeys(lines)])


def short(size: str) -> str:
    number = int(size)
    return (
        f"{number // 10**6}M" if number % 10**6 == 0 else f"{number // 1000}k" if number % 1000 == 0 else size
    )


def as_svg(seen: Seen) -> str:
    panels = [panel(engine, seen["sizes"], number) for number, engine in enumerate(seen["engines"])]
    height = PANEL * len(panels)
    box = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    lead = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="Cost by the number of users">'
    )
    return "\n".join([lead, f"<style>{STYLE}</style>", *panels, "</svg>\n"])


def panel(engine: Seen, sizes: list[str], number: int) -> str:
    ratios = {
        name: [row[size]["median"] / row[sizes[0]]["median"] for size in sizes]
        for name, row in {**engine["users"], **engine["bulk"]}.items()
    }
    every = [ratio for line in ratios.values() for ratio in line]
    low, high = min(0.7, *every) * 0.95, max(2.0, *every) * 1.05
    x, y = across(sizes), upwards(low, high)
    title = f"{engine['engine']}: cost by the number of users, as a multiple of that with {short(sizes[0])}"
    parts = [
        f'<g transform="translate(0 {number * PANEL})">',
        f'<text class="title" x="{LEFT}" y="24">{title}</text>',
    ]
    parts += frame(sizes, x, y, low, high)
    parts += lines(ratios, [x(size) for size in sizes], y)
    return "\n".join([*parts, "</g>"])


def across(sizes: list[str]) -> Any:
    least, most = math.log(int(sizes[0])), math.log(int(sizes[-1]))
    return lambda size: (
        LEFT + (WIDTH - LEFT - RIGHT) * (math.log(int(size)) - least) / max(most - least, 1e-9)
    )


def upwards(low: float, high: float) -> Any:
    """By its logarithm: twice and half are as far from the same."""
    span = PANEL - TOP - BOTTOM
    return lambda ratio: TOP + span * (math.log(high) - math.log(ratio)) / (math.log(high) - math.log(low))


def frame(sizes: list[str], x: Any, y: Any, low: float, high: float) -> Iterator[str]:
    end, top = WIDTH - RIGHT, y(FLAT)
    height = y(1 / FLAT) - top
    yield f'<rect class="band" x="{LEFT}" y="{top:.1f}" width="{end - LEFT}" height="{height:.1f}"/>'
    for tick in TICKS:
        if low <= tick <= high:
            at = y(tick)
            yield f'<path class="axis" d="M{LEFT} {at:.1f}H{end}"/>'
            yield f'<text class="quiet" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}×</text>'
    for size in sizes:
        place = f'x="{x(size):.1f}" y="{PANEL - BOTTOM + 18}" text-anchor="middle"'
        yield f'<text class="quiet" {place}>{short(size)} users</text>'


def lines(ratios: dict[str, list[float]], xs: list[float], y: Any) -> Iterator[str]:
    """Their names stand beside their ends, the steepest on top."""
    order = sorted(ratios, key=lambda name: -ratios[name][-1])
    room = PANEL - TOP - 8
    step = min(LABEL, room / max(len(order), 1))
    for place, name in enumerate(order):
        line = ratios[name]
        steep = " steep" if line[-1] > FLAT else ""
        points = " ".join(f"{at:.1f},{y(ratio):.1f}" for at, ratio in zip(xs, line, strict=True))
        label = TOP + place * step
        end = y(line[-1])
        yield f'<path class="lead" d="M{xs[-1] + 3:.1f} {end:.1f}L{xs[-1] + 26:.1f} {label - 4:.1f}h6"/>'
        yield f'<polyline class="line{steep}" points="{points}"/>'
        words = f"{line[-1]:.2f}×  {escape(name)}" if line[-1] < 10 else f"{line[-1]:,.0f}×  {escape(name)}"
        yield f'<text class="{steep.strip()}" x="{xs[-1] + 36:.1f}" y="{label:.1f}">{words}</text>'
