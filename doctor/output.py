"""Reports as text and JSON, in the format of `manage.py check`."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import click

from .findings import SEVERITIES, Finding

COLORS = {"error": "red", "warning": "yellow", "info": "blue"}
WIDTH = 100

fail_level_option = click.option(
    "--fail-level", type=click.Choice(SEVERITIES), default="error", show_default=True
)
format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)


def by_severity(findings: list[Finding]) -> list[Finding]:
    """Return the findings, the worst first."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def exit_code(findings: list[Finding], fail_level: str) -> int:
    """Return 1 if a finding has this severity or a worse one."""
    failing = SEVERITIES[: SEVERITIES.index(fail_level) + 1]
    return 1 if any(finding.severity in failing for finding in findings) else 0


def write_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def write_finding(finding: Finding) -> None:
    severity = click.style(finding.severity, fg=COLORS[finding.severity], bold=True)
    click.echo(f"{severity}  {click.style(finding.id, bold=True)}  {printable(finding.where)}".rstrip())
    for text in filter(None, (finding.what, finding.why, finding.hint and f"→ {finding.hint}")):
        click.echo(textwrap.fill(printable(text), WIDTH, initial_indent="    ", subsequent_indent="    "))
    click.echo()


def write_line(label: str, color: str, text: str) -> None:
    click.echo(f"{click.style(label, fg=color)}{' ' * (9 - len(label))}{printable(text)}")


def summarize(findings: list[Finding]) -> str:
    """Return the counts as in "2 errors, 1 note", or an empty string for no findings."""
    return ", ".join(filter(None, (_count(findings, severity) for severity in SEVERITIES)))


def printable(text: str) -> str:
    """Replace control characters, so that text of a server cannot control the terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _count(findings: list[Finding], severity: str) -> str:
    number = sum(finding.severity == severity for finding in findings)
    return f"{number} {'note' if severity == 'info' else severity}{'s' * (number != 1)}" if number else ""
