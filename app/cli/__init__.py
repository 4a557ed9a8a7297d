"""The admin's commands, one file per command group. The web app never imports them."""

from typing import Any

import click
from flask.cli import AppGroup, FlaskGroup
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from doctor.cli import doctor

from ..db.engine import AccountsAway, reason_of
from . import after_restore, check, config, events, limits, links, mail, outbox, purge, users, webhook, worker
from .db import group as db

UNDEFINED = ("42P01", "42703")  # SQLSTATEs of a missing table or column
COMMANDS = (
    after_restore.after_restore,
    check.check,
    config.config,
    db,
    doctor,
    events.events,
    limits.group,
    links.group,
    mail.mail,
    outbox.group,
    purge.purge,
    users.roles,
    users.users,
    webhook.group,
    worker.worker,
)


class Commands(FlaskGroup):
    """Commands of Flask, plugins and Sparekey. Listing them loads no app and needs no configuration."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._load_plugin_commands()  # first, because a later command replaces one of the same name
        for command in COMMANDS:
            self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names without loading the app, unlike FlaskGroup."""
        return AppGroup.list_commands(self, ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """Report an error of the database in one plain line."""
        try:
            return super().invoke(ctx)
        except DBAPIError as error:
            raise click.ClickException(_describe(error)) from None
        except click.BadParameter as error:  # as which Flask-Security's `users create` raises any error
            if isinstance(error.__context__, DBAPIError):
                raise click.ClickException(_describe(error.__context__)) from None
            raise


def _describe(error: DBAPIError) -> str:
    reason = reason_of(error)
    if isinstance(error, AccountsAway):
        return f"the application's accounts cannot be used. {reason}"
    if not isinstance(error, (OperationalError, ProgrammingError)):
        return f"the database refuses this: {reason}"
    is_missing = reason.startswith(("no such ", "table ")) or getattr(error.orig, "sqlstate", "") in UNDEFINED
    hint = ". Is it set up? manage.py db upgrade" if is_missing else " (SQLALCHEMY_DATABASE_URI)"
    return f"the database cannot be used: {reason}{hint}"
