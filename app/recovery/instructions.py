"""The reset instructions: find the account, check that it may be recovered, issue the link, write the mail.

Each message has one link. Which links count for cool-down, daily cap and hourly maximum is defined here;
mail/quota.py enforces them.
"""

from datetime import timedelta
from typing import Any

from flask import url_for
from flask_babel import LazyString, gettext
from flask_security import reset_password_instructions_sent
from sqlalchemy import select
from sqlalchemy.orm.exc import StaleDataError

from ..accounts.datastore import find_accounts
from ..accounts.models import NO_PASSWORD, User
from ..db.clock import CLOCK_SLACK_SECONDS, instant, utcnow
from ..db.engine import db
from ..mail import composing, quota
from ..mail.composing import Undeliverable, composer
from ..mail.outbox import OutboxMessage
from ..settings import current
from . import link as links, not_me, reset_code
from .link import OPEN, ResetLink, derive_tokens, fingerprint, token_hashes


@composer(quota.RESET, quota.INVITATION)
def compose(message: OutboxMessage) -> composing.Mail:
    """Compose the reset instructions, or an invitation. Raises Undeliverable."""
    check_age(message)
    user = find_requester(message)
    reason = user.reason_not_recoverable()
    if message.kind == quota.INVITATION and not user.is_invited:
        raise Undeliverable("the account already has a password")
    if is_explained(reason):
        mail = composing.write(message, "sign_in_help", user.email, help=LazyString(sign_in_help))
        # It counts as a link, by one that has expired and is not mailed, so quotas and times are alike.
        _issue_unless_refused(message, user, link_token(message), timedelta(0))
        return mail
    if reason:
        raise Undeliverable(reason)
    return compose_with_link(message, user, quota.RESET, objection=not_me.token_for(message))


def is_explained(reason: str | None) -> bool:
    """True if an account that cannot be recovered gets a mail that says how its owner signs in."""
    return reason == NO_PASSWORD and current().RECOVERY_PASSWORDLESS == "explain"


def sign_in_help() -> str:
    """Return RECOVERY_SIGN_IN_HELP in the current language."""
    text = current().RECOVERY_SIGN_IN_HELP
    return text and str(gettext(text))  # without a text, gettext returns the catalog's header


def check_age(message: OutboxMessage) -> None:
    """Raise Undeliverable for a message that is older than a link may be."""
    is_invitation = message.kind == quota.INVITATION
    setting = "RECOVERY_INVITATION_WITHIN" if is_invitation else "SECURITY_RESET_PASSWORD_WITHIN"
    if message.age > getattr(current(), setting):
        raise Undeliverable(f"the request is older than a link's lifetime ({setting})")


def find_requester(message: OutboxMessage) -> User:
    """Return the account with the requested identity, and write it on the message. Raises Undeliverable."""
    known = message.content.get("account")  # of an invitation, an admin's, or one of several
    accounts = [db.session.get(User, known)] if known else find_accounts(message.content["identity"])
    users = [user for user in accounts if user]
    if not users:
        raise Undeliverable("no account has this identity")
    user, message.others = users[0], tuple(other.id for other in users[1:])
    if message.others:  # any of them may be the requester, whose address and browser are no other's business
        message.content = {**message.content, "source": None, "user_agent": ""}
    message.user_id = user.id
    return user


def compose_with_link(message: OutboxMessage, user: User, template: str, **context: Any) -> composing.Mail:
    """Compose a mail and issue its link. Raises Undeliverable over a quota, or if the link has ended."""
    token = link_token(message)
    link = url_for("security.reset_password", token=token, _external=True)
    if user.is_invited:
        template, context = quota.INVITATION, {"name": message.content.get("name")}
    # Some names are Flask-Security's, so that its own templates work.
    context |= {"reset_token": token, "reset_link": link, "confirmation_link": link}
    context["reset_code"] = code = reset_code.derive(message, token) if template == quota.RESET else None
    mail = composing.write(message, template, user.email, within=user.link_life, **context)
    if template == quota.RESET:
        values = {"user": user, "token": token, "reset_token": token}
        mail.signal = (reset_password_instructions_sent, values)
    _issue_unless_refused(message, user, token, user.link_life)  # last: on SQLite it takes the write lock
    if code:
        reset_code.store(message, user, code)
    return mail


def link_token(message: OutboxMessage) -> str:
    """Return the token of a message's link, which stays the same at each attempt, even if keys rotate."""
    newest, *older = derive_tokens(message.nonce)
    link = _find_link(message) if older else None
    return next((token for token in older if link and link.token_hash in token_hashes(token)), newest)


def _issue_unless_refused(message: OutboxMessage, user: User, token: str, life: timedelta) -> None:
    """Issue the message's link at the first attempt, and renew it at each later one. Raises Undeliverable.

    The mail says how long the link works, and that is counted from the attempt that delivers it.
    """
    # On PostgreSQL, workers with two requests for one account take turns here.
    db.session.execute(select(User.id).where(User.id == user.id).with_for_update())
    link = _find_link(message)
    if is_first := link is None:
        # Before the quota is counted, because on SQLite the INSERT locks out other workers that count.
        link = links.issue(user, message.content["client"], token, life, message)
    else:
        link.expires_at, link.token_hash = utcnow(life.total_seconds()), token_hashes(token)[0]
        db.session.flush()
    db.session.refresh(user)
    db.session.refresh(link)
    if life and link.refusal():
        if is_first:
            raise StaleDataError("the account changed while its email was being written")  # try again
        raise Undeliverable("its link was no longer valid before it could be sent")
    if is_first:
        refuse_excess_links(user, message, ResetLink.id != link.id)


def _find_link(message: OutboxMessage) -> ResetLink | None:
    return db.session.scalar(select(ResetLink).where(ResetLink.message_id == message.id))


def refuse_excess_links(user: User, message: OutboxMessage, *earlier: Any) -> None:
    """Raise Undeliverable if the account may have no other link now. `earlier`: selects those before it."""
    siblings = (ResetLink.user_id == user.id, *earlier)
    # Neither a link without a mail counts, nor one whose mail was given up.
    mailed = (OutboxMessage.id == ResetLink.message_id, OutboxMessage.state.in_(("waiting", "sent")))
    is_same_quota = OutboxMessage.quota == message.quota
    # Not one that has ended, because its owner may need another at once.
    state = fingerprint(user.password)
    works = (*OPEN, ResetLink.password_state == state, ResetLink.email == user.email)
    quota.refuse_excess(message, *siblings, *mailed, is_same_quota, at=ResetLink.issued_at, works=works)


def is_hour_exhausted(kind: str) -> bool:
    """True if RECOVERY_MAIL_HOURLY_MAX links were issued within an hour. Each worker may exceed it by one."""
    in_last_hour = ResetLink.issued_at.between(instant(-3_600), instant(CLOCK_SLACK_SECONDS))
    issued = select(ResetLink.id).where(ResetLink.kind == kind, in_last_hour)
    last = issued.order_by(ResetLink.issued_at).offset(current().RECOVERY_MAIL_HOURLY_MAX - 1).limit(1)
    return db.session.scalar(last) is not None


quota.checks.append(is_hour_exhausted)
