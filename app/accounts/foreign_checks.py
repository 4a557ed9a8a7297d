"""Checks that an application's table fits RECOVERY_ACCOUNTS, each with the statement that mends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import func, inspect, literal, select, text, true
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

from ..db.engine import attach, db
from ..settings import current
from ..settings.findings import KINDS, Finding
from ..settings.identities import CASE_INSENSITIVE
from . import foreign
from .foreign_hashes import DEFAULTS, format_of, make
from .models import User

SAMPLE = 100  # accounts whose values are looked at
EXPLAIN = {"sqlite": ("EXPLAIN QUERY PLAN ", "SCAN "), "postgresql": ("EXPLAIN ", "Seq Scan ")}
STATEMENTS = text(Path(__file__).with_suffix(".sql").read_text())


def run() -> list[Finding]:
    """Return the findings about the application's table. Needs an app context."""
    return _collect("accounts-away", _check)


def rehearse() -> list[Finding]:
    """Write a password as a redemption does and roll it back, because only a write shows some faults."""
    return _collect("accounts-rehearsal", _rehearse)


def _collect(failure: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings += check() if current().RECOVERY_ACCOUNTS else []
    except (SQLAlchemyError, NoSuchTableError) as error:
        why = str(getattr(error, "orig", f"no such table: {error}"))
        findings.append(_found(failure, why=why.splitlines()[0]))
    db.session.rollback()
    return findings


def _found(kind: str, **facts: Any) -> Finding:
    return KINDS[kind].found(table=_quoted(current().RECOVERY_ACCOUNTS.table), **facts)


def _quoted(name: str) -> str:
    return ".".join(map(db.engine.dialect.identifier_preparer.quote, name.split(".")))


def _rehearse() -> Iterator[Finding]:
    for row in foreign.read(true(), 1):
        if db.engine.dialect.name == "postgresql":
            db.session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        hashed = make("a rehearsal, rolled back", row["password"], current().RECOVERY_ACCOUNTS.hash)
        if not foreign.write_password(User(external_id=str(row["id"]), external=row), hashed):
            yield _found("accounts-rehearsal", why="no row was changed")


def _check() -> Iterator[Finding]:
    """Yield findings. A table that cannot be used is not looked at further."""
    accounts = current().RECOVERY_ACCOUNTS
    attach(accounts.file)
    inspector, table = inspect(db.session.connection()), foreign.theirs()
    present = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
    if missing := {column.name for column in table.c} - present:
        names = ", ".join(sorted(present))
        yield from (_found("accounts-column-missing", column=name, names=names) for name in sorted(missing))
        return
    obstacles = [*(_check_file if accounts.file else _check_postgresql)(inspector)]
    yield from obstacles or _check_content(present)


def _check_file(inspector: Any) -> Iterator[Finding]:
    path, table = Path(current().RECOVERY_ACCOUNTS.file), foreign.theirs()
    if not all(os.access(place, os.W_OK) for place in (path, path.parent)):
        yield _found("accounts-file-readonly", path=path)
    if table.name in inspector.get_view_names(table.schema):
        yield _found("accounts-view")


def _check_postgresql(inspector: Any) -> Iterator[Finding]:
    accounts, table = current().RECOVERY_ACCOUNTS, foreign.theirs()
    names, times = (
        [accounts.password, *accounts.kinds.values()],
        [accounts.changed_at][: bool(accounts.changed_at)],
    )
    facts = {
        "oid": inspector.get_table_oid(table.name, table.schema),
        "table": _quoted(accounts.table),
        "read": [*{*accounts.columns_read.values()}],
        "written": accounts.columns_written,
        "lengths": [len(DEFAULTS[accounts.hash]), *[32] * len(accounts.columns_written[1:])],
        "named": [*names, *times],
        "categories": ["S"] * len(names) + ["D"] * len(times),
    }
    for kind, statement in db.session.execute(STATEMENTS, facts):
        yield _found(kind, statement=statement)


def _check_content(columns: set[str]) -> Iterator[Finding]:
    accounts, rows = current().RECOVERY_ACCOUNTS, foreign.read(true(), SAMPLE)
    if not rows:
        yield _found("accounts-none")
    unnamed = {"fs_uniquifier", "fs_token_uniquifier"} & columns - {*accounts.uniquifier}
    if unnamed:
        yield _found("accounts-uniquifier", names=", ".join(sorted(unnamed)))
    for setting, flag in accounts.flags.items():
        try:
            if rows and not any(flag.is_met(row[setting]) for row in rows):
                yield _found("accounts-flag-unmet", flag=setting, column=flag.column)
        except ValueError as error:
            yield _found("accounts-flag-text", flag=setting, why=error)
    hashes = [hashed for row in rows if (hashed := foreign.usable_hash(row["password"]))]
    if hashes and not any(format_of(hashed, accounts.hash) for hashed in hashes):
        kinds = [kind for kind in DEFAULTS if any(format_of(hashed, kind) for hashed in hashes)]
        near = " or ".join(kinds) or "nothing that is supported"
        yield _found("accounts-hash", hash=accounts.hash, near=near)
    yield from (*_check_duplicates(), *_check_indexes())


def _check_duplicates() -> Iterator[Finding]:
    accounts, table = current().RECOVERY_ACCOUNTS, foreign.theirs()
    values = {"accounts-id": table.c[accounts.id], "accounts-alike": func.lower(table.c[accounts.email])}
    for kind, value in values.items():
        twice = select(value).where(value.is_not(None)).group_by(value).having(func.count() > 1).subquery()
        if count := db.session.scalar(select(func.count()).select_from(twice)):
            yield _found(kind, column=accounts.id, count=count)


def _check_indexes() -> Iterator[Finding]:
    """Yield a finding for each look-up that reads the whole table, by the database's own plan."""
    accounts, table, dialect = current().RECOVERY_ACCOUNTS, foreign.theirs(), db.engine.dialect
    explain, scan = EXPLAIN[dialect.name]
    if dialect.name == "postgresql":
        db.session.execute(text("SET LOCAL enable_seqscan = off"))  # which a small table would prefer
    for kind, name in accounts.kinds.items():
        lookups = {_quoted(name): table.c[name], f"lower({_quoted(name)})": func.lower(table.c[name])}
        for shown, value in list(lookups.items())[: 1 + (kind in CASE_INSENSITIVE)]:
            query = select(table.c[accounts.id]).where(value == literal("x"))
            words = query.compile(db.engine, compile_kwargs={"literal_binds": True})
            if scan in str(db.session.execute(text(f"{explain}{words}")).all()):
                index = f"sparekey_{name}{'_lower' * shown.startswith('lower(')}"
                statement = f"CREATE INDEX {index} ON {_quoted(accounts.table)} ({shown});"
                yield _found("accounts-index", shown=shown, statement=statement)
