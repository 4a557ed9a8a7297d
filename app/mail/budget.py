"""How much mail goes out: to one account, and in all. Counted in the database, so for all workers together.

While a quota for all mail is exhausted, mail waits; no account is looked up for it, so known and unknown
requests wait alike.
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
_quotas: list[Callable[[], bool]] = []


def quota(is_exhausted: Callable[[], bool]) -> Callable[[], bool]:
    """Register a check that is True while mail with links has to wait."""
    _quotas.append(is_exhausted)
    return is_exhausted


def is_spent() -> bool:
    """True while any quota for all mail is exhausted."""
    return any(is_exhausted() for is_exhausted in _quotas)


def why_no_other(kind: str, user: User, pause: float = math.inf) -> str | None:
    """Return why an account may have no other mail of a kind now; None if it may. For mail without a link.

    `pause`: the longest cool-down that makes sense for it, in seconds.
    """
    settings = current()
    cooldown = min(pause, settings.RECOVERY_MAIL_COOLDOWN.total_seconds())
    # On PostgreSQL two workers with two requests of one account take turns here.
    db.session.execute(select(User.id).where(User.id == user.id).with_for_update())
    settled_at = OutboxMessage.settled_at
    sent = (OutboxMessage.user_id == user.id, OutboxMessage.kind == kind, OutboxMessage.state == "sent")
    # The clock as a subquery is asked once, so that an index helps.
    since, lately, until = (
        select(utcnow(at)).scalar_subquery()
        for at in (-max(DAY_SECONDS, cooldown), -cooldown, CLOCK_SLACK_SECONDS)
    )
    counts = select(func.count().filter(settled_at > lately), func.count())
    recent, today = db.session.execute(counts.where(*sent, settled_at.between(since, until))).one()
    if recent:
        return "such a mail went out a moment ago (RECOVERY_MAIL_COOLDOWN)"
    if today >= settings.RECOVERY_MAIL_DAILY_CAP:
        return "the account had its mails of this kind for today (RECOVERY_MAIL_DAILY_CAP)"
    return None
