"""Findings of configuration checks. `findings.toml` has their texts."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """A defect that a check found. Its fields are the keys of a finding in the JSON of `manage.py check`."""

    id: str
    severity: Severity
    what: str
    why: str = ""
    hint: str = ""
    setting: str = ""
    where: str = ""  # a file, if the defect is in one
    origin: str = ""  # the setting's source, if the settings cannot tell it


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
        texts = {field: getattr(self, field).format_map(facts) for field in ("what", "why", "hint")}
        return Finding(self.id, self.severity, setting=setting or self.setting, where=where, **texts)


_TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
KINDS = {id: Kind(id, **texts) for id, texts in _TEXTS.items()}
