"""`manage.py after-restore`: ends the links, messages and sessions that a restored backup brings back."""

from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import String, cast, func, update

from ..accounts.models import FsRefreshTracker, User
from ..db.clock import utcnow
from ..db.engine import change, db
from ..mail.outbox import OutboxMessage
from ..recovery.link import OPEN, ResetLink
from ..settings import current
from . import admin
from .output import write_fields

# A new uniquifier for each row, made by the database, because there may be a million accounts.
# Each has at least 122 random bits.
RANDOM_UNIQUIFIER: dict[str, Any] = {
    "sqlite": func.lower(func.hex(func.randomblob(16))),
    "postgresql": func.replace(cast(func.gen_random_uuid(), String), "-", ""),
}


@click.command("after-restore")
@click.confirmation_option(
    "--yes",
    help="Do not ask for confirmation.",
    prompt="This revokes every reset link, discards all waiting mail, and signs everyone out. Passwords"
    " stay as they are in the backup. Have you stopped all web processes and workers?",
)
@with_appcontext
def after_restore() -> None:
    """End what a backup revives: used links, messages already sent, and sessions already ended."""
    discarded = {"state": "dropped", "reason": "a backup was restored", "settled_at": utcnow()}
    emptied = {"sealed": None, "same": None, "claim": None, "refused_at": None, "refused_domain": None}
    waiting = update(OutboxMessage).where(OutboxMessage.state == "waiting")
    tokens: Any = FsRefreshTracker.__table__
    change(update(tokens).where(tokens.c.revoked_at.is_(None)).values(revoked_at=utcnow()))
    ended = {
        "links revoked": change(update(ResetLink).where(*OPEN).values(revoked_at=utcnow())),
        "messages discarded": change(waiting.values(discarded | emptied)),
    }
    if not current().RECOVERY_ACCOUNTS:
        uniquifier = RANDOM_UNIQUIFIER[db.engine.dialect.name]
        ended["accounts signed out"] = change(update(User).values(fs_uniquifier=uniquifier))
    admin.record("after-restore", ", ".join(f"{number} {name}" for name, number in ended.items()))
    write_fields(ended)
