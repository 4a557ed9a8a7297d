"""Kinds of values that settings have, each with its limits and a remedy for what is wrong.

A ValueError's text is shown to the admin; it never repeats the value, which may be a secret.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from datetime import timedelta
from email.utils import parseaddr
from typing import Annotated, Any
from urllib.parse import urlsplit

from passlib.context import CryptContext
from pydantic import AfterValidator, BeforeValidator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

SECRET_LENGTH_MIN = 22  # random URL-safe characters that hold 128 bits (ASVS 11.5.1)
MAKE_ONE = 'make one with: python -c "import secrets; print(secrets.token_urlsafe())"'

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_PLACEHOLDER = re.compile(r"(?i)change.?(me|this)|replace.?(me|this)|placeholder|your.?secret")


def parse_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week)s?", str(value).strip())
    if not match:
        raise ValueError('give a number and a unit, such as "30 minutes"')
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def at_most(hours: float, why: str) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if not timedelta(0) < value <= timedelta(hours=hours):
            raise ValueError(f"more than nothing, at most {hours:g} hours ({why})")
        return value

    return AfterValidator(check)


def parse_json_text(value: Any) -> Any:
    """The environment has text only: lists and tables are written as JSON there."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("write it as JSON in the environment") from None
    return value


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("more than nothing")
    return value


def _strong(value: str) -> str:
    if _PLACEHOLDER.search(value):
        raise ValueError(f"this is a placeholder; {MAKE_ONE}")
    if len(value) < SECRET_LENGTH_MIN or len(set(value)) < SECRET_LENGTH_MIN // 3:
        raise ValueError(f"too weak, at least {SECRET_LENGTH_MIN} random characters; {MAKE_ONE}")
    return value


def _public_url(value: str) -> str:
    try:
        url = urlsplit(value)
        host, _port = url.hostname, url.port
    except ValueError:
        host = None
    if not host or url.scheme not in ("https", "http") or url.username or re.search(r"\s", value):
        raise ValueError("give a whole URL, such as https://id.example.com")
    if url.query or url.fragment:
        raise ValueError("a URL without ? and #")
    if url.scheme == "http" and not is_loopback(host):
        raise ValueError("must be https: whoever reads a link in transit has the account")
    return value.rstrip("/")


def _one_line(value: str) -> str:
    if any(ord(character) < 32 for character in value):
        raise ValueError("one line, without control characters")
    return value


def _sender(value: str) -> str:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", parseaddr(value)[1]):
        raise ValueError('give an address, such as no-reply@example.com or "Example <no-reply@example.com>"')
    return value


def _readable(value: str) -> str:
    if value and not os.access(value, os.R_OK):
        raise ValueError("no such file, or it can not be read")
    return value


def _database(value: str) -> str:
    """Plain postgresql:// means the driver we ship, psycopg 3."""
    scheme, colon, rest = value.partition(":")
    uri = (
        {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}.get(scheme, scheme)
        + colon
        + rest
    )
    try:
        dialect = make_url(uri).get_backend_name()
    except (ArgumentError, ValueError):
        dialect = ""
    if dialect not in ("sqlite", "postgresql"):
        raise ValueError("give sqlite:///file.db or postgresql://user:password@host/name")
    return uri


def _argon2(options: dict[str, Any]) -> dict[str, Any]:
    try:
        CryptContext(schemes=["argon2"], **options).hash("tried once")
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"argon2 does not take this: {error}") from None
    return options


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Pause = Annotated[Duration, AfterValidator(_positive)]
Secret = Annotated[str, AfterValidator(_strong)]
Secrets = Annotated[list[Secret], BeforeValidator(parse_json_text)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Line = Annotated[str, AfterValidator(_one_line)]
Sender = Annotated[Line, AfterValidator(_sender)]
ReadableFile = Annotated[str, AfterValidator(_readable)]
Database = Annotated[str, AfterValidator(_database)]
Words = Annotated[list[str], BeforeValidator(parse_json_text)]
Table = Annotated[dict[str, Any], BeforeValidator(parse_json_text)]
Argon2Options = Annotated[Table, AfterValidator(_argon2)]
