"""Why a request for a link brings none: the state of the account, and quotas."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import humanize
from sqlalchemy import select

from ..accounts.models import User
from ..db.clock import utcnow
from ..db.engine import db
from ..mail.outbox import OutboxMessage
from ..mail.quota import DAY_SECONDS, PAUSE
from ..recovery.instructions import is_explained
from ..recovery.link import ResetLink
from ..settings import current


def reasons(user: User) -> Iterator[str]:
    """Yield why a request right now would bring no link."""
    why_not = user.reason_not_recoverable()
    if is_explained(why_not):
        yield f"A request sends an email that says how to sign in, without a link: {why_not}."
    elif why_not:
        yield f"This account gets no reset email: {why_not}."
        return
    yield from _exhausted_quotas(user)


def _exhausted_quotas(user: User) -> Iterator[str]:
    """Yield why a request right now would get no mail."""
    cooldown, cap = current().RECOVERY_MAIL_COOLDOWN, current().RECOVERY_MAIL_DAILY_CAP
    now, day = db.session.scalars(select(utcnow())).one(), timedelta(seconds=DAY_SECONDS)
    mailed = ResetLink.message_id.in_(select(OutboxMessage.id).where(OutboxMessage.quota == ""))
    counted = (ResetLink.issued_at > now - max(day, cooldown), mailed)
    newest_first = select(ResetLink).where(*mailed_to(user), *counted).order_by(ResetLink.issued_at.desc())
    links = db.session.scalars(newest_first).all()
    times = [link.issued_at for link in links if link.is_current()]
    if times and times[0] + cooldown > now:
        pause = _span(times[0] + cooldown - now)
        yield (
            f"A reset email went out a moment ago; the next one can go out in {pause}"
            " (RECOVERY_MAIL_COOLDOWN)."
        )
    if len(links) + len(times) >= 2 * cap and links[0].issued_at + PAUSE > now:  # as quota.refuse_excess()
        yield (
            f"The account had its {cap} reset emails in 24 hours: one goes out every {_span(PAUSE)}, the next"
            f" in {_span(links[0].issued_at + PAUSE - now)} (RECOVERY_MAIL_DAILY_CAP)."
        )


def mailed_to(user: User) -> tuple[Any, ...]:
    """Select an account's links, without those whose message was given up."""
    mail = select(OutboxMessage.id).where(OutboxMessage.id == ResetLink.message_id)
    return ResetLink.user_id == user.id, ~mail.where(
        OutboxMessage.state.in_(("given_up", "dropped"))
    ).exists()


def _span(pause: timedelta) -> str:
    return humanize.precisedelta(max(pause, timedelta(seconds=1)), minimum_unit="seconds", format="%0.0f")
