"""A picture of the comparison, for the README: an SVG that is readable in light and in dark, made by hand."""

from __future__ import annotations

import json
import math
import sys
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import report
from peer import FLOOR, Peer
from report import Results

WIDTH = 720
BARS, BARS_END = 216, 448  # where a bar starts, and the longest one ends
COLUMNS = {"Time tells": 526, "Mails lost": 608, "Link used": 696}  # their right edges
TOP, ROW, BAR = 102, 27, 17
FOOT = 80
ROOM = 52  # what a number inside a bar needs

STYLE = """\
  svg { --ink: #1c2624; --faint: #5d6966; --line: #d9e0de; --paper: #ffffff; --band: #eef6f4;
    --ours: #0b6e66; --on-ours: #ffffff; --other: #b4bfbc; --on-other: #1c2624; --bad: #a8321f;
    font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6edeb; --faint: #9aa8a5; --line: #34403d; --paper: #141a19; --band: #1b2725;
      --ours: #4cc2b4; --on-ours: #0d1b19; --other: #55635f; --on-other: #f2f6f5; --bad: #ff9a85 }
  }
  text { fill: var(--ink) }
  .title { font-size: 16px; font-weight: 600 }
  .faint { fill: var(--faint); font-size: 11.5px }
  .strong { font-weight: 600 }
  .number { font-variant-numeric: tabular-nums }
  .end { text-anchor: end }
  .middle { text-anchor: middle }
  .paper { fill: var(--paper); stroke: var(--line) }
  .line { stroke: var(--line) }
  .band { fill: var(--band) }
  .ours { fill: var(--ours) }
  .other { fill: var(--other) }
  .on-ours { fill: var(--on-ours) }
  .on-other { fill: var(--on-other) }
  .good { fill: var(--ours) }
  .bad { fill: var(--bad) }
  .floor { stroke: var(--ink); stroke-dasharray: 3 3 }
"""


def svg(results: Results) -> str:
    peers = report.present(results)
    bottom = TOP + ROW * len(peers)
    scale = Scale([report.rate(results, peer) for peer in report.present(results, FLOOR)])
    height = bottom + FOOT
    parts = [_heading(), _ticks(scale, bottom)]
    parts += [_row(results, peer, TOP + ROW * number, scale) for number, peer in enumerate(peers)]
    if FLOOR.name in results["peers"]:
        parts.append(_floor(scale.at(report.rate(results, FLOOR)), report.rate(results, FLOOR), bottom))
    parts.append(_foot(results, bottom))
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    said = escape(_in_words(results), quote=True)
    paper = f'<rect class="paper" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{said}">'
    return "\n".join([head, f"<style>\n{STYLE}</style>", paper, *parts, "</svg>", ""])


class Scale:
    """Logarithmic, from a power of ten below the slowest to a little over the fastest."""

    def __init__(self, values: list[float]) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.log10(max(values)), self.low + 1)

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return BARS + share * (BARS_END - BARS)

    def decades(self) -> list[int]:
        return [int(10**power) for power in range(max(0, self.low), math.floor(self.high) + 1)]


def _text(x: float, y: float, said: str, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(said)}</text>'


def _heading() -> str:
    parts = [
        _text(24, 34, "Asking for a reset link", "title"),
        _text(24, 54, "Requests answered a second, all for known addresses; logarithmic.", "faint"),
    ]
    parts += [_text(x, TOP - 14, name, "faint end") for name, x in COLUMNS.items()]
    return "\n".join(parts)


def _ticks(scale: Scale, bottom: int) -> str:
    parts = []
    for value in scale.decades():
        x = scale.at(value)
        parts.append(f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{bottom}"/>')
        parts.append(_text(round(x, 1), bottom + 15, f"{value:,}", "faint middle"))
    return "\n".join(parts)


def _row(results: Results, peer: Peer, y: int, scale: Scale) -> str:
    value, text_y = report.rate(results, peer), y + 18
    end = scale.at(value)
    ours = "ours" if peer.sparekey else "other"
    parts = [f'<rect class="band" x="8" y="{y}" width="{WIDTH - 16}" height="{ROW}"/>'] * peer.sparekey
    bold = " strong" * peer.sparekey
    is_inside = end - BARS > ROOM
    at, kind = (end - 7, f"end on-{ours}") if is_inside else (end + 6, "")
    parts += [
        _text(24, text_y, peer.short, bold),
        f'<rect class="{ours}" x="{BARS}" y="{y + 5}" width="{end - BARS:.1f}" height="{BAR}" rx="2"/>',
        _text(round(at, 1), text_y, report.number(value), f"number {kind}{bold}"),
    ]
    for (said, is_good), x in zip(_cells(results, peer), COLUMNS.values(), strict=True):
        parts.append(_text(x, text_y, said, f"end number {'good strong' if is_good else 'bad'}"))
    return "\n".join(parts)


def _cells(results: Results, peer: Peer) -> list[tuple[str, bool]]:
    """What stands in the columns, and whether it is as it should be."""
    auc = report.tells(results, peer)
    trouble = report.trouble_of(results, peer).name
    [lost], [raced] = results["lost"][trouble], results["races"][trouble]
    missing, most = lost["asked"] - lost["came"], max(raced["successes"])
    return [
        (f"{auc:.2f}", auc < report.TELLING),
        (f"{missing} of {lost['asked']}", missing == 0),
        (report.times(most), most == 1),
    ]


def _floor(x: float, value: float, bottom: int) -> str:
    said = f"a bare INSERT: {report.number(value)}"
    return f'<line class="floor" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 24}" y2="{bottom}"/>\n' + _text(
        round(x - 6, 1), TOP - 14, said, "faint end"
    )


def _foot(results: Results, bottom: int) -> str:
    options, asked = results["options"], results["options"]["askers"]
    database = results["machine"]["database"]
    rounds = "1 round" if options["rounds"] == 1 else f"{options['rounds']} rounds"
    lines = (
        "Time tells: AUC of the answers' times, known against unknown; 0.5 is nothing, 1 is everything.",
        f"Mails lost: of {asked} asked for while the relay was down."
        f" Link used: how often, at most, when {report.RUNNERS} came at once.",
        f"Same server, {database}, cost of a hash and relay for all; medians of {rounds}.",
    )
    return "\n".join(_text(24, bottom + 34 + 15 * number, line, "faint") for number, line in enumerate(lines))


def _in_words(results: Results) -> str:
    """For whoever does not see it."""
    rates = [
        f"{peer.name} {report.number(report.rate(results, peer))}" for peer in report.present(results, FLOOR)
    ]
    return f"Requests for a reset link, answered a second: {'; '.join(rates)}."


if __name__ == "__main__":
    print(svg(json.loads(Path(sys.argv[1]).read_text())), end="")
