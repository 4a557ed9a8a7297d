"""Configuration errors, each with the origin of the value at fault."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic_core import ErrorDetails

# Messages for pydantic's errors, by the first word of their type.
MESSAGES = {
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


def message_for(detail: ErrorDetails) -> str:
    """Return the message for an error of pydantic's."""
    if message := MESSAGES.get(detail["type"].partition("_")[0]):
        return message.format(**detail.get("ctx", {}))
    return str(detail["msg"]).removeprefix("Value error, ")
