"""Nothing promised is lost in a storm of SIGKILLs. `make storm` takes the long ones."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.storm import Books, Storm, brewing
from sqlalchemy import create_engine, text
from support.site import BOTH, load_settings

from app import create_app

REQUESTS = int(os.environ.get("STORM_REQUESTS", "80"))
KILLS = int(os.environ.get("STORM_KILLS", "6"))
SEED = int(os.environ.get("STORM_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


def with_accounts(uri: str, count: int) -> set[str]:
    """More accounts, with alice's password."""
    names = {f"u{number}@example.com" for number in range(count)}
    engine = create_engine(uri)
    with engine.begin() as connection:
        for name in sorted(names):
            connection.execute(
                text(
                    'INSERT INTO "user" (email, password, active, fs_uniquifier)'
                    " SELECT :name, password, active, :name FROM \"user\" WHERE username = 'alice'"
                ),
                {"name": name},
            )
    engine.dispose()
    return names


@BOTH
def test_a_storm(
    database: Callable[[], str], request: pytest.FixtureRequest, tmp_path: Path, capsys: Any
) -> None:
    uri = database()
    is_sqlite = uri.startswith("sqlite")
    live = with_accounts(uri, REQUESTS * 8 // 10)
    asks = sorted(live) + sorted(live)[: REQUESTS // 10]
    asks += [f"nobody{number}@example.com" for number in range(REQUESTS - len(asks))]
    random.Random(SEED).shuffle(asks)
    restart = None
    if not is_sqlite:
        server = request.getfixturevalue("postgresql")

        def restart() -> None:
            server.stop()
            server.start()

    with brewing(
        Storm(uri, tmp_path, SEED, workers=2 if is_sqlite else 3, restart_database=restart)
    ) as storm:
        storm.rage(asks, KILLS)
        storm.calm_down()
        codes = storm.end()
    app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=uri))
    books = Books(storm, live, app)
    with capsys.disabled():
        print(f"\nstorm on {'SQLite' if is_sqlite else 'PostgreSQL'}, seed {SEED}\n{books.table()}")
    assert {name: found for name, found in books.wrong.items() if found} == {}, f"STORM_SEED={SEED}"
    assert set(codes.values()) == {0}
    assert len(storm.kills) >= KILLS
    assert len(storm.requests) == REQUESTS
