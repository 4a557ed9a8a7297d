"""The queue: which message is next, and how long it occupies its worker. Neither tells who has an account.

A requester sees when its own mails arrive, before and after a request of its choice. So a message without a
mail costs as much as a delivery. In a crowd, as of made-up identities, it is free, and the order is random.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import deque
from collections.abc import Sequence
from threading import Event

from sqlalchemy import TextClause, func, select, update

from ..db.clock import utcnow
from ..db.engine import change, db
from ..settings import current
from .outbox import NOW, SIGN_UP, URGENT, OutboxMessage

CROWD = 100  # the queue is crowded while more messages of a lane are due
OLDEST = 200  # of a crowded queue; one of them is next

# The clock is a subquery, because PostgreSQL cannot use an index for a value that changes from row to row.
_not_later = OutboxMessage.due_at <= select(NOW).scalar_subquery()
_due = select(OutboxMessage.id).where(OutboxMessage.state == "waiting", _not_later)
LONGEST_DUE = _due.order_by(OutboxMessage.due_at).limit(1)


def is_due(lanes: Sequence[TextClause] = (URGENT, SIGN_UP)) -> bool:
    """True if a message is due. Takes no lock, and rolls the transaction back."""
    is_any = any(db.session.scalar(LONGEST_DUE.where(lane)) for lane in lanes)
    db.session.rollback()  # no transaction stays open while the worker connects to the relay
    return is_any


def claim(lanes: Sequence[TextClause] = (URGENT, SIGN_UP)) -> OutboxMessage | None:
    """Lease the message that is due longest, in a crowd any of the OLDEST. Return it detached, or None."""
    for lane in lanes:
        first = LONGEST_DUE.where(lane)
        is_crowded = db.session.scalar(first.offset(CROWD)) is not None
        if is_crowded:
            # All conditions twice, because PostgreSQL repeats no subquery after another worker's claim.
            oldest = first.limit(OLDEST).subquery("oldest")
            first = first.join(oldest, oldest.c.id == OutboxMessage.id).order_by(None).order_by(func.random())
        unlocked = first.with_for_update(skip_locked=True, of=OutboxMessage)
        taken = (
            update(OutboxMessage)
            .where(OutboxMessage.id == unlocked.scalar_subquery())
            .values(
                attempts=OutboxMessage.attempts + 1,  # now, so that a message that kills its worker ends
                claim=secrets.token_hex(16),
                same=None,  # later requests get a message of their own
                due_at=utcnow(current().RECOVERY_MAIL_LEASE.total_seconds()),
            )
            .returning(OutboxMessage, NOW)
        )
        row = db.session.execute(taken, execution_options={"synchronize_session": False}).first()
        if row is not None:
            message: OutboxMessage = row[0]
            message.age, message.is_crowded = row[1] - message.created_at, is_crowded
            db.session.expunge(message)
            db.session.commit()
            return message
        db.session.rollback()
    return None


def commit_composed(message: OutboxMessage) -> None:
    """Commit what the composer wrote, such as a link, and the claim in capitals.

    Only a claim in capitals can be released as sent. A database that loses the link in a crash or failover
    loses the capitals as well.
    """
    leased, composed = message.claim or "", (message.claim or "").upper()
    this = (OutboxMessage.id == message.id, OutboxMessage.claim == leased)
    if not change(update(OutboxMessage).where(*this).values(claim=composed)):
        raise TimeoutError("its lease ended before it was composed")
    db.session.commit()
    message.claim = composed


class Pace:
    """The cost of a worker's recent deliveries, shared by its threads."""

    def __init__(self) -> None:
        self.deliveries: deque[tuple[float, float]] = deque(maxlen=20)  # seconds, and those of the CPU
        self.connection = 0.0  # its seconds; they stand for a delivery until there is one

    def keep(self, message: OutboxMessage, outcome: str, seconds: float, cpu: float, stop: Event) -> None:
        """Note a delivery. After any other outcome, use up the cost of a recent one, or until `stop`."""
        if outcome == "sent":
            self.deliveries.append((seconds, cpu))
        elif not message.is_crowded:
            delivery = random.choice(self.deliveries or [(self.connection, 0.0)])  # noqa: S311
            end, cpu_end = time.monotonic() + delivery[0] - seconds, time.thread_time() + delivery[1] - cpu
            while time.thread_time() < cpu_end:
                pass  # because a delivery delays the other threads and workers by its work
            stop.wait(end - time.monotonic())
