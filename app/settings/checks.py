"""Configuration checks: their registry, and what their findings mean for a start.

A check yields findings, and registers itself with `@check`, `@deployment_check` or `@file_check`. An error
stops every start; a warning is logged, unless RECOVERY_SILENCED names its id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, ParamSpec

from flask import Flask

from . import current
from .problems import Problem, SettingsError
from .schema import Settings

log = logging.getLogger(__name__)
P = ParamSpec("P")

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
KINDS: dict[str, Kind] = {}  # every kind of finding that is declared, by its id


@dataclass(frozen=True)
class Kind:
    """A kind of finding, under an id that stays. An error stops the start and can not be silenced."""

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
        """Return a finding of this kind, with `facts` put into its texts."""
        what, why, hint = (text.format_map(facts) for text in (self.what, self.why, self.hint))
        return Finding(self.id, self.severity, what, why, hint, setting or self.setting, where)


@dataclass(frozen=True)
class Finding:
    """A problem that a check found: in a setting, or in `where`, which may be a file.

    `origin` is where the setting's value came from, if the settings do not know.
    """

    id: str
    severity: Severity
    what: str
    why: str = ""
    hint: str = ""
    setting: str = ""
    where: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Server:
    """The processes that serve pages, as far as they are known beside the settings."""

    processes: int = 1
    threads: int = 1
    forwarded_allow_ips: str = ""
    debug: bool = False
    open_secrets: tuple[tuple[str, str], ...] = ()  # settings, and files of theirs that everybody can read


class Checks(Generic[P]):
    """Checks that register themselves as decorated functions, and run together."""

    def __init__(self) -> None:
        self._looks: list[Callable[P, Iterable[Finding]]] = []

    def __call__(self, look: Callable[P, Iterable[Finding]]) -> Callable[P, Iterable[Finding]]:
        self._looks.append(look)
        return look

    def run(self, *args: P.args, **kwargs: P.kwargs) -> list[Finding]:
        return [finding for look in self._looks for finding in look(*args, **kwargs)]


check: Checks[Settings] = Checks()  # of the settings, for every start
file_check: Checks[[]] = Checks()  # of an admin's files, for every start; needs an app context
deployment_check: Checks[Settings, Server] = Checks()  # for `check --deploy`: a demo may do more


def of_start(settings: Settings) -> list[Finding]:
    """Return the findings in settings, templates and translations. Needs an app context."""
    return [*check.run(settings), *file_check.run()]


def errors(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.severity == "error"]


def refuse_errors(app: Flask, settings: Settings) -> None:
    """Raise SettingsError with every error among the findings."""
    with app.app_context():
        found = of_start(settings)
    if wrong := errors(found):
        raise SettingsError([Problem(*_in_words(finding, settings)) for finding in wrong])


def warn(server: Server | None = None) -> None:
    """Log each warning, in a process that stays. Needs an app context.

    A `server` that is known is checked, too: `check --deploy` can only guess it.
    """
    settings = current()
    found = of_start(settings)
    if server and not settings.is_on_this_machine:
        found += deployment_check.run(settings, server)
    for finding in found:
        if finding.severity != "info" and finding.id not in settings.RECOVERY_SILENCED:
            log.warning("%s (%s): %s", *_in_words(finding, settings))


def _in_words(finding: Finding, settings: Settings) -> tuple[str, str, str]:
    """Return the name, its origin, and what to do."""
    name = finding.where or finding.setting or finding.id
    origin = settings.origins.get(finding.setting, "not set") if finding.setting else "no setting"
    return name, origin, f"{finding.what} {finding.hint} [{finding.id}]"
