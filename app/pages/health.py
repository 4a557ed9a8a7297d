"""Readiness: the database answers, accounts can be used, a worker runs, and mail and events go out."""

from typing import Any

from sqlalchemy import ColumnElement, TextClause, false, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from ..accounts import foreign
from ..db.clock import instant
from ..db.engine import AccountsAway, change, db
from ..mail import outbox, quota
from ..mail.heartbeat import WorkerHeartbeat, worker_troubles
from ..mail.outbox import IS_ASIDE, REFUSED, OutboxMessage
from ..settings import current

# The ids of problems in /readyz.
NO_DATABASE, READ_ONLY, NO_WORKER = "database_away", "database_read_only", "no_worker"
MAIL_HELD, MAIL_LATE, OUTBOX_FULL = "mail_held", "mail_late", "outbox_full"
MAIL_REFUSED, BUDGET_SPENT, WEBHOOK_LATE = "mail_refused", "mail_budget_spent", "webhook_late"
ACCOUNTS_AWAY = "accounts_away"  # the application's
PROBLEMS = (
    *(NO_DATABASE, READ_ONLY, ACCOUNTS_AWAY, NO_WORKER, MAIL_HELD, MAIL_REFUSED, MAIL_LATE, OUTBOX_FULL),
    *(BUDGET_SPENT, WEBHOOK_LATE),
)
UNTRIED_MAIL = (
    outbox.UNTRIED,
    OutboxMessage.refused_at.is_(None),  # an attempt that ended in a refusal was given back
    OutboxMessage.kind.not_in((outbox.WEBHOOK, quota.INVITATION)),  # invitations may wait
)
WAITING_EVENT = (outbox.EVENTS, OutboxMessage.state == "waiting")


def check() -> dict[str, Any]:
    """Return the state of database, worker and mail (None is unknown), and all problems. Never raises.

    `reason`: why accounts are away, or mail is held or refused, with the likely setting.
    Not reported, because it would reveal that an account exists: a delay below RECOVERY_READY_MAIL_AGE, and a
    temporary failure at any age that the relay blames on the recipient, or while it accepts other mail.
    """
    problem = NO_DATABASE
    try:
        troubles, refusal, misfit = worker_troubles(), reason_refused(), reason_accounts_away()
        conditions = {
            ACCOUNTS_AWAY: misfit is not None,
            NO_WORKER: not troubles and (current().sends_mail or current().RECOVERY_WEBHOOK_URL),
            MAIL_HELD: any(troubles),
            MAIL_REFUSED: refusal is not None,
            MAIL_LATE: is_late(*UNTRIED_MAIL),
            OUTBOX_FULL: quota.is_full(),
            BUDGET_SPENT: any(map(quota.is_exhausted, (quota.RESET, quota.REGISTRATION))),
            WEBHOOK_LATE: is_late(*WAITING_EVENT),
        }
        problem = READ_ONLY  # a file, or a standby
        change(update(WorkerHeartbeat).where(false()).values(trouble=None))
        db.session.rollback()
    except SQLAlchemyError:
        db.session.rollback()
        return {"database": False, "worker": None, "mail": None, "problems": [problem], "reason": None}
    problems = [problem for problem, is_true in conditions.items() if is_true]
    mail = current().sends_mail and set(problems) <= {NO_WORKER, WEBHOOK_LATE}
    reason = next(filter(None, [misfit, *troubles]), refusal)
    state = {"database": True, "worker": bool(troubles), "mail": mail}
    return {**state, "problems": problems, "reason": reason}


def reason_accounts_away() -> str | None:
    """Return why the application's accounts cannot be used, or None. Looks at no account."""
    try:
        foreign.probe()
    except AccountsAway as error:
        db.session.rollback()
        return str(error)
    return None


def is_late(*messages: TextClause | ColumnElement[bool]) -> bool:
    """True if one of these messages has waited for RECOVERY_READY_MAIL_AGE or longer."""
    latest = instant(-current().RECOVERY_READY_MAIL_AGE.total_seconds())
    late = select(OutboxMessage.id).where(*messages, OutboxMessage.created_at < latest)
    return db.session.scalar(late.order_by(OutboxMessage.created_at).limit(1)) is not None


def reason_refused() -> str | None:
    """Return why a mail is set aside, or was first tried in vain RECOVERY_READY_MAIL_AGE ago, or None."""
    is_old = OutboxMessage.refused_at < instant(-current().RECOVERY_READY_MAIL_AGE.total_seconds())
    refused = select(OutboxMessage.reason).where(REFUSED, or_(IS_ASIDE, is_old))
    return db.session.scalar(refused.order_by(OutboxMessage.refused_at).limit(1))
