"""`manage.py doctor URL`: a deployment that runs, seen from outside, as a browser or an attacker sees it.

Over HTTP alone: it reads no settings and no database, and works from another machine. Each module holds what
it looks at, with what it can find:

    reach     DNS, TLS, http; is it Sparekey, and at the address that it believes      wire    HTTP
    headers   headers and cookies of each page                                         visit   one visit
    attacks   other hosts, other targets, other sites, what lies open                  chance  is it noise?
    state     health        letter    a link's way        accounts  who has one
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict

import click

from ...findings import Finding, errors
from ..listing import format_option, plain, write_json
from ..report import by_severity, counted, exit_code, fail_level_option, write_finding
from . import accounts, attacks, headers, letter, reach, state
from .visit import BROKEN_OFF, Passed, Result, Skipped, Visit, merged
from .wire import REQUESTS_MAX, Wire

KINDS = [
    BROKEN_OFF,
    *reach.KINDS,
    *headers.KINDS,
    *attacks.KINDS,
    *state.KINDS,
    *letter.KINDS,
    *accounts.KINDS,
]
# The mail first: after the many requests of the last there is a cool-down.
CHECKS = [
    *reach.CHECKS,
    *headers.CHECKS,
    *attacks.CHECKS,
    *state.CHECKS,
    *letter.CHECKS,
    *accounts.CHECKS,
]


@click.command()
@click.argument("url")
@click.option("--identity", help="An account of yours: gets a mail, and is compared with unknown ones.")
@click.option(
    "--samples",
    type=click.IntRange(accounts.SAMPLES_MIN, accounts.SAMPLES_MAX),
    default=12,
    show_default=True,
    help="Requests for it, and as many for unknown ones. More show smaller differences; 45 take 3 minutes.",
)
@click.option("--ca", type=click.Path(exists=True, dir_okay=False), help="Certificates to trust besides.")
@click.option("--http-port", type=click.IntRange(1, 65535), help="Where http is, if not at 80.")
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
    """Look at a running deployment from outside, at the address that people use.

    It changes no account: with --identity, that one gets a mail with a link, which is opened and not used.
    Exits 1 when something of --fail-level or worse is found.
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
    results: list[Result] = [*reach.of_address(visit)]
    if results:
        return [*results, Skipped("everything else", "correct this first")]
    results.append(Passed("It is Sparekey, at the address that it believes."))
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
        write_finding(finding, finding.where)
    for one in results:
        if isinstance(one, Passed):
            click.echo(f"{click.style('passed', fg='green')}   {plain(one.what)}")
    for one in results:
        if isinstance(one, Skipped):
            click.echo(f"{click.style('skipped', fg='yellow')}  {plain(f'{one.what}: {one.why}')}")
    said = counted(found) or "Nothing was found"
    click.echo(f"\n{said}. {visit.wire.asked} of at most {REQUESTS_MAX} requests were made.")
    if errors(found) and not visit.pages:
        click.echo("Correct this first: nothing else was looked at.")
