"""A finding: the defect, why it matters, and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")  # the worst first


@dataclass(frozen=True)
class Kind:
    """A defect that can be found. Its id is part of the public interface; its texts are format strings."""

    id: str
    severity: Severity
    what: str
    why: str
    hint: str
    setting: str = ""  # the setting to change

    def found(self, *, where: str = "", **facts: object) -> Finding:
        """Return a finding of this kind, with `facts` filled into its texts."""
        what, hint = self.what.format_map(facts), self.hint.format_map(facts)
        return Finding(self.id, self.severity, what, self.why, hint, self.setting, where)


@dataclass(frozen=True)
class Finding:
    """A defect that was found. Its fields are the keys of a finding in the JSON of `manage.py check`."""

    id: str
    severity: Severity
    what: str
    why: str
    hint: str
    setting: str = ""
    where: str = ""
    origin: str = ""  # always empty, because the scanner does not see where a setting comes from
