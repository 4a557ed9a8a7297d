"""Whether all is well: the database answers, a worker is there, mail flows."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from flask import current_app
from sqlalchemy import case, delete, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from . import alerts, budget, pauses, tally
from .db import CLOCK_SLACK_SECONDS, change, db, utcnow
from .models import UNTRIED, OutboxMessage, WorkerSign
from .settings import current

SIGN_SECONDS = 5  # how often a worker says that it is there
SIGN_LOST_SECONDS = 60  # longer than any pause between two signs of a worker that is well
SIGN_KEPT_SECONDS = 86_400
TROUBLE_LENGTH_MAX = 255
CLOCK_STEP_SECONDS = 1  # two clocks that run apart by less between two signs run alike
COUNT_SECONDS = 1  # how often a process counts what waits

log = logging.getLogger(__name__)


# What may be wrong, in words for machines.
NO_DATABASE, NO_WORKER = "database_away", "no_worker"
MAIL_HELD, MAIL_LATE, OUTBOX_FULL = "mail_held", "mail_late", "outbox_full"
BUDGET_SPENT = "mail_budget_spent"
PROBLEMS = (NO_DATABASE, NO_WORKER, MAIL_HELD, MAIL_LATE, OUTBOX_FULL, BUDGET_SPENT)


@dataclass(frozen=True)
class Health:
    """What works. `None`: could not be found out."""

    database: bool
    worker: bool | None
    mail: bool | None
    problems: list[str]


def look() -> Health:
    """One look at everything. Never raises. It tells how late mail is only when it is too late:
    a finer clock would tell whether the account exists that somebody has just asked for.
    """
    try:
        troubles = workers()
        wrong = {
            NO_WORKER: not troubles and current().sends_mail,
            MAIL_HELD: any(troubles),
            MAIL_LATE: is_mail_late(),
            OUTBOX_FULL: is_full(),
            BUDGET_SPENT: budget.is_spent(),
        }
    except SQLAlchemyError:
        db.session.rollback()
        return Health(database=False, worker=None, mail=None, problems=[NO_DATABASE])
    problems = [problem for problem, is_so in wrong.items() if is_so]
    mail = current().sends_mail and not {MAIL_HELD, MAIL_LATE, OUTBOX_FULL, BUDGET_SPENT} & set(problems)
    return Health(database=True, worker=bool(troubles), mail=mail, problems=problems)


def workers() -> list[str | None]:
    """The trouble of each worker that was seen lately; None for one that is well."""
    lately = WorkerSign.seen_at.between(utcnow(-SIGN_LOST_SECONDS), utcnow(SIGN_LOST_SECONDS))
    return list(db.session.scalars(select(WorkerSign.trouble).where(lately)))


def is_mail_late() -> bool:
    """Whether a mail waits that nobody has tried since it was asked for, RECOVERY_READY_MAIL_AGE ago.

    One that the relay refuses for now does not count: nobody who has no account has one of these.
    """
    age = current().RECOVERY_READY_MAIL_AGE.total_seconds()
    then = select(utcnow(-age)).scalar_subquery()  # once, or an index helps nothing
    late = select(OutboxMessage.id).where(UNTRIED, OutboxMessage.created_at < then)
    return db.session.scalar(late.order_by(OutboxMessage.created_at).limit(1)) is not None


def is_full() -> bool:
    """Whether RECOVERY_MAIL_WAITING_MAX messages wait already; the log says so, once a count."""
    counted_at, full = current_app.extensions.get("outbox_full", (0.0, False))
    if time.monotonic() - counted_at >= COUNT_SECONDS:
        most = current().RECOVERY_MAIL_WAITING_MAX
        last = select(OutboxMessage.id).where(OutboxMessage.state == "waiting").offset(most - 1).limit(1)
        full = db.session.scalar(last) is not None
        current_app.extensions["outbox_full"] = time.monotonic(), full
        if full:
            log.error("%s mails wait (RECOVERY_MAIL_WAITING_MAX): requests for more are not kept", most)
    return bool(full)


def mend_clock() -> int:
    """If the database's clock was set back, messages may wait for a time that is far away: let none
    wait longer than it ever would, and return how many did.
    """
    after = {number: pauses.after(number) * (1 + pauses.JITTER) for number in range(1, 11)}
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
        self.watch = alerts.Watch()

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
        tally.fold()
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
