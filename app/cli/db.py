"""`manage.py db`: Flask-Migrate's commands, and the columns of identity kinds."""

import click
from flask.cli import with_appcontext
from flask_migrate import cli

from ..accounts.models import map_identity_kind
from ..db.migrations import identity_columns
from ..settings.identities import SHIPPED
from . import admin

group: click.Group = cli.db


@group.command("add-identity")
@click.argument("kind")
@with_appcontext
def add_identity(kind: str) -> None:
    """Add a unique column for the identity KIND to the accounts. Run this before you configure it."""
    try:
        map_identity_kind(kind)
    except ValueError as error:
        raise click.ClickException(f"{kind}: {error}") from None
    if kind not in SHIPPED and identity_columns.add(kind):
        admin.record(f"db add-identity {kind}")
    click.echo(f"Accounts have the column {kind}. Add it to SECURITY_USER_IDENTITY_ATTRIBUTES, and restart.")
