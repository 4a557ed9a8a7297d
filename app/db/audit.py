"""The audit trail: one event for each thing that happens to an account's recovery, in table and log.

An event is a fact: what, when (UTC), how it ended, whose account, from where, through which client, in which
request. It holds no address of a person, no token, nothing that was typed. Rows are added here, never
changed, and deleted by age alone (retention).
"""

from __future__ import annotations

import logging
import random
from datetime import datetime
from typing import Any

from flask import g, has_request_context, request
from sqlalchemy import ForeignKey, Index, String, insert
from sqlalchemy import event as listeners
from sqlalchemy.orm import Mapped, Session, mapped_column

from .clock import utcnow
from .engine import Model, db

log = logging.getLogger(__name__)


class RecoveryEvent(Model):
    """One event of the audit trail."""

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utcnow(), index=True)
    kind: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str | None] = mapped_column(String(255))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"), index=True)
    source: Mapped[str | None] = mapped_column(String(45))  # the address the request came from
    client: Mapped[str | None] = mapped_column(String(40))
    request_id: Mapped[str | None] = mapped_column(String(32))
    seconds: Mapped[float | None]  # of a mail: from the request until the mail server accepted it

    __table_args__ = (Index("ix_recovery_event_kind_at", "kind", "at"),)


# Every kind of event, and how that ended for the person who wanted something.
OUTCOMES = {
    "requested": "success",  # somebody asked for a mail; whether there is an account is not known then
    "mail_sent": "success",
    "mail_dropped": "failure",  # it must not be sent: why
    "mail_given_up": "failure",  # it could not be: why
    "mail_retried": "success",  # by an admin
    "mail_discarded": "success",  # by an admin
    "opened": "success",  # a link, for the first time; mail scanners open links, too
    "refused": "failure",  # a link, when a password came with it: why
    "password_refused": "failure",  # why
    "redeemed": "success",
    "registered": "success",  # an account was made by somebody who signed up
    "password_changed": "success",  # by somebody who knew the old one
    "address_changed": "success",
    "revoked": "success",  # a link
    "not_me": "success",  # the owner says that it was somebody else
    "admin": "success",  # did something on the command line: what
    "signed_in": "success",  # in the log only
    "sign_in_refused": "failure",  # in the log only
}
LOG_ONLY = ("signed_in", "sign_in_refused")
WARNINGS = ("not_me",)  # their level in the log


def record(
    kind: str,
    *,
    reason: str | None = None,
    user_id: int | None = None,
    client: str | None = None,
    about: str | None = None,
    seconds: float | None = None,
) -> None:
    """Add an event to the current transaction. It is kept, and logged, if and only if that commits.

    Events that stand in the log alone are written at once. `about`: the name of a mail, where there is no
    request.
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
    db.session.execute(insert(RecoveryEvent).values(kind=kind, **values))
    db.session().info.setdefault("events", []).append((kind, values))


def request_id() -> str:
    """Return the name of this request in events, in the log, and on the page of an error that is ours."""
    return str(g.setdefault("request_id", f"{random.getrandbits(64):016x}"))  # a name, and no secret


@listeners.listens_for(db.session, "after_commit")
def _log_events(session: Session) -> None:
    """After the commit, because a log that blocks must not hold the database's write lock."""
    for kind, values in session.info.pop("events", []):
        _log(kind, values)


@listeners.listens_for(db.session, "after_soft_rollback")
def _forget_events(session: Session, _previous: Any) -> None:
    session.info.pop("events", None)


def _log(kind: str, values: dict[str, Any]) -> None:
    known = {name: value for name, value in values.items() if value is not None}
    level = logging.WARNING if kind in WARNINGS else logging.INFO
    log.log(level, "%s", kind, extra={"audit": True, "outcome": OUTCOMES[kind], **known})
