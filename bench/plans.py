"""Which statements read a whole table: asked of the planner that has the large tables' real statistics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from costs import BULK, Cost, Place, in_turn
from sqlalchemy import event

from app.db.engine import db

# Those that grow: of others there is a row for each worker, or for each kind of event.
LARGE = {"user", "outbox_message", "reset_link", "recovery_event", "fs_refresh", "webauthn"}
_SCAN = re.compile(r"(?:^SCAN|Seq Scan on) (\w+)")


def whole_tables(place: Place, costs: Sequence[Cost]) -> list[dict[str, Any]]:
    """Each statement that reads one, with what it was for and its plan."""
    seen: dict[str, tuple[str, Any]] = {}
    current = ""

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            seen.setdefault(statement, (current, parameters))

    with place.app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    for cost in costs:
        current = cost.name
        for _ in in_turn(cost, [place], 1, place.rng):
            pass
    for current, goes in BULK.items():  # noqa: B007  # `note` reads it
        goes(place)
    event.remove(engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
    found = []
    with engine.connect() as connection:
        for statement, (name, parameters) in seen.items():
            one = parameters[0] if isinstance(parameters, list) else parameters  # of many rows
            asked = connection.exec_driver_sql(f"{explain} {statement}", one)
            plan = [str(row[-1]) for row in asked] if asked.returns_rows else []
            if tables := scanned(plan):
                found.append({"for": name, "tables": tables, "statement": statement, "plan": plan})
    return found


def scanned(plan: list[str]) -> list[str]:
    tables = {hit[1] for line in plan if (hit := _SCAN.search(line.strip()))}
    return sorted(
        tables & {"user", "outbox_message", "reset_link", "recovery_event", "fs_refresh", "webauthn"}
    )
