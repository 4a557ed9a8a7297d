"""What is kept no longer: links, mails, events and refresh tokens, after the RECOVERY_KEEP_* settings.

In small batches with a commit each, so nobody who asks waits for it; what is deleted is looked at again by
the statement that deletes it: it may run at any time, twice at once, and be killed at any time. These stay:

    a link that is open or counted, or whose mail may still be sent
    a mail that waits or is counted, or whose link is kept (that would pass for one that was handed over)
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
from ..db import audit
from ..db.audit import RecoveryEvent
from ..db.clock import utcnow
from ..db.engine import change, db
from ..mail.budget import DAY_SECONDS
from ..mail.outbox import OutboxMessage
from ..recovery.link import ResetLink
from ..settings import current
from . import output
from .output import format_option, write_json, write_table

BATCH = 100
PAUSE_SECONDS_MIN = 0.005
PAUSES = 4  # who waits for SQLite's lock looks for it in steps of up to a tenth of a second


class Kind(NamedTuple):
    """What may go: the rows of `table` that fit, found by the index of `by`."""

    name: str
    table: Any
    by: Any
    which: tuple[ColumnElement[bool], ...]


def count() -> dict[str, int]:
    """How many of each would go now."""
    return {
        kind.name: db.session.scalar(select(func.count()).select_from(kind.table).where(*kind.which)) or 0
        for kind in _kinds()
    }


def run() -> dict[str, int]:
    """Delete them, and return how many of each there were. Commits."""
    return {kind.name: sum(_batches(kind)) for kind in _kinds()}


def _batches(kind: Kind) -> Iterator[int]:
    """After each, whoever else wants to write has several times as long as it took."""
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
    """In the order in which they go: a link before its mail."""
    now = db.session.scalars(select(utcnow())).one()
    settings = current()
    # What budget.py counts, whatever is set.
    counted = timedelta(seconds=DAY_SECONDS) + settings.RECOVERY_MAIL_COOLDOWN
    links, mails, dead = (
        now - max(kept, counted)
        for kept in (
            settings.RECOVERY_KEEP_LINKS,
            settings.RECOVERY_KEEP_MAILS,
            settings.RECOVERY_KEEP_DEAD_LETTERS,
        )
    )
    tokens_end: Any = FsRefreshTracker.expires_at
    return [
        Kind("links", ResetLink, ResetLink.issued_at, _old_links(now, links, dead)),
        *(
            Kind(name, OutboxMessage, OutboxMessage.due_at, _old_mails(now, state, before, links))
            for name, state, before in (
                ("mails", "sent", mails),
                ("mails_not_sent", "dropped", mails),
                ("dead_letters", "given_up", dead),
            )
        ),
        Kind(
            "events",
            RecoveryEvent,
            RecoveryEvent.at,
            (RecoveryEvent.at < now - settings.RECOVERY_KEEP_EVENTS,),
        ),
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
    said = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in gone.items() if number)
    if said and not dry_run:
        audit.record("admin", reason=f"purge {output.whoever()}: {said}"[:255])
        db.session.commit()
    if form == "json":
        write_json({"dry_run": dry_run, "deleted": gone})
        return
    what = "would_go" if dry_run else "deleted"
    write_table([{"what": name.replace("_", " "), what: number} for name, number in gone.items()])
