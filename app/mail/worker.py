"""The worker: claim a message, deliver it, write the outcome; again.

What a failure means for the message:

    no mail can go out (MailHeld)        all mail waits as it is; look again after a pause
    it must not be sent (Undeliverable)  dropped, with the reason
    the mail server refuses it for good  given up: a dead letter (smtp_failures.why_final)
    anything else                        tried again, later and later; given up after the last attempt

The outcome is written as soon as the database is back, however long it is away. Another worker sends the
message a second time only if the lease has ended by then.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from flask import Flask, current_app
from flask_mailman.backends.base import BaseEmailBackend
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from ..db import audit
from ..db.engine import DATABASE_AWAY, db
from ..settings import current
from . import budget, composing, heartbeat, outbox
from .delivery import mailman
from .errors import MailHeld, Undeliverable
from .outbox import OutboxMessage
from .smtp_failures import cause_of, why_final

log = logging.getLogger(__name__)

# The pauses while the database is away. An outcome to write is tried more often than a claim, so it comes
# first when the database is back.
DATABASE_SECONDS = 2
WRITE_SECONDS = 0.5


def run(stop: threading.Event, threads: int = 1) -> None:
    """Send mail in this many threads until `stop` is set. The messages in hand are finished first."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # the proxy's own
    with closing(heartbeat.Presence()) as presence, ThreadPoolExecutor(threads) as pool:
        for _ in range(threads):
            pool.submit(_repeat, app, stop, lambda: _send_what_is_due(stop, presence))
        _repeat(app, stop, presence.renew)


def _repeat(app: Flask, stop: threading.Event, job: Callable[[], float]) -> None:
    """Do the job until `stop` is set, whatever fails. It returns the seconds until the next time."""
    while not stop.is_set():
        pause: float = DATABASE_SECONDS
        try:
            with app.app_context():
                pause = job()
        except SQLAlchemyError as error:  # a database that comes back finds the worker waiting
            log.error("the database cannot be used (is it set up? manage.py db upgrade): %s", error)
        except Exception:
            log.exception("the worker goes on after an error that nobody has thought of")
        stop.wait(pause)


def _send_what_is_due(stop: threading.Event, presence: heartbeat.Presence) -> float:
    try:
        work_until_done(stop, presence)
    except MailHeld as error:
        if presence.says(str(error)):
            log.error("all mail is held: %s", error)
        return error.pause
    return current().RECOVERY_WORKER_POLL.total_seconds()


def work_until_done(stop: threading.Event | None = None, presence: heartbeat.Presence | None = None) -> int:
    """Try every message that is due now, over one connection, and return how many there were.

    Raises MailHeld. While mail is held, it connects though nothing is due, to find out when that ends.
    """
    stop, count = stop or threading.Event(), 0
    sending_seconds = current().sending_time.total_seconds()
    with closing(mailman.get_connection()) as relay:
        while not stop.is_set():
            # Both before anybody is looked up, so known and unknown requests wait alike: while the quota of
            # all is exhausted, and while the mail server is away.
            exempt_only = budget.is_spent()
            if not relay.connection:
                if not (outbox.is_due(exempt_only) or (presence and presence.trouble)):
                    break
                relay.open()
                if presence and presence.says(None):
                    log.info("mail goes out again")
            deadline = time.monotonic() + sending_seconds
            if (message := outbox.claim(exempt_only)) is None:
                break  # another worker was first, or its row is locked
            work_on(message, relay, stop, deadline)
            count += 1
    return count


def work_on(message: OutboxMessage, relay: BaseEmailBackend, stop: threading.Event, deadline: float) -> None:
    """Try one claimed message until the deadline, and write the outcome. Raises MailHeld."""
    try:
        outcome, reason = attempt(message, relay, deadline)
    except MailHeld as error:
        db.session.rollback()
        outbox.release(message, "held", f"held: {error}")
        db.session.commit()
        raise
    while not (status := _write(message, outcome, reason)):
        if stop.wait(WRITE_SECONDS):
            raise SQLAlchemyError("the database did not come back before the worker was stopped")
    # Only now, because a log that blocks must not hold the database's write lock.
    about = (message.id, message.name, message.kind, message.attempts, status)
    log.info("mail=%s id=%s kind=%s attempt=%s %s", *about)


def attempt(message: OutboxMessage, relay: BaseEmailBackend, deadline: float) -> tuple[str, str | None]:
    """Try to deliver a message. Return the outcome, as `outbox.release` takes it, and the reason.

    After the deadline (of the monotonic clock) it may be another worker's. Raises MailHeld.
    """
    attempts_max = current().RECOVERY_MAIL_ATTEMPTS
    if message.attempts > attempts_max:
        return "given_up", message.reason or "every attempt was cut short"
    try:
        mail = composing.COMPOSERS[message.kind](message)
        # The link must exist before anybody can click it, and no transaction stays open meanwhile.
        db.session.commit()
        if time.monotonic() >= deadline:
            raise TimeoutError("composing took longer than RECOVERY_MAIL_LEASE allows")
        relay.deadline = deadline
        relay.send_messages([mail])
    except Undeliverable as refusal:
        message.user_id = refusal.user_id or message.user_id
        return "dropped", refusal.reason
    except MailHeld:
        raise
    except Exception as error:  # whatever it is, the message must not be lost
        final = why_final(error)
        is_over = final or message.attempts >= attempts_max
        return "given_up" if is_over else "retried", final or cause_of(error)
    return "sent", None


def _write(message: OutboxMessage, outcome: str, reason: str | None) -> str | None:
    """Write the outcome, and return it in words. None while the database cannot be written."""
    try:
        db.session.rollback()
        released_at = outbox.release(message, outcome, reason)
        if released_at and outcome != "retried":
            if on_settled := composing.ON_SETTLED.get(message.kind):
                on_settled(message, outcome)
            took = max((released_at - message.created_at).total_seconds(), 0.001)  # clocks are set back
            audit.record(
                f"mail_{outcome}",
                reason=(reason or message.kind)[:255],
                user_id=message.user_id,
                about=message.name,
                seconds=took if outcome == "sent" else None,
            )
        db.session.commit()
    except (IntegrityError, *DATABASE_AWAY) as error:
        db.session.rollback()
        log.error("the outcome of mail %s cannot be written yet: %s", message.id, error)
        if isinstance(error, IntegrityError):
            if message.user_id is None:
                raise
            message.user_id = None  # the account was deleted meanwhile
        return None
    if not released_at:
        return "fate=lost: its lease ended, and another worker has it"
    return f"fate={outcome}" + (f" cause={json.dumps(reason)}" if reason else "")
