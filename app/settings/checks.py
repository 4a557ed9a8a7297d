"""Configuration checks at every start: an error stops it, a warning is logged.

The checks of settings are in `advice.py`. Checks of an admin's files, and others that need an app, register
themselves with `@check`. RECOVERY_SILENCED names the ids of warnings that are not logged.
"""

from __future__ import annotations

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
    """Register a check for every start. It is called within an app context."""
    CHECKS.append(function)
    return function


def run() -> list[Finding]:
    """Return the findings of all registered checks. Needs an app context."""
    return [finding for function in CHECKS for finding in function()]


def refuse_errors(app: Flask, settings: Settings) -> None:
    """Raise SettingsError with every error among the findings."""
    with app.app_context():
        findings = [*advice.of_settings(settings), *run()]
    if errors := [finding for finding in findings if finding.severity == "error"]:
        raise SettingsError([Problem(*_in_words(finding, settings)) for finding in errors])


def warn(server: advice.Server | None = None) -> None:
    """Log each warning, in a process that stays. Needs an app context.

    A `server` that is known is checked, too: `check --deploy` can only guess it.
    """
    settings = current()
    findings = [*advice.of_settings(settings), *run()]
    if server and not settings.is_on_this_machine:
        findings += advice.of_deployment(settings, server)
    for finding in findings:
        if finding.severity != "info" and finding.id not in settings.RECOVERY_SILENCED:
            log.warning("%s (%s): %s", *_in_words(finding, settings))


def _in_words(finding: Finding, settings: Settings) -> tuple[str, str, str]:
    """Return the name, its origin, and what to do."""
    name = finding.where or finding.setting or finding.id
    origin = settings.origins.get(finding.setting, "not set") if finding.setting else "no setting"
    return name, origin, f"{finding.what} {finding.hint} [{finding.id}]"
