"""`manage.py check`: what is wrong or unwise, why it matters, and what to do about it.

It works without a bootable app: whatever could not be looked at is said.
"""

from __future__ import annotations

import logging
import os
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

import click
from flask.cli import ScriptInfo

from .. import settings
from ..pages import template_checks, translation_checks  # noqa: F401  # checks register themselves
from ..settings import advice  # noqa: F401  # likewise
from ..settings.checks import KINDS, Finding, Kind, Server, deployment_check, errors, file_check
from ..settings.checks import check as settings_check
from ..settings.forced import as_config
from ..settings.schema import Settings
from ..web import branding  # noqa: F401  # likewise
from . import database_checks, live_checks
from .config import SECRET, is_secret
from .output import (
    by_severity,
    counted,
    exit_code,
    fail_level_option,
    format_option,
    write_finding,
    write_json,
)

INVALID = "invalid-setting"
IN_VAIN = Kind(
    "silenced-in-vain",
    "warning",
    "RECOVERY_SILENCED names {name}: {why}.",
    "It hides nothing.",
    "Take it out.{near}",
    "RECOVERY_SILENCED",
)
NOT_BOOTABLE = Kind(
    "not-bootable",
    "error",
    "A library refuses its settings: {error} {said}",
    "Nothing can start.",
    "Look at what you have set of Flask-Security's and SQLAlchemy's (manage.py config diff).",
)
GUNICORN = Kind(
    "gunicorn-variables",
    "error",
    "gunicorn does not take what stands in WEB_CONCURRENCY or GUNICORN_CMD_ARGS.",
    "It will not start, or not serve.",
    "Correct the variable: a number of processes, and gunicorn's options.",
)


@click.command()
@click.option("--deploy", is_flag=True, help="Also what a deployment must have, in the database, too.")
@click.option("--live", "lively", is_flag=True, help="Also ask the relay, DNS, Redis and the breach service.")
@fail_level_option
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
    shown = by_severity([*shown, *_silenced_in_vain(silenced, found)])
    hidden = sorted({finding.id for finding in found} - {finding.id for finding in shown})
    if form == "json":
        findings = [{**asdict(one), "origin": _origin(one, reading)} for one in shown]
        write_json({"findings": findings, "silenced": hidden})
    else:
        _write(shown, hidden, reading, deploy)
    sys.exit(exit_code(shown, fail_level))


def _invalid(reading: settings.Reading) -> list[Finding]:
    """What stops the start before anything else is looked at."""
    return [
        Finding(INVALID, "error", problem.message, setting=problem.name, origin=problem.origin)
        for problem in reading.problems
    ]


def _found(script: ScriptInfo, given: Settings, deploy: bool, lively: bool) -> list[Finding]:
    found = settings_check.run(given)
    if deploy:
        found += _around(given)
    try:
        app = script.load_app()
    except Exception as error:  # whatever a library thinks of its settings
        return [*found, NOT_BOOTABLE.found(error=type(error).__name__, said=_without_secrets(error, given))]
    app.logger.setLevel(logging.CRITICAL)  # what is wrong is said below
    with app.app_context():
        found += file_check.run()
        found += database_checks.look() if deploy else []
        found += live_checks.look(given) if lively else []
    return found


def _without_secrets(error: Exception, given: Settings) -> str:
    """What a library says, unless it says what it should not."""
    text = " ".join(str(error).split())
    values = [value for name, value in as_config(given).items() if value and SECRET.search(name)]
    return "" if any(str(leaf) in text for value in values for leaf in _leaves(value)) else text[:200]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _around(given: Settings) -> list[Finding]:
    try:
        return deployment_check.run(given, server_around(given))
    except (ValueError, SystemExit):
        return [*deployment_check.run(given, Server()), GUNICORN.found()]


def server_around(given: Settings) -> Server:
    """What this environment tells of the processes that serve pages; a unit file may say more.

    Raises ValueError or SystemExit for variables that gunicorn does not take.
    """
    from gunicorn.config import Config  # reads WEB_CONCURRENCY, and fails on a bad one

    gunicorn = Config()
    words = shlex.split(os.environ.get("GUNICORN_CMD_ARGS", ""))
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        said, _ = gunicorn.parser().parse_known_args(words)
    for name in ("workers", "threads", "forwarded_allow_ips"):
        if (value := getattr(said, name)) is not None:
            gunicorn.set(name, value)
    return Server(
        processes=gunicorn.workers,
        threads=gunicorn.threads,
        forwarded_allow_ips=",".join(gunicorn.forwarded_allow_ips),
        debug=settings.is_debugging(),
        open_secrets=tuple(_open_secrets(given)),
    )


def _open_secrets(given: Settings) -> Iterator[tuple[str, str]]:
    """Secrets in files that everybody on this machine can read."""
    for name, origin in given.origins.items():
        path = Path(os.environ.get(origin, "") if origin.endswith("_FILE") else origin)
        is_open = path.is_file() and path.stat().st_mode & stat.S_IROTH
        if is_open and is_secret(name, as_config(given).get(name)):
            yield name, str(path)


def _silenced_in_vain(silenced: list[str], found: list[Finding]) -> Iterator[Finding]:
    for name in silenced:
        near = get_close_matches(name, KINDS, 1)
        if name == INVALID or (name in KINDS and KINDS[name].severity == "error"):
            yield IN_VAIN.found(name=name, why="an error can not be silenced", near="")
        elif name not in KINDS:
            meant = f" Did you mean {near[0]}?" if near else ""
            yield IN_VAIN.found(name=name, why="there is no such finding", near=meant)


def _origin(finding: Finding, reading: settings.Reading) -> str:
    """Where the value came from; nothing for what is about no setting."""
    return finding.origin or (reading.found.origin_of(finding.setting) if finding.setting else "")


def _write(shown: list[Finding], hidden: list[str], reading: settings.Reading, deploy: bool) -> None:
    for finding in shown:
        origin = _origin(finding, reading)
        setting = f"{finding.setting} ({origin})" if origin else finding.setting
        write_finding(finding, ", ".join(filter(None, (finding.where, setting))))
    if hidden:
        click.echo(f"Silenced: {', '.join(hidden)}")
    if reading.settings is None:
        click.echo("Correct this first: nothing else was looked at.")
    else:
        click.echo(f"{counts}." if (counts := counted(shown)) else "The configuration is fine.")
    if not deploy and not errors(shown):
        click.echo("For a deployment, look closer: manage.py check --deploy --live")
