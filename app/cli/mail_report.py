"""Status of messages, for `outbox` and `users show`."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, or_, select

from ..accounts.models import User
from ..db.clock import utcnow
from ..db.encryption import keyed_hash
from ..db.engine import db
from ..mail import heartbeat
from ..mail.outbox import OutboxMessage
from ..pages import health
from ..recovery.link import ResetLink
from ..recovery.request import MAIL_REQUESTS, deduplication_key
from ..settings import current
from .database_checks import KIND_OF_PROBLEM
from .output import Row


def is_to(user: User) -> ColumnElement[bool]:
    """Select an account's messages, including untried requests with one of its identities."""
    names = [getattr(user, attribute) for attribute in current().SECURITY_USER_IDENTITY_ATTRIBUTES]
    kinds = [page.kind for page in MAIL_REQUESTS.values()]
    untried = [keyed_hash(deduplication_key(kind, name)) for kind in kinds for name in names if name]
    by_link = select(ResetLink.message_id).where(ResetLink.user_id == user.id)
    return or_(
        OutboxMessage.user_id == user.id, OutboxMessage.same.in_(untried), OutboxMessage.id.in_(by_link)
    )


def row(message: OutboxMessage, held: str | None) -> Row:
    """Return a message as a row. `held` is the reason why all mail is held."""
    fate = "held" if message.state == "waiting" and held else message.state
    if db.session.scalar(select(is_being_sent()).where(OutboxMessage.id == message.id)):
        fate = "being sent"
    user = message.user_id and db.session.get(User, message.user_id)
    return {
        "id": message.id,
        "mail": message.kind,
        "account": user.email if user else None,
        "asked_for": message.created_at,
        "fate": fate,
        "attempts": message.attempts,
        "reason": held if fate == "held" else message.reason,
    }


def is_being_sent() -> ColumnElement[bool]:
    """Select messages that a worker is sending now."""
    longest = utcnow(current().RECOVERY_MAIL_LEASE.total_seconds())  # further only if the clock was set back
    return and_(OutboxMessage.claim.is_not(None), OutboxMessage.due_at.between(utcnow(), longest))


def held() -> str | None:
    """Return why all mail is held, or None if a running worker can send."""
    troubles = heartbeat.worker_troubles()
    return troubles[0] if troubles and all(troubles) else None


def problems(held: str | None) -> list[str]:
    """Return the problems of /readyz in sentences."""
    lines = []
    for problem in health.check().problems:
        finding = KIND_OF_PROBLEM[problem].found(why="see manage.py check --deploy")
        is_all_held = held and problem == health.MAIL_HELD
        lines.append(f"All mail is held: {held}." if is_all_held else f"{finding.what} {finding.why}")
    return lines
