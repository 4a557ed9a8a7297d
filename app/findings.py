"""What `check` says: what is wrong or unwise, why it matters, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .settings import Settings

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
