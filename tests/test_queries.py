"""The database: no look-up scans a table, and the migration makes what the models say."""

from __future__ import annotations

from typing import Any

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from conftest import BOTH, NEW_PASSWORD, Site, load_settings
from sqlalchemy import Engine, event, inspect, text

from app import create_app
from app.db import db


@BOTH
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
        sqlite = engine.dialect.name == "sqlite"
        if not sqlite:  # small tables are scanned there whatever the indexes: ask what could not be avoided
            connection.exec_driver_sql("SET enable_seqscan = off")
        for statement, parameters in seen.items():
            explain = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
            plan = [
                str(row[-1]).strip()
                for row in connection.exec_driver_sql(f"{explain} {statement}", parameters)
            ]
            scans = [line for line in plan if "Seq Scan" in line or line.startswith("SCAN")]
            assert not [line for line in scans if "CONSTANT" not in line and "one_row" not in line], (
                statement,
                plan,
            )


def test_the_roles_of_an_account_are_found_by_key(site: Site) -> None:
    with site.app.app_context():
        of_one = "SELECT * FROM role JOIN roles_users ON role.id = role_id WHERE user_id = 1"
        plan = db.session.execute(text(f"EXPLAIN QUERY PLAN {of_one}")).all()
    assert all(row.detail.startswith("SEARCH") for row in plan)


@pytest.fixture
def empty(tmp_path: Any, request: pytest.FixtureRequest) -> dict[str, str]:
    """An empty database of each engine."""
    server = request.getfixturevalue("postgresql")
    return {"sqlite": f"sqlite:///{tmp_path}/empty.db", "postgresql": server.create()}


def schema_of(engine: Engine) -> dict[str, Any]:
    """Tables, columns, keys and indexes, in words that both engines share."""
    found: dict[str, Any] = {}
    seen = inspect(engine)
    for table in seen.get_table_names():
        if table == "alembic_version":
            continue
        key = seen.get_pk_constraint(table)
        found[table] = {
            "columns": {
                column["name"]: (kind_of(column["type"]), column["nullable"])
                for column in seen.get_columns(table)
            },
            "key": (key["name"], key["constrained_columns"]),
            "unique": sorted(
                (unique["name"], unique["column_names"]) for unique in seen.get_unique_constraints(table)
            ),
            "foreign": sorted(
                (
                    key["name"],
                    key["constrained_columns"],
                    key["referred_table"],
                    key["options"].get("ondelete"),
                )
                for key in seen.get_foreign_keys(table)
            ),
        }
    return found


def kind_of(column: Any) -> str:
    text = str(column).upper().replace("TIMESTAMP", "DATETIME").replace("BYTEA", "BLOB")
    text = text.replace("DOUBLE PRECISION", "DOUBLE")
    return text.split("(")[0] if text.startswith("BLOB") else text


def index_names(engine: Engine) -> set[str]:
    sqlite = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    postgresql = """SELECT indexname FROM pg_indexes WHERE schemaname = 'public'
        AND indexname NOT IN (SELECT conname FROM pg_constraint) AND tablename <> 'alembic_version'"""
    with engine.connect() as connection:
        return set(connection.scalars(text(sqlite if engine.dialect.name == "sqlite" else postgresql)))


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:Did not recognize type")
@pytest.mark.requirement("R39")
def test_the_migrations_make_the_same_of_both_engines_and_go_back_to_nothing(empty: dict[str, str]) -> None:
    schemas, indexes = {}, {}
    for name, uri in empty.items():
        app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=uri))
        with app.app_context():
            flask_migrate.upgrade()
            schemas[name], indexes[name] = schema_of(db.engine), index_names(db.engine)
            flask_migrate.downgrade(revision="base")
            assert inspect(db.engine).get_table_names() == ["alembic_version"]
            db.engine.dispose()
    assert schemas["sqlite"] == schemas["postgresql"]
    assert indexes["sqlite"] == indexes["postgresql"]
    assert {"uq_user_email_lower", "uq_user_username_lower"} <= indexes["sqlite"]


@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_migration_makes_what_the_models_say(tmp_path: Any) -> None:
    app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/m.db"))
    with app.app_context():
        flask_migrate.upgrade()
        with db.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, db.metadata) == []
        db.engine.dispose()


def test_sqlite_is_set_up_to_lose_nothing(site: Site) -> None:
    with site.app.app_context():
        wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        assert {name: db.session.scalar(text(f"PRAGMA {name}")) for name in wanted} == wanted


@pytest.mark.requirement("R61")
def test_an_error_of_the_database_does_not_show_parameters(site: Site) -> None:
    with site.app.app_context(), pytest.raises(Exception, match="hidden due to hide_parameters"):
        db.session.execute(text("SELECT :secret FROM nowhere"), {"secret": "alice@example.com"})
