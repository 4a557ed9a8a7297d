"""The security case as data: the rows of docs/security.md, and the tests that carry their ids.

`make security` runs the tests that are marked with a requirement and prints one line for each row.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "security.md"

ARGUMENT_LENGTH_MIN = 40  # a deviation says why, or it is none
OUTCOMES = ("passed", "failed", "skipped")

_ROW = re.compile(r"\| (R\d+) ([^|]+) \| ([^|]+) \|([^|]*)\|")
_WEAKNESS = re.compile(r"\| (?!R\d)([^|]+) \| (`(?:\w+/)?test_[^|]+) \|")
_NAME = re.compile(r"`((?:\w+/)?test_\w+::test_\w+)`")
_ARGUMENT = re.compile(r"\*\*(Deviation|Does not apply)\*\*(.*)")
_TO_DO = re.compile(r"TODO\(([^)]+)\)")


@dataclass(frozen=True)
class Row:
    """One requirement: what it is called, what Sparekey does, and the proof as it is written."""

    id: str
    title: str
    claim: str
    proof: str

    @property
    def tests(self) -> set[str]:
        return set(_NAME.findall(self.proof))

    @property
    def argument(self) -> str | None:
        """`Deviation` or `Does not apply`, when it says why."""
        found = _ARGUMENT.search(self.proof)
        return found[1] if found and len(found[2]) >= ARGUMENT_LENGTH_MIN else None

    @property
    def to_do(self) -> list[str]:
        return _TO_DO.findall(self.proof)


def rows() -> list[Row]:
    return [Row(*found.groups()) for line in _lines() if (found := _ROW.fullmatch(line))]


def weaknesses() -> dict[str, set[str]]:
    """What is weak in the stock stack, and the tests that are named after it."""
    found = (_WEAKNESS.fullmatch(line) for line in _lines())
    return {row[1]: set(_NAME.findall(row[2])) for row in found if row}


def proofs() -> dict[str, set[str]]:
    """Every test by the name that the page uses, with the ids that it is marked with. Imports none."""
    return {
        f"{path.relative_to(TESTS).with_suffix('')}::{function.name}": set(_ids(function))
        for path in TESTS.rglob("test_*.py")
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
    }


def _lines() -> list[str]:
    return PAGE.read_text().splitlines()


def _ids(function: ast.FunctionDef) -> Iterator[str]:
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.requirement":
            yield from map(ast.literal_eval, mark.args)


# --- pytest's hooks; conftest.py hands them on ---------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--security-table", action="store_true", help="print docs/security.md, row by row")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.getoption("--security-table"):
        terminalreporter.section("docs/security.md")
        for line in _table(_counted(terminalreporter.stats)):
            terminalreporter.write_line(line)


def _counted(stats: dict[str, list[Any]]) -> dict[str, Counter[str]]:
    """How the cases of each requirement ended."""
    ids = proofs()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in (*OUTCOMES, "error"):
        for report in stats.get(outcome, []):
            name = report.nodeid.removeprefix("tests/").split("[")[0].replace(".py::", "::")
            for requirement in ids.get(name, ()):
                counts[requirement]["failed" if outcome == "error" else outcome] += 1
    return counts


def _table(counts: dict[str, Counter[str]]) -> Iterator[str]:
    yield f"{'id':<4} {'requirement':<52} {'tests':>5} {'passed':>7} {'failed':>7} {'skipped':>7}"
    told: Counter[str] = Counter()
    for row in rows():
        notes = [row.argument.lower()] if row.argument else []
        notes += [f"to do: {what}" for what in row.to_do]
        told.update({note.split(":")[0] for note in notes} or ["proven by tests alone"])
        numbers = " ".join(f"{counts[row.id][outcome]:>7}" for outcome in OUTCOMES)
        yield f"{row.id:<4} {row.title:<52} {len(row.tests):>5} {numbers}  {'; '.join(notes)}".rstrip()
    yield ", ".join(f"{number} {what}" for what, number in told.most_common())
