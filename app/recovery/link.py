"""The reset link, from issue to its end: redeemed, superseded, revoked or expired.

A link is superseded when another link of its account is redeemed. Requesting another link ends none.

The token is HMAC-SHA256 over the nonce of the link's message, so every attempt to send it carries the same
link. The row keeps only a keyed hash of the token, so write access to the database makes no working link.
"""

import base64
import hashlib
import hmac
from datetime import datetime, timedelta

from flask_security.confirmable import requires_confirmation
from flask_security.proxies import _datastore
from sqlalchemy import ColumnElement, ForeignKey, Index, String, select, update
from sqlalchemy.orm import Mapped, column_property, joinedload, mapped_column, relationship

from ..accounts import foreign
from ..accounts.datastore import lock_account, unchanged_account
from ..accounts.models import User
from ..db.clock import utcnow
from ..db.encryption import keyed_hash, keyed_hashes
from ..db.engine import Model, change, db
from ..mail.outbox import OutboxMessage
from ..settings import current
from . import link_errors as errors

DOUBLE_CLICK_SECONDS = 60  # a second click on a button comes sooner


class ResetLink(Model):
    """A link, issued for an account, its address and its password."""

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    message_id: Mapped[int | None] = mapped_column(
        ForeignKey("outbox_message.id", ondelete="SET NULL"), unique=True
    )  # None: an admin handed it over
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    email: Mapped[str] = mapped_column(String(255))
    password_state: Mapped[str] = mapped_column(String(64))  # fingerprint of the password hash it may replace
    client: Mapped[str] = mapped_column(String(40))  # the front end on which it lands
    kind: Mapped[str] = mapped_column(String(40), default="")  # of its message
    username: Mapped[str | None] = mapped_column(String(64))  # of a sign-up, for an account without one
    issued_at: Mapped[datetime] = mapped_column(default=utcnow(), index=True)
    expires_at: Mapped[datetime] = mapped_column()
    opened_at: Mapped[datetime | None]  # for the first time; mail scanners open links, too
    redeemed_at: Mapped[datetime | None]
    redeemed_by: Mapped[str | None] = mapped_column(String(64))  # keyed hash of a browser's cookie
    password_written: Mapped[str | None] = mapped_column(String(64))  # fingerprint of the hash it wrote
    superseded_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    user: Mapped[User] = relationship()
    is_expired: Mapped[bool] = column_property(expires_at <= utcnow())  # when the link was loaded

    __table_args__ = (
        Index("ix_reset_link_user_id_issued_at", "user_id", "issued_at"),
        Index("ix_reset_link_kind_issued_at", "kind", "issued_at"),
    )

    @property
    def is_lost(self) -> bool:
        """True if a crash between the commits of two files has lost the password that it set (SQLite)."""
        has_two_files = current().RECOVERY_ACCOUNTS.file and self.redeemed_at
        return bool(has_two_files) and self.password_state == fingerprint(self.user.password)

    @property
    def is_redeemed(self) -> bool:
        return self.redeemed_at is not None and not self.is_lost

    def is_current(self) -> bool:
        """True while the link has not ended and its account is as it was when the link was issued."""
        has_ended = self.is_redeemed or self.superseded_at or self.revoked_at
        account = (self.user.email, fingerprint(self.user.password))
        return not has_ended and (self.email, self.password_state) == account

    def refusal(self) -> errors.LinkError | None:
        """Return why the link cannot be used, or None."""
        # Only another sign-up brings such an account a new link.
        is_sign_up = self.kind == "registration" and current().SECURITY_REGISTERABLE
        may_sign_up = is_sign_up and requires_confirmation(self.user)
        refusals = (
            (self.is_redeemed, errors.LinkUsed),
            (self.superseded_at, errors.LinkSuperseded),
            (self.revoked_at, errors.LinkRevoked),
            (self.is_expired, errors.SignUpExpired if may_sign_up else errors.LinkExpired),
            (self.user.reason_not_recoverable(confirmed=True), errors.AccountUnavailable),
            (not self.is_current(), errors.LinkRevoked),
        )
        error = next((error for reason, error in refusals if reason), None)
        return error(user_id=self.user_id, client=self.client) if error else None


OPEN = (ResetLink.redeemed_at.is_(None), ResetLink.superseded_at.is_(None), ResetLink.revoked_at.is_(None))


def issue(
    user: User, client: str, token: str, life: timedelta, message: OutboxMessage | None = None
) -> ResetLink:
    """Add a link for the account as it is now. Without a message, an admin hands it over. Flushes."""
    link = ResetLink(
        user_id=user.id,
        message_id=message and message.id,
        token_hash=token_hashes(token)[0],
        email=user.email,
        password_state=fingerprint(user.password),
        client=client,
        kind=message.kind if message else "",
        username=message and message.content.get("username"),
        expires_at=utcnow(life.total_seconds()),
    )
    db.session.add(link)
    db.session.flush()
    return link


def find(criterion: ColumnElement[bool]) -> ResetLink:
    """Return the link with its account, usable or not. Raises LinkInvalid if there is none."""
    with_account = select(ResetLink).options(joinedload(ResetLink.user, innerjoin=True))
    link = db.session.scalar(with_account.where(criterion))
    if link is None:
        raise errors.LinkInvalid
    return link


def resolve(token: str) -> ResetLink:
    """Return a usable link. Raises the LinkError that says why it cannot be used."""
    link = find(ResetLink.token_hash.in_(token_hashes(token)))
    if link.user.external_id and link.refusal():
        db.session.refresh(link)  # it was read before its account, and a redemption may have come between
    if error := link.refusal():
        raise error
    return link


def redeem(link: ResetLink, password_hash: str, browser: str | None) -> None:
    """Redeem the link in the transaction that writes the new password. One of several callers wins.

    The UPDATE checks again, under its lock, that the link is open and that the account's address and password
    are those that were read. On PostgreSQL it locks the account's row, too. In an application's table, the
    account is checked and written first.

    Rolls back and raises a LinkError if another caller was first.
    """
    user, this, is_open = link.user, ResetLink.id == link.id, OPEN[1:] if link.is_lost else OPEN
    is_written = foreign.write_password(user, password_hash) if user.external_id else True
    unchanged = select(User.id).where(*unchanged_account(user)).with_for_update()
    is_usable = (*is_open, ResetLink.expires_at > utcnow(), ResetLink.user_id.in_(unchanged))
    redeemed = {
        "redeemed_at": utcnow(),
        "redeemed_by": browser and keyed_hash(browser),
        "password_written": fingerprint(password_hash),
    }
    if not (is_written and change(update(ResetLink).where(this, *is_usable).values(redeemed))):
        db.session.rollback()
        link = find(this)
        raise link.refusal() or errors.LinkUsed(user_id=link.user_id, client=link.client)
    siblings = update(ResetLink).where(ResetLink.user_id == user.id, ResetLink.id != link.id, *OPEN)
    change(siblings.values(superseded_at=utcnow()))
    name = link.username
    if name and not user.username and not _datastore.find_user(case_insensitive=True, username=name):
        user.username = name


def revoke(*criteria: ColumnElement[bool]) -> None:
    """Revoke the selected links that have not ended."""
    change(update(ResetLink).where(*criteria, *OPEN).values(revoked_at=utcnow()))


def revoke_all_of(user_id: int) -> None:
    """Revoke every link of an account. A concurrent redemption is over, or finds its link revoked."""
    lock_account(user_id)
    revoke(ResetLink.user_id == user_id)


def derive_tokens(nonce: bytes) -> list[str]:
    """Return the token that each valid key derives from a nonce, the newest key first."""
    digests = (hmac.digest(key, nonce, "sha256") for key in current().derive_keys("reset link"))
    return [base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for digest in digests]


def token_hashes(token: str) -> list[str]:
    """Return the keyed hash of a token under each valid key, the newest key first."""
    return keyed_hashes(token, "reset link look-up")


def fingerprint(password_hash: str | None) -> str:
    """Return the fingerprint of a password hash, by which a link recognizes it."""
    return hashlib.sha256((password_hash or "").encode()).hexdigest()
