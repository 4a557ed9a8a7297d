"""The security case as data: the rows of docs/security.md, and the tests that carry their ids.

`make security` runs the tests that are marked with a requirement and prints one line for each row.
"""

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

ARGUMENT_LENGTH_MIN = 40  # so long that it gives a reason
OUTCOMES = ("passed", "failed", "skipped")

_ROW = re.compile(r"\| (R\d+) ([^|]+) \| ([^|]+) \|([^|]*)\|")
_WEAKNESS = re.compile(r"\| (?!R\d)([^|]+) \| (`(?:\w+/)?test_[^|]+) \|")
_NAME = re.compile(r"`((?:\w+/)?test_\w+::test_\w+)`")
_ARGUMENT = re.compile(r"\*\*(Deviation|Does not apply)\*\*(.*)")
_TO_DO = re.compile(r"TODO\(([^)]+)\)")


@dataclass(frozen=True)
class Row:
    """A requirement: its title, Sparekey's answer, and the proof as the page states it."""

    id: str
    title: str
    claim: str
    proof: str

    @property
    def tests(self) -> set[str]:
        return set(_NAME.findall(self.proof))

    @property
    def argument(self) -> str | None:
        """`Deviation` or `Does not apply`, if a reason follows."""
        match = _ARGUMENT.search(self.proof)
        return match[1] if match and len(match[2]) >= ARGUMENT_LENGTH_MIN else None

    @property
    def to_do(self) -> list[str]:
        return _TO_DO.findall(self.proof)


def rows() -> list[Row]:
    return [Row(*match.groups()) for line in _lines() if (match := _ROW.fullmatch(line))]


def weaknesses() -> dict[str, set[str]]:
    """Return the weaknesses of the stock stack, and the tests that the page names for each."""
    matches = (_WEAKNESS.fullmatch(line) for line in _lines())
    return {match[1]: set(_NAME.findall(match[2])) for match in matches if match}


def proofs() -> dict[str, set[str]]:
    """Return every test by the name that the page uses, with the requirements of its marks. Imports no test."""
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


# --- Hooks of pytest, which conftest.py exports ---------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--security-table", action="store_true", help="print docs/security.md, row by row")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.getoption("--security-table"):
        terminalreporter.section("docs/security.md")
        for line in _table(_counted(terminalreporter.stats)):
            terminalreporter.write_line(line)


def _counted(stats: dict[str, list[Any]]) -> dict[str, Counter[str]]:
    """Return the outcomes of each requirement's test cases."""
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
    totals: Counter[str] = Counter()
    for row in rows():
        notes = [row.argument.lower()] if row.argument else []
        notes += [f"to do: {task}" for task in row.to_do]
        totals.update({note.split(":")[0] for note in notes} or ["proven by tests alone"])
        numbers = " ".join(f"{counts[row.id][outcome]:>7}" for outcome in OUTCOMES)
        yield f"{row.id:<4} {row.title:<52} {len(row.tests):>5} {numbers}  {'; '.join(notes)}".rstrip()
    yield ", ".join(f"{number} {note}" for note, number in totals.most_common())
