"""The migrated database: both databases get the schema of the models, and SQLite its settings. Errors of both."""

from typing import Any

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg.errors import UndefinedTable
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError, ProgrammingError
from support import servers
from support.site import Site, load_settings

from app import create_app
from app.db.engine import AccountsAway, db, describe, reason_of
from app.db.migrations import VERSION_TABLE
from app.db.migrations.identity_columns import is_compared

OPTIONS = {"version_table": VERSION_TABLE, "include_object": is_compared}  # as env.py


def indexes_of(engine: Engine) -> set[str]:
    sqlite = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    postgresql = f"""SELECT indexname FROM pg_indexes WHERE schemaname = 'public'
        AND indexname NOT IN (SELECT conname FROM pg_constraint) AND tablename <> '{VERSION_TABLE}'"""
    with engine.connect() as connection:
        return set(connection.scalars(text(sqlite if engine.dialect.name == "sqlite" else postgresql)))


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
@pytest.mark.requirement("R39")
def test_migrations_make_and_remove_the_models_schema(tmp_path: Any, postgresql: servers.PostgreSQL) -> None:
    indexes = []
    for uri in (f"sqlite:///{tmp_path}/empty.db", postgresql.create()):
        app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=uri))
        with app.app_context():
            flask_migrate.upgrade()
            indexes.append(indexes_of(db.engine))
            with db.engine.connect() as connection:
                context = MigrationContext.configure(connection, opts=OPTIONS)
                assert compare_metadata(context, db.metadata) == []
            flask_migrate.downgrade(revision="base")
            assert inspect(db.engine).get_table_names() == [VERSION_TABLE]
            db.engine.dispose()
    assert indexes[0] == indexes[1]
    assert {"uq_user_email_lower", "uq_user_username_lower"} <= indexes[0]


def test_sqlite_is_set_to_lose_nothing(site: Site) -> None:
    with site.app.app_context():
        pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        assert {name: db.session.scalar(text(f"PRAGMA {name}")) for name in pragmas} == pragmas


@pytest.mark.requirement("R61")
def test_database_errors_show_no_parameters(site: Site) -> None:
    with site.app.app_context(), pytest.raises(Exception, match="hidden due to hide_parameters"):
        db.session.execute(text("SELECT :secret FROM nowhere"), {"secret": "alice@example.com"})


@pytest.mark.parametrize(
    ("text_of_driver", "reason"),
    [((), "Exception"), (("no such table: user\nLINE 1",), "no such table: user"), (("\n",), "Exception")],
)
def test_database_error_is_one_line_of_words(text_of_driver: tuple[str, ...], reason: str) -> None:
    error = OperationalError("SELECT 1", {}, Exception(*text_of_driver))
    assert reason_of(error) == reason
    hint = (
        ". Is it set up? manage.py db upgrade"
        if reason.startswith("no such")
        else " (SQLALCHEMY_DATABASE_URI)"
    )
    assert describe(error) == f"the database cannot be used: {reason}{hint}"


SET_UP = ". Is it set up? manage.py db upgrade"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OperationalError(None, None, Exception("refused")), "the database cannot be used: refused (SQLALCHEMY_DATABASE_URI)"),
        (OperationalError("SELECT", {}, Exception("no such table: user")), "the database cannot be used: no such table: user" + SET_UP),
        (OperationalError("INSERT", {}, Exception("table user has no column named x")), "the database cannot be used: table user has no column named x" + SET_UP),
        (ProgrammingError("SELECT", {}, UndefinedTable("keine Tabelle")), "the database cannot be used: keine Tabelle" + SET_UP),
        (OperationalError("INSERT", {}, Exception("database is locked")), "the database cannot be used: database is locked (SQLALCHEMY_DATABASE_URI)"),
        (AccountsAway("no table"), "the application's accounts cannot be used. RECOVERY_ACCOUNTS: no table"),
        (DataError("INSERT", {}, Exception("too long")), "the database refuses this: too long"),
        (InterfaceError(None, None, Exception("connection is closed")), "the database cannot be used: connection is closed (SQLALCHEMY_DATABASE_URI)"),
    ],
)  # fmt: skip
def test_command_reports_an_error_of_the_database_in_one_line(error: DBAPIError, told: str) -> None:
    assert describe(error) == told
