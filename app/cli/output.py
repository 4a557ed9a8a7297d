"""Terminal output: tables for people, JSON for programs."""

import json
from datetime import datetime
from typing import Any

import click

from doctor.output import format_option as format_option, printable

Row = dict[str, Any]


def write_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=_as_text))


def write_rows(rows: list[Row], form: str, if_empty: str) -> None:
    """Write the rows as JSON (`form` "json") or as a table, with `if_empty` in place of an empty table."""
    if form == "json":
        write_json(rows)
    elif rows:
        write_table(rows)
    else:
        click.echo(if_empty)


def write_table(rows: list[Row]) -> None:
    """Write a table whose columns are the keys of the first row."""
    lines = [[key.replace("_", " ") for key in rows[0]]]
    lines += [[plain(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.echo(click.style(text, bold=True) if number == 0 else text)


def write_fields(row: Row) -> None:
    """Write a line for each field that has a value."""
    width = max(map(len, row))
    for key, value in row.items():
        if value not in (None, ""):
            click.echo(f"{key.replace('_', ' ').ljust(width)}  {plain(value)}")


def plain(value: Any) -> str:
    """Return the value as text without control characters, because strangers chose some values."""
    return printable(_as_text(value))


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return as_time(value) if isinstance(value, datetime) else str(value)


def as_time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"
