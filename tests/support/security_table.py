"""The security case as data: the rows of docs/security.md, and the tests that carry their ids.

`make security` runs the tests that are marked with a requirement and prints one line for each row.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "security.md"

OUTCOMES = ("passed", "failed", "skipped")

_ROW = re.compile(r"\| (R\d+) ([^|]+) \| ([^|]+) \|([^|]*)\|")
_WEAKNESS = re.compile(r"\| (?!R\d)([^|]+) \| (`(?:\w+/)?test_[^|]+) \|")
_NAME = re.compile(r"`((?:\w+/)?test_\w+::test_\w+)`")
_ARGUMENT = re.compile(r"\*\*(Deviation|Does not apply)\*\*.{40,}")  # so long that it gives a reason
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
        return match[1] if match else None

    @property
    def to_do(self) -> list[str]:
        return _TO_DO.findall(self.proof)


def rows() -> list[Row]:
    return [Row(*match.groups()) for match in map(_ROW.fullmatch, PAGE.read_text().splitlines()) if match]


def weaknesses() -> dict[str, set[str]]:
    """Return the weaknesses of the stock stack, and the tests that the page names for each."""
    matches = map(_WEAKNESS.fullmatch, PAGE.read_text().splitlines())
    return {match[1]: set(_NAME.findall(match[2])) for match in matches if match}


def proofs() -> dict[str, set[str]]:
    """Return every test by the name that the page uses, with the requirements of its marks. Imports no test."""
    return {
        f"{path.relative_to(TESTS).with_suffix('')}::{function.name}": set(_ids(function))
        for path in TESTS.rglob("test_*.py")
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
    }


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
        for line in _table(terminalreporter.stats):
            terminalreporter.write_line(line)


def _table(stats: dict[str, list[Any]]) -> Iterator[str]:
    """Yield a line for each requirement, with the outcomes of its test cases."""
    ids, counts, totals = proofs(), Counter[tuple[str, str]](), Counter[str]()
    for outcome in (*OUTCOMES, "error"):
        for report in stats.get(outcome, []):
            name = report.nodeid.removeprefix("tests/").split("[")[0].replace(".py::", "::")
            kind = "failed" if outcome == "error" else outcome
            counts.update((requirement, kind) for requirement in ids.get(name, ()))
    yield f"{'id':<4} {'requirement':<52} {'tests':>5} {'passed':>7} {'failed':>7} {'skipped':>7}"
    for row in rows():
        note = (row.argument or "").lower()
        totals[note or "proven by tests alone"] += 1
        numbers = " ".join(f"{counts[row.id, outcome]:>7}" for outcome in OUTCOMES)
        yield f"{row.id:<4} {row.title:<52} {len(row.tests):>5} {numbers}  {note}".rstrip()
    yield ", ".join(f"{number} {note}" for note, number in totals.most_common())
