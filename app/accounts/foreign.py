"""Accounts that another application has in a table of its own (RECOVERY_ACCOUNTS).

Sparekey's table has a stub for each account that was looked up: a row with the account's id as text, to which
links, messages and events refer. Loading a stub reads the account's values from the application's table. A
new password is written there, in one conditional UPDATE, whatever part of Sparekey sets it.
"""

from functools import cache
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, TableClause, event, func, inspect, literal, select, sql, update
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.types import NullType

from ..db.engine import ATTACHED, AccountsAway, attach, db, inserts, limit_lock_wait, reason_of
from ..settings import current
from ..settings.identities import CASE_INSENSITIVE
from .identity_mappers import ASCII_LOWER, normalize_identity
from .imported_hashes import STOCK, mark, unmark
from .models import User

COMPARED_MAX = 20  # accounts whose identities the database finds equal
LOCK_SECONDS = 5
GUARDS = ("email", "password", "active")  # what a write of the password finds as it was read


def find_all(typed: str) -> list[User]:
    """Return the accounts with this address, or else with this identity of any other kind.

    Of one kind, it is those that are spelled so, or else all that differ in case.
    """
    columns = {kind: accounts_table().c[name] for kind, name in current().RECOVERY_ACCOUNTS.kinds.items()}
    rows = _matches("email", columns.pop("email"), typed)
    # Of all, or a stranger could take another's phone number as a username, and the mail with it.
    rows = rows or [row for kind, stored in columns.items() for row in _matches(kind, stored, typed)]
    return list(dict.fromkeys(map(_stub_of, rows)))


def _matches(kind: str, stored: ColumnElement[Any], typed: str) -> list[dict[str, Any]]:
    """Return the rows with an identity. Compared again, because databases fold case by rules of their own."""
    normal = normalize_identity(kind, typed) or ("" if kind == "email" else typed)
    if not normal:
        return []
    ignores_case = kind in CASE_INSENSITIVE
    spellings = [typed] if ignores_case else [typed, normal]
    rows = read(stored.in_([_untyped(spelling) for spelling in spellings]))
    spelled = [row for row in rows if _text(row[kind]) in spellings]
    if spelled or not ignores_case:
        return spelled
    rows = read(func.lower(stored) == func.lower(normal))
    folded = normal.translate(ASCII_LOWER)
    return [row for row in rows if _text(row[kind]).translate(ASCII_LOWER) == folded]


def _stub_of(row: dict[str, Any]) -> User:
    """Return the stub of an account, and make it if there is none."""
    this = select(User).where(User.external_id == _text(row["id"]))
    if (user := db.session.scalar(this)) is None:
        unique = uuid4().hex  # also in place of an address
        stub = {"external_id": _text(row["id"]), "email": unique, "active": True, "fs_uniquifier": unique}
        db.session.execute(inserts[db.engine.dialect.name](User).values(stub).on_conflict_do_nothing())
        db.session.commit()  # on SQLite, the lock would last until a mail is written
        user = db.session.scalars(this).one()
    return user


@event.listens_for(User, "load", restore_load_context=True)
@event.listens_for(User, "refresh", restore_load_context=True)
def _overlay(user: User, _context: Any, names: Any = None) -> None:
    """Give a stub its account's values. An account that was deleted is inactive and has none."""
    if not (user.external_id and current().RECOVERY_ACCOUNTS) or "password" not in (names or ("password",)):
        return
    accounts = current().RECOVERY_ACCOUNTS
    user.external = row = next(iter(read(has_id(user.external_id), 1)), {})
    user.misfit = ""
    try:
        met = {name: flag.is_met(row[name]) for name, flag in accounts.flags.items() if row}
    except ValueError as error:
        met, user.misfit = {}, f"RECOVERY_ACCOUNTS: {error}"
    is_active = all(is_met for name, is_met in met.items() if name != "confirmed")
    values: dict[str, Any] = {kind: _text(row.get(kind)) or None for kind in accounts.kinds}
    values["email"], values["active"] = _text(row.get("email")), bool(row) and is_active
    hashed = usable_hash(row.get("password"))
    values["password"] = mark(hashed, is_stock=accounts.hash == STOCK) if hashed else None
    for name, value in values.items():
        set_committed_value(user, name, value)
    user.has_unconfirmed_address = not met.get("confirmed", True)


def lock(user_id: int) -> None:
    """Lock an account's row in the application's table (PostgreSQL), and read it again."""
    user = db.session.get_one(User, user_id)
    limit_lock_wait(LOCK_SECONDS)
    execute(select(literal(1)).where(has_id(user.external_id)).with_for_update())
    db.session.refresh(user)


def write_password(user: User, password_hash: str) -> bool:
    """Write a stub's password to the application's table. False if the account is not as it was read."""
    accounts, table, row = current().RECOVERY_ACCOUNTS, accounts_table(), user.external
    values = {table.c[name]: _untyped(uuid4().hex) for name in accounts.uniquifier}
    values[table.c[accounts.password]] = _untyped(unmark(password_hash))
    limit_lock_wait(LOCK_SECONDS)
    if accounts.changed_at:
        values[table.c[accounts.changed_at]] = func.current_timestamp()
        if not accounts.file:  # columns without a time zone hold UTC in most frameworks
            db.session.execute(select(func.set_config("TimeZone", "UTC", True)))
    columns = accounts.columns_read.items()
    guards = {name: row.get(meaning) for meaning, name in columns if meaning.partition(" ")[0] in GUARDS}
    same = (table.c[name].is_not_distinct_from(_untyped(value)) for name, value in guards.items())
    if execute(update(table).where(has_id(user.external_id), *same).values(values)).rowcount != 1:
        return False
    set_committed_value(user, "password", password_hash)
    user.external, user.has_new_password = {**row, "password": unmark(password_hash)}, True
    return True


@event.listens_for(db.session, "before_flush")
def _write_changed_passwords(session: Session, *_: Any) -> None:
    """Write a stub's new password to the application's table instead of its own row."""
    for user in session.dirty:
        is_new = isinstance(user, User) and inspect(user).attrs.password.history.has_changes()
        if is_new and user.external_id and not write_password(user, str(user.password)):
            raise StaleDataError("the account has changed in the application's table")


def usable_hash(stored: Any) -> str:
    """Return a password's hash, or an empty text if the account has none."""
    hashed = _text(stored)
    return "" if hashed in ("*", "x") or hashed.startswith("!") else hashed


def probe() -> None:
    """Raise AccountsAway if an application has the accounts, and they cannot be used. Rolls back."""
    if not (accounts := current().RECOVERY_ACCOUNTS):
        return
    limit_lock_wait()
    read(sql.false(), 1)
    if not accounts.file:  # SQLite has no rights, and a write would lock the application's file
        nothing = {accounts_table().c[name]: sql.null() for name in accounts.columns_written}
        execute(update(accounts_table()).where(sql.false()).values(nothing))
    db.session.rollback()


def read(condition: ColumnElement[bool], limit: int = COMPARED_MAX) -> list[dict[str, Any]]:
    """Return rows of the application's table, by the meaning of their columns. Raises AccountsAway."""
    columns, table = current().RECOVERY_ACCOUNTS.columns_read.items(), accounts_table()
    query = select(*(table.c[name].label(meaning) for meaning, name in columns)).where(condition)
    try:
        return [dict(row) for row in execute(query.limit(limit)).mappings()]
    except AccountsAway as error:
        if isinstance(error.__cause__, DataError):  # no value of the column's type
            return []
        raise


def execute(statement: Any) -> Any:
    """Execute a statement on the application's table, in the session's transaction. Raises AccountsAway."""
    try:
        attach(current().RECOVERY_ACCOUNTS.file)
        return db.session.execute(statement)
    except DBAPIError as error:
        # With the connection, in which PostgreSQL may have prepared statements for columns that have changed.
        db.session().invalidate()
        raise AccountsAway(reason_of(error)) from error


def accounts_table() -> TableClause:
    """Return the application's table with the columns in use. No search path chooses its schema."""
    accounts = current().RECOVERY_ACCOUNTS
    schema, _, name = accounts.table.rpartition(".")
    names = dict.fromkeys([*accounts.columns_read.values(), *accounts.columns_written])
    return _table(name, ATTACHED if accounts.file else schema or "public", *names)


@cache  # so that all parts of a statement have the same object
def _table(name: str, schema: str, *names: str) -> TableClause:
    return sql.table(name, *map(sql.column, names), schema=schema)


def has_id(account_id: Any) -> ColumnElement[bool]:
    """Select the application's row with this id."""
    return accounts_table().c[current().RECOVERY_ACCOUNTS.id] == _untyped(account_id)


def _untyped(value: Any) -> ColumnElement[Any]:
    """Return a parameter whose type the database takes from the column, such as an id's: uuid or integer."""
    return literal(value, NullType())


def _text(value: Any) -> str:
    """Return a value as text, without the blanks of CHAR(n)."""
    return "" if value is None else str(value).rstrip(" ")
