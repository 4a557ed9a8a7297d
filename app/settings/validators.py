"""Validators of settings' values.

A ValueError's text is shown to the admin: what to write instead. It never repeats the value, which may be
a secret.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import warnings
from email.utils import getaddresses
from functools import cache
from typing import Any

import limits
import phonenumbers
from babel import Locale, UnknownLocaleError
from babel.dates import get_timezone
from passlib.context import CryptContext

from .urls import is_host

SECRET_LENGTH_MIN = 22  # random URL-safe characters that hold 128 bits (ASVS 11.5.1)
MAKE_ONE = 'make one with: python -c "import secrets; print(secrets.token_urlsafe())"'
PICTURES = ("svg", "png", "webp", "jpg", "jpeg")  # by their endings
# OWASP's Password Storage Cheat Sheet: memory in KiB and passes that are enough together.
ARGON2_LEAST = ((47104, 1), (19456, 2), (12288, 3), (9216, 4), (7168, 5))
_PLACEHOLDER = re.compile(r"(?i)change.?(me|this)|replace.?(me|this)|placeholder|your.?secret")


def parse_json_text(value: Any) -> Any:
    """The environment has text only: lists and tables are written as JSON there."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("write it as JSON in the environment") from None
    return value


def strong_secret(value: str) -> str:
    if _PLACEHOLDER.search(value):
        raise ValueError(f"this is a placeholder; {MAKE_ONE}")
    if len(value) < SECRET_LENGTH_MIN or len(set(value)) < SECRET_LENGTH_MIN // 3:
        raise ValueError(f"too weak: give at least {SECRET_LENGTH_MIN} random characters; {MAKE_ONE}")
    return value


def region(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("give a country of ISO 3166 in capitals, such as US, GB or DE")
    return value


def not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def one_line(value: str) -> str:
    if "=?" in value:
        raise ValueError("no encoded words (=?...?=): mail decodes them, line ends among them")
    if any(ord(character) < 32 for character in value) or len(value.splitlines()) > 1:
        raise ValueError("one line, without control characters")
    return value


def sender(value: str) -> str:
    addresses = [address for _, address in getaddresses([value])]
    local, _, domain = addresses[0].rpartition("@") if len(addresses) == 1 else ("", "", "")
    if not re.fullmatch(r"[!-?A-~]+", local) or not is_host(domain):
        raise ValueError('give an address, such as no-reply@example.com or "Example <no-reply@example.com>"')
    return value


def readable_file(value: str) -> str:
    if value and not (os.path.isfile(value) and os.access(value, os.R_OK)):
        raise ValueError("no such file, or it can not be read")
    return value


def directory(value: str) -> str:
    path = os.path.abspath(value) if value else ""
    if path and not (os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)):
        raise ValueError(f"there is no directory {path}, or it can not be read")
    return path


def certificates(value: str) -> str:
    try:
        if readable_file(value):  # the machine's own take a moment to read, and are not asked about
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
    except ssl.SSLError:
        raise ValueError("the file holds no certificates (PEM)") from None
    return value


def not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("give a whole number")
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
    except (TypeError, ValueError, KeyError, Warning) as error:
        raise ValueError(f"argon2 does not take this: {error}") from None
    return options


@cache  # it costs a hash, and what worked once works again
def _try_argon2(memory: int, rounds: int, lanes: int) -> None:
    options = {"argon2__memory_cost": memory, "argon2__rounds": rounds, "argon2__parallelism": lanes}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # passlib mends what is out of bounds, and the dummy hash is not
        CryptContext(schemes=["argon2"], **options).hash("tried once")


def rates(value: str) -> str:
    try:
        is_some = all(item.amount > 0 for item in limits.parse_many(value))
    except ValueError:
        is_some = False
    if not is_some:
        raise ValueError('give rates such as "30 per minute; 300 per hour"') from None
    return value


def breach_check(value: Any) -> Any:
    if isinstance(value, str) and value.lower() in ("false", ""):
        return False
    return value


def dns_label(value: str) -> str:
    if value and not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?", value):
        raise ValueError("give the name alone, such as s1: what stands before ._domainkey")
    return value


def language(value: str) -> str:
    """As Babel names it: pt-br is pt_BR. Raises ValueError."""
    try:
        return str(Locale.parse(value, sep="-" if "-" in value else "_"))
    except (UnknownLocaleError, ValueError):
        raise ValueError("give a language such as de, or one of a country, such as pt_BR") from None


def time_zone(value: str) -> str:
    try:
        get_timezone(value)
    except LookupError:
        raise ValueError("give a time zone such as UTC or Europe/Berlin") from None
    return value


def picture(value: str) -> str:
    if readable_file(value) and value.rpartition(".")[2].lower() not in PICTURES:
        raise ValueError(f"give a picture that browsers show: one of {', '.join(PICTURES)}")
    return value
