"""The audit trail: one event for each thing that happens to an account's recovery, in the database and in the
log; and a log filter that keeps reset tokens out of every line.

An event is a fact: what, when (UTC), how it ended, whose account, from where, through which client, in which
request. No address of a person, no token, nothing that was typed. Rows are added here and never changed, and
deleted by age alone (purge.py).
"""

from __future__ import annotations

import logging
import random
from datetime import datetime
from typing import Any, NamedTuple

from flask import g, has_request_context, request
from sqlalchemy import ForeignKey, Index, String, insert
from sqlalchemy import event as events
from sqlalchemy.orm import Mapped, Session, mapped_column

from .clock import utcnow
from .engine import Model, db

log = logging.getLogger(__name__)


class RecoveryEvent(Model):
    """One line of the audit trail; `audit.py` writes it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utcnow(), index=True)
    kind: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str | None] = mapped_column(String(255))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"), index=True)
    source: Mapped[str | None] = mapped_column(String(45))  # the address the request came from
    client: Mapped[str | None] = mapped_column(String(40))
    request_id: Mapped[str | None] = mapped_column(String(32))
    seconds: Mapped[float | None]  # of a mail: from when it was asked for until the relay accepted it

    __table_args__ = (Index("ix_recovery_event_kind_at", "kind", "at"),)


# Every kind of event, and how that ended for whoever wanted something.
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
LOUD = ("not_me",)  # warnings in the log
INSERT = insert(RecoveryEvent.__table__)  # type: ignore[arg-type]  # a table, whatever its type says


class Entry(NamedTuple):
    """An event on its way into the database and the log."""

    kind: str
    outcome: str
    values: dict[str, Any]

    @property
    def row(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.values}


def entry(
    kind: str,
    *,
    reason: str | None = None,
    user_id: int | None = None,
    client: str | None = None,
    about: str | None = None,
    seconds: float | None = None,
) -> Entry:
    """An event, of this request. `about` stands for that where there is none: the name of the mail that it is
    about."""
    here = has_request_context()
    values = {
        "reason": reason,
        "user_id": user_id,
        "source": request.remote_addr if here else None,
        "client": client,
        "request_id": about or (request_id() if here else None),
        "seconds": seconds,
    }
    return Entry(kind, OUTCOMES[kind], values)


def record(kind: str, **what: Any) -> None:
    """Add an event to the current transaction. It is kept, and logged, if and only if that commits. (Those
    that stand in the log alone are written at once.)"""
    new = entry(kind, **what)
    if kind in LOG_ONLY:
        say(new)
        return
    db.session.execute(INSERT, new.row)
    db.session().info.setdefault("events", []).append(new)


def request_id() -> str:
    """What this request is called in events, in the log, and on the page of an error that is ours."""
    if "request_id" not in g:
        g.request_id = f"{random.getrandbits(64):016x}"  # a name, and no secret
    name: str = g.request_id
    return name


@events.listens_for(db.session, "after_commit")
def _say_what_is_kept(session: Session) -> None:
    """After the commit: a log that blocks must not hold the database's write lock."""
    if session.in_nested_transaction():
        return  # a savepoint: not kept yet
    for each in session.info.pop("events", []):
        say(each)


@events.listens_for(db.session, "after_soft_rollback")
def _forget_what_is_not(session: Session, _previous: Any) -> None:
    session.info.pop("events", None)


def say(event: Entry) -> None:
    """To the log, once it is kept."""
    said = {name: value for name, value in event.values.items() if value is not None}
    level = logging.WARNING if event.kind in LOUD else logging.INFO
    log.log(level, "%s", event.kind, extra={"audit": True, "outcome": event.outcome, **said})
