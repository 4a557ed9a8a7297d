"""The database: no look-up scans a table, and the migration makes what the models say."""

from __future__ import annotations

from typing import Any

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from conftest import NEW_PASSWORD, Site, load_settings
from sqlalchemy import event, inspect, text

from app import create_app
from app.db import db


def test_no_statement_of_the_journey_scans_a_table(site: Site) -> None:
    seen: dict[str, Any] = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            seen.setdefault(statement, parameters)

    with site.app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    for identity in ("alice@example.com", "alice", "+14155550123", "nobody"):
        site.ask(identity)
        site.work()
    visitor = site.visitor()
    visitor.set_password(site.last_link())
    site.work()
    visitor.sign_in("alice", NEW_PASSWORD)
    visitor.open("/")
    event.remove(engine, "before_cursor_execute", note)
    assert len(seen) > 12
    with engine.connect() as connection:
        for statement, parameters in seen.items():
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            scans = [
                row.detail for row in plan if row.detail.startswith("SCAN") and "CONSTANT" not in row.detail
            ]
            assert not scans, (statement, scans)


def test_the_roles_of_an_account_are_found_by_key(site: Site) -> None:
    with site.app.app_context():
        of_one = "SELECT * FROM role JOIN roles_users ON role.id = role_id WHERE user_id = 1"
        plan = db.session.execute(text(f"EXPLAIN QUERY PLAN {of_one}")).all()
    assert all(row.detail.startswith("SEARCH") for row in plan)


@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_migration_goes_up_to_the_models_and_down_to_nothing(tmp_path: Any) -> None:
    app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/m.db"))
    with app.app_context():
        flask_migrate.upgrade()
        with db.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, db.metadata) == []
            names = set(connection.scalars(text("SELECT name FROM sqlite_master WHERE sql LIKE '%lower(%'")))
        assert names == {"uq_user_email_lower", "uq_user_username_lower"}
        flask_migrate.downgrade(revision="base")
        assert inspect(db.engine).get_table_names() == ["alembic_version"]
        db.engine.dispose()


def test_sqlite_is_set_up_to_lose_nothing(site: Site) -> None:
    with site.app.app_context():
        wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        assert {name: db.session.scalar(text(f"PRAGMA {name}")) for name in wanted} == wanted


def test_an_error_of_the_database_does_not_show_parameters(site: Site) -> None:
    with site.app.app_context(), pytest.raises(Exception, match="hidden due to hide_parameters"):
        db.session.execute(text("SELECT :secret FROM nowhere"), {"secret": "alice@example.com"})
