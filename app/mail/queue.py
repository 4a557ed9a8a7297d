"""The queue: which message is next, and how long it occupies its worker. Neither tells who has an account.

A requester sees when its own mails arrive, before and after a request of its choice. So a message without a
mail costs as much as a delivery. In a crowd, as of made-up identities, it is free, and the order is random.
"""

import random
import secrets
import time
from collections import deque
from collections.abc import Iterable, Sequence
from threading import Event

from sqlalchemy import ColumnElement, TextClause, bindparam, func, select, true, update

from ..db.clock import instant, utcnow
from ..db.encryption import encrypt
from ..db.engine import change, db
from ..settings import current
from .composing import COMPOSERS, Mail, Undeliverable
from .outbox import INVITED, NOW, REFUSED, SIGN_UP, URGENT, OutboxMessage, enqueue

CROWD = 100  # the queue is crowded while more messages of a lane are due
OLDEST = 200  # of a crowded queue; one of them is next
TIMER_SECONDS = 0.002  # a wait may end so much later

Lane = ColumnElement[bool] | TextClause  # selects messages
_messages = OutboxMessage.__table__.c
DUE = select(_messages.id).where(_messages.state == "waiting", _messages.due_at <= instant())
# The first of some messages or, if another worker has claimed or locked it meanwhile, another of them.
_is_candidate = _messages.id.in_(bindparam("candidates", expanding=True))
_first_candidate = DUE.where(_is_candidate).order_by(_messages.id != bindparam("first")).limit(1)
CLAIM = (
    update(OutboxMessage)
    .where(OutboxMessage.id == _first_candidate.with_for_update(skip_locked=True).scalar_subquery())
    .returning(OutboxMessage, NOW)
    .execution_options(synchronize_session=False)
)


def is_due(lanes: Iterable[Lane] = (true(),)) -> bool:
    """True if a message is due, in any lane or in one of these. Takes no lock, and rolls back."""
    is_any = any(_oldest(lane, 1) for lane in lanes)
    db.session.rollback()  # no transaction stays open while the worker connects to the relay
    return is_any


def is_all_refused() -> bool:
    """True if the relay has refused messages for different domains, and accepted none since.

    Then a connection alone does not show that mail goes out again.
    """
    first, last = func.min(_messages.refused_domain), func.max(_messages.refused_domain)
    return bool(db.session.scalar(select(first != last).where(REFUSED)))


def claim(lanes: Iterable[Lane] = (URGENT, SIGN_UP, INVITED)) -> OutboxMessage | None:
    """Lease the message that is due longest, in a crowd any of the OLDEST. Return it detached, or None."""
    values = {
        "attempts": OutboxMessage.attempts + 1,  # now, so that a message that kills its worker ends
        "claim": secrets.token_hex(16),
        "same": None,  # later requests get a message of their own
        "due_at": utcnow(current().RECOVERY_MAIL_LEASE.total_seconds()),
    }
    deadline = time.monotonic() + current().sending_time.total_seconds()
    message: OutboxMessage | None = None
    if oldest := next(filter(None, (_oldest(lane, OLDEST) for lane in lanes)), None):
        is_crowded = len(oldest) > CROWD
        candidates = random.sample(oldest, 10) if is_crowded else oldest[:10]
        ids = {"candidates": candidates, "first": candidates[0]}
        row = db.session.execute(CLAIM.values(values), ids).first()
        if row is not None:
            message = row[0]
            message.claimed_at, message.deadline, message.is_crowded = row[1], deadline, is_crowded
            message.age = row[1] - message.created_at
            db.session.expunge(message)
    db.session.commit()
    return message


def _oldest(lane: Lane, count: int) -> Sequence[int]:
    return db.session.scalars(DUE.where(lane).order_by(_messages.due_at).limit(count)).all()


def compose_and_commit(message: OutboxMessage) -> Mail | Undeliverable:
    """Compose a mail, or the reason for none. Commit what the composer wrote, and the claim in capitals.

    The link must exist before its mail arrives, and no transaction stays open during the conversation. Other
    workers wait for this write (SQLite), so a message without a mail makes it, too. Only a claim in capitals
    can be released as sent: a database that loses the link in a crash or failover loses the capitals as well.
    """
    composed: Mail | Undeliverable
    try:
        composed = COMPOSERS[message.kind](message)
    except Undeliverable as refusal:
        db.session.rollback()
        composed = refusal
    leased, capitals = message.claim or "", (message.claim or "").upper()
    this, values = (OutboxMessage.id == message.id, OutboxMessage.claim == leased), {"claim": capitals}
    if message.others:  # each has a message of its own from now on, so that none waits for another's mail
        content = {**message.content, "account": message.user_id}
        message.sealed = values["sealed"] = encrypt(content)
        for other in message.others:
            enqueue(message.kind, quota=message.quota, **{**content, "account": other})
    if not change(update(OutboxMessage).where(*this).values(values)):
        raise TimeoutError("its lease ended before it was composed")
    db.session.commit()
    message.claim = capitals
    return composed


class Pace:
    """The cost of a worker's recent deliveries, shared by its threads."""

    def __init__(self) -> None:
        # Seconds, and those of the CPU, by `is_first`.
        self.deliveries = {key: deque[tuple[float, float]](maxlen=5) for key in (True, False)}
        self.connection = 0.0  # its seconds; they stand for a delivery until there is one

    def keep(self, message: OutboxMessage, outcome: str, seconds: float, cpu: float, stop: Event) -> None:
        """Note a delivery. After any other outcome, use up the cost of a recent one, or until `stop`."""
        alike, others = self.deliveries[message.is_first], self.deliveries[not message.is_first]
        if outcome == "sent":
            alike.append((seconds, cpu))
        elif not message.is_crowded:
            delivery = random.choice(alike or others or [(self.connection, 0.0)])  # noqa: S311  # no secret
            end, cpu_end = time.monotonic() + delivery[0] - seconds, time.thread_time() + delivery[1] - cpu
            # A delivery works first, and so delays other threads and workers; the end is not left to a timer.
            while time.thread_time() < cpu_end - TIMER_SECONDS and time.monotonic() < end:
                pass
            stop.wait(end - TIMER_SECONDS - time.monotonic())
            while time.monotonic() < end and not stop.is_set():
                pass
