"""Findings of checks: the problem, why it matters, and what to do. `findings.toml` has the texts."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "info"]


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
class Kind:
    """A kind of finding, under an id that stays. An error stops the start and can not be silenced."""

    id: str
    severity: Severity
    what: str
    why: str
    hint: str
    setting: str = ""  # the one to change

    def found(self, *, where: str = "", setting: str = "", **facts: object) -> Finding:
        """Return a finding of this kind, with `facts` put into its texts."""
        what, why, hint = (text.format_map(facts) for text in (self.what, self.why, self.hint))
        return Finding(self.id, self.severity, what, why, hint, setting or self.setting, where)


_TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
KINDS = {id: Kind(id, **texts) for id, texts in _TEXTS.items()}
