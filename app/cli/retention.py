"""`manage.py purge`: deletes links, mails, events and refresh tokens after the RECOVERY_KEEP_* settings.

Small batches with a commit each let other writers pass. The statement that deletes a row checks it again, so
purges may run at any time, beside each other, and be killed. These rows stay:

    a link that is open or counted, or whose mail may still be sent
    a mail that waits or is counted, or whose link is kept (which would pass for one that was handed over)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import click
from flask.cli import with_appcontext
from sqlalchemy import ColumnElement, and_, delete, func, or_, select

from ..accounts.models import FsRefreshTracker
from ..db.audit import RecoveryEvent
from ..db.clock import utcnow
from ..db.engine import change, db
from ..mail.budget import DAY_SECONDS
from ..mail.outbox import OutboxMessage
from ..recovery.link import ResetLink
from ..settings import current
from . import admin
from .output import format_option, write_json, write_table

BATCH = 100
PAUSE_SECONDS_MIN = 0.005
PAUSES = 4  # a writer that waits for SQLite's lock polls it every few milliseconds


class Kind(NamedTuple):
    """Rows that may be deleted."""

    name: str
    table: Any
    by: Any  # the column whose index finds them
    which: tuple[ColumnElement[bool], ...]


def count() -> dict[str, int]:
    """Return how many rows of each kind a purge would delete now."""
    return {
        kind.name: db.session.scalar(select(func.count(kind.by)).where(*kind.which)) or 0 for kind in _kinds()
    }


def run() -> dict[str, int]:
    """Delete them, and return how many there were of each kind. Commits."""
    return {kind.name: sum(_batches(kind)) for kind in _kinds()}


def _batches(kind: Kind) -> Iterator[int]:
    """Delete batch after batch, and leave other writers a pause several times as long as each took."""
    while True:
        began = time.monotonic()
        some = select(kind.table.id).where(*kind.which).order_by(kind.by).limit(BATCH)
        found = db.session.scalars(some.with_for_update(skip_locked=True)).all()
        if not found:
            db.session.rollback()
            return
        gone = change(delete(kind.table).where(kind.table.id.in_(found), *kind.which))
        db.session.commit()
        yield gone
        time.sleep(max(PAUSE_SECONDS_MIN, PAUSES * (time.monotonic() - began)))


def _kinds() -> list[Kind]:
    """Return all kinds in the order in which they are deleted: a link before its mail."""
    now, settings = db.session.scalars(select(utcnow())).one(), current()
    counted = now - timedelta(seconds=DAY_SECONDS) - settings.RECOVERY_MAIL_COOLDOWN  # by budget.py, always
    links = min(now - settings.RECOVERY_KEEP_LINKS, counted)
    mails = min(now - settings.RECOVERY_KEEP_MAILS, counted)
    dead = min(now - settings.RECOVERY_KEEP_DEAD_LETTERS, counted)
    events = now - settings.RECOVERY_KEEP_EVENTS
    tokens_end: Any = FsRefreshTracker.expires_at
    return [
        Kind("links", ResetLink, ResetLink.issued_at, _old_links(now, links, dead)),
        Kind("mails", OutboxMessage, OutboxMessage.due_at, _old_mails(now, "sent", mails, links)),
        Kind("mails_not_sent", OutboxMessage, OutboxMessage.due_at, _old_mails(now, "dropped", mails, links)),
        Kind("dead_letters", OutboxMessage, OutboxMessage.due_at, _old_mails(now, "given_up", dead, links)),
        Kind("events", RecoveryEvent, RecoveryEvent.at, (RecoveryEvent.at < events,)),
        Kind("refresh_tokens", FsRefreshTracker, tokens_end, (tokens_end < mails,)),
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
    gone = count() if dry_run else run()
    numbers = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in gone.items() if number)
    if numbers and not dry_run:
        admin.record("purge", numbers)
    if form == "json":
        write_json({"dry_run": dry_run, "deleted": gone})
        return
    column = "would_go" if dry_run else "deleted"
    write_table([{"what": name.replace("_", " "), column: number} for name, number in gone.items()])
