"""How much mail goes out: to one account, and in all. Counted in the database, so for all workers together.

Over an account's budget nothing is issued, so nothing is superseded: nobody can end a link by asking again.
Over the budget of all, mail waits; nobody is looked up for it, so known and unknown wait alike.
"""

from __future__ import annotations

import math
from typing import Any

from flask import current_app
from sqlalchemy import Float, bindparam, func, select

from .db import CLOCK_SLACK_SECONDS, db, utcnow
from .models import OPEN, OutboxMessage, ResetLink, User
from .settings import current

HOUR_SECONDS = 3_600
DAY_SECONDS = 86_400


def beside(user_id: int, link_id: int) -> tuple[str | None, bool]:
    """Why this account gets no mail now, beside the one of this link; None when it does. And whether it has
    another link that has not ended. Call it while others can issue no link."""
    settings = current()
    cooldown = settings.RECOVERY_MAIL_COOLDOWN.total_seconds()
    spans = {"lately": -cooldown, "day": -max(DAY_SECONDS, cooldown)}
    recent, today, others = db.session.execute(_OTHERS, {"user": user_id, "link": link_id, **spans}).one()
    reason = None
    if recent:
        reason = "a reset mail went out a moment ago (RECOVERY_MAIL_COOLDOWN)"
    elif today >= settings.RECOVERY_MAIL_DAILY_CAP:
        reason = "the account had its mails for today (RECOVERY_MAIL_DAILY_CAP)"
    return reason, others > 0


# Made once: that takes longer than to run it.
_LINKS: Any = ResetLink.__table__
_MAILED = (_LINKS.c.message_id.is_not(None), _LINKS.c.undelivered_at.is_(None))  # not handed over
_OTHERS = select(
    # Whose link was cancelled, by themselves or by an admin, may need another at once.
    func.count().filter(
        *_MAILED,
        _LINKS.c.issued_at.between(utcnow(bindparam("lately", type_=Float)), utcnow(CLOCK_SLACK_SECONDS)),
        _LINKS.c.revoked_at.is_(None),
    ),
    func.count().filter(*_MAILED, _LINKS.c.issued_at > utcnow(bindparam("day", type_=Float))),
    func.count().filter(*OPEN),
).where(_LINKS.c.user_id == bindparam("user"), _LINKS.c.id != bindparam("link"))


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
    """Whether RECOVERY_MAIL_HOURLY_MAX links went out within an hour. With several workers, each may send
    one more.

    They are counted again only when those that came since the last count, whoever made them, may be too many.
    """
    most, kept = current().RECOVERY_MAIL_HOURLY_MAX, current_app.extensions
    newest = kept.pop("recovery_newest_link", None) or db.session.scalar(_NEWEST) or 0
    count, then = kept.get("recovery_budget", (most, 0))
    if newest < then or count + newest - then >= most:
        count = db.session.scalars(_COUNT).one()
        kept["recovery_budget"] = count, newest
        return count >= most
    return False


def note_newest(link_id: int) -> None:
    """The newest link is this one, of a moment ago: the next look need not ask for it."""
    current_app.extensions["recovery_newest_link"] = link_id


_NEWEST = select(func.max(_LINKS.c.id))
# Asked for once, not for each row: a clock that moves can not be looked up in an index (PostgreSQL).
_SINCE, _UNTIL = (select(utcnow(at)).scalar_subquery() for at in (-HOUR_SECONDS, CLOCK_SLACK_SECONDS))
_COUNT = select(func.count()).where(_LINKS.c.issued_at.between(_SINCE, _UNTIL))
