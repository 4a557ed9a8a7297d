"""`manage.py check`: what is wrong or unwise, why it matters, and what to do about it.

It works without a bootable app: whatever could not be looked at is said.
"""

from __future__ import annotations

import logging
import os
import shlex
import stat
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path

import click
from flask.cli import ScriptInfo
from gunicorn.config import Config

from .. import checks, settings, template_checks
from ..findings import SEVERITIES, Finding, Kind, errors
from . import deployed, live
from .config import SECRET
from .listing import format_option, plain, write_json
from .mail import unchecked_app

COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}
WIDTH = 100

INVALID = "invalid-setting"
IN_VAIN = Kind(
    "silenced-in-vain",
    "warning",
    "RECOVERY_SILENCED names {name}: {why}.",
    "It hides nothing.",
    "Take it out.{near}",
    "RECOVERY_SILENCED",
)
KINDS = [*checks.KINDS, *template_checks.KINDS, *deployed.KINDS, *live.KINDS, IN_VAIN]


@click.command()
@click.option("--deploy", is_flag=True, help="Also what a deployment must have, in the database, too.")
@click.option("--live", "lively", is_flag=True, help="Also ask the relay, DNS, Redis and the breach service.")
@click.option("--fail-level", type=click.Choice(SEVERITIES), default="error", show_default=True)
@format_option
@click.pass_obj
def check(script: ScriptInfo, deploy: bool, lively: bool, fail_level: str, form: str) -> None:
    """Look for what is wrong or unwise. Exits 1 when something of --fail-level or worse is found."""
    reading = settings.examine()
    found = [
        *_invalid(reading),
        *(_found(script, reading.settings, deploy, lively) if reading.settings else []),
    ]
    silenced = reading.settings.RECOVERY_SILENCED if reading.settings else []
    shown = [one for one in found if one.severity == "error" or one.id not in silenced]
    shown += [*_silenced_in_vain(silenced, found)]
    shown.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    hidden = sorted({finding.id for finding in found} - {finding.id for finding in shown})
    if form == "json":
        findings = [{**asdict(one), "origin": _origin(one, reading)} for one in shown]
        write_json({"findings": findings, "silenced": hidden})
    else:
        _write(shown, hidden, reading, deploy)
    worst = SEVERITIES[: SEVERITIES.index(fail_level) + 1]
    sys.exit(1 if any(finding.severity in worst for finding in shown) else 0)


def _invalid(reading: settings.Reading) -> list[Finding]:
    """What stops the start before anything else is looked at."""
    return [
        Finding(INVALID, "error", f"{problem.name} is refused.", hint=problem.message, setting=problem.name)
        for problem in reading.problems
    ]


def _found(script: ScriptInfo, given: settings.Settings, deploy: bool, lively: bool) -> list[Finding]:
    found = checks.of_settings(given)
    if deploy:
        found += checks.of_deployment(given, server_around(given))
    app = unchecked_app(script)
    app.logger.setLevel(logging.CRITICAL)  # what is wrong is said below
    with app.app_context():
        found += template_checks.of_templates()
        found += deployed.look() if deploy else []
        found += live.look(given) if lively else []
    return found


def server_around(given: settings.Settings) -> checks.Server:
    """What this environment tells of the processes that serve pages; a unit file may say more."""
    gunicorn = Config()
    words = shlex.split(os.environ.get("GUNICORN_CMD_ARGS", ""))
    said, _ = gunicorn.parser().parse_known_args(words)
    for name in ("workers", "threads", "forwarded_allow_ips"):
        if (value := getattr(said, name)) is not None:
            gunicorn.set(name, value)
    return checks.Server(
        processes=gunicorn.workers,
        threads=gunicorn.threads,
        forwarded_allow_ips=",".join(gunicorn.forwarded_allow_ips),
        debug=os.environ.get("FLASK_DEBUG", "").lower() not in ("", "0", "false", "no"),
        open_secrets=tuple(_open_secrets(given)),
    )


def _open_secrets(given: settings.Settings) -> Iterator[str]:
    """Secrets in files that everybody on this machine can read."""
    for name, origin in given.origins.items():
        path = Path(os.environ.get(origin, "") if origin.endswith("_FILE") else origin)
        is_secret = SECRET.search(name) and given.as_config().get(name)
        if is_secret and path.is_file() and path.stat().st_mode & stat.S_IROTH:
            yield name


def _silenced_in_vain(silenced: list[str], found: list[Finding]) -> Iterator[Finding]:
    known = {kind.id: kind for kind in KINDS}
    for name in silenced:
        near = get_close_matches(name, known, 1)
        if name == INVALID or (name in known and known[name].severity == "error"):
            yield IN_VAIN.found(name=name, why="an error can not be silenced", near="")
        elif name not in known:
            meant = f" Did you mean {near[0]}?" if near else ""
            yield IN_VAIN.found(name=name, why="there is no such finding", near=meant)


def _origin(finding: Finding, reading: settings.Reading) -> str:
    return reading.found.origin_of(finding.setting.partition(".")[0]) if finding.setting else ""


def _write(shown: list[Finding], hidden: list[str], reading: settings.Reading, deploy: bool) -> None:
    for finding in shown:
        origin = _origin(finding, reading)
        places = filter(None, (finding.where, finding.setting + (f" ({origin})" if origin else "")))
        head = click.style(finding.severity, fg=COLOURS[finding.severity], bold=True)
        click.echo(f"{head}  {click.style(finding.id, bold=True)}  {plain(', '.join(places))}")
        for text in (finding.what, finding.why, finding.hint and f"→ {finding.hint}"):
            if text:
                click.echo(textwrap.fill(plain(text), WIDTH, initial_indent="    ", subsequent_indent="    "))
        click.echo()
    if hidden:
        click.echo(f"Silenced: {', '.join(hidden)}")
    counts = [f"{number} {severity}s" for severity in SEVERITIES if (number := _count(shown, severity))]
    if reading.settings is None:
        click.echo("Correct this first: nothing else was looked at.")
    elif not errors(shown):
        click.echo("The configuration is fine." if not counts else f"No errors; {', '.join(counts)}.")
    if not deploy and not errors(shown):
        click.echo("For a deployment, look closer: manage.py check --deploy --live")


def _count(shown: list[Finding], severity: str) -> int:
    return sum(finding.severity == severity for finding in shown)
