"""The worker's heartbeat: when it was last seen, and why it can send no mail."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import time
from contextlib import suppress
from datetime import datetime
from functools import cache

from sqlalchemy import String, case, delete, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import Model, change, db
from ..settings import current
from . import operator as operator_mail
from .backoff import JITTER, without_jitter
from .outbox import OutboxMessage

log = logging.getLogger(__name__)


class WorkerSign(Model):
    """When a worker was last seen; `health.py` reads and writes it."""

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(default=utcnow())
    trouble: Mapped[str | None] = mapped_column(String(255))  # why it can send no mail at all


SIGN_SECONDS = 5  # how often a worker says that it is there
SIGN_LOST_SECONDS = 60  # longer than any pause between two signs of a worker that is well
SIGN_KEPT_SECONDS = 86_400
TROUBLE_LENGTH_MAX = 255
CLOCK_STEP_SECONDS = 1  # two clocks that run apart by less between two signs run alike


def workers() -> list[str | None]:
    """The trouble of each worker that was seen lately; None for one that is well."""
    lately = WorkerSign.seen_at.between(utcnow(-SIGN_LOST_SECONDS), utcnow(SIGN_LOST_SECONDS))
    return list(db.session.scalars(select(WorkerSign.trouble).where(lately)))


def mend_clock() -> int:
    """If the database's clock was set back, messages may wait for a time that is far away: let none
    wait longer than it ever would, and return how many did.
    """
    after = {number: without_jitter(number) * (1 + JITTER) for number in range(1, 11)}
    longest = case(
        (OutboxMessage.claim.is_not(None), current().RECOVERY_MAIL_LEASE.total_seconds()),
        else_=case({0: 0.0, **after}, value=OutboxMessage.attempts, else_=max(after.values())),
    )
    far = OutboxMessage.due_at > utcnow(CLOCK_SLACK_SECONDS)  # seldom any: an index finds them
    too_far = OutboxMessage.due_at > utcnow(longest + CLOCK_SLACK_SECONDS)
    which = (OutboxMessage.state == "waiting", far, too_far)
    return change(update(OutboxMessage).where(*which).values(due_at=utcnow(longest)))


def sign_again() -> None:
    """This process's worker is there, though busy with one mail. Commits nothing."""
    change(update(WorkerSign).where(WorkerSign.name == _own_name()).values(seen_at=utcnow()))


@cache
def _own_name() -> str:
    """Two containers may have one host name, and both the process 1."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(2)}"


class Presence:
    """A worker's sign that it is there, and whether it can send, from its start to its end."""

    def __init__(self) -> None:
        self.name = _own_name()
        self.signed = -math.inf
        self.clock: tuple[datetime, float] | None = None  # the database's, and ours
        self.trouble: str | None = None
        self.watch = operator_mail.Watch()

    def __enter__(self) -> Presence:
        return self

    def says(self, trouble: str | None) -> bool:
        """Sign with this trouble, or with none. True when that is news."""
        is_news = trouble != self.trouble
        self.trouble = trouble
        if is_news:
            self.signed = -math.inf
        self.renew()
        return is_news

    def renew(self) -> None:
        """Sign again if it is time to; sweep out who has long left, mend the clock, look for bursts."""
        self.watch.look()
        if time.monotonic() - self.signed < SIGN_SECONDS:
            return
        mine = WorkerSign.name == self.name
        trouble = self.trouble and self.trouble[:TROUBLE_LENGTH_MAX]
        seen = update(WorkerSign).where(mine).values(seen_at=utcnow(), trouble=trouble)
        if not change(seen):
            db.session.add(WorkerSign(name=self.name, trouble=trouble))
        # A sign from the future is one from before the clock was set back.
        old = or_(
            WorkerSign.seen_at < utcnow(-SIGN_KEPT_SECONDS), WorkerSign.seen_at > utcnow(SIGN_LOST_SECONDS)
        )
        change(delete(WorkerSign).where(old))
        clock = (db.session.scalars(select(utcnow())).one(), time.monotonic())
        if _went_back(self.clock, clock) and (mended := mend_clock()):
            log.warning("the database's clock was set back: %s mails are due again", mended)
        db.session.commit()
        self.clock = clock
        self.signed = time.monotonic()

    def __exit__(self, *_: object) -> None:
        with suppress(SQLAlchemyError):
            change(delete(WorkerSign).where(WorkerSign.name == self.name))
            db.session.commit()


def _went_back(before: tuple[datetime, float] | None, now: tuple[datetime, float]) -> bool:
    """Whether the database's clock was set back between two looks at both; who has just come can not know."""
    if before is None:
        return True
    return (now[0] - before[0]).total_seconds() < now[1] - before[1] - CLOCK_STEP_SECONDS
