"""`db upgrade` on a database that holds another application's tables: refused, with the two ways on."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text
from support import servers
from support.admin import Admin

from app.settings.urls import normalize_database_uri


@pytest.fixture
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.db"
    server: servers.PostgreSQL = request.getfixturevalue("postgresql")
    return server.create()


@pytest.mark.parametrize(
    ("empty", "statements"),
    [
        ("postgresql", 'CREATE TABLE "user" (id integer PRIMARY KEY, email text)'),
        (
            "sqlite",
            "CREATE TABLE auth_user (id integer PRIMARY KEY); CREATE TABLE django_session (id integer)",
        ),
        ("postgresql", "CREATE TABLE alembic_version (version_num text); CREATE TABLE users (id integer)"),
    ],
    indirect=["empty"],
    ids=["Flask-Security", "Django", "Alembic"],
)
def test_upgrade_leaves_another_applications_database_alone(empty: str, statements: str) -> None:
    engine = create_engine(normalize_database_uri(empty))
    with engine.begin() as connection:
        for statement in statements.split(";"):
            connection.execute(text(statement))
    before = inspect(engine).get_table_names()
    result = Admin(empty, mail_port=1).types("db", "upgrade")
    assert result.returncode == 1
    assert f"tables that are not Sparekey's: {', '.join(sorted(before))}." in result.stderr
    for words in ("Nothing was changed", "RECOVERY_ACCOUNTS", "SQLALCHEMY_DATABASE_URI", "docs/migrate.md"):
        assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert inspect(engine).get_table_names() == before
    engine.dispose()


@pytest.mark.parametrize("empty", ["sqlite", "postgresql"], indirect=True)
def test_upgrade_of_sparekeys_own_database_is_repeated_beside_a_later_table(empty: str) -> None:
    admin, engine = Admin(empty, mail_port=1), create_engine(normalize_database_uri(empty))
    assert admin.types("db", "upgrade").returncode == 0
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE report (id integer)"))
    assert admin.types("db", "upgrade").returncode == 0
    engine.dispose()
