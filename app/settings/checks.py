"""Configuration checks: their registry, and what their findings mean for a start.

A check registers itself with `@check`, `@deployment_check` or `@file_check`. An error stops every start; a
warning is logged, unless RECOVERY_SILENCED names its id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from flask import Flask

from . import current
from .problems import Problem, SettingsError
from .schema import Settings

log = logging.getLogger(__name__)

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
KINDS: dict[str, Kind] = {}  # every kind that is declared, by its id


@dataclass(frozen=True)
class Kind:
    """What can be found, under an id that stays. An error stops the start and can not be silenced."""

    id: str
    severity: Severity
    what: str
    why: str
    hint: str
    setting: str = ""  # the one to change

    def __post_init__(self) -> None:
        if self.id in KINDS:
            raise ValueError(f"{self.id} is declared twice")
        KINDS[self.id] = self

    def found(self, *, where: str = "", setting: str = "", **facts: object) -> Finding:
        """This, found; `facts` are put into the words. What they hold is never a pattern itself."""
        what, hint = self.what.format_map(facts), self.hint.format_map(facts)
        return Finding(self.id, self.severity, what, self.why, hint, setting or self.setting, where)


@dataclass(frozen=True)
class Finding:
    """One thing that was found. `where`: a file, or whatever else is not a setting. `origin`: where the
    setting's value came from, when that is another place than the settings say."""

    id: str
    severity: Severity
    what: str
    why: str = ""
    hint: str = ""
    setting: str = ""
    where: str = ""
    origin: str = ""


def errors(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.severity == "error"]


@dataclass(frozen=True)
class Server:
    """The processes that serve pages, as far as they are known beside the settings."""

    processes: int = 1
    threads: int = 1
    forwarded_allow_ips: str = ""
    debug: bool = False
    open_secrets: tuple[tuple[str, str], ...] = ()  # settings, and files of theirs that everybody can read


OfSettings = Callable[["Settings"], bool]
OfDeployment = Callable[["Settings", Server], bool]
OfFiles = Callable[[], Iterable[Finding]]
_at_every_start: list[tuple[Kind, OfSettings]] = []
_at_a_deployment: list[tuple[Kind, OfDeployment]] = []
_of_files: list[OfFiles] = []


def check(*kind: Any) -> Callable[[OfSettings], OfSettings]:
    """Register a predicate of the settings, given the fields of its Kind. Every start looks at it; an error
    stops that start.
    """

    def register(is_so: OfSettings) -> OfSettings:
        _at_every_start.append((Kind(*kind), is_so))
        return is_so

    return register


def deployment_check(*kind: Any) -> Callable[[OfDeployment], OfDeployment]:
    """Register a predicate that only `check --deploy` looks at: a demo may do more than a deployment."""

    def register(is_so: OfDeployment) -> OfDeployment:
        _at_a_deployment.append((Kind(*kind), is_so))
        return is_so

    return register


def file_check(look: OfFiles) -> OfFiles:
    """Register a check of an admin's files. Every start calls it, in an app context."""
    _of_files.append(look)
    return look


def of_settings(settings: Settings) -> list[Finding]:
    """Return the findings of every registered check of the settings."""
    return [kind.found() for kind, is_so in _at_every_start if is_so(settings)]


def of_deployment(settings: Settings, server: Server) -> list[Finding]:
    """Return the findings that concern a deployment alone."""
    return [kind.found() for kind, is_so in _at_a_deployment if is_so(settings, server)]


def of_files() -> list[Finding]:
    """Return the findings in an admin's templates and translations. Needs an app context."""
    return [finding for look in _of_files for finding in look()]


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
