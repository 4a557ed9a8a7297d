"""The cool-down between two links of an account, its daily cap, and the hourly maximum of all links."""

from __future__ import annotations

from sqlalchemy import func, select

from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import db
from ..mail import quota
from ..mail.outbox import OutboxMessage
from ..mail.quota import DAY_SECONDS
from ..settings import current
from .link import OPEN, ResetLink

# The clock is a subquery, because a value for each row could use no index.
HOUR_AGO, LATEST = (select(utcnow(seconds)).scalar_subquery() for seconds in (-3_600, CLOCK_SLACK_SECONDS))


def reason_refused(link: ResetLink) -> str | None:
    """Return why the account may have no other link now, or None."""
    settings = current()
    cooldown = settings.RECOVERY_MAIL_COOLDOWN.total_seconds()
    recent = ResetLink.issued_at.between(utcnow(-cooldown), utcnow(CLOCK_SLACK_SECONDS))
    siblings = (ResetLink.user_id == link.user_id, ResetLink.id != link.id)
    # Neither a link without a mail counts, nor one whose mail was given up.
    mailed = (OutboxMessage.id == ResetLink.message_id, OutboxMessage.state.in_(("waiting", "sent")))
    # A link that has ended starts no cool-down, because its owner may need another at once.
    still_works = (*OPEN, ResetLink.password_state == link.password_state, ResetLink.email == link.email)
    recent_count, day_count = db.session.execute(
        select(func.count().filter(recent, *still_works), func.count()).where(
            *siblings, *mailed, ResetLink.issued_at > utcnow(-max(DAY_SECONDS, cooldown))
        )
    ).one()
    if recent_count:
        return "a reset mail went out a moment ago (RECOVERY_MAIL_COOLDOWN)"
    if day_count >= settings.RECOVERY_MAIL_DAILY_CAP:
        return "the account had its mails for today (RECOVERY_MAIL_DAILY_CAP)"
    return None


@quota.register
def is_hour_exhausted() -> bool:
    """True if RECOVERY_MAIL_HOURLY_MAX links were issued within an hour. Each worker may exceed it by one."""
    issued = select(ResetLink.id).where(ResetLink.issued_at.between(HOUR_AGO, LATEST))
    last = issued.order_by(ResetLink.issued_at).offset(current().RECOVERY_MAIL_HOURLY_MAX - 1).limit(1)
    return db.session.scalar(last) is not None
