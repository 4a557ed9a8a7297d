"""A picture of the comparison, for the README: `chart.svg.j2`, readable in light and in dark."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import report
from jinja2 import Template
from peer import FLOOR, Peer
from report import Results

LEFT, RIGHT, TOP, ROW = 216, 448, 102, 27  # the template knows the height of a row, too
COLUMNS = (526, 608, 696)  # their right edges
TEMPLATE = Path(__file__).with_name("chart.svg.j2")


def svg(results: Results) -> str:
    peers, everybody = report.present(results), report.present(results, FLOOR)
    rates = {peer: report.ask(results, peer, report.HERE) for peer in everybody}
    low = math.floor(math.log10(min(rates.values())))
    high = max(math.log10(max(rates.values())), low + 1)

    def width(value: float) -> float:
        """Return the length of a bar: logarithmic, from a power of ten below the slowest."""
        return round((math.log10(value) - low) / (high - low) * (RIGHT - LEFT), 1)

    decades = [10**power for power in range(max(0, low), math.floor(high) + 1)]
    return Template(TEMPLATE.read_text(), autoescape=True, keep_trailing_newline=True).render(
        left=LEFT,
        top=TOP,
        bottom=TOP + ROW * len(peers),
        label="; ".join(f"{peer.name} {report.number(rate)}" for peer, rate in rates.items()),
        ticks=[(LEFT + width(value), f"{value:,}") for value in decades],
        bars=[bar(results, peer, width(rates[peer])) for peer in peers],
        floor=(LEFT + width(rates[FLOOR]), report.number(rates[FLOOR])) if FLOOR in rates else None,
        askers=results["options"]["askers"],
        runners=report.RUNNERS,
        rounds=results["options"]["rounds"],
    )


def bar(results: Results, peer: Peer, width: float) -> dict[str, Any]:
    return {
        "name": peer.short,
        "is_ours": peer.is_sparekey,
        "width": width,
        "value": report.number(report.ask(results, peer, report.HERE)),
        "cells": zip(COLUMNS, report.went_wrong(results, peer), strict=True),
    }
