"""`manage.py users import`: accounts of another application, with the passwords that they have.

First everything is looked at, and every bad row is named; then all is written in one transaction, or nothing.
What must be remembered meanwhile rests on disk, so memory stays as it is.
"""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from .. import foreign
from ..db import db
from ..identities import canonical
from ..models import User

COLUMNS = ("email", "password_hash", "username", "us_phone_number", "active", "confirmed_at")
IDENTITIES = ("email", "username", "us_phone_number")
BATCH = 1_000  # rows at once
SHOWN_MAX = 100  # bad rows; the others are counted
LENGTH_MAX = 255  # of any value: what the columns hold
YES, NO = ("yes", "true", "t", "1", "y"), ("no", "false", "f", "0", "n")
UNUSABLE = "!"  # how Django writes that there is no password

Row = dict[str, str]


class BadRow(ValueError):
    """What is wrong with one row, for people."""


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only look at it.")
@click.option("--skip-bad", is_flag=True, help="Import what is good; or one bad row stops everything.")
@click.option(
    "--from-flask-security",
    "is_stock",
    is_flag=True,
    help="The hashes are Flask-Security's, made with this SECURITY_PASSWORD_SALT.",
)
@with_appcontext
def import_users(file: Path, dry_run: bool, skip_bad: bool, is_stock: bool) -> None:
    """Take over accounts from FILE: CSV with a header, or JSON lines.

    Columns: email, password_hash, username, us_phone_number, active (yes), confirmed_at. Passwords hashed
    by Werkzeug, bcrypt, argon2, Django or Flask-Security go on to work, and are hashed anew at sign-in.
    """
    with tempfile.TemporaryDirectory() as folder, closing(Notes(Path(folder))) as notes:
        good = _look_at(file, notes, _of_stock if is_stock else _of_others)
        for problem in notes.problems:
            click.echo(problem, err=True)
        if notes.bad > len(notes.problems):
            click.echo(f"and {notes.bad - len(notes.problems)} more", err=True)
        if notes.bad and not skip_bad:
            raise click.ClickException(f"{notes.bad} bad rows of {good + notes.bad}: nothing was imported")
        if dry_run:
            click.echo(f"{good} accounts can be imported{_skipped(notes)}; nothing was written (--dry-run)")
            return
        _write(notes, good)
    click.echo(f"{good} accounts imported{_skipped(notes)}")


class Notes:
    """What was found in the file: whose identities are where, what is wrong, and what is good. On disk."""

    def __init__(self, folder: Path) -> None:
        self.problems: list[str] = []
        self.bad = 0
        self.database = sqlite3.connect(folder / "notes.db", isolation_level=None)
        self.database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE seen (kind TEXT, form TEXT, line INTEGER, PRIMARY KEY (kind, form)) WITHOUT ROWID;"
            "CREATE TABLE good (account TEXT);"
            "BEGIN"
        )

    def complain(self, line: int, text: str) -> None:
        self.bad += 1
        if len(self.problems) < SHOWN_MAX:
            self.problems.append(f"line {line}: {text}")

    def keep(self, account: dict[str, Any]) -> None:
        self.database.execute("INSERT INTO good VALUES (?)", (json.dumps(account),))

    def accounts(self) -> Iterator[dict[str, Any]]:
        """What was kept, with what each row of the table needs besides."""
        for (text,) in self.database.execute("SELECT account FROM good ORDER BY rowid"):
            account = json.loads(text)
            moment = account["confirmed_at"]
            account["confirmed_at"] = datetime.fromisoformat(moment) if moment else None
            yield {**account, "fs_uniquifier": uuid.uuid4().hex, "fs_token_uniquifier": uuid.uuid4().hex}

    def other_line(self, line: int, kind: str, form: str) -> int | None:
        """Where this identity stood before; notes it when it did not."""
        new = self.database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (kind, form, line))
        if new.rowcount:
            return None
        found = "SELECT line FROM seen WHERE kind = ? AND form = ?"
        return int(self.database.execute(found, (kind, form)).fetchone()[0])

    def close(self) -> None:
        self.database.close()


Hashed = Callable[[str], str]


def _look_at(file: Path, notes: Notes, hashed: Hashed) -> int:
    """Keep what is good, and say how many that are."""
    good = 0
    for batch in _batches(_accounts(file, hashed, notes)):
        fresh = []
        for line, account in batch:
            if twice := _seen_before(line, account, notes):
                notes.complain(line, twice)
            else:
                fresh.append((line, account))
        taken = _taken([account for _, account in fresh])
        for line, account in fresh:
            clash = [kind for kind in IDENTITIES if taken[kind] & _spellings(account[kind])]
            if clash:
                notes.complain(line, f"there is an account with this {_words(clash[0])} already")
            else:
                notes.keep(account)
                good += 1
    return good


def _seen_before(line: int, account: dict[str, Any], notes: Notes) -> str | None:
    for kind in IDENTITIES:
        if account[kind] and (other := notes.other_line(line, kind, account[kind])):
            return f"the same {_words(kind)} as in line {other}"
    return None


def _taken(accounts: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Identities of these that accounts in the database have, by kind."""
    found = {}
    for kind in IDENTITIES:
        forms = {spelling for account in accounts for spelling in _spellings(account[kind])}
        column = getattr(User, kind)
        stored = column if kind == "us_phone_number" else func.lower(column)
        found[kind] = set(db.session.scalars(select(stored).where(stored.in_(forms))))
    return found


def _spellings(form: str | None) -> set[str]:
    """What the database may make of it in lower case: SQLite folds ASCII only, PostgreSQL all letters."""
    return {form, form.lower()} if form else set()


def _write(notes: Notes, count: int) -> None:
    try:
        with _bar(count, "Writing") as bar:
            for batch in _batches(notes.accounts()):
                db.session.execute(insert(User.__table__), batch)  # type: ignore[arg-type]  # a table
                bar.update(len(batch))
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        raise click.ClickException(
            "an account was added meanwhile, or two identities are one to this database; nothing was imported"
        ) from None


def _accounts(file: Path, hashed: Hashed, notes: Notes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each good row with its line. Bad ones go into `notes`."""
    with file.open("rb") as raw, _bar(file.stat().st_size, "Looking at it") as bar:
        lines = _lines(raw, bar)
        rows = _json_rows(lines) if file.suffix in (".jsonl", ".ndjson", ".json") else _csv_rows(lines)
        for line, row in rows:
            try:
                if isinstance(row, BadRow):
                    raise row
                yield line, _account(row, hashed)
            except BadRow as bad:
                notes.complain(line, str(bad))


def _bar(length: int, label: str) -> Any:
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())


def _lines(raw: Iterable[bytes], bar: Any) -> Iterator[str]:
    for number, line in enumerate(raw):
        bar.update(len(line))
        text = line.decode("utf-8", "surrogateescape")  # what is not UTF-8 is found where it stands
        yield text.removeprefix("\ufeff") if number == 0 else text


def _csv_rows(lines: Iterator[str]) -> Iterator[tuple[int, Row | BadRow]]:
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        for fields in reader:
            if not fields:
                continue  # an empty line
            if len(fields) != len(header):
                yield reader.line_num, BadRow(f"{len(fields)} fields, and the header has {len(header)}")
            else:
                yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise click.ClickException(f"line {reader.line_num}: this is no CSV ({error})") from None


def _check_header(header: list[str]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        said = f"the header has {', '.join(map(repr, unknown))}; columns are {', '.join(COLUMNS)}"
        raise click.ClickException(f"line 1: {said}")
    if len(header) != len(set(header)) or "email" not in header:
        raise click.ClickException("line 1: the header needs email, and each column once")


def _json_rows(lines: Iterator[str]) -> Iterator[tuple[int, Row | BadRow]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, _json_row(line)
            except BadRow as bad:
                yield number, bad


def _json_row(line: str) -> Row:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRow("this is no JSON") from None
    if not isinstance(found, dict):
        raise BadRow('give an object, such as {"email": "alice@example.com"}')
    if unknown := [name for name in found if name not in COLUMNS]:
        raise BadRow(f"{unknown[0]!r} is unknown; there are {', '.join(COLUMNS)}")
    row: Row = {}
    for name, value in found.items():
        if isinstance(value, bool) and name == "active":
            value = "yes" if value else "no"
        if value is not None and not isinstance(value, str):
            raise BadRow(f"{name}: give text")
        row[name] = value or ""
    return row


def _account(row: Row, hashed: Hashed) -> dict[str, Any]:
    """What stands in the table. Raises BadRow."""
    for name, value in row.items():
        _check_text(name, value)
    values = {name: (row.get(name) or "").strip() for name in COLUMNS}
    if not values["email"]:
        raise BadRow("email: needed")
    identities = {name: _canonical(name, values[name]) for name in IDENTITIES}
    password = values["password_hash"]
    return {
        **identities,
        "password": None if not password or password.startswith(UNUSABLE) else hashed(password),
        "active": _yes_or_no(values["active"]),
        "confirmed_at": _moment(values["confirmed_at"]),
    }


def _check_text(name: str, value: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRow(f"{name}: this is not UTF-8")
    if len(value) > LENGTH_MAX - len(foreign.MARK):
        raise BadRow(f"{name}: longer than {LENGTH_MAX - len(foreign.MARK)} characters")
    if not value.strip().isprintable():
        raise BadRow(f"{name}: it holds control characters")


def _canonical(name: str, value: str) -> str | None:
    if not value:
        return None
    form = canonical(name, value)
    if form is None:
        raise BadRow(f"{name}: that can be nobody's {_words(name)}")
    return form


def _of_others(hashed: str) -> str:
    if foreign.format_of(hashed) is None:
        raise BadRow(f"password_hash: of no known format ({', '.join(foreign.FORMATS)}), or cut off")
    return foreign.MARK + hashed


def _of_stock(hashed: str) -> str:
    if current_app.extensions["security"].pwd_context.identify(hashed) in (None, foreign.Foreign.name):
        raise BadRow("password_hash: none of Flask-Security's")
    return hashed


def _yes_or_no(value: str) -> bool:
    word = value.lower()
    if word and word not in (*YES, *NO):
        raise BadRow("active: give yes or no")
    return word not in NO


def _moment(value: str) -> str | None:
    """In ISO 8601, as the database keeps it: UTC, without saying so."""
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise BadRow("confirmed_at: give a time such as 2026-01-31T12:00:00Z") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(tzinfo=None).isoformat()


def _batches(rows: Iterator[Any]) -> Iterator[list[Any]]:
    return iter(lambda: list(islice(rows, BATCH)), [])


def _words(kind: str) -> str:
    return {"email": "address", "username": "username"}.get(kind, "phone number")


def _skipped(notes: Notes) -> str:
    return f", {notes.bad} bad rows skipped" if notes.bad else ""
