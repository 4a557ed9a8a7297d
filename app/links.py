"""Reset links: a link's whole life.

    issue -> (mailed, or handed over by an admin) -> redeem
                      -> expired | superseded by a newer one | revoked by a change of the account

A token is HMAC-SHA256 over the random nonce of its message, so every attempt to send one message
carries the same link; the row here keeps only an HMAC of the token, so who can only write here can make no
link, and a SECRET_KEY that is given up takes its links along. A link remembers the account, the address
and the password it was issued for, and all three are looked at again when it is used.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import ColumnElement, Float, bindparam, insert, select, update

from . import budget, tokens
from .db import change, db, utcnow
from .errors import (
    AccountUnavailable,
    LinkError,
    LinkExpired,
    LinkInvalid,
    LinkRevoked,
    LinkSuperseded,
    LinkUsed,
    Undeliverable,
)
from .models import OPEN, ResetLink, User
from .settings import current

if TYPE_CHECKING:
    from .models import OutboxMessage


def token_of(message: OutboxMessage) -> str:
    """The token of this message's link: the same at each attempt, also under a key that was rotated."""
    newest, *older = tokens.of(message.nonce)
    if not older:
        return newest
    issued = db.session.scalar(select(ResetLink.token_hash).where(ResetLink.message_id == message.id))
    return next((token for token in older if issued in tokens.hashes_of(token)), newest)


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
        link.expires_at, link.undelivered_at, link.token_hash = utcnow(life), None, tokens.hashes_of(token)[0]
        return
    number = add(user, client, token, message.id)
    reason, has_others = budget.beside(user.id, number)
    if reason:
        user_id = user.id
        db.session.rollback()
        raise Undeliverable(reason, user_id)
    budget.note_newest(number)
    message.supersedes = has_others


_LINKS: Any = ResetLink.__table__
_USERS: Any = User.__table__
_OF_MESSAGE = _USERS.outerjoin(_LINKS, _LINKS.c.message_id == bindparam("message"))
_IN_TURN = select(_LINKS.c.id).select_from(_OF_MESSAGE).with_for_update(of=_USERS)
_IN_TURN = _IN_TURN.where(_USERS.c.id == bindparam("user"))
_NEW = insert(_LINKS).values(expires_at=utcnow(bindparam("life", type_=Float))).returning(_LINKS.c.id)
_NEWEST = select(_LINKS.c.id).where(_LINKS.c.message_id == bindparam("message")).scalar_subquery()
_EARLIER = update(_LINKS).where(_LINKS.c.user_id == bindparam("user"), _LINKS.c.id < _NEWEST, *OPEN)
_EARLIER = _EARLIER.values(superseded_at=utcnow())


def add(user: User, client: str, token: str, message_id: int | None = None) -> int:
    """A new link for the account as it is now, by its number. Without a message, an admin hands it over. On
    SQLite it takes the write lock: what is counted next can not change."""
    link = {
        "user_id": user.id,
        "message_id": message_id,
        "token_hash": tokens.hashes_of(token)[0],
        "email": user.email,
        "password_state": _password_state(user),
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


def revoke(*which: ColumnElement[bool]) -> None:
    """End those links that still work."""
    change(update(ResetLink).where(*which, *OPEN).values(revoked_at=utcnow()))


def supersede_others(link: ResetLink) -> None:
    """From now on only this link of its account works."""
    change(_OTHERS, {"user": link.user_id, "link": link.id})


def open_first(link: ResetLink) -> bool:
    """Note that it was opened. True for the first time."""
    first = update(ResetLink).where(ResetLink.id == link.id, ResetLink.opened_at.is_(None))
    return change(first.values(opened_at=utcnow())) == 1


def undelivered(message: OutboxMessage) -> None:
    """The mail was given up: it supersedes nothing and does not count against the account."""
    change(update(ResetLink).where(ResetLink.message_id == message.id).values(undelivered_at=utcnow()))


def resolve(token: str) -> tuple[ResetLink, User]:
    """The link that belongs to a token, and its account. Changes nothing.

    Raises the LinkError that says why it can not be used.
    """
    link, user, refusal = _look_at(_OF_TOKEN, tokens.hashes_of(token))
    if refusal is not None:
        raise refusal
    return link, user


def look_again(link: ResetLink) -> None:
    """Raises the LinkError that fits if the link has ended since it was looked at. A cheap question."""
    if db.session.scalar(_STILL_OPEN, {"link": link.id}) is None:
        _refuse(link.id)


def redeem(link: ResetLink, password_before: str) -> None:
    """Spend the link, in the transaction that writes the new password. One caller wins.

    The condition is looked at again under the lock that the write takes: the account is still
    active, and its address and its password are still those that were read (on PostgreSQL the
    account's row is locked, too). Raises the LinkError that fits for whoever comes second; nothing
    of the transaction is left then.
    """
    link_id = link.id
    account = {"user": link.user_id, "address": link.email, "before": password_before}
    with db.session.no_autoflush:  # the new password must not be there yet
        spent = change(_SPENT, {"link": link_id, **account})
    if not spent:
        _refuse(link_id)
    supersede_others(link)


_WITH_ACCOUNT = select(ResetLink, User, ResetLink.expires_at <= utcnow())
_WITH_ACCOUNT = _WITH_ACCOUNT.join(User, User.id == ResetLink.user_id)
_OF_TOKEN = _WITH_ACCOUNT.where(ResetLink.token_hash.in_(bindparam("which", expanding=True)))
_OF_NUMBER = _WITH_ACCOUNT.where(ResetLink.id == bindparam("which"))
_THIS = _LINKS.c.id == bindparam("link")
_STILL_OPEN = select(_LINKS.c.id).where(_THIS, *OPEN)
_OTHERS = update(_LINKS).where(_LINKS.c.user_id == bindparam("user"), ~_THIS, *OPEN)
_OTHERS = _OTHERS.values(superseded_at=utcnow())
_AS_IT_WAS = (_USERS.c.email == bindparam("address"), _USERS.c.password == bindparam("before"))
_UNCHANGED = select(_USERS.c.id).where(_USERS.c.id == bindparam("user"), _USERS.c.active, *_AS_IT_WAS)
_SPENT = update(_LINKS).where(_THIS, *OPEN, _LINKS.c.expires_at > utcnow())
_SPENT = _SPENT.where(_LINKS.c.user_id.in_(_UNCHANGED.with_for_update())).values(redeemed_at=utcnow())


def _look_at(links: Any, which: list[str] | int) -> tuple[ResetLink, User, LinkError | None]:
    """A link, its account, and why it can not be used, if it can not. Raises LinkInvalid for none."""
    row = db.session.execute(links, {"which": which}).first()
    if row is None:
        raise LinkInvalid
    link, user, expired = row
    refusals = (
        (link.redeemed_at, LinkUsed),
        (link.superseded_at, LinkSuperseded),
        (link.revoked_at, LinkRevoked),
        (expired, LinkExpired),
        (user.why_not_recoverable(confirmed=True), AccountUnavailable),
        (not is_usable(link, user), LinkRevoked),
    )
    refusal = next((kind().about(user.id, link.client) for reason, kind in refusals if reason), None)
    return link, user, refusal


def _refuse(link_id: int) -> NoReturn:
    """Leave nothing of the transaction, and say why the link can not be used any more."""
    db.session.rollback()
    link, user, refusal = _look_at(_OF_NUMBER, link_id)
    raise refusal or LinkUsed().about(user.id, link.client)


def is_usable(link: ResetLink, user: User) -> bool:
    """Nothing has ended the link, and the account is as it was when the link was issued."""
    ended = link.redeemed_at or link.superseded_at or link.revoked_at
    unchanged = link.email == user.email and link.password_state == _password_state(user)
    return unchanged and not ended


def _password_state(user: User) -> str:
    return hashlib.sha256((user.password or "").encode()).hexdigest()
