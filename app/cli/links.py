"""`manage.py links`: revoke reset links without ending sessions."""

import click
from flask.cli import AppGroup
from sqlalchemy import func, select, true

from ..db.clock import utcnow
from ..db.engine import db
from ..recovery import link as links
from ..recovery.link import OPEN, ResetLink
from . import admin

group = AppGroup("links", help="Manage reset links.")


@group.command()
@click.argument("identity", required=False)
@click.option("--all", "everyone", is_flag=True, help="Revoke the links of all accounts.")
def revoke(identity: str | None, everyone: bool) -> None:
    """Revoke the open links of the account with this IDENTITY. Its password and sessions stay valid."""
    if (identity is None) == (not everyone):
        raise click.UsageError("give an identity, or --all")
    user = None if identity is None else admin.get_account(identity)
    owned = ResetLink.user_id == user.id if user else true()
    usable = (owned, *OPEN, ResetLink.expires_at > utcnow())
    count = db.session.scalar(select(func.count()).select_from(ResetLink).where(*usable))
    links.revoke_all_of(user.id) if user else links.revoke(true())
    admin.record("links revoke", user=user)
    click.echo(f"{count} link{'s' * (count != 1)} revoked")
