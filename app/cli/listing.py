"""How the admin's tools write what they list: a table for people, JSON for programs."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click

Row = dict[str, Any]

format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)


def write_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=_as_text))


def write_table(rows: list[Row]) -> None:
    """The columns are the keys of the first row."""
    if not rows:
        return
    lines = [[key.replace("_", " ") for key in rows[0]]]
    lines += [[plain(value) for value in row.values()] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.echo(click.style(text, bold=True) if number == 0 else text)


def write_fields(row: Row) -> None:
    """One thing, a line for each of its fields that says something."""
    width = max(len(key) for key in row)
    for key, value in row.items():
        if value not in (None, ""):
            click.echo(f"{key.replace('_', ' ').ljust(width)}  {plain(value)}")


def plain(value: Any) -> str:
    """As text that can not move a terminal's cursor: some of it was said by others."""
    return "".join(character if character.isprintable() else "�" for character in _as_text(value))


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:%Y-%m-%d %H:%M:%SZ}" if isinstance(value, datetime) else str(value)
