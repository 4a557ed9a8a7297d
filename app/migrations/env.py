"""Alembic runs this for every `manage.py db` command, inside the app's context."""

from typing import Any

from alembic import context
from flask import current_app

engine = current_app.extensions["migrate"].db.engine
metadata = current_app.extensions["migrate"].db.metadata


def say(*_: object, **applied: Any) -> None:
    step = applied["step"]
    print("up to" if step.is_upgrade else "down from", step.up_revision_id)


with engine.connect() as connection:
    # SQLite can not alter a table in place: Alembic copies it (batch mode).
    context.configure(
        connection=connection, target_metadata=metadata, render_as_batch=True, on_version_apply=say
    )
    with context.begin_transaction():
        context.run_migrations()
