"""Start-up checks: an error stops the start, a warning is logged.

The checks of settings are in `advice.py`. Checks that need an app context register themselves with `@check`.
RECOVERY_SILENCED lists the ids of warnings that are not logged.
"""

import logging
from collections.abc import Callable, Iterable

from flask import Flask

from . import advice, current
from .findings import Finding
from .problems import Problem, SettingsError
from .schema import Settings

log = logging.getLogger(__name__)
Check = Callable[[], Iterable[Finding]]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Register a check to run at every start, within an app context."""
    CHECKS.append(function)
    return function


def run() -> list[Finding]:
    """Return the findings of the registered checks. Needs an app context."""
    return [finding for function in CHECKS for finding in function()]


def refuse_errors(app: Flask, settings: Settings) -> None:
    """Raise SettingsError with every error among the findings."""
    with app.app_context():
        findings = [*advice.check_settings(settings), *run()]
    if errors := [finding for finding in findings if finding.severity == "error"]:
        raise SettingsError([_as_problem(finding, settings) for finding in errors])


def log_warnings(*, processes: int = 0, threads: int = 0) -> None:
    """Log each warning. Needs an app context.

    With a server's size, check a public deployment, too: `check --deploy` can only guess it.
    """
    settings = current()
    findings = [*advice.check_settings(settings), *run()]
    if processes and not settings.is_local:
        findings += advice.check_deployment(settings, processes=processes, threads=threads)
    for finding in findings:
        if finding.severity != "info" and finding.id not in settings.RECOVERY_SILENCED:
            log.warning("%s", _as_problem(finding, settings))


def _as_problem(finding: Finding, settings: Settings) -> Problem:
    name = finding.where or finding.setting or finding.id
    origin = settings.origins.get(finding.setting, "not set") if finding.setting else "no setting"
    return Problem(name, origin, f"{finding.what} {finding.hint} [{finding.id}]")
