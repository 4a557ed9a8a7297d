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
from datetime import datetime
from typing import Any, NoReturn

from flask_babel import lazy_gettext as _l
from sqlalchemy import ColumnElement, ForeignKey, Index, String, bindparam, select, update
from sqlalchemy.orm import Mapped, mapped_column

from ..accounts.models import User
from ..db.clock import utcnow
from ..db.engine import Model, change, db
from ..web.errors import RequestError
from .tokens import hashes_of


class LinkError(RequestError):
    """A reset link that can not be used."""

    title = _l("This link does not work")
    user_id: int | None = None  # whose link it was, for the audit trail only
    client: str = "default"  # the front end that hears of it

    def about(self, user_id: int | None, client: str) -> LinkError:
        self.user_id, self.client = user_id, client
        return self


class LinkInvalid(LinkError):
    code = "link_invalid"
    message = _l(
        "This link is incomplete or was not made here. Copy it whole from the mail, or ask for a new one."
    )


class LinkExpired(LinkError):
    code = "link_expired"
    title = _l("This link has expired")
    message = _l("Links only work for a short time, to keep your account safe. Ask for a new one.")


class LinkUsed(LinkError):
    code = "link_used"
    title = _l("This link was already used")
    message = _l("A link works once. If you still need to change your password, ask for a new one.")


class LinkSuperseded(LinkError):
    code = "link_superseded"
    title = _l("There is a newer link")
    message = _l("Only the newest link works. Look for the latest mail, or ask again.")


class LinkRevoked(LinkError):
    code = "link_revoked"
    title = _l("This link was cancelled")
    message = _l(
        "It was cancelled, or something about your account has changed since it was sent. Ask for a new one."
    )


class AccountUnavailable(LinkError):
    code = "account_unavailable"
    title = _l("This account can not be recovered here")
    message = _l("The account is not active at the moment. Please contact whoever runs this site.")


class ResetLink(Model):
    """A reset link; `links.py` is its life. It remembers what it was issued for."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    message_id: Mapped[int | None] = mapped_column(
        ForeignKey("outbox_message.id", ondelete="SET NULL"), unique=True
    )
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)  # HMAC-SHA256, hex
    email: Mapped[str] = mapped_column(String(255))  # the address it went to
    password_state: Mapped[str] = mapped_column(String(64))  # the password it may replace
    client: Mapped[str] = mapped_column(String(40))  # the front end it lands on
    issued_at: Mapped[datetime] = mapped_column(default=utcnow(), index=True)
    expires_at: Mapped[datetime]
    opened_at: Mapped[datetime | None]  # for the first time, by whomever: a mail scanner opens links, too
    redeemed_at: Mapped[datetime | None]
    superseded_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    undelivered_at: Mapped[datetime | None]  # its mail was given up: it does not count as a mail

    __table_args__ = (Index("ix_reset_link_user_id_issued_at", "user_id", "issued_at"),)


# What a link must not have been through to be usable.
OPEN = tuple(
    ResetLink.__table__.c[at].is_(None) for at in ("redeemed_at", "superseded_at", "revoked_at")
)  # the table's: with the class's, SQLAlchemy takes a longer way through each statement
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
    link, user, refusal = _look_at(_OF_TOKEN, hashes_of(token))
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
