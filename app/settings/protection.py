"""The types of secrets, password hashing and rate limits, each beside its validator."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Literal

import limits
from cryptography.fernet import Fernet
from passlib.hash import argon2
from pydantic import AfterValidator, BeforeValidator, Field

from .types import Items, JsonText, Table, describe, must, or_nothing

SECRET_LENGTH_MIN = 22  # random URL-safe characters that hold 128 bits (ASVS 11.5.1)
MAKE_ONE = 'make one with: python -c "import secrets; print(secrets.token_urlsafe())"'
# OWASP's Password Storage Cheat Sheet: memory in KiB and passes that are enough together.
ARGON2_LEAST = ((47104, 1), (19456, 2), (12288, 3), (9216, 4), (7168, 5))


def strong_secret(value: str) -> str:
    if re.search(r"(?i)change.?(me|this)|replace.?(me|this)|placeholder|your.?secret", value):
        raise ValueError(f"this is a placeholder; {MAKE_ONE}")
    if len(value) < SECRET_LENGTH_MIN or len(set(value)) < SECRET_LENGTH_MIN // 3:
        raise ValueError(f"too weak: give at least {SECRET_LENGTH_MIN} random characters; {MAKE_ONE}")
    return value


def argon2_options(options: dict[str, Any]) -> dict[str, Any]:
    if options.keys() != {"argon2__memory_cost", "argon2__rounds", "argon2__parallelism"}:
        raise ValueError("give argon2__memory_cost, argon2__rounds and argon2__parallelism, and nothing else")
    if not all(type(number) is int for number in options.values()):
        raise ValueError("give whole numbers")
    memory, rounds = options["argon2__memory_cost"], options["argon2__rounds"]
    if not any(memory >= least and rounds >= passes for least, passes in ARGON2_LEAST):
        sets = ", ".join(f"{least} with {passes}" for least, passes in ARGON2_LEAST)
        raise ValueError(f"weaker than OWASP allows; at least one of (memory in KiB with rounds): {sets}")
    try:
        _try_argon2(memory, rounds, options["argon2__parallelism"])
    except (ValueError, OverflowError) as error:
        raise ValueError(f"argon2 does not take this: {error}") from None
    return options


@cache  # it costs a hash, and what worked once works again
def _try_argon2(memory: int, rounds: int, lanes: int) -> None:
    argon2.using(memory_cost=memory, rounds=rounds, parallelism=lanes).hash("tried once")


def is_fernet_key(key: Any) -> bool:
    with suppress(TypeError, ValueError):
        return bool(Fernet(key))
    return False


def rates(value: str) -> str:
    with suppress(ValueError):
        if all(item.amount > 0 for item in limits.parse_many(value)):
            return value
    raise ValueError('give rates such as "30 per minute; 300 per hour"')


Secret = Annotated[
    str,
    AfterValidator(strong_secret),
    describe(f"at least {SECRET_LENGTH_MIN} random characters; {MAKE_ONE}"),
]
SecretOrNothing = Annotated[
    str,
    or_nothing(strong_secret),
    describe(f"at least {SECRET_LENGTH_MIN} random characters, or nothing; {MAKE_ONE}"),
]
Secrets = Annotated[list[Secret], JsonText, describe("a list of secrets")]
_Number = Annotated[
    str,
    must('number the secrets, such as { "1" = "..." }', re.compile("[0-9]+").fullmatch),
    Field(json_schema_extra={"pattern": "^[0-9]+$"}),
]
NumberedSecrets = Annotated[
    dict[_Number, Secret], JsonText, describe('numbered secrets, such as { "1" = "..." }')
]
FernetKeys = Annotated[
    Items,
    must("each must be a Fernet key (docs/features.md)", lambda keys: all(map(is_fernet_key, keys))),
]
Argon2Options = Annotated[
    Table,
    AfterValidator(argon2_options),
    describe("memory in KiB, rounds and parallelism, at least as OWASP advises"),
]
BreachCheck = Annotated[
    Literal[False, "best-effort", "strict"],
    BeforeValidator(lambda value: value if str(value).lower() not in ("", "false") else False),
]
Rates = Annotated[str, AfterValidator(rates), describe('rates, such as "30 per minute; 300 per hour"')]
