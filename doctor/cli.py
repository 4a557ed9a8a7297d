"""The command: `manage.py doctor URL`, or `python -m doctor URL`."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict

import click

from . import (
    attacks,
    connectivity,
    cookies,
    enumeration,
    headers,
    link_delivery,
    readiness,
    slow_clients,
    sources,
)
from .findings import Finding
from .http_client import REQUESTS_MAX, Client
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
from .scan import Passed, Result, Scan, Skipped, merge

# Link delivery precedes enumeration, whose many requests start the cool-down of the account's mail. The check
# of sources is the last, because it uses up the rate limit.
CHECKS = [
    *connectivity.CHECKS,
    *headers.CHECKS,
    *cookies.CHECKS,
    *attacks.CHECKS,
    *readiness.CHECKS,
    *slow_clients.CHECKS,
    *link_delivery.CHECKS,
    *enumeration.CHECKS,
    *sources.CHECKS,
]


@click.command()
@click.argument("url")
@click.option("--identity", help="Your account. It gets an email and is compared with made-up identities.")
@click.option(
    "--samples",
    type=click.IntRange(enumeration.SAMPLES_MIN, enumeration.SAMPLES_MAX),
    default=12,
    show_default=True,
    help="Requests for it, and for made-up ones. More of them show smaller differences; 45 take 3 minutes.",
)
@click.option("--ca", type=click.Path(exists=True, dir_okay=False), help="Also trust these certificates.")
@click.option("--http-port", type=click.IntRange(1, 65535), help="The port of plain HTTP, if it is not 80.")
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

    Changes no account. With --identity, the account gets an email with a link, which is opened but not
    used. Exits 1 on findings of --fail-level or worse.
    """
    try:
        client = Client(url, ca)
    except (ValueError, OSError) as error:  # ssl.SSLError is an OSError
        raise click.UsageError(str(error)) from None
    scan = Scan(client, identity and identity.strip(), samples, http_port)
    with closing(client):
        results = run_checks(scan)
    findings = by_severity(merge([result for result in results if isinstance(result, Finding)]))
    if form == "json":
        _write_json(scan, findings, results)
    else:
        _write_text(scan, findings, results)
    sys.exit(exit_code(findings, fail_level))


def run_checks(scan: Scan) -> list[Result]:
    if results := list(connectivity.check_address(scan)):
        return [*results, Skipped("all other checks", "correct this first")]
    passed = Passed("Sparekey answers at its public address.")
    return [passed, *(result for check in CHECKS for result in check.run(scan))]


def _write_json(scan: Scan, findings: list[Finding], results: list[Result]) -> None:
    write_json(
        {
            "url": scan.client.url,
            "findings": [asdict(finding) for finding in findings],
            "passed": [result.text for result in results if isinstance(result, Passed)],
            "skipped": [asdict(result) for result in results if isinstance(result, Skipped)],
            "requests": scan.client.requests,
        }
    )


def _write_text(scan: Scan, findings: list[Finding], results: list[Result]) -> None:
    for finding in findings:
        write_finding(finding)
    for result in results:
        if isinstance(result, Passed):
            write_line("passed", "green", result.text)
    for result in results:
        if isinstance(result, Skipped):
            write_line("skipped", "yellow", f"{result.what}: {result.why}")
    summary = summarize(findings) or "No findings"
    click.echo(f"\n{summary}. {scan.client.requests} of at most {REQUESTS_MAX} requests were made.")
    if any(finding.severity == "error" for finding in findings) and not scan.pages:
        click.echo("Correct this first. Nothing else was checked.")
