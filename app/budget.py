"""How much mail goes out: to one account, and in all. Counted in the database, so for all workers together.

Over an account's budget nothing is issued, so nothing is superseded: nobody can end a link by asking again.
Over the budget of all, mail waits; nobody is looked up for it, so known and unknown wait alike.
"""

from __future__ import annotations

import math

from sqlalchemy import func, select

from .db import CLOCK_SLACK_SECONDS, db, utcnow
from .models import OutboxMessage, ResetLink, User
from .settings import current

COUNTED = ("reset_instructions", "registration")  # mails with a link: over the budget of all, they wait
HOUR_SECONDS = 3_600
DAY_SECONDS = 86_400


def why_none_for(link: ResetLink) -> str | None:
    """Why this link's account gets no mail now; None when it does. Call it while others can issue no link."""
    settings = current()
    cooldown = settings.RECOVERY_MAIL_COOLDOWN.total_seconds()
    recent, today = db.session.execute(
        select(
            # Whose link was cancelled, by themselves or by an admin, may need another at once.
            func.count().filter(
                ResetLink.issued_at.between(utcnow(-cooldown), utcnow(CLOCK_SLACK_SECONDS)),
                ResetLink.revoked_at.is_(None),
            ),
            func.count(),
        ).where(
            ResetLink.user_id == link.user_id,
            ResetLink.id != link.id,
            ResetLink.message_id.is_not(None),  # one that was handed over is no mail
            ResetLink.undelivered_at.is_(None),
            ResetLink.issued_at > utcnow(-max(DAY_SECONDS, cooldown)),
        )
    ).one()
    if recent:
        return "a reset mail went out a moment ago (RECOVERY_MAIL_COOLDOWN)"
    if today >= settings.RECOVERY_MAIL_DAILY_CAP:
        return "the account had its mails for today (RECOVERY_MAIL_DAILY_CAP)"
    return None


def why_no_other(kind: str, user: User, pause: float = math.inf) -> str | None:
    """The same for mail that holds no reset link, counted by its kind.

    `pause`: the longest cool-down that makes sense for it, in seconds.
    """
    settings = current()
    cooldown = min(pause, settings.RECOVERY_MAIL_COOLDOWN.total_seconds())
    # On PostgreSQL two workers with two requests of one account take turns here.
    db.session.execute(select(User.id).where(User.id == user.id).with_for_update())
    since, lately, until = (
        select(utcnow(at)).scalar_subquery()
        for at in (-max(DAY_SECONDS, cooldown), -cooldown, CLOCK_SLACK_SECONDS)
    )
    sent = (OutboxMessage.user_id == user.id, OutboxMessage.settled_at.between(since, until))
    of_kind = (OutboxMessage.kind == kind, OutboxMessage.state == "sent")
    recent, today = db.session.execute(
        select(func.count().filter(OutboxMessage.settled_at > lately), func.count()).where(*sent, *of_kind)
    ).one()
    if recent:
        return "such a mail went out a moment ago (RECOVERY_MAIL_COOLDOWN)"
    if today >= settings.RECOVERY_MAIL_DAILY_CAP:
        return "the account had its mails of this kind for today (RECOVERY_MAIL_DAILY_CAP)"
    return None


def is_spent() -> bool:
    """Whether RECOVERY_MAIL_HOURLY_MAX links went out within an hour. With several workers that look at the
    same moment, each may send one more."""
    # Asked for once, not for each row: a clock that moves can not be looked up in an index (PostgreSQL).
    since, until = (select(utcnow(at)).scalar_subquery() for at in (-HOUR_SECONDS, CLOCK_SLACK_SECONDS))
    lately = ResetLink.issued_at.between(since, until)
    last = select(ResetLink.id).where(lately).offset(current().RECOVERY_MAIL_HOURLY_MAX - 1).limit(1)
    return db.session.scalar(last) is not None
