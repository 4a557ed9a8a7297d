"""Durations as admins write them, and their limits."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

DURATION_DAYS_MAX = 366
PATTERN = r"(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week)s?"
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}


def parse_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(PATTERN, str(value).strip())
    if not match:
        raise ValueError(
            'give a number and a unit (seconds, minutes, hours, days, weeks), such as "30 minutes"'
        )
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > DURATION_DAYS_MAX * 86400:
        raise ValueError(f"at most {DURATION_DAYS_MAX} days")
    return timedelta(seconds=seconds)


class _Limit(ABC):
    """What a duration must be, in words and as a check."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        return {**schema, "description": f"{schema['description']}; {self}"}

    def check(self, value: timedelta) -> timedelta:
        if not self.is_met_by(value):
            raise ValueError(str(self))
        return value

    @abstractmethod
    def is_met_by(self, value: timedelta) -> bool: ...


@dataclass(frozen=True)
class AtMost(_Limit):
    """The longest that a duration may be, as text, and why."""

    longest: str
    why: str

    def __str__(self) -> str:
        return f"more than nothing, at most {self.longest} ({self.why})"

    def is_met_by(self, value: timedelta) -> bool:
        return timedelta(0) < value <= parse_duration(self.longest)


@dataclass(frozen=True)
class AtLeast(_Limit):
    """The shortest that a duration may be, as text, and why."""

    shortest: str
    why: str

    def __str__(self) -> str:
        return f"at least {self.shortest} ({self.why})"

    def is_met_by(self, value: timedelta) -> bool:
        return value >= parse_duration(self.shortest)


def positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("more than nothing")
    return value
