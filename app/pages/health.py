"""Readiness: the database answers, a worker runs, and mail goes out."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from ..db.clock import utcnow
from ..db.engine import db
from ..mail import quota
from ..mail.heartbeat import worker_troubles
from ..mail.outbox import UNTRIED, OutboxMessage
from ..settings import current

# The ids of problems in /readyz.
NO_DATABASE, NO_WORKER = "database_away", "no_worker"
MAIL_HELD, MAIL_LATE, OUTBOX_FULL = "mail_held", "mail_late", "outbox_full"
BUDGET_SPENT = "mail_budget_spent"
PROBLEMS = (NO_DATABASE, NO_WORKER, MAIL_HELD, MAIL_LATE, OUTBOX_FULL, BUDGET_SPENT)


@dataclass(frozen=True)
class Health:
    """The state of the deployment; None is unknown."""

    database: bool
    worker: bool | None
    mail: bool | None
    problems: list[str]


def check() -> Health:
    """Check the database, the workers and the outbox. Never raises.

    A delay of mail below RECOVERY_READY_MAIL_AGE is not reported, because it would reveal that an account
    exists.
    """
    try:
        troubles = worker_troubles()
        conditions = {
            NO_WORKER: not troubles and current().sends_mail,
            MAIL_HELD: any(troubles),
            MAIL_LATE: is_mail_late(),
            OUTBOX_FULL: quota.is_full(),
            BUDGET_SPENT: bool(quota.exhausted()),
        }
    except SQLAlchemyError:
        db.session.rollback()
        return Health(database=False, worker=None, mail=None, problems=[NO_DATABASE])
    problems = [problem for problem, is_true in conditions.items() if is_true]
    mail = current().sends_mail and set(problems) <= {NO_WORKER}
    return Health(database=True, worker=bool(troubles), mail=mail, problems=problems)


def is_mail_late() -> bool:
    """True if a mail has waited for its first attempt for RECOVERY_READY_MAIL_AGE or longer.

    A mail that the mail server deferred does not count, because only the mail of an account gets that far.
    """
    age = current().RECOVERY_READY_MAIL_AGE.total_seconds()
    latest = select(utcnow(-age)).scalar_subquery()  # evaluated once, or the database would not use the index
    late = select(OutboxMessage.id).where(UNTRIED, OutboxMessage.created_at < latest)
    return db.session.scalar(late.order_by(OutboxMessage.created_at).limit(1)) is not None
