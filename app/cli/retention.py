"""`manage.py purge`: deletes links, mails, events and refresh tokens after the RECOVERY_KEEP_* settings.

Small batches with a commit each let other writers pass. The statement that deletes a row checks it again, so
purges may run at any time, beside each other, and be killed. These rows stay:

    a link that is open or counted, or whose mail may still be sent
    a mail that waits or is counted, or whose link is kept (which would pass for one that was handed over)
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import ColumnElement, and_, delete, func, or_, select

from ..accounts.models import FsRefreshTracker
from ..db.audit import RecoveryEvent
from ..db.clock import utcnow
from ..db.engine import change, db
from ..mail.outbox import OutboxMessage
from ..mail.quota import DAY_SECONDS
from ..recovery.link import ResetLink
from ..settings import current
from . import admin
from .output import format_option, write_json, write_table

BATCH = 100
PAUSE_SECONDS_MIN = 0.005
PAUSES = 4  # a writer that waits for SQLite's lock polls it every few milliseconds


@dataclass(frozen=True)
class Purge:
    """Rows that may be deleted."""

    name: str
    table: Any
    by: Any  # the column whose index finds them
    conditions: tuple[ColumnElement[bool], ...]

    def count(self) -> int:
        return db.session.scalar(select(func.count(self.by)).where(*self.conditions)) or 0

    def run(self) -> int:
        """Delete the rows batch by batch, and return how many there were. Commits.

        Other writers get a pause several times as long as each batch took.
        """
        total = 0
        while True:
            began = time.monotonic()
            batch = select(self.table.id).where(*self.conditions).order_by(self.by).limit(BATCH)
            ids = db.session.scalars(batch.with_for_update(skip_locked=True)).all()
            if not ids:
                db.session.rollback()
                return total
            total += change(delete(self.table).where(self.table.id.in_(ids), *self.conditions))
            db.session.commit()
            time.sleep(max(PAUSE_SECONDS_MIN, PAUSES * (time.monotonic() - began)))


def run(*, dry_run: bool = False) -> dict[str, int]:
    """Delete what is kept no longer, and return how many rows of each kind that was, or would be. Commits."""
    return {purge.name: purge.count() if dry_run else purge.run() for purge in purges()}


def purges() -> list[Purge]:
    """Return all purges in the order in which they run: a link before its mail."""
    now, settings = db.session.scalars(select(utcnow())).one(), current()
    counted = (
        now - timedelta(seconds=DAY_SECONDS) - settings.RECOVERY_MAIL_COOLDOWN
    )  # by mail/quota.py, always
    links = min(now - settings.RECOVERY_KEEP_LINKS, counted)
    mails = min(now - settings.RECOVERY_KEEP_MAILS, counted)
    dead = min(now - settings.RECOVERY_KEEP_DEAD_LETTERS, counted)
    events = now - settings.RECOVERY_KEEP_EVENTS
    tokens_end: Any = FsRefreshTracker.expires_at
    due = OutboxMessage.due_at
    return [
        Purge("links", ResetLink, ResetLink.issued_at, _old_links(now, links, dead)),
        Purge("mails", OutboxMessage, due, _old_mails(now, "sent", mails, links)),
        Purge("mails_not_sent", OutboxMessage, due, _old_mails(now, "dropped", mails, links)),
        Purge("dead_letters", OutboxMessage, due, _old_mails(now, "given_up", dead, links)),
        Purge("events", RecoveryEvent, RecoveryEvent.at, (RecoveryEvent.at < events,)),
        Purge("refresh_tokens", FsRefreshTracker, tokens_end, (tokens_end < mails,)),
    ]


def _old_links(now: datetime, before: datetime, dead: datetime) -> tuple[ColumnElement[bool], ...]:
    may_be_sent = or_(
        OutboxMessage.state == "waiting",
        and_(OutboxMessage.state == "given_up", OutboxMessage.settled_at >= dead),
    )
    mail = select(OutboxMessage.id).where(OutboxMessage.id == ResetLink.message_id, may_be_sent)
    return ResetLink.issued_at < before, ResetLink.expires_at < now, ~mail.exists()


def _old_mails(
    now: datetime, state: str, before: datetime, links: datetime
) -> tuple[ColumnElement[bool], ...]:
    is_kept = or_(ResetLink.issued_at >= links, ResetLink.expires_at >= now)
    link = select(ResetLink.id).where(ResetLink.message_id == OutboxMessage.id, is_kept)
    is_old = (OutboxMessage.due_at < before, OutboxMessage.settled_at < before)
    return OutboxMessage.state == state, *is_old, ~link.exists()


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say how many would go.")
@format_option
@with_appcontext
def purge(dry_run: bool, form: str) -> None:
    """Delete links, mails and events that are kept no longer. Safe at any time, and while all runs."""
    deleted = run(dry_run=dry_run)
    numbers = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in deleted.items() if number)
    if numbers and not dry_run:
        admin.record("purge", numbers)
    if form == "json":
        write_json({"dry_run": dry_run, "deleted": deleted})
        return
    column = "would_go" if dry_run else "deleted"
    write_table([{"what": name.replace("_", " "), column: number} for name, number in deleted.items()])
