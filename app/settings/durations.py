"""Durations as admins write them, and their limits."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from .types import describe, must

DURATION_DAYS_MAX = 366
_PATTERN = r"(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week)s?"
_DESCRIPTION = 'a number and a unit, such as "30 minutes"'


def parse_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(_PATTERN, str(value).strip())
    if not match:
        raise ValueError(
            'give a number and a unit (seconds, minutes, hours, days, weeks), such as "30 minutes"'
        )
    number, unit = float(match[1]), timedelta(**{f"{match[2]}s": 1})
    if number > timedelta(days=DURATION_DAYS_MAX) / unit:
        raise ValueError(f"at most {DURATION_DAYS_MAX} days")
    return number * unit


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{_PATTERN}$", "description": _DESCRIPTION}),
]
PositiveDuration = Annotated[Duration, must("more than nothing", lambda value: value > timedelta(0))]


def at_most(longest: str, why: str) -> tuple[Any, ...]:
    """Return annotations that limit a Duration to this one."""
    words, limit = f"more than nothing, at most {longest} ({why})", parse_duration(longest)
    return must(words, lambda value: timedelta(0) < value <= limit), describe(f"{_DESCRIPTION}; {words}")


def at_least(shortest: str, why: str) -> tuple[Any, ...]:
    """Return annotations that ask for a Duration of this one or more."""
    words, limit = f"at least {shortest} ({why})", parse_duration(shortest)
    return must(words, lambda value: value >= limit), describe(f"{_DESCRIPTION}; {words}")
