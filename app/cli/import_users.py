"""`manage.py users import`: accounts of another application, with the passwords that they have.

First everything is looked at, and every bad row is named; then all is written in one transaction, or nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from ..accounts.models import User
from ..db.engine import db
from ..settings.types import IDENTITIES
from . import import_files, import_rows
from .import_files import BadRow, bar
from .import_notes import Notes
from .import_rows import Hashes, words

BATCH = 1_000  # rows at once


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
@click.option(
    "--reset-unknown",
    is_flag=True,
    help="Give accounts whose hash can not be verified a password that nobody knows: these people reset.",
)
@with_appcontext
def import_users(file: Path, dry_run: bool, skip_bad: bool, is_stock: bool, reset_unknown: bool) -> None:
    """Take over accounts from FILE: CSV with a header, or JSON lines.

    Columns: email, password_hash, username, us_phone_number, active (yes), confirmed_at, language. Passwords
    hashed by Werkzeug, bcrypt, argon2, Django or Flask-Security go on to work; signing in hashes them anew.
    """
    with tempfile.TemporaryDirectory() as folder, closing(Notes(Path(folder))) as notes:
        good = _look_at(file, notes, Hashes(is_stock, reset_unknown))
        for problem in notes.problems:
            click.echo(problem, err=True)
        if notes.bad > len(notes.problems):
            click.echo(f"and {notes.bad - len(notes.problems)} more", err=True)
        if notes.bad and not skip_bad:
            raise click.ClickException(f"{notes.bad} bad rows of {good + notes.bad}: nothing was imported")
        if dry_run:
            click.echo(f"{good} accounts can be imported{_besides(notes)}; nothing was written (--dry-run)")
            return
        _write(notes, good)
    click.echo(f"{good} accounts imported{_besides(notes)}")


def _look_at(file: Path, notes: Notes, hashes: Hashes) -> int:
    """Keep what is good, and say how many that are."""
    good = 0
    for batch in _batches(_accounts(file, hashes, notes)):
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
                notes.complain(line, f"there is an account with this {words(clash[0])} already")
            else:
                notes.keep(account)
                good += 1
    return good


def _seen_before(line: int, account: dict[str, Any], notes: Notes) -> str | None:
    for kind in IDENTITIES:
        if account[kind] and (other := notes.other_line(line, kind, account[kind])):
            return f"the same {words(kind)} as in line {other}"
    return None


def _taken(accounts: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Identities of these that accounts in the database have, by kind."""
    found = {}
    for kind in IDENTITIES:
        forms = {spelling for account in accounts for spelling in _spellings(account[kind])}
        column = getattr(User, kind)
        stored = column if kind == "us_phone_number" else func.lower(column)
        found[kind] = set(db.session.scalars(select(stored).where(stored.in_(forms))))
    db.session.rollback()  # or PostgreSQL sees a transaction that does nothing for minutes
    return found


def _spellings(form: str | None) -> set[str]:
    """What the database may make of it in lower case: SQLite folds ASCII only, PostgreSQL all letters."""
    return {form, form.lower()} if form else set()


def _write(notes: Notes, count: int) -> None:
    try:
        with bar(count, "Writing") as done:
            for batch in _batches(notes.accounts()):
                db.session.execute(insert(User.__table__), batch)  # type: ignore[arg-type]  # a table
                done.update(len(batch))
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        raise click.ClickException(
            "an account was added meanwhile, or two identities are one to this database; nothing was imported"
        ) from None


def _accounts(file: Path, hashes: Hashes, notes: Notes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each good row with its line. Bad ones go into `notes`."""
    for line, row in import_files.rows(file):
        try:
            if isinstance(row, BadRow):
                raise row
            yield line, import_rows.account(row, hashes)
        except BadRow as bad:
            notes.complain(line, str(bad))


def _batches(rows: Iterator[Any]) -> Iterator[list[Any]]:
    return iter(lambda: list(islice(rows, BATCH)), [])


def _besides(notes: Notes) -> str:
    reset = f", {notes.to_reset} of them must reset" if notes.to_reset else ""
    return reset + (f", {notes.bad} bad rows skipped" if notes.bad else "")
