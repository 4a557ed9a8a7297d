"""`manage.py after-restore`: ends again what has ended since the backup was made."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import String, cast, func, update

from ..accounts.models import FsRefreshTracker, User
from ..db.clock import utcnow
from ..db.engine import change, db
from ..mail.outbox import OutboxMessage
from ..recovery.link import OPEN, ResetLink
from . import admin
from .output import write_fields

WHAT_IT_DOES = (
    "Every link will be cancelled, every mail that waits discarded, and everybody signed out. Passwords stay"
    " as they are in the backup. Are web processes and workers stopped?"
)
# A uniquifier for each row, made by the database: there may be a million. At least 122 random bits.
RANDOM: dict[str, Any] = {
    "sqlite": func.lower(func.hex(func.randomblob(16))),
    "postgresql": func.replace(cast(func.gen_random_uuid(), String), "-", ""),
}


@click.command("after-restore")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_appcontext
def after_restore(yes: bool) -> None:
    """End what a backup revives: links that were used, mails that were sent, sign-ins that were ended."""
    if not yes:
        click.confirm(WHAT_IT_DOES, abort=True)
    ended = {
        "links_cancelled": change(update(ResetLink).where(*OPEN).values(revoked_at=utcnow())),
        "mails_discarded": _discard(),
        "accounts_signed_out": _sign_out(),
    }
    admin.record(
        "after-restore", ", ".join(f"{number} {name}" for name, number in ended.items()).replace("_", " ")
    )
    write_fields(ended)


def _discard() -> int:
    discarded = {"state": "dropped", "reason": "a backup was restored", "settled_at": utcnow()}
    emptied = {"sealed": None, "same": None, "claim": None}
    return change(update(OutboxMessage).where(OutboxMessage.state == "waiting").values(discarded | emptied))


def _sign_out() -> int:
    tokens: Any = FsRefreshTracker.__table__
    change(update(tokens).where(tokens.c.revoked_at.is_(None)).values(revoked_at=utcnow()))
    return change(update(User).values(fs_uniquifier=RANDOM[db.engine.dialect.name]))
