"""Problems of the configuration, each with the origin of the value at fault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a setting: what, and where the value came from."""

    name: str
    origin: str
    message: str

    def __str__(self) -> str:
        return f"{self.name} ({self.origin}): {self.message}"


class SettingsError(Exception):
    """The configuration can not be used. All problems are reported at once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))
