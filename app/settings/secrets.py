"""Setting types: secrets, encryption keys and the parameters of password hashing."""

import re
from functools import cache
from typing import Annotated, Any

from cryptography.fernet import Fernet
from passlib.hash import argon2
from pydantic import AfterValidator, Field

from .types import AnyList, JsonText, Table, must, or_empty

SECRET_LENGTH_MIN = 22  # random URL-safe characters that hold 128 bits (ASVS 11.5.1)
HOW_TO_GENERATE = 'make one with: python -c "import secrets; print(secrets.token_urlsafe())"'
BASE64 = "^((whsec_)?([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)?$"
# OWASP's Password Storage Cheat Sheet: memory in KiB, and the least number of passes with it.
ARGON2_MINIMA = ((47104, 1), (19456, 2), (12288, 3), (9216, 4), (7168, 5))


def check_secret(value: str) -> str:
    if re.search(r"(?i)change.?(me|this)|replace.?(me|this)|placeholder|your.?secret", value):
        raise ValueError(f"this is a placeholder; {HOW_TO_GENERATE}")
    if len(value) < SECRET_LENGTH_MIN or len(set(value)) < SECRET_LENGTH_MIN // 3:
        raise ValueError(f"too weak: give at least {SECRET_LENGTH_MIN} random characters; {HOW_TO_GENERATE}")
    return value


def check_argon2_options(options: dict[str, Any]) -> dict[str, Any]:
    names = ("argon2__memory_cost", "argon2__rounds", "argon2__parallelism")
    if set(options) != set(names) or not all(type(number) is int for number in options.values()):
        raise ValueError(f"give {', '.join(names)}, as whole numbers, and nothing else")
    memory, rounds, lanes = (options[name] for name in names)
    if not any(memory >= least and rounds >= passes for least, passes in ARGON2_MINIMA):
        sets = ", ".join(f"{least} with {passes}" for least, passes in ARGON2_MINIMA)
        raise ValueError(f"weaker than OWASP allows; at least one of (memory in KiB with rounds): {sets}")
    try:
        _try_argon2(memory, rounds, lanes)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"argon2 does not take this: {error}") from None
    return options


@cache  # because each call costs a hash
def _try_argon2(memory: int, rounds: int, lanes: int) -> None:
    argon2.using(memory_cost=memory, rounds=rounds, parallelism=lanes).hash("a trial")


Secret = Annotated[
    str,
    AfterValidator(check_secret),
    Field(description=f"at least {SECRET_LENGTH_MIN} random characters; {HOW_TO_GENERATE}"),
]
WebhookSecret = Annotated[
    str,
    Field(pattern=BASE64, description="24 to 64 random bytes in base64, as of: openssl rand -base64 32"),
    or_empty(lambda text: check_secret(text.removeprefix("whsec_"))),
]
NumberedSecrets = Annotated[
    dict[str, Secret],
    JsonText,
    must(
        'number the secrets, such as { "1" = "..." }',
        lambda secrets: all(re.fullmatch("[0-9]+", number) for number in secrets),
    ),
]
Argon2Options = Annotated[Table, AfterValidator(check_argon2_options)]
FernetKeys = Annotated[
    AnyList, must("each must be a Fernet key (docs/features.md)", lambda keys: all(map(Fernet, keys)))
]
