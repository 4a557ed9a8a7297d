"""The file of `manage.py users import`: each row with its line, or what is wrong with it.

CSV with a header, or JSON lines. It is read once, and no more of it than a row is in memory.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

COLUMNS = ("email", "password_hash", "username", "us_phone_number", "active", "confirmed_at", "language")
Row = dict[str, str]


class BadRow(ValueError):
    """What is wrong with one row, for people."""


def rows(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """Raises ClickException where the file goes on in no way that can be understood."""
    with file.open("rb") as raw, bar(file.stat().st_size, "Looking at it") as seen:
        lines = _lines(raw, seen)
        is_json = file.suffix in (".jsonl", ".ndjson", ".json")
        yield from _json_rows(lines) if is_json else _csv_rows(lines)


def bar(length: int, label: str) -> Any:
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())


def _lines(raw: Iterable[bytes], seen: Any) -> Iterator[str]:
    for number, line in enumerate(raw):
        seen.update(len(line))
        text = line.decode("utf-8", "surrogateescape")  # what is not UTF-8 is found where it stands
        yield text.removeprefix("\ufeff") if number == 0 else text


def _csv_rows(lines: Iterator[str]) -> Iterator[tuple[int, Row | BadRow]]:
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        for fields in reader:
            if not fields:
                continue  # an empty line
            if len(fields) != len(header):
                yield reader.line_num, BadRow(f"{len(fields)} fields, and the header has {len(header)}")
            else:
                yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise click.ClickException(f"line {reader.line_num}: this is no CSV ({error})") from None


def _check_header(header: list[str]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        said = f"the header has {', '.join(map(repr, unknown))}; columns are {', '.join(COLUMNS)}"
        raise click.ClickException(f"line 1: {said}")
    if len(header) != len(set(header)) or "email" not in header:
        raise click.ClickException("line 1: the header needs email, and each column once")


def _json_rows(lines: Iterator[str]) -> Iterator[tuple[int, Row | BadRow]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, _json_row(line)
            except BadRow as bad:
                yield number, bad


def _json_row(line: str) -> Row:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRow("this is no JSON") from None
    if not isinstance(found, dict):
        raise BadRow('give an object, such as {"email": "alice@example.com"}')
    if unknown := [name for name in found if name not in COLUMNS]:
        raise BadRow(f"{unknown[0]!r} is unknown; there are {', '.join(COLUMNS)}")
    row: Row = {}
    for name, value in found.items():
        if isinstance(value, bool) and name == "active":
            value = "yes" if value else "no"
        if value is not None and not isinstance(value, str):
            raise BadRow(f"{name}: give text")
        row[name] = value or ""
    return row
