"""Issue reset links: one for each message, within the quotas of the account and of the hour."""

from __future__ import annotations

from sqlalchemy import func, select, update

from ..accounts.models import User
from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import change, db
from ..mail import budget
from ..mail.budget import DAY_SECONDS
from ..mail.errors import Undeliverable
from ..mail.outbox import OutboxMessage
from ..settings import current
from .link import OPEN, ResetLink, derive_tokens, fingerprint, token_hashes

HOUR_SECONDS = 3_600


class AccountChanged(Exception):
    """The account changed while its mail was written. The next attempt writes it anew."""


def token_of(message: OutboxMessage) -> str:
    """Return the token of a message's link: the same at each attempt, also under a key that was rotated."""
    newest, *older = derive_tokens(message.nonce)
    issued = _link_of(message) if older else None
    return next((token for token in older if issued and issued.token_hash in token_hashes(token)), newest)


def issue(message: OutboxMessage, user: User, client: str, token: str) -> None:
    """Issue the message's link at its first attempt. At each later one its life starts anew, so that the mail
    tells the truth about it.

    Raises Undeliverable over a quota of the account, and for a link that has ended.
    """
    # On PostgreSQL two workers with two requests of one account take turns here.
    db.session.execute(select(User.id).where(User.id == user.id).with_for_update())
    if link := _link_of(message):
        db.session.refresh(user)
        if not link.is_usable(user):
            raise Undeliverable("its link has ended before it could be sent", user.id)
        life = current().SECURITY_RESET_PASSWORD_WITHIN.total_seconds()
        link.expires_at, link.undelivered_at, link.token_hash = utcnow(life), None, token_hashes(token)[0]
        return
    # Added before it is counted: on SQLite that takes the write lock, so no other worker counts meanwhile.
    link = add(user, client, token, message.id)
    db.session.refresh(user)
    if not link.is_usable(user):
        raise AccountChanged("the account changed while its mail was written")
    if reason := _reason_exhausted(link):
        user_id = user.id
        db.session.rollback()
        raise Undeliverable(reason, user_id)


def add(user: User, client: str, token: str, message_id: int | None = None) -> ResetLink:
    """Add a link for the account as it is now. Without a message, an admin hands it over."""
    link = ResetLink(
        user_id=user.id,
        message_id=message_id,
        token_hash=token_hashes(token)[0],
        email=user.email,
        password_state=fingerprint(user.password),
        client=client,
        expires_at=utcnow(current().SECURITY_RESET_PASSWORD_WITHIN.total_seconds()),
    )
    db.session.add(link)
    db.session.flush()
    return link


def on_settled(message: OutboxMessage, state: str) -> None:
    """Release the quota of a link whose mail was given up."""
    if state != "sent":
        undelivered = update(ResetLink).where(ResetLink.message_id == message.id)
        change(undelivered.values(undelivered_at=utcnow()))


def _link_of(message: OutboxMessage) -> ResetLink | None:
    return db.session.scalar(select(ResetLink).where(ResetLink.message_id == message.id))


def _reason_exhausted(link: ResetLink) -> str | None:
    """Return why the account may have no other link now; None if it may."""
    settings = current()
    cooldown = settings.RECOVERY_MAIL_COOLDOWN.total_seconds()
    recent = ResetLink.issued_at.between(utcnow(-cooldown), utcnow(CLOCK_SLACK_SECONDS))
    mailed = (ResetLink.message_id.is_not(None), ResetLink.undelivered_at.is_(None))
    siblings = (ResetLink.user_id == link.user_id, ResetLink.id != link.id)
    # A link that has ended counts for no cool-down, because its owner may need another at once.
    still_works = (*OPEN, ResetLink.password_state == link.password_state, ResetLink.email == link.email)
    lately, today = db.session.execute(
        select(func.count().filter(recent, *still_works), func.count()).where(
            *siblings, *mailed, ResetLink.issued_at > utcnow(-max(DAY_SECONDS, cooldown))
        )
    ).one()
    if lately:
        return "a reset mail went out a moment ago (RECOVERY_MAIL_COOLDOWN)"
    if today >= settings.RECOVERY_MAIL_DAILY_CAP:
        return "the account had its mails for today (RECOVERY_MAIL_DAILY_CAP)"
    return None


@budget.quota
def is_hour_exhausted() -> bool:
    """True if RECOVERY_MAIL_HOURLY_MAX links were issued within an hour. Several workers may exceed it by one
    each.
    """
    # The clock as a subquery is asked once, so that an index helps.
    since, until = (select(utcnow(at)).scalar_subquery() for at in (-HOUR_SECONDS, CLOCK_SLACK_SECONDS))
    issued = select(ResetLink.id).where(ResetLink.issued_at.between(since, until))
    last = issued.order_by(ResetLink.issued_at).offset(current().RECOVERY_MAIL_HOURLY_MAX - 1).limit(1)
    return db.session.scalar(last) is not None
