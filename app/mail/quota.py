"""Mail quotas, for all mail and for one account. They hold for all workers together: the database counts.

While a quota for all mail is exhausted, mail waits before its account is looked up. So requests for known and
for unknown accounts wait alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sqlalchemy import func, select

from ..accounts.models import User
from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import db
from ..settings import current
from .outbox import OutboxMessage

DAY_SECONDS = 86_400
_checks: list[Callable[[], bool]] = []


def register(check: Callable[[], bool]) -> Callable[[], bool]:
    """Register a check that is True while mail with links has to wait."""
    _checks.append(check)
    return check


def is_exhausted() -> bool:
    """True while mail with links has to wait."""
    return any(check() for check in _checks)


def reason_exhausted(kind: str, user: User, cooldown_max: float = math.inf) -> str | None:
    """Return why an account may have no other mail of a kind now, or None. For mail without a link.

    `cooldown_max`: the longest cool-down in seconds that makes sense for this kind.
    """
    settings = current()
    cooldown = min(cooldown_max, settings.RECOVERY_MAIL_COOLDOWN.total_seconds())
    # On PostgreSQL, workers with two requests for one account take turns here.
    db.session.execute(select(User.id).where(User.id == user.id).with_for_update())
    settled_at = OutboxMessage.settled_at
    sent = (OutboxMessage.user_id == user.id, OutboxMessage.kind == kind, OutboxMessage.state == "sent")
    # The clock is a subquery, because a value for each row could use no index.
    day_ago, recently, latest = (
        select(utcnow(seconds)).scalar_subquery()
        for seconds in (-max(DAY_SECONDS, cooldown), -cooldown, CLOCK_SLACK_SECONDS)
    )
    counts = select(func.count().filter(settled_at > recently), func.count())
    recent_count, day_count = db.session.execute(
        counts.where(*sent, settled_at.between(day_ago, latest))
    ).one()
    if recent_count:
        return "such a mail went out a moment ago (RECOVERY_MAIL_COOLDOWN)"
    if day_count >= settings.RECOVERY_MAIL_DAILY_CAP:
        return "the account had its mails of this kind for today (RECOVERY_MAIL_DAILY_CAP)"
    return None
