"""The worker: claims a message, tries to deliver it, releases it with the outcome; again.

Consequences of a failure:

    no mail can go out (MailHeld)        all mail waits unchanged; the worker looks again after a pause
    it must not be sent (Undeliverable)  dropped, with the reason
    it must wait (Undeliverable.until)   due again then; the attempt does not count
    the relay refuses it permanently     given up: a dead letter; or set aside (smtp_failures.outcome_of)
    anything else                        retried with back-off; given up after the last attempt

An outcome waits for the database. Once the lease has ended, another worker sends the message again.
"""

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

from ..accounts import foreign
from ..db import audit
from ..db.engine import DATABASE_AWAY, AccountsAway, db, describe
from ..settings import current
from . import composing, outbox, queue, quota
from .backends import mailman
from .heartbeat import Heartbeat
from .outbox import OutboxMessage
from .queue import Pace
from .smtp_failures import MailHeld, RelayMisconfigured, outcome_of

log = logging.getLogger(__name__)

# Pauses while the database is away. The one before an outcome is shorter, so that it is written first.
DATABASE_SECONDS, WRITE_SECONDS = 2, 0.5
IDLE_SECONDS = 0.5  # the pause while mail is due that may not go out yet (an hourly quota)
LOST = "the database has lost its link, and needs the same again"  # in a crash or failover


def run(stop: threading.Event, threads: int = 1) -> None:
    """Send mail in this many threads until `stop` is set. Messages in delivery are finished first."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # the proxy's own
    pace, poll = Pace(), current().RECOVERY_WORKER_POLL.total_seconds()
    with closing(Heartbeat()) as heartbeat, ThreadPoolExecutor(threads + 1) as pool:
        for _ in range(threads):
            pool.submit(_repeat, app, stop, lambda: _send_due_mail(stop, heartbeat, pace))
        pool.submit(_repeat, app, stop, lambda: 0 if post_due_events(stop) else poll)
        _repeat(app, stop, heartbeat.beat)


def _repeat(app: Flask, stop: threading.Event, job: Callable[[], float]) -> None:
    """Do the job, which returns the seconds to wait, until `stop` is set. Errors do not end it."""
    reason = ""  # of an outage, which is logged once
    while not stop.is_set():
        pause: float = DATABASE_SECONDS
        try:
            with app.app_context():
                pause = job()
            if reason:
                log.info("the database answers again")
                reason = ""
        except SQLAlchemyError as error:
            previous, reason = reason, describe(error)
            if reason != previous:
                log.error("%s", reason)
        except Exception:
            log.exception("the worker continues after an unexpected error")
        stop.wait(pause)


def _send_due_mail(stop: threading.Event, heartbeat: Heartbeat, pace: Pace) -> float:
    poll = current().RECOVERY_WORKER_POLL.total_seconds()
    if not (queue.is_due() or heartbeat.trouble):
        return poll
    try:
        count = work_until_done(stop, heartbeat, pace)
    except (MailHeld, AccountsAway) as error:
        if heartbeat.report(str(error)):
            log.error("all mail is held: %s", error)
        return getattr(error, "pause", MailHeld.pause)
    return poll if count else max(poll, IDLE_SECONDS)


def work_until_done(
    stop: threading.Event | None = None, heartbeat: Heartbeat | None = None, pace: Pace | None = None
) -> int:
    """Try every message that is due, over one connection, and return their number. Raises MailHeld.

    While mail is held, it connects though nothing is due, to find out when that ends.
    """
    stop, heartbeat, pace, count = stop or threading.Event(), heartbeat or Heartbeat(), pace or Pace(), 0
    with closing(mailman.get_connection()) as relay:
        while not stop.is_set():
            # The quota and the relay are checked before any account is looked up, so that requests for known
            # and for unknown accounts wait alike.
            if not relay.connection:
                may_recover = bool(heartbeat.trouble) and not queue.is_all_refused()
                if not (queue.is_due(quota.open_lanes()) or may_recover):
                    break
                began = time.monotonic()
                relay.open()
                foreign.probe()
                pace.connection = time.monotonic() - began
                if may_recover and heartbeat.report(None):
                    log.info("mail goes out again")
            if (message := queue.claim(quota.open_lanes())) is None:
                break  # another worker was first, or has locked the row
            message.is_first = count == 0
            work_on(message, relay, pace, stop)
            count += 1
    return count


def post_due_events(stop: threading.Event | None = None) -> int:
    """Try every event that is due, and return their number. Without a pace, because no request makes one."""
    stop, count = stop or threading.Event(), 0
    while not stop.is_set() and (message := queue.claim([outbox.EVENTS])):
        work_on(message, None, None, stop)
        count += 1
    return count


def work_on(
    message: OutboxMessage, relay: BaseEmailBackend | None, pace: Pace | None, stop: threading.Event
) -> None:
    """Try a claimed message until its deadline, write the outcome, and keep any pace. Raises MailHeld."""
    began, cpu_began = time.monotonic(), time.thread_time()
    held: Exception | None = None
    try:
        outcome, reason = attempt(message, relay)
    except (MailHeld, AccountsAway) as error:
        held, outcome, reason = error, "held", f"held: {error}"
    spent = time.monotonic() - began, time.thread_time() - cpu_began
    if pace and not held:
        pace.keep(message, outcome, *spent, stop)
    while not (written := _write(message, outcome, reason)):
        if stop.wait(WRITE_SECONDS):
            raise SQLAlchemyError("the database did not come back before the worker was stopped")
    if held:
        raise held
    # After the commit, because a log that blocks must not hold the database's write lock.
    values = (message.id, message.name, message.kind, message.attempts, written)
    log.info("mail=%s id=%s kind=%s attempt=%s %s", *values)
    if outcome == "set_aside" and queue.is_all_refused():
        raise RelayMisconfigured(reason)


def attempt(message: OutboxMessage, relay: BaseEmailBackend | None) -> tuple[str, str | None]:
    """Try to deliver a message. Return the outcome for `outbox.release`, and the reason. Raises MailHeld."""
    if message.attempts > current().RECOVERY_MAIL_ATTEMPTS:
        return "given_up", message.reason or "every attempt was cut short"
    if message.refusals >= outbox.REFUSALS_MAX:
        return "given_up", f"refused while other mail was accepted: {message.reason}"
    try:
        mail = queue.compose_and_commit(message)
        if isinstance(mail, composing.Undeliverable):
            message.created_at = mail.until or message.created_at
            return "postponed" if mail.until else "dropped", str(mail)
        if time.monotonic() >= message.deadline:
            raise TimeoutError("composing took longer than RECOVERY_MAIL_LEASE allows")
        message.domain = getattr(mail, "recipient", "").rpartition("@")[2].lower()
        mail.deliver(relay, message.deadline)
    except Exception as error:  # the message must survive every error
        return outcome_of(error, is_last=message.attempts >= current().RECOVERY_MAIL_ATTEMPTS)
    return "sent", None


def _write(message: OutboxMessage, outcome: str, reason: str | None) -> str | None:
    """Write the outcome, and return it in words. None while the database cannot be written."""
    try:
        db.session.rollback()
        released_at = outbox.release(message, outcome, reason)
        if not released_at:
            leased = (message.claim or "").lower()
            outcome, reason = "retried", LOST
            released_at = outbox.release(message, outcome, reason, leased)
        if released_at and outcome in outbox.SETTLED:
            seconds = max((released_at - message.created_at).total_seconds(), 0.001)  # clocks are set back
            spent = seconds if outcome == "sent" else None
            why, number = (reason or message.kind)[:255], message.user_id
            audit.record(f"mail_{outcome}", reason=why, user_id=number, about=message.name, seconds=spent)
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
        return "status=lost: its lease ended, and another worker has it"
    return f"status={outcome}" + (f" cause={json.dumps(reason)}" if reason else "")
