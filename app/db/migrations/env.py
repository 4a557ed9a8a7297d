"""Alembic runs this for every `manage.py db` command, inside the app's context."""

from typing import Any

import click
from alembic import context
from flask import current_app
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError

from app.db.engine import reason_of
from app.db.migrations import VERSION_TABLE, take_turns, version_options
from app.db.migrations.identity_columns import is_compared

engine = current_app.extensions["migrate"].db.engine
metadata = current_app.extensions["migrate"].db.metadata
schema = version_options()["version_table_schema"]  # None: the default

NAMED_MAX = 5  # tables in a message


def say(*_: object, **applied: Any) -> None:
    step = applied["step"]
    print("up to" if step.is_upgrade else "down from", step.up_revision_id)


def enter_schema(connection: Any) -> None:
    """Make Sparekey's tables in their own schema, which may have to be created, for this transaction."""
    name = engine.dialect.identifier_preparer.quote(schema)
    if schema not in inspect(connection).get_schema_names():
        try:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        except DBAPIError as error:
            raise click.ClickException(
                f"{reason_of(error)}. As an administrator of the database:"
                f" CREATE SCHEMA {name} AUTHORIZATION {engine.url.username or 'sparekey'};"
            ) from None
    connection.exec_driver_sql(f"SET LOCAL search_path = {name}")


def refuse_foreign_tables(connection: Any) -> None:
    """Stop before the first migration if another application has tables here: some have the same names."""
    tables = sorted(inspect(connection).get_table_names(schema))
    if tables and VERSION_TABLE not in tables:
        names = ", ".join(tables[:NAMED_MAX]) + (", …" if len(tables) > NAMED_MAX else "")
        raise click.ClickException(
            f"this database has tables that are not Sparekey's: {names}. Nothing was changed."
            " To recover the accounts in these tables, name their table in RECOVERY_ACCOUNTS."
            " To keep accounts in Sparekey, name an empty database in SQLALCHEMY_DATABASE_URI and import them"
            " (docs/migrate.md)."
        )


with engine.connect() as connection:
    connection.detach()  # its setting below is for this run alone
    if engine.dialect.name == "sqlite":
        # SQLite cannot alter every table in place. Alembic copies it (batch mode) and drops the old one,
        # which with foreign keys on would empty the tables that refer to it.
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.commit()
    with connection.begin():
        take_turns(connection)
        if schema:
            enter_schema(connection)
        refuse_foreign_tables(connection)
        context.configure(
            connection=connection,
            target_metadata=metadata,
            **version_options(),
            render_as_batch=True,
            include_object=is_compared,
            on_version_apply=say,
        )
        context.run_migrations()
