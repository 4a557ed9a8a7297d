"""No promised mail or change is lost in a storm of SIGKILLs. `make storm` runs the long form."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.storm import Balance, Storm, brewing
from sqlalchemy import create_engine, text
from support.site import BOTH, load_settings

from app import create_app

REQUESTS = int(os.environ.get("STORM_REQUESTS", "60"))
KILLS = int(os.environ.get("STORM_KILLS", "6"))
SEED = int(os.environ.get("STORM_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
IS_LONG = KILLS > 6


def add_accounts(uri: str, count: int) -> set[str]:
    """Add accounts with alice's password, and return their addresses."""
    statement = """
        WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :count)
        INSERT INTO "user" (email, password, active, fs_uniquifier)
        SELECT 'u' || n || '@example.com', password, active, 'u' || n FROM "user", numbers WHERE username = 'alice'"""
    engine = create_engine(uri)
    with engine.begin() as connection:
        connection.execute(text(statement), {"count": count})
    engine.dispose()
    return {f"u{number}@example.com" for number in range(count)}


@BOTH
def test_storm_loses_and_duplicates_nothing_without_a_kill(
    database: Callable[[], str], request: pytest.FixtureRequest, tmp_path: Path, capsys: Any
) -> None:
    uri = database()
    is_sqlite = uri.startswith("sqlite")
    live = add_accounts(uri, REQUESTS * 8 // 10)
    identities = sorted(live) + sorted(live)[: REQUESTS // 10]
    identities += [f"nobody{number}@example.com" for number in range(REQUESTS - len(identities))]
    random.Random(SEED).shuffle(identities)
    restart = None if is_sqlite else request.getfixturevalue("postgresql").crash
    workers = 2 if is_sqlite else 3
    with brewing(Storm(uri, tmp_path, SEED, workers=workers, restart_database=restart)) as storm:
        storm.rage(identities, KILLS)
        storm.settle(IS_LONG)
        storm.follow_links()
        codes = storm.end()
    balance = Balance(storm, live, create_app(load_settings(SQLALCHEMY_DATABASE_URI=uri)))
    with capsys.disabled():
        print(f"\nstorm on {'SQLite' if is_sqlite else 'PostgreSQL'}, seed {SEED}\n{balance.table()}")
    assert {name: cases for name, cases in balance.errors.items() if cases} == {}, f"STORM_SEED={SEED}"
    assert set(codes.values()) == {0}
    assert len(storm.kills) >= KILLS
    assert len(storm.requests) == REQUESTS
