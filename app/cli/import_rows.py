"""Rows of `manage.py users import`: parsing, validation, and the reason why a row cannot be imported.

CSV with a header, or JSON lines. The file is streamed.
"""

import csv
import json
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from typing import Any

import click

from ..accounts import hashing, imported_hashes
from ..accounts.identities import identity_columns, stored_identity
from ..db.clock import parse_time
from ..settings import current
from ..settings.types import normalize_language
from .output import Row

STORED_MAX = 255  # characters of a column in the database
VALUE_MAX = STORED_MAX - len(imported_hashes.MARK)
YES, NO = ("", "yes", "true", "t", "1", "y"), ("no", "false", "f", "0", "n")
UNUSABLE = "!"  # begins the password field of a Django account without a password


class BadRow(ValueError):
    """A row that cannot be imported, with the reason as its text."""


def columns() -> list[str]:
    """Return the columns that a file may have."""
    own = ["second_email"] if current().RECOVERY_SECOND_ADDRESS else []
    return [*identity_columns(), *own, "password_hash", "active", "confirmed_at", "language"]


def check_encoding(lines: Iterator[str]) -> Iterator[str]:
    """Return the lines. Raises ClickException for UTF-16, in which Excel and PowerShell may write files."""
    first = next(lines, "")
    if "\0" in first:
        raise click.ClickException("the file is not UTF-8; save it as UTF-8")
    return chain([first], lines)


def csv_rows(lines: Iterator[str], problems: list[str]) -> Iterator[tuple[int, Row]]:
    """Yield each row with its line number, and append the problem of each other row to `problems`.

    Raises ClickException if the rest of the file cannot be parsed.
    """
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if unknown := [name for name in header if name not in columns()]:
            names = ", ".join(map(repr, unknown))
            known = f"columns, separated by commas, are {', '.join(columns())}"
            raise click.ClickException(f"line 1: the header has {names}; {known}")
        if len(header) != len(set(header)) or "email" not in header:
            raise click.ClickException("line 1: the header needs email, and each column once")
        for fields in reader:
            if len(fields) == len(header):
                yield reader.line_num, dict(zip(header, fields, strict=True))
            elif fields:  # not an empty line
                fault = f"{len(fields)} fields, and the header has {len(header)}"
                problems.append(f"line {reader.line_num}: {fault}")
    except csv.Error as error:
        raise click.ClickException(f"line {reader.line_num}: not valid CSV ({error})") from None


def json_rows(lines: Iterator[str], problems: list[str]) -> Iterator[tuple[int, Row]]:
    """Yield each row with its line number, and append the problem of each other row to `problems`."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            problems.append(f'line {number}: not a JSON object such as {{"email": "alice@example.com"}}')
        elif unknown := [name for name in row if name not in columns()]:
            problems.append(f"line {number}: {unknown[0]!r} is unknown; there are {', '.join(columns())}")
        else:
            yield number, row


def as_account(row: Row, *, is_stock: bool, reset_unknown: bool, invited_at: datetime | None) -> Row:
    """Return the columns of the account. Raises BadRow and IdentityError."""
    values = {name: _text(name, row.get(name)) for name in columns()}
    if not values["email"]:
        raise BadRow("email: needed")
    is_active = values["active"].lower()
    if is_active not in (*YES, *NO):
        raise BadRow("active: give yes or no")
    password = _password(values["password_hash"], is_stock, reset_unknown)
    return {
        **{kind: stored_identity(kind, values[kind]) for kind in identity_columns()},
        "password": password,
        "invited_at": None if password else invited_at,
        "second_email": stored_identity("email", values.get("second_email")),
        "active": is_active in YES,
        "confirmed_at": _parsed(values, "confirmed_at", parse_time, "give a time such as 2026-01-31T12:00Z"),
        "language": _parsed(values, "language", normalize_language, "give a language such as de or pt_BR"),
        "fs_uniquifier": uuid.uuid4().hex,
    }


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) and name == "active":
        value = str(value)
    if value is not None and not isinstance(value, str):
        raise BadRow(f"{name}: give text")
    text = (value or "").strip()
    if len(text) > VALUE_MAX:
        raise BadRow(f"{name}: longer than {VALUE_MAX} characters")
    if not all(one.isprintable() or unicodedata.category(one) in ("Cf", "Zs") for one in text):
        is_utf8 = not any("\ud800" <= character <= "\udfff" for character in text)
        raise BadRow(f"{name}: {'contains control characters' if is_utf8 else 'not valid UTF-8'}")
    return text


def _password(hashed: str, is_stock: bool, reset_unknown: bool) -> str | None:
    if not hashed or hashed.startswith(UNUSABLE):
        return None
    stored = imported_hashes.mark(hashed, is_stock=is_stock)
    source = imported_hashes.imported_format(stored)
    if source and is_stock is (source == imported_hashes.STOCK) and len(stored) <= STORED_MAX:
        return stored
    if reset_unknown:  # because an account without a password gets no reset mail
        return hashing.unusable_hash()
    if is_stock:
        raise BadRow("password_hash: none of Flask-Security's, or cut off")
    formats = ", ".join(imported_hashes.FORMATS)
    raise BadRow(f"password_hash: of no known format ({formats}), or cut off")


def _parsed(values: dict[str, str], name: str, parse: Callable[[str], Any], hint: str) -> Any:
    try:
        return parse(values[name]) if values[name] else None
    except (ValueError, OverflowError):
        raise BadRow(f"{name}: {hint}") from None
