"""How the admin's tools write what they list: a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import pwd
import textwrap
from datetime import datetime
from typing import Any

import click

from ..settings.checks import SEVERITIES, Finding


def whoever() -> str:
    """Who types on this command line, by the system's word: names in the environment can be made up."""
    number = os.getuid()
    try:
        return f"by {pwd.getpwuid(number).pw_name}"
    except KeyError:  # usual in containers
        return f"by uid {number}"


Row = dict[str, Any]
KIND_NAMES = {"email": "address", "username": "username", "us_phone_number": "phone number"}
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


COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}
WIDTH = 100
fail_level_option = click.option(
    "--fail-level", type=click.Choice(SEVERITIES), default="error", show_default=True
)


def by_severity(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def write_finding(finding: Finding, places: str) -> None:
    head = click.style(finding.severity, fg=COLOURS[finding.severity], bold=True)
    click.echo(f"{head}  {click.style(finding.id, bold=True)}  {plain(places)}".rstrip())
    for text in (finding.what, finding.why, finding.hint and f"→ {finding.hint}"):
        if text:
            click.echo(textwrap.fill(plain(text), WIDTH, initial_indent="    ", subsequent_indent="    "))
    click.echo()


def counted(found: list[Finding]) -> str:
    """`2 errors, 1 note`; nothing for nothing."""
    return ", ".join(filter(None, (_count(found, severity) for severity in SEVERITIES)))


def exit_code(found: list[Finding], fail_level: str) -> int:
    worst = SEVERITIES[: SEVERITIES.index(fail_level) + 1]
    return 1 if any(finding.severity in worst for finding in found) else 0


def _count(found: list[Finding], severity: str) -> str:
    number = sum(finding.severity == severity for finding in found)
    return f"{number} {'note' if severity == 'info' else severity}{'s' * (number != 1)}" if number else ""
