"""How findings are written for people, and when they make `check` fail."""

from __future__ import annotations

import textwrap

import click

from ..findings import SEVERITIES, Finding
from .listing import plain

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
