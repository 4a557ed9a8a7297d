"""The worker: claim a message, deliver it, settle it; again.

What a failure means, and so what becomes of the message:

    no mail can go out (MailHeld)        all mail waits as it is; look again after a pause
    it must not be sent (Undeliverable)  dropped, with the reason
    the relay refuses it for good        given up: a dead letter (relay.why_final)
    anything else                        tried again, later and later; given up after the last attempt

What became of a message is written down as soon as the database is back, however long it is away; only
if its lease has ended by then may another worker send it a second time.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from ..db import audit
from ..db.engine import DATABASE_AWAY, db
from ..settings import current
from . import budget, composing, delivery, heartbeat, outbox
from .errors import LeaseLost, MailHeld, Undeliverable
from .outbox import OutboxMessage
from .smtp import EmailBackend
from .smtp_failures import cause_of, why_final

log = logging.getLogger(__name__)

# The pauses while the database is away. Whoever has something to write looks more often than whoever
# wants a message, and so comes first when it is back.
DATABASE_SECONDS = 2
WRITE_SECONDS = 0.2


def run(stop: threading.Event) -> None:
    """Work until `stop` is set; the message in hand is finished first. Nothing ends it but that."""
    with heartbeat.Presence() as presence:
        while not stop.is_set():
            pause: float = DATABASE_SECONDS
            try:
                pause = _send_what_is_due(stop, presence)
            except SQLAlchemyError as error:  # a database that comes back finds the worker waiting
                log.error("the database can not be used (is it set up? manage.py db upgrade): %s", error)
            except Exception:
                log.exception("the worker goes on after an error that nobody has thought of")
            with suppress(SQLAlchemyError):
                db.session.rollback()
            stop.wait(pause)


def _send_what_is_due(stop: threading.Event, presence: heartbeat.Presence) -> float:
    """How many seconds to wait before the next look."""
    try:
        work_until_done(stop, presence)
        presence.renew()
    except MailHeld as error:
        if presence.says(str(error)):
            log.error("all mail is held: %s", error)
        return error.pause
    return current().RECOVERY_WORKER_POLL.total_seconds()


def work_until_done(stop: threading.Event | None = None, presence: heartbeat.Presence | None = None) -> int:
    """Try every message that is due now, over one connection, and return how many there were.

    Raises MailHeld. Whether mail can go out again is found out though nothing is due.
    """
    stop, count, message = stop or threading.Event(), 0, None
    with closing(delivery.mailman.get_connection()) as relay:
        while not stop.is_set():
            # Before anybody is looked up: over the budget of all, known and unknown wait alike.
            held = budget.is_spent()
            is_flowing = relay.connection and message  # then the next claim finds out what is due
            if not (is_flowing or outbox.is_due(held) or (presence and presence.trouble)):
                break
            # Before anybody is looked up: while the relay is away, every request waits alike.
            relay.open()
            if presence and presence.says(None):
                log.info("mail goes out again")
            if message := outbox.claim(held):
                work_on(message, relay, stop)
                count += 1
    return count


def work_on(message: OutboxMessage, relay: EmailBackend, stop: threading.Event) -> None:
    """Try one claimed message, and write down what became of it. Raises MailHeld."""
    try:
        outcome = _try(message, relay)
    except MailHeld as error:
        db.session.rollback()
        outbox.hold(message, f"held: {error}")
        db.session.commit()
        raise
    pause: float = WRITE_SECONDS
    while (fate := _write_down(outcome, message)) is None:
        if stop.wait(pause):
            raise SQLAlchemyError("the database did not come back before the worker was stopped")
        pause = min(pause * 1.5, DATABASE_SECONDS / 2)
    # Only now: a log that blocks must not hold the database's write lock.
    log.info(
        "mail=%s id=%s kind=%s attempt=%s %s", message.id, message.name, message.kind, message.attempts, fate
    )


LOST = "fate=lost: its lease ended, and another worker has it"
Outcome = Callable[[], str]  # writes down what became of a message, and says it in words


def _try(message: OutboxMessage, relay: EmailBackend) -> Outcome:
    """Deliver it, or find out why not. Raises MailHeld."""
    if message.attempts > current().RECOVERY_MAIL_ATTEMPTS:
        return lambda: _end(message, "given_up", message.reason or "every attempt was cut short")
    try:
        delivery.deliver(message, relay)
    except Undeliverable as refusal:
        message.user_id, reason = refusal.user_id or message.user_id, refusal.reason
        return lambda: _end(message, "dropped", reason)
    except LeaseLost:
        return lambda: LOST
    except MailHeld:
        raise
    except Exception as error:  # whatever it is, the message must not be lost
        cause, final = cause_of(error), why_final(error)
        return lambda: _failed(message, cause, final)
    return lambda: _end(message, "sent")


def _write_down(outcome: Outcome, message: OutboxMessage) -> str | None:
    """What became of it, in words; None while the database can not be written."""
    try:
        db.session.rollback()
        fate = outcome()
        db.session.commit()
    except (IntegrityError, *DATABASE_AWAY) as error:
        db.session.rollback()
        log.error("what became of mail %s can not be written yet: %s", message.id, error)
        if isinstance(error, IntegrityError):
            if message.user_id is None:
                raise
            message.user_id = None  # the account is gone meanwhile
        return None
    return fate


def _end(message: OutboxMessage, state: str, reason: str | None = None) -> str:
    """Settle it, and its link with it; say so in words."""
    settled_at = outbox.settle(message, state, reason)
    if settled_at is None:
        return LOST
    if on_settled := composing.COMPOSERS[message.kind].on_settled:
        on_settled(message, state)
    seconds = _seconds_taken(message, settled_at) if state == "sent" else None
    why, about = (reason or message.kind)[:255], message.name
    audit.record(f"mail_{state}", reason=why, user_id=message.user_id, about=about, seconds=seconds)
    return f"fate={state}" + (f" cause={json.dumps(reason)}" if reason else "")


def _failed(message: OutboxMessage, cause: str, final: str | None) -> str:
    if final or message.attempts >= current().RECOVERY_MAIL_ATTEMPTS:
        return _end(message, "given_up", final or cause)
    return f"fate=retried cause={json.dumps(cause)}" if outbox.retry_later(message, cause) else LOST


def _seconds_taken(message: OutboxMessage, settled_at: datetime) -> float:
    """From when a mail was asked for until it was settled, by the database's clock."""
    took = settled_at - message.created_at
    return max(took.total_seconds(), 0.001)  # a clock that was set back makes it no less than nothing
