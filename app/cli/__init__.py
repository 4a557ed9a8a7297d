"""The admin's tools, one file a group. The web app never imports them."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import AppGroup, FlaskGroup
from flask_migrate import cli as migrate_cli
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from . import users


class Commands(FlaskGroup):
    """Flask's commands, Flask-Security's and ours. Help needs no configuration, only commands do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_command(migrate_cli.db, "db")
        self.add_command(users.users, "users")
        self.add_command(users.roles, "roles")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return AppGroup.list_commands(self, ctx)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return AppGroup.get_command(self, ctx, name)

    def invoke(self, ctx: click.Context) -> Any:
        """What the database refuses is one plain line."""
        try:
            return super().invoke(ctx)
        except (OperationalError, ProgrammingError) as error:
            is_there = error.statement is not None  # it was reached, and asked for something
            hint = ". Is it set up? manage.py db upgrade" if is_there else " (SQLALCHEMY_DATABASE_URI)"
            raise click.ClickException(f"the database can not be used: {first_line(error)}{hint}") from None
        except DBAPIError as error:
            raise click.ClickException(f"the database refuses it: {first_line(error)}") from None


def first_line(error: DBAPIError) -> str:
    return str(error.orig).splitlines()[0]
