"""The reset link: its columns, its life, and the errors of a link that cannot be used.

    issue -> redeem | expire | revoke | be superseded, when another link of the account is redeemed

The token is HMAC-SHA256 over the nonce of the link's message, so every attempt to send a message carries the
same link. The row keeps only a keyed hash of the token: write access to the database makes no link, and a
SECRET_KEY that is given up takes its links along. Asking for another link ends none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime
from typing import NamedTuple

from flask_babel import lazy_gettext as _l
from sqlalchemy import ColumnElement, ForeignKey, Index, String, select, update
from sqlalchemy.orm import Mapped, mapped_column

from ..accounts.models import User
from ..db.clock import utcnow
from ..db.encryption import keyed_hash
from ..db.engine import Model, change, db
from ..settings import current
from ..web.errors import RequestError

REPEAT_SECONDS = 60  # two clicks on one button are less apart


class LinkError(RequestError):
    """A reset link that cannot be used."""

    title = _l("This link does not work")
    user_id: int | None = None  # for the audit trail only
    client: str = "default"  # the front end that is told

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
    title = _l("Another link was used")
    message = _l("Your password was set with another link, which ended this one. Ask for a new one.")


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
    """A link, and what it was issued for: an account, its address and its password."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    message_id: Mapped[int | None] = mapped_column(
        ForeignKey("outbox_message.id", ondelete="SET NULL"), unique=True
    )  # None: an admin hands it over
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    email: Mapped[str] = mapped_column(String(255))
    password_state: Mapped[str] = mapped_column(String(64))  # fingerprint of the password hash it may replace
    client: Mapped[str] = mapped_column(String(40))  # the front end it lands on
    issued_at: Mapped[datetime] = mapped_column(default=utcnow(), index=True)
    expires_at: Mapped[datetime]
    opened_at: Mapped[datetime | None]  # for the first time; a mail scanner opens links, too
    redeemed_at: Mapped[datetime | None]
    redeemed_by: Mapped[str | None] = mapped_column(String(64))  # keyed hash of a browser's handle
    password_written: Mapped[str | None] = mapped_column(String(64))  # fingerprint of the hash it wrote
    superseded_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    undelivered_at: Mapped[datetime | None]  # its mail was given up, and counts against no quota

    __table_args__ = (Index("ix_reset_link_user_id_issued_at", "user_id", "issued_at"),)

    def is_usable(self, user: User) -> bool:
        """True while nothing has ended it and the account is as it was when it was issued."""
        has_ended = self.redeemed_at or self.superseded_at or self.revoked_at
        return not has_ended and (self.email, self.password_state) == (user.email, fingerprint(user.password))


OPEN = (ResetLink.redeemed_at.is_(None), ResetLink.superseded_at.is_(None), ResetLink.revoked_at.is_(None))


class Found(NamedTuple):
    """A link with its account, and what the database's clock says of it."""

    link: ResetLink
    user: User
    is_expired: bool
    is_repeatable: bool  # redeemed less than REPEAT_SECONDS ago

    def refusal(self) -> LinkError | None:
        """Return why the link cannot be used; None if it can."""
        link, user = self.link, self.user
        refusals = (
            (link.redeemed_at, LinkUsed),
            (link.superseded_at, LinkSuperseded),
            (link.revoked_at, LinkRevoked),
            (self.is_expired, LinkExpired),
            (user.why_not_recoverable(confirmed=True), AccountUnavailable),
            (not link.is_usable(user), LinkRevoked),
        )
        return next((error().about(user.id, link.client) for reason, error in refusals if reason), None)


def find(*which: ColumnElement[bool]) -> Found:
    """Return the link, usable or not. Raises LinkInvalid for none."""
    just_now = ResetLink.redeemed_at > utcnow(-REPEAT_SECONDS)
    with_account = select(ResetLink, User, ResetLink.expires_at <= utcnow(), just_now).join(
        User, User.id == ResetLink.user_id
    )
    row = db.session.execute(with_account.where(*which)).first()
    if row is None:
        raise LinkInvalid
    return Found(*row)


def has_token(token: str) -> ColumnElement[bool]:
    return ResetLink.token_hash.in_(token_hashes(token))


def resolve(token: str) -> tuple[ResetLink, User]:
    """Return a usable link and its account. Raises the LinkError that says why it cannot be used."""
    found = find(has_token(token))
    if error := found.refusal():
        raise error
    return found.link, found.user


def redeem(link: ResetLink, user: User, password_hash: str, handle: str | None) -> None:
    """Redeem the link in the transaction that writes the new password: one caller wins.

    The conditions are looked at again under the lock that the UPDATE takes: the link is open, and the
    account's address and password are those that were read. (On PostgreSQL the account's row is locked, too.)
    Raises the LinkError that fits for the one who comes second; nothing of the transaction is left then.
    """
    unchanged = select(User.id).where(
        User.id == user.id, User.active, User.email == link.email, User.password == user.password
    )
    redeemed = {
        "redeemed_at": utcnow(),
        "redeemed_by": handle and keyed_hash(handle),
        "password_written": fingerprint(password_hash),
    }
    this, siblings = ResetLink.id == link.id, (ResetLink.user_id == user.id, ResetLink.id != link.id)
    current_link = update(ResetLink).where(this, *OPEN, ResetLink.expires_at > utcnow())
    if not change(current_link.where(ResetLink.user_id.in_(unchanged.with_for_update())).values(redeemed)):
        db.session.rollback()
        found = find(this)
        raise found.refusal() or LinkUsed().about(found.user.id, found.link.client)
    change(update(ResetLink).where(*siblings, *OPEN).values(superseded_at=utcnow()))


def revoke(*which: ColumnElement[bool]) -> None:
    """Revoke those links that still work."""
    change(update(ResetLink).where(*which, *OPEN).values(revoked_at=utcnow()))


def revoke_all_of(user_id: int) -> None:
    """Revoke every link of an account. A redemption of one has been committed, or finds it revoked."""
    # Locked in the order of a redemption, or each would wait for the other (PostgreSQL).
    db.session.execute(select(User.id).where(User.id == user_id).with_for_update())
    revoke(ResetLink.user_id == user_id)


def derive_tokens(nonce: bytes) -> list[str]:
    """Return the token of a nonce under each valid key, the newest key first."""
    digests = (hmac.digest(key, nonce, "sha256") for key in current().derive_keys("reset link"))
    return [base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for digest in digests]


def token_hashes(token: str) -> list[str]:
    """Return the keyed hash of a token under each valid key, the newest key first."""
    keys = current().derive_keys("reset link look-up")
    return [hmac.digest(key, token.encode(), "sha256").hex() for key in keys]


def fingerprint(password_hash: str | None) -> str:
    """Return what a link remembers of a password hash."""
    return hashlib.sha256((password_hash or "").encode()).hexdigest()
