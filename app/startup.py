"""What stops a start, and what it warns of: nothing that is wrong runs silently."""

from __future__ import annotations

import logging

from flask import Flask

from . import checks, template_checks, word_checks
from .checks import Server
from .errors import Problem, SettingsError
from .findings import Finding, errors
from .settings import Settings, current

log = logging.getLogger(__name__)


def refuse_errors(app: Flask, settings: Settings) -> None:
    """Raises SettingsError. Our own templates were looked at by our tests, so only an admin's are here."""
    with app.app_context():
        found = of_files(settings)
    if wrong := errors(found):
        raise SettingsError([Problem(*_in_words(finding, settings)) for finding in wrong])


def of_files(settings: Settings) -> list[Finding]:
    """What is wrong or unwise in settings, templates and translations. Needs an app context."""
    return [*checks.of_settings(settings), *template_checks.of_own_templates(), *word_checks.of_own_words()]


def warn(server: Server | None = None) -> None:
    """For a process that stays: one line in the log for each warning. `server`, where it is known, tells
    what `check --deploy` can only guess. Needs an app context.
    """
    settings = current()
    found = of_files(settings)
    if server and not checks.is_here(settings):
        found += checks.of_deployment(settings, server)
    for finding in found:
        if finding.severity != "info" and finding.id not in settings.RECOVERY_SILENCED:
            log.warning("%s (%s): %s", *_in_words(finding, settings))


def _in_words(finding: Finding, settings: Settings) -> tuple[str, str, str]:
    """The name, its origin, and what to do."""
    name = finding.where or finding.setting or finding.id
    origin = settings.origins.get(finding.setting, "not set") if finding.setting else "no setting"
    return name, origin, f"{finding.what} {finding.hint} [{finding.id}]"
