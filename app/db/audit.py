"""The audit trail: one event for each step of an account's recovery, in the database and in the log.

An event holds its kind, time (UTC), reason, account, IP address, client and request, but no email address, no
token and no input. Rows are never changed, and deleted by age alone (retention).
"""

import logging
import random
from datetime import datetime
from typing import Any

from flask import g, has_request_context, request
from sqlalchemy import ForeignKey, Index, String, event as listeners, insert, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from .clock import utcnow
from .engine import Model, db

log = logging.getLogger(__name__)
ENTERED = text("kind = 'code_entered'")  # SQL text, because it is a part of an index


class RecoveryEvent(Model):
    """One event of the audit trail."""

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utcnow(), index=True)
    kind: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str | None] = mapped_column(String(255))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"), index=True)
    source: Mapped[str | None] = mapped_column(String(45))  # the IP address of the request
    client: Mapped[str | None] = mapped_column(String(40))
    request_id: Mapped[str | None] = mapped_column(String(32))
    seconds: Mapped[float | None]  # from the request of a mail until its acceptance by the mail server

    __table_args__ = (
        Index("ix_recovery_event_kind_at", "kind", "at"),
        Index("ix_recovery_event_code", "request_id", sqlite_where=ENTERED, postgresql_where=ENTERED),
    )


# Every kind of event, with its outcome for the requester.
OUTCOMES = {
    "requested": "success",  # of a mail, before any account is looked up
    "code_entered": "success",  # before it is compared; the request is the id with which it was asked for
    "mail_sent": "success",
    "mail_dropped": "failure",  # the reason says why it must not be sent
    "mail_given_up": "failure",  # the reason is the last error
    "mail_retried": "success",  # by an admin
    "mail_discarded": "success",  # by an admin
    "opened": "success",  # a link, for the first time, which may be by a mail scanner
    "refused": "failure",  # a link that came with a new password
    "password_refused": "failure",
    "redeemed": "success",
    "registered": "success",
    "password_changed": "success",  # by its owner or an admin, or withdrawn
    "address_requested": "success",  # a change of address, by a user who is signed in
    "address_changed": "success",
    "factor_changed": "success",  # the reason says which, and if it was added or removed
    "account_changed": "success",  # likewise: active, confirmed, frozen by an objection, or a role
    "address_settled": "success",  # by the owner; the reason is the address that was kept: old or new
    "revoked": "success",  # a link
    "not_me": "success",  # "This wasn't me", from the owner of an account
    "admin": "success",  # a command
    "signed_in": "success",
    "sign_in_refused": "failure",
}
LOG_ONLY = ("signed_in", "sign_in_refused")  # without a row in the database


def record(
    kind: str,
    *,
    reason: str | None = None,
    user_id: int | None = None,
    client: str | None = None,
    about: str | None = None,
    seconds: float | None = None,
) -> None:
    """Add an event to the current transaction. It is logged if and only if the transaction commits.

    Kinds in LOG_ONLY are logged at once. `about` is the name of a message, for events outside of a request.
    """
    has_request = has_request_context()
    values = {
        "reason": reason,
        "user_id": user_id,
        "source": request.remote_addr if has_request else None,
        "client": client,
        "request_id": about or (request_id() if has_request else None),
        "seconds": seconds,
    }
    if kind in LOG_ONLY:
        _log(kind, values)
        return
    db.session.execute(insert(db.metadata.tables["recovery_event"]), {"kind": kind, **values})
    db.session().info.setdefault("events", []).append((kind, values))


def request_id() -> str:
    """Return the id of the request, which appears in events, in the log and on error pages."""
    return str(g.setdefault("request_id", f"{random.getrandbits(64):016x}"))  # no secret


@listeners.listens_for(db.session, "after_commit")
def _log_events(session: Session) -> None:
    """Log events after the commit, because a log that blocks must not hold the database's write lock."""
    for kind, values in session.info.pop("events", []):
        _log(kind, values)


@listeners.listens_for(db.session, "after_soft_rollback")
def _forget_notes(session: Session, _previous: Any) -> None:
    session.info.clear()  # also the notes of accounts/changes.py


def _log(kind: str, values: dict[str, Any]) -> None:
    extra = {name: value for name, value in values.items() if value is not None}
    level = logging.WARNING if kind == "not_me" else logging.INFO
    log.log(level, "%s", kind, extra={"audit": True, "outcome": OUTCOMES[kind], **extra})
