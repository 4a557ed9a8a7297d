"""What `check` says: what is wrong or unwise, why it matters, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Kind:
    """What can be found, under an id that stays. An error stops the start and can not be silenced."""

    id: str
    severity: Severity
    what: str
    why: str
    hint: str
    setting: str = ""  # the one to change

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
