"""Reset links: a link's whole life.

    issue -> (mailed, or handed over by an admin) -> redeem
                      -> expired | superseded by a newer one | revoked by a change of the account

A token is HMAC-SHA256 over the random nonce of its message, so every attempt to send one message
carries the same link; the row here keeps only an HMAC of the token, so who can only write here can make no
link, and a SECRET_KEY that is given up takes its links along. A link remembers the account, the address
and the password it was issued for, and all three are looked at again when it is used.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING, NoReturn

from sqlalchemy import ColumnElement, select, update

from . import budget
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
from .models import ResetLink, User
from .settings import current

if TYPE_CHECKING:
    from .models import OutboxMessage

# What a link must not have been through to be usable.
OPEN = (
    ResetLink.redeemed_at.is_(None),
    ResetLink.superseded_at.is_(None),
    ResetLink.revoked_at.is_(None),
)


def token_of(message: OutboxMessage) -> str:
    """The token of this message's link: the same at each attempt, also under a key that was rotated."""
    issued = db.session.scalar(select(ResetLink.token_hash).where(ResetLink.message_id == message.id))
    tokens = tokens_of(message.nonce)
    return next((token for token in tokens if issued in _hashes(token)), tokens[0])


def issue(message: OutboxMessage, user: User, client: str, token: str) -> None:
    """Make the message's link at its first attempt, and let its life start anew at each later one, so that
    what the mail says about it is true.

    Raises Undeliverable within the cool-down, over the daily cap, and for a link that has ended.
    """
    life = current().SECURITY_RESET_PASSWORD_WITHIN.total_seconds()
    # On PostgreSQL two workers with two requests of one account take turns here.
    db.session.execute(select(User.id).where(User.id == user.id).with_for_update())
    link = db.session.scalar(select(ResetLink).where(ResetLink.message_id == message.id))
    if link is not None:
        if not is_usable(link, user):
            raise Undeliverable("its link has ended before it could be sent", user.id)
        link.expires_at, link.undelivered_at, link.token_hash = utcnow(life), None, _hashes(token)[0]
        return
    link = add(user, client, token, message.id)
    if reason := budget.why_none_for(link):
        db.session.rollback()
        raise Undeliverable(reason, link.user_id)


def add(user: User, client: str, token: str, message_id: int | None = None) -> ResetLink:
    """A new link for the account as it is now. Without a message, it is one that an admin hands over."""
    link = ResetLink(
        user_id=user.id,
        message_id=message_id,
        token_hash=_hashes(token)[0],
        email=user.email,
        password_state=_password_state(user),
        client=client,
        expires_at=utcnow(current().SECURITY_RESET_PASSWORD_WITHIN.total_seconds()),
    )
    db.session.add(link)
    db.session.flush()  # takes SQLite's write lock: what is counted next can not change
    return link


def delivered(message: OutboxMessage) -> None:
    """The relay has accepted the mail: from now on only its link works, not the earlier ones."""
    newest = select(ResetLink.id).where(ResetLink.message_id == message.id).scalar_subquery()
    _end(ResetLink.user_id == message.user_id, ResetLink.id < newest, column="superseded_at")


def revoke(*which: ColumnElement[bool]) -> None:
    """End those links that still work."""
    _end(*which, column="revoked_at")


def supersede_others(link: ResetLink) -> None:
    """From now on only this link of its account works."""
    _end(ResetLink.user_id == link.user_id, ResetLink.id != link.id, column="superseded_at")


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
    link, user, refusal = _look_at(ResetLink.token_hash.in_(_hashes(token)))
    if refusal is not None:
        raise refusal
    return link, user


def look_again(link: ResetLink) -> None:
    """Raises the LinkError that fits if the link has ended since it was looked at. A cheap question."""
    if db.session.scalar(select(ResetLink.id).where(ResetLink.id == link.id, *OPEN)) is None:
        _refuse(link.id)


def redeem(link: ResetLink, password_before: str) -> None:
    """Spend the link, in the transaction that writes the new password. One caller wins.

    The condition is looked at again under the lock that the write takes: the account is still
    active, and its address and its password are still those that were read (on PostgreSQL the
    account's row is locked, too). Raises the LinkError that fits for whoever comes second; nothing
    of the transaction is left then.
    """
    link_id = link.id
    unchanged = (
        select(User.id)
        .where(User.id == link.user_id, User.active)
        .where(User.email == link.email, User.password == password_before)
        .with_for_update()
    )
    with db.session.no_autoflush:  # the new password must not be there yet
        spent = change(
            update(ResetLink)
            .where(ResetLink.id == link.id, *OPEN, ResetLink.expires_at > utcnow())
            .where(ResetLink.user_id.in_(unchanged))
            .values(redeemed_at=utcnow())
        )
    if not spent:
        _refuse(link_id)
    supersede_others(link)


def _look_at(which: ColumnElement[bool]) -> tuple[ResetLink, User, LinkError | None]:
    """A link, its account, and why it can not be used, if it can not. Raises LinkInvalid for none."""
    row = db.session.execute(
        select(ResetLink, User, ResetLink.expires_at <= utcnow())
        .join(User, User.id == ResetLink.user_id)
        .where(which)
    ).first()
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
    link, user, refusal = _look_at(ResetLink.id == link_id)
    raise refusal or LinkUsed().about(user.id, link.client)


def _end(*which: ColumnElement[bool], column: str) -> None:
    change(update(ResetLink).where(*which, *OPEN).values({column: utcnow()}))


def is_usable(link: ResetLink, user: User) -> bool:
    """Nothing has ended the link, and the account is as it was when the link was issued."""
    ended = link.redeemed_at or link.superseded_at or link.revoked_at
    unchanged = link.email == user.email and link.password_state == _password_state(user)
    return unchanged and not ended


def tokens_of(nonce: bytes) -> list[str]:
    """The token of a nonce under each valid key, the newest key first."""
    digests = (hmac.digest(key, nonce, "sha256") for key in current().keys("reset link"))
    return [base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for digest in digests]


def _hashes(token: str) -> list[str]:
    """What the database keeps of it, under each valid key, the newest first."""
    keys = current().keys("reset link look-up")
    return [hmac.digest(key, token.encode(), "sha256").hex() for key in keys]


def _password_state(user: User) -> str:
    return hashlib.sha256((user.password or "").encode()).hexdigest()
