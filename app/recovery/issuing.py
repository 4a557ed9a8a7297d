"""Issuing reset links: within the quotas of the account and of the hour, one link for each message.

Over an account's quota nothing is issued, so nothing is superseded: nobody can end a link by asking again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import current_app
from sqlalchemy import Float, bindparam, func, insert, select, update

from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import change, db
from ..mail import budget
from ..mail.budget import DAY_SECONDS
from ..mail.errors import Undeliverable
from ..settings import current
from .link import LINKS, OPEN, USERS, ResetLink, is_usable, password_state
from .tokens import derive_tokens, hashes_of

if TYPE_CHECKING:
    from ..accounts.models import User
    from ..mail.outbox import OutboxMessage

HOUR_SECONDS = 3_600


def on_settled(message: OutboxMessage, state: str) -> None:
    """Settle the link of a message that holds one."""
    if state == "sent":
        delivered(message)
    else:
        undelivered(message)


def token_of(message: OutboxMessage) -> str:
    """The token of this message's link: the same at each attempt, also under a key that was rotated."""
    newest, *older = derive_tokens(message.nonce)
    if not older:
        return newest
    issued = db.session.scalar(select(ResetLink.token_hash).where(ResetLink.message_id == message.id))
    return next((token for token in older if issued in hashes_of(token)), newest)


def issue(message: OutboxMessage, user: User, client: str, token: str) -> None:
    """Make the message's link at its first attempt, and let its life start anew at each later one, so that
    what the mail says about it is true.

    Raises Undeliverable within the cool-down, over the daily cap, and for a link that has ended.
    """
    # On PostgreSQL two workers with two requests of one account take turns here.
    issued = db.session.scalar(_IN_TURN, {"user": user.id, "message": message.id})
    if issued is not None:
        link = db.session.get_one(ResetLink, issued)
        if not is_usable(link, user):
            raise Undeliverable("its link has ended before it could be sent", user.id)
        life = current().SECURITY_RESET_PASSWORD_WITHIN.total_seconds()
        link.expires_at, link.undelivered_at, link.token_hash = utcnow(life), None, hashes_of(token)[0]
        return
    number = add(user, client, token, message.id)
    reason, has_others = beside(user.id, number)
    if reason:
        user_id = user.id
        db.session.rollback()
        raise Undeliverable(reason, user_id)
    note_newest(number)
    message.supersedes = has_others


_OF_MESSAGE = USERS.outerjoin(LINKS, LINKS.c.message_id == bindparam("message"))
_IN_TURN = select(LINKS.c.id).select_from(_OF_MESSAGE).with_for_update(of=USERS)
_IN_TURN = _IN_TURN.where(USERS.c.id == bindparam("user"))
_NEW = insert(LINKS).values(expires_at=utcnow(bindparam("life", type_=Float))).returning(LINKS.c.id)
_NEWEST = select(LINKS.c.id).where(LINKS.c.message_id == bindparam("message")).scalar_subquery()
_EARLIER = update(LINKS).where(LINKS.c.user_id == bindparam("user"), LINKS.c.id < _NEWEST, *OPEN)
_EARLIER = _EARLIER.values(superseded_at=utcnow())


def add(user: User, client: str, token: str, message_id: int | None = None) -> int:
    """A new link for the account as it is now, by its number. Without a message, an admin hands it over. On
    SQLite it takes the write lock: what is counted next can not change."""
    link = {
        "user_id": user.id,
        "message_id": message_id,
        "token_hash": hashes_of(token)[0],
        "email": user.email,
        "password_state": password_state(user),
        "client": client,
        "life": current().SECURITY_RESET_PASSWORD_WITHIN.total_seconds(),
    }
    db.session.flush()  # the account may be new
    number: int = db.session.execute(_NEW, link).scalar_one()
    return number


def delivered(message: OutboxMessage) -> None:
    """The relay has accepted the mail: from now on only its link works, not the earlier ones."""
    if message.supersedes:
        db.session.execute(_EARLIER, {"user": message.user_id, "message": message.id})


def undelivered(message: OutboxMessage) -> None:
    """The mail was given up: it supersedes nothing and does not count against the account."""
    change(update(ResetLink).where(ResetLink.message_id == message.id).values(undelivered_at=utcnow()))


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
_MAILED = (LINKS.c.message_id.is_not(None), LINKS.c.undelivered_at.is_(None))  # not handed over
_OTHERS = select(
    # Whose link was cancelled, by themselves or by an admin, may need another at once.
    func.count().filter(
        *_MAILED,
        LINKS.c.issued_at.between(utcnow(bindparam("lately", type_=Float)), utcnow(CLOCK_SLACK_SECONDS)),
        LINKS.c.revoked_at.is_(None),
    ),
    func.count().filter(*_MAILED, LINKS.c.issued_at > utcnow(bindparam("day", type_=Float))),
    func.count().filter(*OPEN),
).where(LINKS.c.user_id == bindparam("user"), LINKS.c.id != bindparam("link"))


@budget.quota
def is_spent() -> bool:
    """Whether RECOVERY_MAIL_HOURLY_MAX links went out within an hour. With several workers, each may send
    one more.

    They are counted again only when those that came since the last count, whoever made them, may be too many.
    """
    most, kept = current().RECOVERY_MAIL_HOURLY_MAX, current_app.extensions
    newest = kept.pop("recovery_newest_link", None) or db.session.scalar(_NEWEST_LINK) or 0
    count, then = kept.get("recovery_budget", (most, 0))
    if newest < then or count + newest - then >= most:
        count = db.session.scalars(_COUNT).one()
        kept["recovery_budget"] = count, newest
        return count >= most
    return False


def note_newest(link_id: int) -> None:
    """The newest link is this one, of a moment ago: the next look need not ask for it."""
    current_app.extensions["recovery_newest_link"] = link_id


_NEWEST_LINK = select(func.max(LINKS.c.id))
# Asked for once, not for each row: a clock that moves can not be looked up in an index (PostgreSQL).
_SINCE, _UNTIL = (select(utcnow(at)).scalar_subquery() for at in (-HOUR_SECONDS, CLOCK_SLACK_SECONDS))
_COUNT = select(func.count()).where(LINKS.c.issued_at.between(_SINCE, _UNTIL))
