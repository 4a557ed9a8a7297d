"""`manage.py check`: what is wrong or unwise, why it matters, and what to do. Needs no bootable app."""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

import click
from flask.cli import ScriptInfo

from doctor import findings
from doctor.output import by_severity, exit_code, fail_level_option, summarize, write_finding

from .. import settings
from ..pages import template_checks, translation_checks  # noqa: F401  # checks register themselves
from ..settings import advice, checks, sources
from ..settings.findings import KINDS, Finding
from ..settings.forced import flask_config
from ..settings.schema import Settings
from ..web import branding  # noqa: F401  # likewise
from . import database_checks, live_checks
from .config import SECRET, is_secret
from .output import format_option, write_json

INVALID = "invalid-setting"


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
        Finding(INVALID, "error", problem.message, setting=problem.name, origin=problem.origin)
        for problem in reading.problems
    ]
    silenced: list[str] = []
    if reading.settings:
        silenced = reading.settings.RECOVERY_SILENCED
        found += [*_look(script, reading.settings, deploy, lively), *_silenced_in_vain(silenced)]
    audible = [one for one in found if one.severity == "error" or one.id not in silenced]
    shown = by_severity([_with_origin(one, reading) for one in audible])
    hidden = sorted({one.id for one in found} - {one.id for one in shown})
    if form == "json":
        write_json({"findings": [asdict(one) for one in shown], "silenced": hidden})
    else:
        _write(shown, hidden, is_valid=reading.settings is not None, deploy=deploy)
    sys.exit(exit_code(shown, fail_level))


def _look(script: ScriptInfo, given: Settings, deploy: bool, lively: bool) -> list[Finding]:
    found = advice.check_settings(given)
    if deploy:
        found += _of_server(given)
    try:
        app = script.load_app()
    except Exception as error:  # any library can refuse its settings
        said = _without_secrets(error, given)
        return [*found, KINDS["not-bootable"].found(error=type(error).__name__, said=said)]
    app.logger.setLevel(logging.CRITICAL)  # because the findings say it
    with app.app_context():
        found += checks.run()
        found += database_checks.look() if deploy else []
        found += live_checks.look(given) if lively else []
    return found


def _without_secrets(error: Exception, given: Settings) -> str:
    """Return a library's message, or nothing if a secret is in it."""
    text = " ".join(str(error).split())
    secrets = [value for name, value in flask_config(given).items() if value and SECRET.search(name)]
    return "" if any(str(leaf) in text for value in secrets for leaf in _leaves(value)) else text[:200]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list, tuple, set)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _of_server(given: Settings) -> list[Finding]:
    """Check what this environment tells of the processes that serve pages; a unit file may say more."""
    try:
        from gunicorn.config import Config  # reads WEB_CONCURRENCY, and fails on a bad one

        gunicorn = Config()
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            options, _ = gunicorn.parser().parse_known_args(gunicorn.get_cmd_args_from_env())
        for name in ("workers", "threads", "forwarded_allow_ips"):
            if (value := getattr(options, name)) is not None:
                gunicorn.set(name, value)
    except (ValueError, SystemExit):  # SystemExit: argparse's
        return [*advice.check_deployment(given, advice.Server()), KINDS["gunicorn-variables"].found()]
    server = advice.Server(
        processes=gunicorn.workers,
        threads=gunicorn.threads,
        forwarded_allow_ips=",".join(gunicorn.forwarded_allow_ips),
        debug=settings.is_debugging(),
        open_secrets=tuple(_open_secrets(given)),
    )
    return advice.check_deployment(given, server)


def _open_secrets(given: Settings) -> Iterator[tuple[str, str]]:
    """Secrets in files that everybody on this machine can read."""
    for name, origin in given.origins.items():
        path = Path(os.environ.get(origin, "") if origin.endswith("_FILE") else origin)
        is_open = path.is_file() and path.stat().st_mode & stat.S_IROTH
        if is_open and is_secret(name, flask_config(given).get(name)):
            yield name, str(path)


def _silenced_in_vain(silenced: list[str]) -> Iterator[Finding]:
    for name in silenced:
        if name == INVALID or (name in KINDS and KINDS[name].severity == "error"):
            yield KINDS["silenced-in-vain"].found(name=name, why="an error cannot be silenced", near="")
        elif name not in KINDS:
            near = get_close_matches(name, KINDS, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            yield KINDS["silenced-in-vain"].found(name=name, why="there is no such finding", near=hint)


def _with_origin(finding: Finding, reading: sources.Reading) -> findings.Finding:
    """Return the finding as it is reported, with the origin of the setting's value."""
    origin = finding.origin or (reading.origin_of(finding.setting) if finding.setting else "")
    return findings.Finding(**{**asdict(finding), "origin": origin})


def _write(shown: list[findings.Finding], hidden: list[str], *, is_valid: bool, deploy: bool) -> None:
    for finding in shown:
        setting = f"{finding.setting} ({finding.origin})" if finding.origin else finding.setting
        write_finding(replace(finding, where=", ".join(filter(None, (finding.where, setting)))))
    if hidden:
        click.echo(f"Silenced: {', '.join(hidden)}")
    if is_valid:
        click.echo(f"{summary}." if (summary := summarize(shown)) else "The configuration is fine.")
    else:
        click.echo("Correct this first: nothing else was looked at.")
    if not deploy and not any(finding.severity == "error" for finding in shown):
        click.echo("For a deployment, look closer: manage.py check --deploy --live")
