"""Alembic runs this for every `manage.py db` command, inside the app's context."""

from typing import Any

from alembic import context
from flask import current_app

from app.db.migrations import VERSION_TABLE

engine = current_app.extensions["migrate"].db.engine
metadata = current_app.extensions["migrate"].db.metadata

LOCK = 7_283_900_211  # any number that nothing else on this database locks


def say(*_: object, **applied: Any) -> None:
    step = applied["step"]
    print("up to" if step.is_upgrade else "down from", step.up_revision_id)


def take_turns(connection: Any) -> None:
    """Make machines that upgrade at once wait for each other. Everything happens, or nothing."""
    if engine.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        # A migration that waits for a table makes every request wait behind it. Better to fail, and retry.
        connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")


with engine.connect() as connection:
    connection.detach()  # its setting below is for this run alone
    if engine.dialect.name == "sqlite":
        # SQLite cannot alter every table in place. Alembic copies it (batch mode) and drops the old one,
        # which with foreign keys on would empty the tables that refer to it.
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.commit()
    with connection.begin():
        take_turns(connection)
        context.configure(
            connection=connection,
            target_metadata=metadata,
            version_table=VERSION_TABLE,
            render_as_batch=True,
            on_version_apply=say,
        )
        context.run_migrations()
