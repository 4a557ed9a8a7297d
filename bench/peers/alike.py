"""What all peers have alike, so that only what they do differs: cost of a hash, SQLite, patience, accounts.

Each app is a module here with `create_app()` for gunicorn and `fill(count)`, which makes the tables and the
accounts. Settings come from FLASK_<NAME>, as Sparekey's do, so that all have the same relay and secrets.
"""

import sqlite3
from pathlib import Path
from typing import Any

ARGON2 = {"memory_cost": 19456, "time_cost": 2, "parallelism": 1}  # Sparekey's, and OWASP's
MAIL_SECONDS = 3.0  # mail libraries wait for ever for a relay that says nothing, and a bench must end
LINK_SECONDS = 3600
PASSWORD = "what they all had before"  # of nobody
KNOWN, UNKNOWN = "known{:07}@example.com", "other{:07}@example.com"  # of one length
SENDER = "no-reply@example.com"

TEMPLATES = Path(__file__).with_name("templates")  # mail.txt and mail.html hold the link


def known(count: int) -> list[str]:
    return [KNOWN.format(number) for number in range(count)]


def unknown(count: int) -> list[str]:
    return [UNKNOWN.format(number) for number in range(count)]


def set_up_sqlite(connection: Any, _record: Any = None) -> None:
    """As Sparekey's app/db/engine.py does. Their own default, a rollback journal, syncs more often."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
