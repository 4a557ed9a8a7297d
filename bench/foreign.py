"""Accounts in the table of another application, for both oracles: `--foreign`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import stage
from databases import Databases
from peer import SPAREKEY_JSON
from sqlalchemy import create_engine, text

from app.settings.urls import normalize_database_uri

OTHERS = 500_000
SETTING = "FLASK_RECOVERY_ACCOUNTS"
ACCOUNTS = {
    "table": "users",
    "active": "is_active",
    "confirmed": "verified_at",
    "hash": "bcrypt",
    "sign_in_url": "http://127.0.0.1:1/login",
}
HASH, CONFIRMED = "$2b$10$" + "." * 53, "2025-01-01 00:00:00"
# Addresses of one length, spread over all that the oracles measure.
STATEMENTS = f"""
CREATE TABLE users (id integer PRIMARY KEY, email varchar(254), password varchar(255), is_active boolean,
    verified_at timestamp);
INSERT INTO users (id, email, password, is_active, verified_at)
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {OTHERS})
    SELECT n, 'person' || (100000000000 + n * CAST(1799999 AS bigint)) || '@example.net', '{HASH}', true,
        '{CONFIRMED}' FROM numbers;
CREATE INDEX users_email ON users (email);
CREATE INDEX users_lower_email ON users (lower(email))"""

Account = tuple[str, bool, bool, bool]  # address, has a password, is active, is confirmed


def fill(engine: Databases, accounts: Iterable[Account]) -> tuple[str, dict[str, str]]:
    """Return a database for Sparekey with these accounts among 500,000 others, and the setting for them."""
    database = engine.create()
    is_file = database.startswith("sqlite")
    theirs = f"{database}-shop" if is_file else database
    setting = ACCOUNTS | ({"file": theirs.removeprefix("sqlite:///")} if is_file else {})
    rows = [
        {"n": n, "email": email, "password": HASH if has_password else None, "active": is_active}
        | {"confirmed": CONFIRMED if is_confirmed else None}
        for n, (email, has_password, is_active, is_confirmed) in enumerate(accounts, OTHERS + 1)
    ]
    sql = create_engine(normalize_database_uri(theirs))
    with sql.begin() as connection:
        for statement in STATEMENTS.split(";"):
            connection.execute(text(statement))
        connection.execute(
            text("INSERT INTO users VALUES (:n, :email, :password, :active, :confirmed)"), rows
        )
        connection.execute(text("ANALYZE"))
    sql.dispose()
    environ = {SETTING: json.dumps(setting)}
    settings = stage.environ_of(SPAREKEY_JSON, database) | environ
    stage.run(sys.executable, "manage.py", "db", "upgrade", cwd=stage.ROOT, env=settings)
    return database, environ
