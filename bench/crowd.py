"""Fills a database with a crowd, fast: so many users, and what a month leaves behind of so many.

For U users: U/10 settled mails with a link each, U/5 events and U/10 refresh tokens, spread over the last
30 days. Names lie in no order, so that look-ups and inserts meet all of an index and not its end. The schema
is what the project's migrations make; indexes that can be taken away are, and come back at the end.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing, redirect_stdout

import flask_migrate
import psycopg
from conftest import load_settings
from flask import Flask
from flask_security.utils import hash_password
from passlib.context import CryptContext

from app import create_app
from app.accounts import hashing
from app.db.engine import db

PASSWORD = "the one password of all"  # noqa: S105  # of nobody
# The cheapest argon2 there is, since it is the database that is measured. The real one is measured beside it.
CHEAP = {"argon2__memory_cost": 8, "argon2__rounds": 1, "argon2__parallelism": 1}
FILL_CACHE_KIB = 4_000_000
DAYS = 30
NAME_STEP = 2_654_435_761  # odd: each number has its own name below 2^32
NUMBER_STEP, NUMBERS = 7_368_787, 8 * 8_000_000  # without a common factor; area codes 212 to 219
USERS_MAX = 50_000_000
TABLES = ("user", "outbox_message", "reset_link", "recovery_event", "fs_refresh")

Columns = dict[str, str]  # a column, and the expression that makes it of n


def name_of(number: int) -> str:
    return f"u{number * NAME_STEP % 2**32:08x}"


def address_of(number: int) -> str:
    return f"{name_of(number)}@example.com"


def phone_of(number: int) -> str:
    place = number * NUMBER_STEP % NUMBERS
    return f"+1{2_122_000_000 + place // 8_000_000 * 10_000_000 + place % 8_000_000}"


class Dialect:
    """SQL for the same things in SQLite's words and in PostgreSQL's."""

    def __init__(self, uri: str) -> None:
        self.is_sqlite = uri.startswith("sqlite")
        lite = self.is_sqlite
        self.hex32 = "lower(hex(randomblob(16)))" if lite else "replace(gen_random_uuid()::text, '-', '')"
        self.hex64 = f"{self.hex32} || {self.hex32}"
        self.bytes32 = "randomblob(32)" if lite else f"decode({self.hex64}, 'hex')"
        self.yes = "1" if lite else "true"
        place = f"(n * {NAME_STEP}) & 4294967295"
        self.name = f"printf('u%08x', {place})" if lite else f"'u' || lpad(to_hex({place}), 8, '0')"
        place = f"(n * {NUMBER_STEP} % {NUMBERS})"
        self.phone = f"'+1' || (2122000000 + {place} / 8000000 * 10000000 + {place} % 8000000)"

    def ago(self, days: str, plus_seconds: float = 0) -> str:
        if self.is_sqlite:
            moment = f"julianday('now') - ({days}) + {plus_seconds / 86_400}"
            return f"(strftime('%Y-%m-%d %H:%M:%f', {moment}) || '000')"
        return f"(timezone('utc', now()) - ({days}) * interval '1 day' + interval '{plus_seconds} seconds')"

    def insert(self, table: str, count: int, columns: Columns) -> str:
        """As many rows, for n = 1, 2, …"""
        numbers = f"SELECT generate_series(1::bigint, {count})"
        if self.is_sqlite:
            numbers = f"SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}"
        return (
            f'INSERT INTO "{table}" ({", ".join(columns)}) WITH RECURSIVE numbers(n) AS ({numbers})'
            f" SELECT {', '.join(columns.values())} FROM numbers"
        )


def rows(is_in: Dialect, users: int, hashed: str) -> Iterator[tuple[str, int, Columns]]:
    """Tables in the order in which they can be filled."""
    yield "user", users, of_users(is_in, hashed)
    tenth = users // 10
    yield "outbox_message", tenth, of_mails(is_in, users, f"{DAYS}.0 * ({tenth} - n) / {tenth}")
    yield "reset_link", tenth, of_links(is_in, users, f"{DAYS}.0 * ({tenth} - n) / {tenth}")
    yield "recovery_event", tenth * 2, of_events(is_in, users, f"{DAYS}.0 * ({tenth * 2} - n) / {tenth * 2}")
    yield (
        "fs_refresh",
        tenth,
        {
            "id": "n",
            "refresh_family": is_in.hex32,
            "expires_at": is_in.ago(f"-{DAYS}.0 * n / {tenth}"),
            "last_used_at": is_in.ago("0"),
            "name": "'refresh'",
            "user_id": somebody(users),
        },
    )


def somebody(users: int) -> str:
    return f"n * 7919 % {users} + 1"


def of_users(is_in: Dialect, hashed: str) -> Columns:
    return {
        "id": "n",
        "email": f"{is_in.name} || '@example.com'",
        "username": is_in.name,
        "us_phone_number": is_in.phone,
        "password": f"'{hashed}'",
        "active": is_in.yes,
        "fs_uniquifier": is_in.hex32,
        "confirmed_at": is_in.ago("365"),
    }


def of_mails(is_in: Dialect, users: int, days: str, number: str = "n") -> Columns:
    """One in a hundred was given up, and is kept for an admin."""
    return {
        "id": number,
        "kind": "'reset_instructions'",
        "nonce": is_in.bytes32,
        "message_id": f"'<' || {is_in.hex32} || '@localhost>'",
        "user_id": somebody(users),
        "state": "CASE WHEN n % 100 = 1 THEN 'given_up' WHEN n % 100 < 7 THEN 'dropped' ELSE 'sent' END",
        "attempts": "1",
        "created_at": is_in.ago(days),
        "due_at": is_in.ago(days, 30),
        "settled_at": is_in.ago(days, 2),
    }


def of_links(is_in: Dialect, users: int, days: str, number: str = "n") -> Columns:
    """Those of the last hour are open; of the others most were redeemed, and some forgotten."""
    is_old = f"{days} > {1 / 24}"
    return {
        "id": number,
        "user_id": somebody(users),
        "message_id": number,
        "token_hash": is_in.hex64,
        "email": f"{is_in.name} || '@example.com'",
        "password_state": is_in.hex64,
        "client": "'browser'",
        "issued_at": is_in.ago(days, 1),
        "expires_at": is_in.ago(days, 3601),
        "opened_at": f"CASE WHEN {is_old} AND n % 10 < 7 THEN {is_in.ago(days, 60)} END",
        "redeemed_at": f"CASE WHEN {is_old} AND n % 10 < 6 THEN {is_in.ago(days, 90)} END",
        "superseded_at": f"CASE WHEN {is_old} AND n % 10 = 7 THEN {is_in.ago(days, 600)} END",
    }


def of_events(is_in: Dialect, users: int, days: str, number: str = "n") -> Columns:
    kinds = ("requested", "mail_sent", "opened", "redeemed")
    return {
        "id": number,
        "at": is_in.ago(days),
        "kind": f"CASE n % 4 {' '.join(f'WHEN {n} THEN {kind!r}' for n, kind in enumerate(kinds))} END",
        "reason": "CASE WHEN n % 4 < 2 THEN 'reset_instructions' END",
        "user_id": f"CASE WHEN n % 4 > 0 THEN {somebody(users)} END",
        "source": "'198.51.100.7'",
        "client": "'browser'",
        "request_id": is_in.hex32,
        "seconds": "CASE n % 4 WHEN 1 THEN 2.0 END",
    }


def of_waiting(is_in: Dialect, count: int, sealed: str, is_due: bool) -> Columns:
    """Nobody has tried those of the last ten minutes yet; or all were tried, and wait for up to an hour."""
    days = f"{10 / 1440} * ({count} - n) / {count}"
    return {
        "kind": "'reset_instructions'",
        "sealed": f"'{sealed}'",
        "nonce": is_in.bytes32,
        "message_id": f"'<' || {is_in.hex32} || '@localhost>'",
        "state": "'waiting'",
        "attempts": "0" if is_due else "10",
        "same": is_in.hex64 if is_due else "NULL",
        "created_at": is_in.ago(days),
        "due_at": is_in.ago(days) if is_due else is_in.ago("-(n % 3000 + 600) / 86400.0"),
    }


def run(uri: str, *statements: str) -> None:
    """Without looking at foreign keys: it is not they that are measured here."""
    if uri.startswith("sqlite"):
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
            for statement in statements:
                database.execute(statement)
            database.commit()
        return
    with psycopg.connect(uri, autocommit=True) as server:
        server.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        server.execute("SET maintenance_work_mem = '1GB'; SET work_mem = '256MB'")
        for statement in statements:
            server.execute(statement.encode())


def make_cheap(app: Flask) -> None:
    """Settings refuse such hashes, so they come in by the back door."""
    app.extensions["security"].pwd_context = hashing.Gate(CryptContext(["argon2"], **CHEAP), 1)


def fill(uri: str, users: int) -> None:
    app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=uri))
    make_cheap(app)
    with app.app_context(), redirect_stdout(io.StringIO()):  # the migrations talk
        flask_migrate.upgrade()
        hashed = hash_password(PASSWORD)
        db.engine.dispose()
        is_in = Dialect(uri)
        whole = {
            table: is_in.insert(table, count, columns) for table, count, columns in rows(is_in, users, hashed)
        }
        (fill_sqlite if is_in.is_sqlite else fill_postgresql)(uri, whole)
        db.session.remove()
        db.engine.dispose()


def fill_sqlite(uri: str, whole: dict[str, str]) -> None:
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None)) as database:
        for pragma in ("journal_mode = DELETE", "journal_mode = OFF", "synchronous = OFF"):
            database.execute(f"PRAGMA {pragma}").fetchall()
        database.execute(f"PRAGMA cache_size = -{FILL_CACHE_KIB}")
        for table, insert in whole.items():
            again = (
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOTNULL AND tbl_name = ?"
            )
            indexes = database.execute(again, (table,)).fetchall()
            for name, _ in indexes:
                database.execute(f"DROP INDEX {name}")
            database.execute("BEGIN")
            database.execute(insert)
            database.execute("COMMIT")
            for _, made in indexes:
                database.execute(made)
        database.execute("ANALYZE")
        database.execute("PRAGMA journal_mode = WAL").fetchall()


# What is made again is what can be dropped: primary keys and foreign keys stay.
DROPPED = """
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
        format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE contype = 'u' AND conrelid = %(table)s::regclass
    UNION ALL SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
    FROM pg_index WHERE indrelid = %(table)s::regclass
        AND indexrelid NOT IN (SELECT conindid FROM pg_constraint WHERE conindid > 0)"""


def fill_postgresql(uri: str, whole: dict[str, str]) -> None:
    for table, insert in whole.items():
        with psycopg.connect(uri, autocommit=True) as server:
            dropped = DROPPED.replace("%(table)s", f"'\"{table}\"'")
            indexes = server.execute(dropped.encode()).fetchall()
        key = f"""SELECT setval(pg_get_serial_sequence('"{table}"', 'id'), max(id)) FROM "{table}\""""
        run(uri, *(drop for drop, _ in indexes), insert, *(made for _, made in indexes), key)
    run(uri, "VACUUM (ANALYZE)", "CHECKPOINT")


def add_waiting(uri: str, count: int, sealed: str, is_due: bool) -> None:
    is_in = Dialect(uri)
    done = ("ANALYZE",) if is_in.is_sqlite else ("VACUUM (ANALYZE)", "CHECKPOINT")
    run(uri, is_in.insert("outbox_message", count, of_waiting(is_in, count, sealed, is_due)), *done)


def add_links(uri: str, users: int, count: int) -> None:
    """Of the last 57 minutes."""
    is_in = Dialect(uri)
    columns = of_links(is_in, users, f"0.04 * n / {count}")
    del columns["id"], columns["message_id"]
    run(uri, is_in.insert("reset_link", count, columns), "ANALYZE")


def add_old(uri: str, users: int, links: int, events: int) -> None:
    """What a purge takes away: links with their mails, and events. Their numbers are below all
    others, as in life."""
    is_in = Dialect(uri)
    mails = is_in.insert("outbox_message", links, {**of_mails(is_in, users, "40.0", "-n"), "state": "'sent'"})
    made = is_in.insert("reset_link", links, of_links(is_in, users, "40.0", "-n"))
    run(uri, mails, made, is_in.insert("recovery_event", events, of_events(is_in, users, "200.0", "-n")))


def size_of(uri: str) -> int:
    """Bytes."""
    if uri.startswith("sqlite"):
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
            [[pages], [size]] = (
                database.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
            )
            return int(pages * size)
    with psycopg.connect(uri) as server:
        [size] = server.execute("SELECT pg_database_size(current_database())").fetchone() or [0]
        return int(size)
