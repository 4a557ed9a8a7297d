"""The worker: claim a message, deliver it, settle it; again.

What a failure means, and so what becomes of the message:

    no mail can go out (MailHeld)        all mail waits as it is; look again after a pause
    it must not be sent (Undeliverable)  dropped, with the reason
    the relay refuses it for good        given up: a dead letter (relay.why_final)
    anything else                        tried again, later and later; given up after the last attempt
    the database is away                 wait for it; a mail that the relay has is never sent again for it
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing

from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from . import audit, health, links, mail, outbox
from .db import db
from .errors import MailHeld, Undeliverable
from .models import OutboxMessage
from .relay import EmailBackend, why_final
from .settings import current

log = logging.getLogger(__name__)

DATABASE_SECONDS = 2  # the pause when the database does not answer


def run(stop: threading.Event) -> None:
    """Work until `stop` is set; the message in hand is finished first."""
    with health.Presence() as presence:
        while not stop.is_set():
            try:
                pause = _send_what_is_due(stop, presence)
            except SQLAlchemyError as error:  # a database that comes back finds the worker waiting
                db.session.rollback()
                log.error("the database can not be used (is it set up? manage.py db upgrade): %s", error)
                pause = DATABASE_SECONDS
            stop.wait(pause)


def _send_what_is_due(stop: threading.Event, presence: health.Presence) -> float:
    """How many seconds to wait before the next look."""

    def may_go_on() -> bool:
        presence.renew()
        return not stop.is_set()

    try:
        work_until_done(may_go_on, stop, was_held=presence.trouble is not None)
    except MailHeld as error:
        if presence.says(audit.without_secrets(str(error))):
            log.error("all mail is held: %s", presence.trouble)
        return error.pause
    if presence.says(None):
        log.info("mail goes out again")
    return current().RECOVERY_WORKER_POLL.total_seconds()


def work_until_done(
    may_go_on: Callable[[], bool] = lambda: True,
    stop: threading.Event | None = None,
    *,
    was_held: bool = False,
) -> int:
    """Try every message that is due now, over one connection, and return how many there were.

    Raises MailHeld. When mail `was_held`, that is found out though nothing is due.
    """
    count = 0
    with closing(mail.mailman.get_connection()) as relay:
        if was_held:
            relay.open()
        while may_go_on() and work_once(relay, stop or threading.Event()):
            count += 1
    return count


def work_once(relay: EmailBackend, stop: threading.Event) -> bool:
    """Try one message. False when none is due. Raises MailHeld: the next would fare the same."""
    if not outbox.is_due():
        return False
    # Before anybody is looked up: while the relay is away, every request waits alike.
    relay.open()
    if (message := outbox.claim()) is None:
        return False
    try:
        outcome = _try(message, relay)
    except MailHeld as error:
        db.session.rollback()
        outbox.hold(message, f"held: {error}")
        db.session.commit()
        raise
    _write_down(outcome, message, stop)
    return True


Outcome = Callable[[], str]  # writes down what became of a message, and says it in words


def _try(message: OutboxMessage, relay: EmailBackend) -> Outcome:
    """Deliver it, or find out why not. Raises MailHeld, and SQLAlchemyError before the relay has it."""
    if message.attempts > current().RECOVERY_MAIL_ATTEMPTS:
        return lambda: _give_up(message, message.reason or "every attempt was cut short")
    try:
        mail.deliver(message, relay)
    except Undeliverable as refusal:
        message.user_id, reason = refusal.user_id or message.user_id, refusal.reason
        return lambda: _settled(message, "mail_dropped", outbox.drop(message, reason), reason)
    except (MailHeld, OperationalError, ProgrammingError):
        raise  # without a database nothing can be written: the lease says when it is tried again
    except Exception as error:  # whatever it is, the message must not be lost
        cause, final = audit.without_secrets(f"{type(error).__name__}: {error}"), why_final(error)
        return lambda: _failed(message, cause, final)
    return lambda: _sent(message)


def _write_down(outcome: Outcome, message: OutboxMessage, stop: threading.Event) -> None:
    """The relay may have the mail already: however long the database is away, this is not forgotten."""
    while True:
        db.session.rollback()
        try:
            fate = outcome()
            db.session.commit()
        except IntegrityError:
            if message.user_id is None:
                raise
            message.user_id = None  # the account is gone meanwhile
        except SQLAlchemyError as error:
            log.error("what became of mail %s can not be written yet: %s", message.id, error)
            if stop.wait(DATABASE_SECONDS):
                raise
        else:
            break
    # Only now: a log that blocks must not hold the database's write lock.
    name = message.message_id.strip("<>").partition("@")[0]
    log.info("mail=%s id=%s kind=%s attempt=%s %s", message.id, name, message.kind, message.attempts, fate)


def _sent(message: OutboxMessage) -> str:
    if in_time := outbox.sent(message):
        links.delivered(message)
    return _settled(message, "mail_sent", in_time)


def _failed(message: OutboxMessage, cause: str, final: str | None) -> str:
    if final or message.attempts >= current().RECOVERY_MAIL_ATTEMPTS:
        return _give_up(message, final or cause)
    outbox.retry_later(message, cause)
    return f'fate=retried cause="{cause}"'


def _give_up(message: OutboxMessage, reason: str) -> str:
    if in_time := outbox.give_up(message, reason):
        links.undelivered(message)
    return _settled(message, "mail_given_up", in_time, reason)


def _settled(message: OutboxMessage, kind: str, in_time: bool, reason: str | None = None) -> str:
    """Record it, unless the lease was lost: the message is another worker's then. Its fate in words."""
    if not in_time:
        return "fate=lost: its lease ended, and another worker has it"
    audit.record(kind, reason=reason and reason[:255], user_id=message.user_id)
    return f"fate={kind.removeprefix('mail_')}" + (f' cause="{reason}"' if reason else "")
