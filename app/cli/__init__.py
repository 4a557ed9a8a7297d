"""The admin's commands, one file per command group. The web app never imports them."""

from typing import Any

import click
from flask.cli import AppGroup, FlaskGroup
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.exc import StaleDataError

from doctor.cli import doctor

from ..db.engine import describe
from . import after_restore, check, config, events, limits, links, mail, outbox, purge, users, webhook, worker
from .db import group as db

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
            raise click.ClickException(describe(error)) from None
        except StaleDataError:
            raise click.ClickException("the account was changed meanwhile; try again") from None
        except click.BadParameter as error:  # as which Flask-Security's `users create` raises any error
            if isinstance(error.__context__, DBAPIError):
                raise click.ClickException(describe(error.__context__)) from None
            raise
