"""What stops a start, and what it warns of: nothing that is wrong runs silently."""

from __future__ import annotations

import logging

from flask import Flask

from .errors import Problem, SettingsError
from .findings import Finding, Server, errors, of_deployment, of_files, of_settings
from .settings import Settings, current

log = logging.getLogger(__name__)


def refuse_errors(app: Flask, settings: Settings) -> None:
    """Raises SettingsError. Our own templates were looked at by our tests, so only an admin's are here."""
    with app.app_context():
        found = of_start(settings)
    if wrong := errors(found):
        raise SettingsError([Problem(*_in_words(finding, settings)) for finding in wrong])


def of_start(settings: Settings) -> list[Finding]:
    """Return the findings in settings, templates and translations. Needs an app context."""
    return [*of_settings(settings), *of_files()]


def warn(server: Server | None = None) -> None:
    """For a process that stays: one line in the log for each warning. `server`, where it is known, tells
    what `check --deploy` can only guess. Needs an app context.
    """
    settings = current()
    found = of_start(settings)
    if server and not settings.is_on_this_machine:
        found += of_deployment(settings, server)
    for finding in found:
        if finding.severity != "info" and finding.id not in settings.RECOVERY_SILENCED:
            log.warning("%s (%s): %s", *_in_words(finding, settings))


def _in_words(finding: Finding, settings: Settings) -> tuple[str, str, str]:
    """The name, its origin, and what to do."""
    name = finding.where or finding.setting or finding.id
    origin = settings.origins.get(finding.setting, "not set") if finding.setting else "no setting"
    return name, origin, f"{finding.what} {finding.hint} [{finding.id}]"
