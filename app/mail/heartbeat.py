"""The worker's heartbeat: when it was last seen, and why it can send no mail."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from datetime import datetime

from sqlalchemy import String, delete, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from ..db.clock import utcnow
from ..db.engine import Model, change, db, inserts

SIGN_SECONDS = 5  # from one heartbeat to the next
SIGN_LOST_SECONDS = 60  # a worker that was not seen for longer is gone
SIGN_KEPT_SECONDS = 86_400


class WorkerSign(Model):
    """The last heartbeat of one worker."""

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(default=utcnow())
    trouble: Mapped[str | None] = mapped_column(String(255))  # why it can send no mail at all


def workers() -> list[str | None]:
    """Return the trouble of each worker that was seen lately; None for one that is well."""
    lately = WorkerSign.seen_at.between(utcnow(-SIGN_LOST_SECONDS), utcnow(SIGN_LOST_SECONDS))
    return list(db.session.scalars(select(WorkerSign.trouble).where(lately)))


class Presence:
    """The heartbeat of this process, from its start to its end, for all its threads."""

    def __init__(self) -> None:
        # Two containers may have one host name, and both the process 1.
        self.name = f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(2)}"
        self.trouble: str | None = None

    def says(self, trouble: str | None) -> bool:
        """Write why no mail can be sent, or None. True if that is news."""
        is_news, self.trouble = trouble != self.trouble, trouble
        if is_news:
            self.renew()
        return is_news

    def renew(self) -> float:
        """Write a heartbeat, delete those of workers long gone, and return the seconds until the next one."""
        seen = {"seen_at": utcnow(), "trouble": self.trouble and self.trouble[:255]}
        new = inserts[db.engine.dialect.name](WorkerSign).values(name=self.name, **seen)
        db.session.execute(new.on_conflict_do_update(index_elements=["name"], set_=seen))
        # One from the future was written before the clock was set back.
        long_ago, later = utcnow(-SIGN_KEPT_SECONDS), utcnow(SIGN_LOST_SECONDS)
        change(delete(WorkerSign).where(or_(WorkerSign.seen_at < long_ago, WorkerSign.seen_at > later)))
        db.session.commit()
        return SIGN_SECONDS

    def close(self) -> None:
        with suppress(SQLAlchemyError):
            change(delete(WorkerSign).where(WorkerSign.name == self.name))
            db.session.commit()
