"""`db upgrade` on a database that holds another application's tables: refused, with the two ways on."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text
from support.admin import Admin

from app.settings.urls import normalize_database_uri

TABLES = {
    "Flask-Security": ('CREATE TABLE "user" (id integer PRIMARY KEY, email text)',),
    "Django": ("CREATE TABLE auth_user (id integer PRIMARY KEY)", "CREATE TABLE django_session (id integer)"),
    "Alembic": ("CREATE TABLE alembic_version (version_num text)", "CREATE TABLE users (id integer)"),
}


@pytest.mark.parametrize("name", TABLES)
def test_upgrade_leaves_other_tables_alone(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    is_sqlite = name == "Django"
    uri = f"sqlite:///{tmp_path}/shop.db" if is_sqlite else request.getfixturevalue("postgresql").create()
    engine = create_engine(normalize_database_uri(uri))
    with engine.begin() as connection:
        for statement in TABLES[name]:
            connection.execute(text(statement))
    before = inspect(engine).get_table_names()
    result = Admin(uri, mail_port=1).types("db", "upgrade")
    assert result.returncode == 1
    assert f"tables that are not Sparekey's: {', '.join(sorted(before))}." in result.stderr
    for words in ("Nothing was changed", "RECOVERY_ACCOUNTS", "SQLALCHEMY_DATABASE_URI", "docs/migrate.md"):
        assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert inspect(engine).get_table_names() == before
    engine.dispose()
