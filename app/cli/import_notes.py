"""What `manage.py users import` must remember of a file. On disk, so memory stays as it is."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from ..accounts import imported_hashes

SHOWN_MAX = 100  # bad rows; the others are counted


class Notes:
    """What was found in the file: whose identities are where, what is wrong, and what is good. On disk."""

    def __init__(self, folder: Path) -> None:
        self.problems: list[str] = []
        self.bad = 0
        self.to_reset = 0  # of the good ones
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
        password = account["password"]
        self.to_reset += password is not None and not password.startswith(imported_hashes.MARK)
        self.database.execute("INSERT INTO good VALUES (?)", (json.dumps(account),))

    def accounts(self) -> Iterator[dict[str, Any]]:
        """What was kept, with what each row of the table needs besides."""
        for (text,) in self.database.execute("SELECT account FROM good ORDER BY rowid"):
            account = json.loads(text)
            moment = account["confirmed_at"]
            account["confirmed_at"] = datetime.fromisoformat(moment) if moment else None
            yield {**account, "fs_uniquifier": uuid.uuid4().hex}

    def other_line(self, line: int, kind: str, form: str) -> int | None:
        """Where this identity stood before; notes it when it did not."""
        new = self.database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (kind, form, line))
        if new.rowcount:
            return None
        found = "SELECT line FROM seen WHERE kind = ? AND form = ?"
        return int(self.database.execute(found, (kind, form)).fetchone()[0])

    def close(self) -> None:
        self.database.close()
