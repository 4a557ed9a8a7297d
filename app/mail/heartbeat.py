"""Worker heartbeats: when each worker was last seen, and why it can send no mail."""

import os
import secrets
import socket
from contextlib import suppress
from datetime import datetime

from sqlalchemy import String, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from ..db.clock import utcnow
from ..db.engine import Model, change, db, inserts

INTERVAL_SECONDS = 5  # from one heartbeat to the next
LOST_AFTER_SECONDS = 60  # a worker without a heartbeat for longer is gone
KEEP_SECONDS = 86_400


class WorkerHeartbeat(Model):
    """The last heartbeat of one worker."""

    __tablename__ = "worker_heartbeat"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(default=utcnow())
    trouble: Mapped[str | None] = mapped_column(String(255))  # why it can send no mail


def worker_troubles() -> list[str | None]:
    """Return the trouble of each worker seen in the last minute, None for a worker without any."""
    recent = WorkerHeartbeat.seen_at.between(utcnow(-LOST_AFTER_SECONDS), utcnow(LOST_AFTER_SECONDS))
    return list(db.session.scalars(select(WorkerHeartbeat.trouble).where(recent)))


class Heartbeat:
    """The heartbeat of this process, shared by its threads."""

    def __init__(self) -> None:
        # Two containers may share a host name, and in both the process has number 1.
        self.name = f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(2)}"
        self.trouble: str | None = None

    def report(self, trouble: str | None) -> bool:
        """Write why no mail can be sent, or None. Return True if that has changed."""
        has_changed, self.trouble = trouble != self.trouble, trouble
        if has_changed:
            self.beat()
        return has_changed

    def beat(self) -> float:
        """Write a heartbeat, delete outdated ones, and return the seconds until the next."""
        state = {"seen_at": utcnow(), "trouble": self.trouble and self.trouble[:255]}
        new = inserts[db.engine.dialect.name](WorkerHeartbeat).values(name=self.name, **state)
        db.session.execute(new.on_conflict_do_update(index_elements=["name"], set_=state))
        # A heartbeat from the future was written before the clock was set back.
        is_old = WorkerHeartbeat.seen_at < utcnow(-KEEP_SECONDS)
        change(delete(WorkerHeartbeat).where(is_old | (WorkerHeartbeat.seen_at > utcnow(LOST_AFTER_SECONDS))))
        db.session.commit()
        return INTERVAL_SECONDS

    def close(self) -> None:
        """Delete the heartbeat, if the database answers."""
        with suppress(SQLAlchemyError):
            change(delete(WorkerHeartbeat).where(WorkerHeartbeat.name == self.name))
            db.session.commit()
