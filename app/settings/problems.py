"""Problems of the configuration, each with the origin of the value at fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What pydantic finds, in plain words.
WORDS = {
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "int_parsing": "give a whole number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "string_type": "give text, in quotes",
    "list_type": "give a list",
    "dict_type": "give a table",
    "extra_forbidden": "unknown setting",
    "literal_error": "give {expected}",
    "string_pattern_mismatch": "lower-case letters, digits, - and _, starting with a letter",
    "too_short": "give at least {min_length}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
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
    if words := WORDS.get(detail["type"]):
        return words.format(**detail.get("ctx", {}))
    return str(detail["msg"]).removeprefix("Value error, ")
