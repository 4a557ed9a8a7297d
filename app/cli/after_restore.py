"""`manage.py after-restore`: what has ended since the backup was made lives again in it. This ends it."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import String, cast, func, update

from ..accounts.models import FsRefreshTracker, User
from ..db import audit
from ..db.clock import utcnow
from ..db.engine import change, db
from ..mail.outbox import OutboxMessage
from ..recovery.link import OPEN, ResetLink
from . import output
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
    said = ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in ended.items())
    audit.record("admin", reason=f"after-restore {output.whoever()}: {said}"[:255])
    db.session.commit()
    write_fields(ended)


def _discard() -> int:
    gone = {
        "state": "dropped",
        "reason": "a backup was restored",
        "sealed": None,
        "same": None,
        "claim": None,
    }
    which = update(OutboxMessage).where(OutboxMessage.state == "waiting")
    return change(which.values(**gone, settled_at=utcnow()))


def _sign_out() -> int:
    tokens: Any = FsRefreshTracker.__table__
    change(update(tokens).where(tokens.c.revoked_at.is_(None)).values(revoked_at=utcnow()))
    return change(update(User).values(fs_uniquifier=RANDOM[db.engine.dialect.name]))
