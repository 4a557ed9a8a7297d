"""Readiness: the database answers, a worker runs, and mail and events go out."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, TextClause, select
from sqlalchemy.exc import SQLAlchemyError

from ..db.clock import utcnow
from ..db.engine import db
from ..mail import outbox, quota
from ..mail.heartbeat import worker_troubles
from ..mail.outbox import OutboxMessage
from ..settings import current

# The ids of problems in /readyz.
NO_DATABASE, NO_WORKER = "database_away", "no_worker"
MAIL_HELD, MAIL_LATE, OUTBOX_FULL = "mail_held", "mail_late", "outbox_full"
BUDGET_SPENT, WEBHOOK_LATE = "mail_budget_spent", "webhook_late"
PROBLEMS = (NO_DATABASE, NO_WORKER, MAIL_HELD, MAIL_LATE, OUTBOX_FULL, BUDGET_SPENT, WEBHOOK_LATE)
# A mail that the mail server deferred is not late, because only the mail of an account gets that far.
UNTRIED_MAIL = (outbox.UNTRIED, OutboxMessage.kind != outbox.WEBHOOK)
WAITING_EVENT = (outbox.EVENTS, OutboxMessage.state == "waiting")


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
            NO_WORKER: not troubles and (current().sends_mail or current().RECOVERY_WEBHOOK_URL),
            MAIL_HELD: any(troubles),
            MAIL_LATE: is_late(*UNTRIED_MAIL),
            OUTBOX_FULL: quota.is_full(),
            BUDGET_SPENT: bool(quota.exhausted()),
            WEBHOOK_LATE: is_late(*WAITING_EVENT),
        }
    except SQLAlchemyError:
        db.session.rollback()
        return Health(database=False, worker=None, mail=None, problems=[NO_DATABASE])
    problems = [problem for problem, is_true in conditions.items() if is_true]
    mail = current().sends_mail and set(problems) <= {NO_WORKER, WEBHOOK_LATE}
    return Health(database=True, worker=bool(troubles), mail=mail, problems=problems)


def is_late(*messages: TextClause | ColumnElement[bool]) -> bool:
    """True if one of these messages has waited for RECOVERY_READY_MAIL_AGE or longer."""
    age = current().RECOVERY_READY_MAIL_AGE.total_seconds()
    latest = select(utcnow(-age)).scalar_subquery()  # evaluated once, or the database would not use the index
    late = select(OutboxMessage.id).where(*messages, OutboxMessage.created_at < latest)
    return db.session.scalar(late.order_by(OutboxMessage.created_at).limit(1)) is not None
