"""Findings: the defect, why it matters, and how to fix it. `findings.toml` has the doctor's texts."""

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
    why: str
    hint: str
    setting: str = ""
    where: str = ""
    origin: str = ""  # always empty, because the scanner does not see where a setting comes from


@dataclass(frozen=True)
class Kind:
    """A kind of finding. Its id is part of the public interface; its texts are format strings."""

    id: str
    severity: Severity
    what: str
    why: str
    hint: str
    setting: str = ""  # the setting to change

    def found(self, *, where: str = "", **facts: object) -> Finding:
        """Return a finding of this kind, with `facts` filled into its texts."""
        problem, hint = self.what.format_map(facts), self.hint.format_map(facts)
        return Finding(self.id, self.severity, problem, self.why, hint, self.setting, where)


def load(file: str) -> dict[str, Kind]:
    """Return the kinds of findings in a TOML file of this package, by id."""
    texts = tomllib.loads(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    return {id: Kind(id, **fields) for id, fields in texts.items()}


KINDS = load("findings.toml")
