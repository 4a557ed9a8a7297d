"""The command: `manage.py doctor URL`, or `python -m doctor URL`."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict

import click

from . import attacks, connectivity, enumeration, headers, link_delivery, readiness
from .findings import Finding
from .http_client import REQUESTS_MAX, Wire
from .output import (
    by_severity,
    exit_code,
    fail_level_option,
    format_option,
    summarize,
    write_finding,
    write_json,
    write_line,
)
from .probe_session import BROKEN_OFF, Passed, Result, Skipped, Visit, merged

KINDS = [
    BROKEN_OFF,
    *connectivity.KINDS,
    *headers.KINDS,
    *attacks.KINDS,
    *readiness.KINDS,
    *link_delivery.KINDS,
    *enumeration.KINDS,
]
# The mail comes before the last check, whose many requests start a cool-down.
CHECKS = [
    *connectivity.CHECKS,
    *headers.CHECKS,
    *attacks.CHECKS,
    *readiness.CHECKS,
    *link_delivery.CHECKS,
    *enumeration.CHECKS,
]


@click.command()
@click.argument("url")
@click.option(
    "--identity", help="An account of yours, which gets an email and is compared with unknown ones."
)
@click.option(
    "--samples",
    type=click.IntRange(enumeration.SAMPLES_MIN, enumeration.SAMPLES_MAX),
    default=12,
    show_default=True,
    help="Requests for it, and for unknown ones. More show smaller differences; 45 take 3 minutes.",
)
@click.option("--ca", type=click.Path(exists=True, dir_okay=False), help="Further certificates to trust.")
@click.option("--http-port", type=click.IntRange(1, 65535), help="The port of plain http, if not 80.")
@fail_level_option
@format_option
def doctor(
    url: str,
    identity: str | None,
    samples: int,
    ca: str | None,
    http_port: int | None,
    fail_level: str,
    form: str,
) -> None:
    """Test a running deployment from outside, at its public address.

    Changes no account. With --identity, that account gets an email, whose link is opened and not used. Exits
    with 1 for a finding of --fail-level or worse.
    """
    try:
        wire = Wire(url, ca)
    except (ValueError, OSError) as error:  # ssl's are OSErrors
        raise click.UsageError(str(error)) from None
    visit = Visit(wire, identity and identity.strip(), samples, http_port)
    with closing(wire):
        results = look(visit)
    found = by_severity(merged([one for one in results if isinstance(one, Finding)]))
    if form == "json":
        _write_json(visit, found, results)
    else:
        _write(visit, found, results)
    sys.exit(exit_code(found, fail_level))


def look(visit: Visit) -> list[Result]:
    results: list[Result] = [*connectivity.of_address(visit)]
    if results:
        return [*results, Skipped("everything else", "correct this first")]
    results.append(Passed("Sparekey answers at its public address."))
    for check in CHECKS:
        results += check.run(visit)
    return results


def _write_json(visit: Visit, found: list[Finding], results: list[Result]) -> None:
    write_json(
        {
            "url": visit.wire.url,
            "findings": [asdict(one) for one in found],
            "passed": [one.what for one in results if isinstance(one, Passed)],
            "skipped": [asdict(one) for one in results if isinstance(one, Skipped)],
            "requests": visit.wire.asked,
        }
    )


def _write(visit: Visit, found: list[Finding], results: list[Result]) -> None:
    for finding in found:
        write_finding(finding)
    for result in results:
        if isinstance(result, Passed):
            write_line("passed", "green", result.what)
    for result in results:
        if isinstance(result, Skipped):
            write_line("skipped", "yellow", f"{result.what}: {result.why}")
    summary = summarize(found) or "No findings"
    click.echo(f"\n{summary}. {visit.wire.asked} of at most {REQUESTS_MAX} requests were made.")
    if any(finding.severity == "error" for finding in found) and not visit.pages:
        click.echo("Correct this first. Nothing else was checked.")
