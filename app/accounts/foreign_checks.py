"""Checks that an application's table fits RECOVERY_ACCOUNTS, each with the statement that mends it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import func, inspect, select, text, true
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

from ..db.engine import attach, db, reason_of
from ..settings import current
from ..settings.findings import KINDS, Finding
from ..settings.identities import CASE_INSENSITIVE
from . import foreign
from .foreign_hashes import DEFAULTS, format_of, make
from .models import User

SAMPLE = 100  # accounts whose values are looked at
EXPLAIN = {"sqlite": ("EXPLAIN QUERY PLAN", "SCAN "), "postgresql": ("EXPLAIN", "Seq Scan ")}
POSTGRESQL = text(Path(__file__).with_suffix(".sql").read_text())


def run(*, live: bool = False) -> list[Finding]:
    """Return the findings about the application's table. Needs an app context."""
    findings = _collect("accounts-away", _check)
    is_usable = all(finding.severity != "error" for finding in findings)
    return findings + (_collect("accounts-rehearsal", _rehearse) if live and is_usable else [])


def _collect(failure: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings += check() if current().RECOVERY_ACCOUNTS else []
    except SQLAlchemyError as error:
        is_missing = isinstance(error, NoSuchTableError)
        findings.append(_found(failure, why=f"no such table: {error}" if is_missing else reason_of(error)))
    db.session.rollback()
    return findings


def _found(kind: str, **facts: Any) -> Finding:
    return KINDS[kind].found(table=_quoted(current().RECOVERY_ACCOUNTS.table), **facts)


def _quoted(name: str) -> str:
    return ".".join(map(db.engine.dialect.identifier_preparer.quote, name.split(".")))


def _rehearse() -> Iterator[Finding]:
    """Write a password as a redemption does and roll it back, because only a write shows some faults."""
    for row in foreign.read(true(), 1):
        if db.engine.dialect.name == "postgresql":
            db.session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        hashed = make("a rehearsal, rolled back", str(row["password"]), current().RECOVERY_ACCOUNTS.hash)
        user = User(external_id=str(row["id"]), external=row)
        if not foreign.write_password(user, hashed):
            yield _found("accounts-rehearsal", why="no row was changed")
            return
        stored = foreign.read(foreign.has_id(user.external_id), 1)
        if [foreign.usable_hash(one["password"]) for one in stored] != [user.external["password"]]:
            yield _found("accounts-rehearsal", why="the row has another password afterwards")


def _check() -> Iterator[Finding]:
    """Yield findings. A table that cannot be used is not looked at further."""
    attach(current().RECOVERY_ACCOUNTS.file)
    inspector: Any = inspect(db.session.connection())
    table = foreign.accounts_table()
    present = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
    findings = [
        _found("accounts-column-missing", column=name, names=", ".join(sorted(present)))
        for name in sorted({column.name for column in table.c} - present)
    ]
    if not findings and db.engine.dialect.name == "postgresql":
        oid = inspector.get_table_oid(table.name, table.schema)
        rows = db.session.execute(POSTGRESQL, {"oid": oid, **_facts()})
        findings = [_found(kind, statement=statement) for kind, statement in rows]
    yield from findings or (*_check_values(present), *_check_duplicates(), *_check_indexes())


def _facts() -> dict[str, Any]:
    """Return the columns that PostgreSQL must have: their rights, lengths and categories of types."""
    accounts = current().RECOVERY_ACCOUNTS
    categories = dict.fromkeys([accounts.password, *accounts.kinds.values()], "S")
    categories[accounts.changed_at] = "D"
    return {
        "table": _quoted(accounts.table),
        "read": [*dict.fromkeys(accounts.columns_read.values())],
        "written": accounts.columns_written,
        "lengths": [len(DEFAULTS[accounts.hash]), *[32] * len(accounts.columns_written[1:])],
        "named": [*categories],
        "categories": [*categories.values()],
    }


def _check_values(columns: set[str]) -> Iterator[Finding]:
    accounts, rows = current().RECOVERY_ACCOUNTS, foreign.read(true(), SAMPLE)
    if not rows:
        yield _found("accounts-none")
    if unnamed := {"fs_uniquifier", "fs_token_uniquifier"} & columns - {*accounts.uniquifier}:
        yield _found("accounts-uniquifier", names=", ".join(sorted(unnamed)))
    for setting, flag in accounts.flags.items():
        try:
            if rows and not any(flag.is_met(row[setting]) for row in rows):
                yield _found("accounts-flag-unmet", flag=setting.partition(" ")[0], column=flag.column)
        except ValueError as error:
            yield _found("accounts-flag-text", flag=setting.partition(" ")[0], why=error)
    hashes = [hashed for row in rows if (hashed := foreign.usable_hash(row["password"]))]
    fits = {kind: any(format_of(hashed, kind) for hashed in hashes) for kind in DEFAULTS}
    if hashes and not fits[accounts.hash]:
        near = " or ".join(kind for kind in fits if fits[kind]) or "nothing that is supported"
        yield _found("accounts-hash", hash=accounts.hash, near=near)


def _check_duplicates() -> Iterator[Finding]:
    accounts, table = current().RECOVERY_ACCOUNTS, foreign.accounts_table()
    values = {"accounts-id": table.c[accounts.id], "accounts-alike": func.lower(table.c[accounts.email])}
    for kind, value in values.items():
        twice = select(value).where(value.is_not(None)).group_by(value).having(func.count() > 1).subquery()
        if count := db.session.scalar(select(func.count()).select_from(twice)):
            yield _found(kind, column=accounts.id, count=count)


def _check_indexes() -> Iterator[Finding]:
    """Yield a finding for each look-up that reads the whole table, by the database's own plan."""
    accounts, table = current().RECOVERY_ACCOUNTS, _quoted(current().RECOVERY_ACCOUNTS.table)
    explain, scan = EXPLAIN[db.engine.dialect.name]
    place = _quoted(foreign.accounts_table().fullname)
    if not accounts.file:
        db.session.execute(text("SET LOCAL enable_seqscan = off"))  # which a small table would prefer
    for kind, name in accounts.kinds.items():
        for form in ("", "lower")[: 1 + (kind in CASE_INSENSITIVE)]:
            value = f"{form}({_quoted(name)})" if form else _quoted(name)
            words = text(
                " ".join([explain, "SELECT", _quoted(accounts.id), "FROM", place, "WHERE", value, "= 'x'"])
            )
            if scan in str(db.session.execute(words).all()):
                index = "_".join(filter(None, ("sparekey", form, name)))
                statement = f"CREATE INDEX {index} ON {table} ({value});"
                yield _found("accounts-index", value=value, statement=statement)
