"""Whether all is well: the database answers, a worker is there, mail flows."""

from __future__ import annotations

import math
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from .db import change, db, utcnow
from .models import OutboxMessage, WorkerSign
from .settings import current

SIGN_SECONDS = 5  # how often a worker says that it is there
SIGN_LOST_SECONDS = 60  # longer than any pause between two signs of a worker that is well
SIGN_KEPT_SECONDS = 86_400


@dataclass(frozen=True)
class Health:
    """What works. `None`: could not be found out."""

    database: bool
    worker: bool | None = None
    mail: bool | None = None

    @property
    def is_ready(self) -> bool:
        return all(asdict(self).values())


def look() -> Health:
    """One look at everything. Never raises."""
    oldest_allowed = utcnow(-current().RECOVERY_READY_MAIL_AGE.total_seconds())
    stuck = select(OutboxMessage.id).where(
        OutboxMessage.state == "waiting", OutboxMessage.created_at < oldest_allowed
    )
    held = select(OutboxMessage.id).where(
        OutboxMessage.state == "waiting", OutboxMessage.reason.startswith("held:")
    )
    alive = select(WorkerSign.name).where(WorkerSign.seen_at > utcnow(-SIGN_LOST_SECONDS))
    try:
        found = [db.session.scalar(query.limit(1)) for query in (alive, stuck, held)]
    except SQLAlchemyError:
        db.session.rollback()
        return Health(database=False)
    worker, *trouble = found
    return Health(database=True, worker=worker is not None, mail=trouble == [None, None])


class Presence:
    """A worker's sign that it is there, from its start to its end."""

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()[:60]}:{os.getpid()}"
        self.signed = -math.inf

    def __enter__(self) -> Presence:
        return self

    def renew(self) -> None:
        """Sign again if it is time to, and sweep out those that have long left."""
        if time.monotonic() - self.signed < SIGN_SECONDS:
            return
        seen = update(WorkerSign).where(WorkerSign.name == self.name).values(seen_at=utcnow())
        if not change(seen):
            db.session.add(WorkerSign(name=self.name))
        change(delete(WorkerSign).where(WorkerSign.seen_at < utcnow(-SIGN_KEPT_SECONDS)))
        db.session.commit()
        self.signed = time.monotonic()

    def __exit__(self, *_: object) -> None:
        with suppress(SQLAlchemyError):
            change(delete(WorkerSign).where(WorkerSign.name == self.name))
            db.session.commit()
