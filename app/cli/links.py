"""`manage.py links`: cancel links that were mailed, without signing anybody out."""

from __future__ import annotations

import click
from flask.cli import AppGroup
from sqlalchemy import func, select, true

from ..db.clock import utcnow
from ..db.engine import db
from ..recovery import link as links
from ..recovery.link import OPEN, ResetLink
from . import admin

group = AppGroup("links", help="Reset links that are out there.")


@group.command()
@click.argument("identity", required=False)
@click.option("--all", "everybodys", is_flag=True, help="Every link of everybody.")
def revoke(identity: str | None, everybodys: bool) -> None:
    """Cancel the links of the account with this IDENTITY. Passwords and sessions stay as they are."""
    if (identity is None) == (not everybodys):
        raise click.UsageError("give an identity, or --all")
    user = admin.account_of(identity) if identity else None
    owned = ResetLink.user_id == user.id if user else true()
    usable = (owned, *OPEN, ResetLink.expires_at > utcnow())
    count = db.session.scalar(select(func.count()).select_from(ResetLink).where(*usable))
    links.revoke(owned)
    admin.record("links revoke", user=user)
    click.echo(f"{count} link{'s' * (count != 1)} cancelled")
