"""`manage.py check`: findings about the configuration and the deployment. Needs no bootable app."""

import logging
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import click
from flask.cli import ScriptInfo
from flask.helpers import get_debug_flag

from doctor.output import by_severity, exit_code, fail_level_option, summarize, write_finding

from ..accounts import foreign_checks, identity_mappers
from ..pages import template_checks, translation_checks  # noqa: F401  # checks register themselves
from ..settings import advice, checks, examine
from ..settings.findings import KINDS, Finding
from ..settings.forced import flask_config
from ..settings.problems import Problem, SettingsError
from ..settings.schema import Settings
from ..web import branding  # noqa: F401  # likewise
from ..web.logging import redact_line
from . import database_checks, live_checks
from .config import is_secret
from .output import format_option, write_json

INVALID = "invalid-setting"


@click.command()
@click.option(
    "--deploy",
    is_flag=True,
    help="Also check the server, the database, and everything else that a deployment needs.",
)
@click.option("--live", is_flag=True, help="Also check the relay, DNS, Redis, and the breach service.")
@click.option(
    "--to",
    default="",
    help="With --live: check that the relay accepts mail for this address. Default: RECOVERY_OPERATOR.",
)
@fail_level_option
@format_option
@click.pass_obj
def check(script: ScriptInfo, deploy: bool, live: bool, to: str, fail_level: str, form: str) -> None:
    """Check the configuration. Exits with 1 if there are findings of --fail-level or worse."""
    reading = examine()
    findings = [_as_finding(problem) for problem in reading.problems]
    wrong = {problem.name.partition(".")[0] for problem in reading.problems}
    # With the defaults of those that are wrong, so that everything else is checked, too.
    values = {name: value for name, value in reading.values.items() if name not in wrong}
    silenced, checkable = [], reading.readable or examine({}, **values).readable
    if checkable and "RECOVERY_CONFIG" not in wrong:
        silenced = checkable.RECOVERY_SILENCED
        others = advice.check_settings(checkable)
        if deploy:  # gunicorn logs the findings of its size, which only it knows
            others += advice.check_deployment(checkable, debug=get_debug_flag())
            others += _check_secrets(checkable)
        findings += [finding for finding in others if finding.setting not in wrong]
    if reading.settings:
        findings += _check_app(script, reading.settings, deploy, live, to)
    audible = [finding for finding in findings if finding.severity == "error" or finding.id not in silenced]
    origins = {**reading.origins, "": ""}
    shown = by_severity([replace(f, origin=f.origin or origins.get(f.setting, "not set")) for f in audible])
    hidden = sorted({finding.id for finding in findings} - {finding.id for finding in shown})
    if form == "json":
        write_json({"findings": [asdict(finding) for finding in shown], "silenced": hidden})
    else:
        _write(shown, hidden, is_valid=INVALID not in {finding.id for finding in findings}, deploy=deploy)
    sys.exit(exit_code(shown, fail_level))


def _as_finding(problem: Problem) -> Finding:
    return Finding(INVALID, "error", problem.message, setting=problem.name, origin=problem.origin)


def _check_app(script: ScriptInfo, configured: Settings, deploy: bool, live: bool, to: str) -> list[Finding]:
    try:
        app = script.load_app()
    except SettingsError as error:  # a name that cannot be imported
        return [_as_finding(problem) for problem in error.problems]
    except Exception as error:  # any library may refuse its settings
        reason = redact_line(str(error))[:200]
        return [KINDS["not-bootable"].found(error=type(error).__name__, said=reason)]
    app.logger.setLevel(logging.CRITICAL)  # the findings report the same
    with app.app_context():
        if to and identity_mappers.normalize_email(to) is None:
            raise click.BadParameter(f"{to!r}: not an email address", param_hint="--to")
        findings = [*checks.run(), *foreign_checks.run(live=live)]
        findings += database_checks.run() if deploy else []
        return findings + (live_checks.run(configured, to) if live or to else [])


def _check_secrets(configured: Settings) -> Iterator[Finding]:
    """Find secrets in files that every user of this machine can read."""
    for name, origin in configured.origins.items():
        path = Path(os.environ.get(origin, "") if origin.endswith("_FILE") else origin)
        is_open = path.is_file() and path.stat().st_mode & stat.S_IROTH
        if is_open and is_secret(name, flask_config(configured).get(name)):
            yield KINDS["secrets-readable"].found(where=str(path), setting=name, name=name, path=path)


def _write(shown: list[Finding], hidden: list[str], *, is_valid: bool, deploy: bool) -> None:
    for finding in shown:
        setting = f"{finding.setting} ({finding.origin})" if finding.origin else finding.setting
        write_finding(replace(finding, where=", ".join(filter(None, (finding.where, setting)))))
    if hidden:
        click.echo(f"Silenced: {', '.join(hidden)}")
    if is_valid:
        click.echo(f"{summary}." if (summary := summarize(shown)) else "The configuration is fine.")
    else:
        click.echo("Correct the settings first. Templates, database, and services were not checked.")
    if not deploy and not any(finding.severity == "error" for finding in shown):
        click.echo("To check a deployment more closely, run: manage.py check --deploy --live")
