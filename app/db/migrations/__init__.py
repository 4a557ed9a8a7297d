"""Migrations of the database (Alembic, through Flask-Migrate): `manage.py db upgrade`."""

from functools import cached_property
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import Connection

from ..engine import db

VERSION_TABLE = "sparekey_version"  # an application in the same database may use Alembic, too
LOCK = 7_283_900_211  # any number that nothing else on this database locks


class Migrations:
    """Flask-Migrate's entry in `extensions`, made on demand, because no server needs Alembic."""

    db = db
    directory = str(Path(__file__).parent)

    @cached_property
    def migrate(self) -> Any:
        from flask_migrate import Migrate

        return Migrate(db=self.db, directory=self.directory)


def take_turns(connection: Connection) -> None:
    """Make machines that change the schema at once wait for each other. Everything happens, or nothing."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        # A migration that waits for a table makes every request wait behind it. Better to fail, and retry.
        connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")


def version_options() -> dict[str, Any]:
    """Return Alembic's options that name its table, which is in the schema of Sparekey's tables."""
    schema = db.engine.get_execution_options().get("schema_translate_map", {}).get(None)
    return {"version_table": VERSION_TABLE, "version_table_schema": schema}


def init_app(app: Flask) -> None:
    app.extensions["migrate"] = Migrations()
