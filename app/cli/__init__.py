"""The admin's tools, one file a group. The web app never imports them."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

import click
from flask.cli import AppGroup, FlaskGroup

# Where each command is, and its line in the list of them all: it is imported when somebody types it.
COMMANDS = {
    "after-restore": (
        "app.cli.after_restore:after_restore",
        "End what a backup revives: links that were used, mails that were sent, sign-ins that were ended.",
    ),
    "check": ("app.cli.check:check", "Look for what is wrong or unwise."),
    "config": ("app.cli.config:config", "What is set, where it comes from, and what it means."),
    "db": ("flask_migrate.cli:db", "Perform database migrations."),
    "doctor": (
        "doctor.cli:doctor",
        "Look at a running deployment from outside, at the address that people use.",
    ),
    "events": (
        "app.cli.events:events",
        "What happened: who asked, what was mailed, opened, refused, redeemed, and from where.",
    ),
    "limits": ("app.cli.limits:group", "Who is slowed down right now."),
    "links": ("app.cli.links:group", "Reset links that are out there."),
    "mail": ("app.cli.mail:mail", "How the mails look, and whether they go out."),
    "outbox": ("app.cli.outbox:group", "What became of each mail, and why."),
    "purge": ("app.cli.retention:purge", "Delete links, mails and events that are kept no longer."),
    "roles": ("app.cli.users:roles", "Role commands."),
    "users": ("app.cli.users:users", "User commands."),
    "worker": ("app.cli.worker:worker", "Send the mail that waits in the outbox."),
}


class Commands(FlaskGroup):
    """Commands of Flask, Flask-Security, plugins and ours. Help needs no configuration, only commands do."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._load_plugin_commands()
        return sorted({*self.commands, *COMMANDS})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            command: click.Command = resolve_name(COMMANDS[name][0])
            return command
        self._load_plugin_commands()
        return AppGroup.get_command(self, ctx, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click's, without importing what it lists."""
        self._load_plugin_commands()
        lines = {name: click.Command(name, help=line) for name, (_, line) in COMMANDS.items()}
        click.Group(commands={**self.commands, **lines}).format_commands(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """What the database refuses is one plain line."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if said := _of_the_database(error):
                raise click.ClickException(said) from None
            raise


def _of_the_database(error: Exception) -> str | None:
    from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError  # help needs no database

    if not isinstance(error, DBAPIError):
        return None
    said = str(error.orig).splitlines()[0]
    if not isinstance(error, (OperationalError, ProgrammingError)):
        return f"the database refuses it: {said}"
    is_there = error.statement is not None  # it was reached, and asked for something
    hint = ". Is it set up? manage.py db upgrade" if is_there else " (SQLALCHEMY_DATABASE_URI)"
    return f"the database can not be used: {said}{hint}"
