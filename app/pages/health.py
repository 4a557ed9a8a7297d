"""Whether all is well: the database answers, a worker is there, mail flows."""

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


def is_mail_late() -> bool:
    """Whether a mail waits that nobody has tried since it was asked for, RECOVERY_READY_MAIL_AGE ago.

    One that the relay refuses for now does not count: nobody who has no account has one of these.
    """
    age = current().RECOVERY_READY_MAIL_AGE.total_seconds()
    then = select(utcnow(-age)).scalar_subquery()  # once, or an index helps nothing
    late = select(OutboxMessage.id).where(UNTRIED, OutboxMessage.created_at < then)
    return db.session.scalar(late.order_by(OutboxMessage.created_at).limit(1)) is not None
