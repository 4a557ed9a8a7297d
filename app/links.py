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
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, bindparam, select, update

from . import tokens
from .db import change, db, utcnow
from .errors import (
    AccountUnavailable,
    LinkError,
    LinkExpired,
    LinkInvalid,
    LinkRevoked,
    LinkSuperseded,
    LinkUsed,
)
from .models import OPEN, ResetLink, User

LINKS: Any = ResetLink.__table__
USERS: Any = User.__table__


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
_THIS = LINKS.c.id == bindparam("link")
_STILL_OPEN = select(LINKS.c.id).where(_THIS, *OPEN)
_OTHERS = update(LINKS).where(LINKS.c.user_id == bindparam("user"), ~_THIS, *OPEN)
_OTHERS = _OTHERS.values(superseded_at=utcnow())
_AS_IT_WAS = (USERS.c.email == bindparam("address"), USERS.c.password == bindparam("before"))
_UNCHANGED = select(USERS.c.id).where(USERS.c.id == bindparam("user"), USERS.c.active, *_AS_IT_WAS)
_SPENT = update(LINKS).where(_THIS, *OPEN, LINKS.c.expires_at > utcnow())
_SPENT = _SPENT.where(LINKS.c.user_id.in_(_UNCHANGED.with_for_update())).values(redeemed_at=utcnow())


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
    unchanged = link.email == user.email and link.password_state == password_state(user)
    return unchanged and not ended


def password_state(user: User) -> str:
    return hashlib.sha256((user.password or "").encode()).hexdigest()
