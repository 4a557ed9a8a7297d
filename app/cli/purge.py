"""`manage.py purge`: deletes links, mails, events, ended tokens and sign-outs after their retention.

Small batches, each with its commit, let other writers pass. The DELETE repeats the condition, so purges may
run at any time, several at once, and be killed. These rows stay:

    a link that has not expired or counts for a quota, or whose message may still be sent
    a message that waits or counts for a quota, or whose link is kept; without its message the link would look
        like one that an admin handed over
"""

import time
from datetime import datetime, timedelta
from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import ColumnElement, and_, delete, func, or_, select

from ..accounts.models import FsRefreshTracker, SignedOut
from ..db.audit import RecoveryEvent
from ..db.clock import utcnow
from ..db.engine import change, db
from ..mail.outbox import OutboxMessage
from ..mail.quota import DAY_SECONDS
from ..recovery.link import ResetLink
from ..recovery.reset_code import CodeRequest
from ..settings import current
from . import admin
from .output import format_option, write_json, write_table

BATCH = 100
PAUSE_SECONDS_MIN = 0.005
PAUSES = 4  # times the duration of a batch; writers poll SQLite's lock every few milliseconds


def run(*, dry_run: bool = False) -> dict[str, int]:
    """Delete expired rows and return how many of each kind; `dry_run` only counts. Commits."""
    act = _count if dry_run else _delete
    return {name: act(*rows) for name, rows in _expired().items()}


def _count(_table: Any, by: Any, *conditions: ColumnElement[bool]) -> int:
    return db.session.scalar(select(func.count(by)).where(*conditions)) or 0


def _delete(table: Any, by: Any, *conditions: ColumnElement[bool]) -> int:
    """Delete rows batch by batch, and return how many there were. Commits.

    Other writers get a pause several times as long as each batch took.
    """
    total = 0
    while True:
        began = time.monotonic()
        batch = select(table.id).where(*conditions).order_by(by).limit(BATCH)
        ids = db.session.scalars(batch.with_for_update(skip_locked=True)).all()
        if not ids:
            db.session.rollback()
            return total
        total += change(delete(table).where(table.id.in_(ids), *conditions))
        db.session.commit()
        time.sleep(max(PAUSE_SECONDS_MIN, PAUSES * (time.monotonic() - began)))


def _expired() -> dict[str, tuple[Any, ...]]:
    """Return table, indexed column and conditions of each kind of row, a link before its message."""
    now, settings = db.session.scalars(select(utcnow())).one(), current()
    # The quotas of mail/quota.py never count older rows.
    counted = now - timedelta(seconds=DAY_SECONDS) - settings.RECOVERY_MAIL_COOLDOWN
    links = min(now - settings.RECOVERY_KEEP_LINKS, counted)
    mails = min(now - settings.RECOVERY_KEEP_MAILS, counted)
    dead = min(now - settings.RECOVERY_KEEP_DEAD_LETTERS, counted)
    events = now - settings.RECOVERY_KEEP_EVENTS
    tokens_end: Any = FsRefreshTracker.expires_at
    message, due = OutboxMessage, OutboxMessage.due_at
    return {
        "links": (ResetLink, ResetLink.issued_at, *_expired_links(now, links, dead)),
        "code_requests": (CodeRequest, CodeRequest.at, CodeRequest.at < mails),
        "mails": (message, due, *_expired_messages(now, "sent", mails, links)),
        "mails_not_sent": (message, due, *_expired_messages(now, "dropped", mails, links)),
        "dead_letters": (message, due, *_expired_messages(now, "given_up", dead, links)),
        "events": (RecoveryEvent, RecoveryEvent.at, RecoveryEvent.at < events),
        "refresh_tokens": (FsRefreshTracker, tokens_end, tokens_end < mails),
        "sign_outs": (SignedOut, SignedOut.ends_at, SignedOut.ends_at < now),
    }


def _expired_links(now: datetime, before: datetime, dead: datetime) -> tuple[ColumnElement[bool], ...]:
    may_be_sent = or_(
        OutboxMessage.state == "waiting",
        and_(OutboxMessage.state == "given_up", OutboxMessage.settled_at >= dead),
    )
    mail = select(OutboxMessage.id).where(OutboxMessage.id == ResetLink.message_id, may_be_sent)
    return ResetLink.issued_at < before, ResetLink.expires_at < now, ~mail.exists()


def _expired_messages(
    now: datetime, state: str, before: datetime, links: datetime
) -> tuple[ColumnElement[bool], ...]:
    is_kept = or_(ResetLink.issued_at >= links, ResetLink.expires_at >= now)
    link = select(ResetLink.id).where(ResetLink.message_id == OutboxMessage.id, is_kept)
    is_old = (OutboxMessage.due_at < before, OutboxMessage.settled_at < before)
    return OutboxMessage.state == state, *is_old, ~link.exists()


@click.command()
@click.option("--dry-run", is_flag=True, help="Count rows without deleting anything.")
@format_option
@with_appcontext
def purge(dry_run: bool, form: str) -> None:
    """Delete links, messages, and events older than RECOVERY_KEEP_*. Safe while Sparekey runs."""
    deleted = run(dry_run=dry_run)
    numbers = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in deleted.items() if number)
    if numbers and not dry_run:
        admin.record("purge", numbers)
    if form == "json":
        write_json({"dry_run": dry_run, "deleted": deleted})
        return
    column = "would_go" if dry_run else "deleted"
    write_table([{"what": name.replace("_", " "), column: number} for name, number in deleted.items()])
