"""`manage.py users import`: accounts of another application, with their password hashes.

The file is read once, in one transaction, and every bad row is reported. Without --skip-bad, one bad row
rolls everything back.
"""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
from flask_security import naive_utcnow
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from ..accounts import imported_hashes
from ..accounts.identities import IdentityError, identity_columns
from ..accounts.models import User
from ..db.engine import db
from ..settings import current
from ..settings.identities import CASE_INSENSITIVE
from .import_rows import BadRow, as_account, check_encoding, csv_rows, json_rows
from .invite_users import client_option, enqueue
from .output import Row

BATCH = 1_000  # rows at once
SHOWN_MAX = 100  # bad rows; the others are counted


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check the file without importing anything.")
@click.option(
    "--skip-bad", is_flag=True, help="Import the valid rows. By default, one bad row stops the import."
)
@click.option(
    "--from-flask-security",
    "is_stock",
    is_flag=True,
    help="The hashes are Flask-Security's, made with this SECURITY_PASSWORD_SALT.",
)
@click.option(
    "--reset-unknown",
    is_flag=True,
    help="Also import accounts whose hash Sparekey cannot verify: their owners must reset their passwords.",
)
@click.option("--invite", is_flag=True, help="Invite the owners of accounts without a password hash.")
@client_option
def import_users(
    file: Path, dry_run: bool, skip_bad: bool, invite: bool, client: str, **options: bool
) -> None:
    """Import accounts from FILE: CSV with a header, or JSON lines.

    Columns: email, username, us_phone_number, your own kinds, password_hash, active, confirmed_at, language.
    Passwords hashed by Werkzeug, bcrypt, argon2, Django or Flask-Security work; signing in hashes them anew.
    """
    problems: list[str] = []
    good = to_reset = invited = untranslated = 0
    offered = {None, *current().RECOVERY_LANGUAGES}
    accounts = _accounts(file, problems, invited_at=naive_utcnow() if invite else None, **options)
    while batch := list(islice(accounts, BATCH)):
        fresh = _without_taken(batch, problems)
        good += len(fresh)
        passwords = (account["password"] for account in fresh)
        invited += sum(account["active"] and account["invited_at"] is not None for account in fresh)
        to_reset += sum(not imported_hashes.imported_format(stored) for stored in passwords if stored)
        untranslated += sum(account["language"] not in offered for account in fresh)
        if fresh and not dry_run and (skip_bad or not problems):
            enqueue(_insert(fresh), client)
    for problem in problems[:SHOWN_MAX]:
        click.echo(problem, err=True)
    if (hidden := len(problems) - SHOWN_MAX) > 0:
        click.echo(f"and {hidden} more", err=True)
    if problems and not skip_bad:
        db.session.rollback()
        total = good + len(problems)
        raise click.ClickException(f"{len(problems)} bad rows of {total}: nothing was imported")
    db.session.commit()
    besides = f", {to_reset} of them must reset their password" if to_reset else ""
    todo = "invited" if current().sends_mail else "need a link (users reset-link), because no mail is sent"
    besides += f", {invited} of them {todo}" if invited else ""
    unknown = "in a language that RECOVERY_LANGUAGES lacks"
    besides += f", {untranslated} of them {unknown}" if untranslated else ""
    besides += f", {len(problems)} bad rows skipped" if problems else ""
    ending = f"can be imported{besides}; nothing was written (--dry-run)" if dry_run else f"imported{besides}"
    click.echo(f"{good} accounts {ending}")


def _accounts(file: Path, problems: list[str], **options: Any) -> Iterator[tuple[int, Row]]:
    """Yield each valid account with its line number; append the problem of each other row."""
    lines_of: dict[tuple[str, str], int] = {}  # by identity
    # Bytes that are not UTF-8 become surrogates, which are refused with their line and column.
    text = file.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n")
    bar = click.progressbar(text, label="Reading", file=sys.stderr, hidden=not sys.stderr.isatty())
    rows = json_rows if file.suffix in (".jsonl", ".ndjson", ".json") else csv_rows
    with text, bar as lines:
        for line, row in rows(check_encoding(iter(lines)), problems):
            try:
                account = as_account(row, **options)
                for kind in identity_columns():
                    if account[kind] and (other := lines_of.setdefault((kind, account[kind]), line)) != line:
                        raise BadRow(f"the same {kind} as in line {other}")
                yield line, account
            except (BadRow, IdentityError) as bad:
                problems.append(f"line {line}: {bad}")


def _without_taken(batch: list[tuple[int, Row]], problems: list[str]) -> list[Row]:
    """Return the accounts whose identities are free; append the problem of each other row."""
    clashes: dict[int, str] = {}  # kinds by line
    for kind in identity_columns():
        spellings = {spelling for _, account in batch for spelling in _spellings(account[kind])}
        column = getattr(User, kind)
        stored = func.lower(column) if kind in CASE_INSENSITIVE else column
        taken = set(db.session.scalars(select(stored).where(stored.in_(spellings))))
        clashes |= {line: kind for line, account in batch if taken & _spellings(account[kind])}
    for line, kind in clashes.items():
        problems.append(f"line {line}: an account with this {kind} already exists")
    return [account for line, account in batch if line not in clashes]


def _spellings(identity: str | None) -> set[str]:
    """Return an identity as the databases lower it: SQLite folds only ASCII, PostgreSQL all letters."""
    return {identity, identity.lower()} if identity else set()


def _insert(accounts: list[Row]) -> list[int]:
    """Insert the accounts, and return the numbers of those that are invited."""
    try:
        table: Any = User.__table__
        added = insert(table).returning(table.c.id, table.c.invited_at)
        return [number for number, invited_at in db.session.execute(added, accounts) if invited_at]
    except IntegrityError:
        raise click.ClickException(
            "an account was added in the meantime, or two identities clash; nothing was imported"
        ) from None
