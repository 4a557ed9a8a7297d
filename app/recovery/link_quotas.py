"""The quotas of links: cool-down and daily cap of an account, and the hourly maximum of each kind of mail."""

from __future__ import annotations

from sqlalchemy import select

from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import db
from ..mail import quota
from ..mail.outbox import OutboxMessage
from ..settings import current
from .link import OPEN, ResetLink

# The clock is a subquery, because a value for each row could use no index.
HOUR_AGO, LATEST = (select(utcnow(seconds)).scalar_subquery() for seconds in (-3_600, CLOCK_SLACK_SECONDS))


def refuse_excess(link: ResetLink, message: OutboxMessage) -> None:
    """Raise Undeliverable if the account may have no other link now."""
    siblings = (ResetLink.user_id == link.user_id, ResetLink.id != link.id)
    # Neither a link without a mail counts, nor one whose mail was given up.
    mailed = (OutboxMessage.id == ResetLink.message_id, OutboxMessage.state.in_(("waiting", "sent")))
    is_same_quota = OutboxMessage.quota == message.quota
    # Not one that has ended, because its owner may need another at once.
    works = (*OPEN, ResetLink.password_state == link.password_state, ResetLink.email == link.email)
    counted = (*siblings, *mailed, is_same_quota)
    quota.refuse_excess(message, *counted, at=ResetLink.issued_at, works=works)


def is_hour_exhausted(kind: str) -> bool:
    """True if RECOVERY_MAIL_HOURLY_MAX links were issued within an hour. Each worker may exceed it by one."""
    issued = select(ResetLink.id).where(ResetLink.kind == kind, ResetLink.issued_at.between(HOUR_AGO, LATEST))
    last = issued.order_by(ResetLink.issued_at).offset(current().RECOVERY_MAIL_HOURLY_MAX - 1).limit(1)
    return db.session.scalar(last) is not None


quota.checks.append(is_hour_exhausted)
