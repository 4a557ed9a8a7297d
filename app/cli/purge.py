"""`manage.py purge`: deletes what is kept no longer (RECOVERY_KEEP_LINKS and its like). A timer runs it."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from .. import audit
from .. import purge as engine
from ..db import db
from .listing import format_option, write_json, write_table


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say how many would go.")
@format_option
@with_appcontext
def purge(dry_run: bool, form: str) -> None:
    """Delete links, mails and events that are kept no longer. Safe at any time, and while all runs."""
    gone = engine.count() if dry_run else engine.run()
    said = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in gone.items() if number)
    if said and not dry_run:
        audit.record("admin", reason=f"purge {audit.whoever()}: {said}"[:255])
        db.session.commit()
    if form == "json":
        write_json({"dry_run": dry_run, "deleted": gone})
        return
    what = "would_go" if dry_run else "deleted"
    write_table([{"what": name.replace("_", " "), what: number} for name, number in gone.items()])
