"""Configuration errors, each with the origin of the value at fault."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """An error in one setting, with the source of its value."""

    name: str
    origin: str
    message: str

    def __str__(self) -> str:
        return f"{self.name} ({self.origin}): {self.message}"


class SettingsError(Exception):
    """The configuration cannot be used. It holds every problem at once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))
