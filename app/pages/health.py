"""Readiness: does the database answer, is a worker there, does mail flow?"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from ..db.clock import utcnow
from ..db.engine import db
from ..mail import budget
from ..mail.heartbeat import workers
from ..mail.outbox import UNTRIED, OutboxMessage, is_full
from ..settings import current

# The problems of /readyz.
NO_DATABASE, NO_WORKER = "database_away", "no_worker"
MAIL_HELD, MAIL_LATE, OUTBOX_FULL = "mail_held", "mail_late", "outbox_full"
BUDGET_SPENT = "mail_budget_spent"
PROBLEMS = (NO_DATABASE, NO_WORKER, MAIL_HELD, MAIL_LATE, OUTBOX_FULL, BUDGET_SPENT)


@dataclass(frozen=True)
class Health:
    """What works. None: unknown."""

    database: bool
    worker: bool | None
    mail: bool | None
    problems: list[str]


def look() -> Health:
    """Check everything. Never raises. It reports no delay of mail below RECOVERY_READY_MAIL_AGE, because a
    finer clock would tell whether a requested account exists.
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


def is_mail_late() -> bool:
    """True if a mail has waited for its first attempt since RECOVERY_READY_MAIL_AGE or longer.

    A mail that the mail server refuses for now does not count, because only an account's mail is tried there.
    """
    age = current().RECOVERY_READY_MAIL_AGE.total_seconds()
    then = select(utcnow(-age)).scalar_subquery()  # once, or an index helps nothing
    late = select(OutboxMessage.id).where(UNTRIED, OutboxMessage.created_at < then)
    return db.session.scalar(late.order_by(OutboxMessage.created_at).limit(1)) is not None
