"""Findings: the defect, why it matters, and how to fix it. `findings.toml` has the doctor's texts.

The checks of the configuration (`app/settings/findings.py`) have these types, too.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")  # the worst first


@dataclass(frozen=True)
class Finding:
    """A defect that a check found. Its fields are the keys of a finding in the JSON of `manage.py check`."""

    id: str
    severity: Severity
    what: str
    why: str = ""
    hint: str = ""
    setting: str = ""
    where: str = ""  # a file or a page, if the defect is in one
    origin: str = ""  # the setting's source; empty from the scanner, which does not see it


@dataclass(frozen=True)
class Kind:
    """A kind of finding. Its id is part of the public interface; its texts are format strings."""

    id: str
    severity: Severity
    what: str
    why: str
    hint: str
    setting: str = ""  # the setting to change

    def found(self, *, where: str = "", setting: str = "", **facts: object) -> Finding:
        """Return a finding of this kind, with `facts` filled into its texts."""
        problem, why, hint = (text.format_map(facts) for text in (self.what, self.why, self.hint))
        return Finding(self.id, self.severity, problem, why, hint, setting or self.setting, where)


def load(path: Path) -> dict[str, Kind]:
    """Return the kinds of findings in a TOML file, by id."""
    texts = tomllib.loads(path.read_text(encoding="utf-8"))
    return {id: Kind(id, **fields) for id, fields in texts.items()}


KINDS = load(Path(__file__).with_suffix(".toml"))
