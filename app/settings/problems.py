"""Problems of the configuration, each with the origin of the value at fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# pydantic's errors in plain words, by the first word of their type.
WORDS = {
    "bool": "give true or false",
    "int": "give a whole number",
    "string": "give text, in quotes",
    "list": "give a list",
    "dict": "give a table",
    "model": "give a table",
    "extra": "unknown setting",
    "literal": "give {expected}",
    "too": "give at least {min_length}",
    "greater": "at least {ge}",
    "less": "at most {le}",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a setting, and where its value came from."""

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


def in_words(detail: Any) -> str:
    """Return one of pydantic's errors in plain words."""
    if words := WORDS.get(detail["type"].partition("_")[0]):
        return words.format(**detail.get("ctx", {}))
    return str(detail["msg"]).removeprefix("Value error, ")
