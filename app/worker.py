"""The worker: claim a message, deliver it, settle it; again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing

from flask_mailman.backends.base import BaseEmailBackend
from sqlalchemy.exc import SQLAlchemyError

from . import audit, health, links, mail, outbox
from .db import db
from .errors import RelayMisconfigured, Undeliverable
from .models import OutboxMessage
from .relay import why_final
from .settings import current

log = logging.getLogger(__name__)

DATABASE_SECONDS = 2  # the pause when the database does not answer
HOLD_SECONDS = 30  # the pause when settings are wrong: no mail can go out before they are corrected


def run(stop: threading.Event) -> None:
    """Work until `stop` is set; the message in hand is finished first."""
    with health.Presence() as presence:

        def may_go_on() -> bool:
            presence.renew()
            return not stop.is_set()

        while not stop.is_set():
            pause = current().RECOVERY_WORKER_POLL.total_seconds()
            try:
                work_until_done(may_go_on)
            except RelayMisconfigured as error:
                log.error("all mail is held: %s", error)
                pause = HOLD_SECONDS
            except SQLAlchemyError as error:  # a database that comes back finds the worker waiting
                db.session.rollback()
                log.error("the database can not be used (is it set up? manage.py db upgrade): %s", error)
                pause = DATABASE_SECONDS
            stop.wait(pause)


def work_until_done(may_go_on: Callable[[], bool] = lambda: True) -> int:
    """Try every message that is due now, over one connection, and return how many there were."""
    count = 0
    with closing(mail.mailman.get_connection()) as relay:
        while may_go_on() and work_once(relay):
            count += 1
    return count


def work_once(relay: BaseEmailBackend) -> bool:
    """Try one message. False when none is due. Raises RelayMisconfigured: the next would fare the same."""
    message = outbox.claim()
    if message is None:
        return False
    try:
        fate = _try(message, relay)
    except Undeliverable as refusal:
        db.session.rollback()
        message.user_id = refusal.user_id or message.user_id
        fate = _settled(message, "mail_dropped", outbox.drop(message, refusal.reason), refusal.reason)
    except RelayMisconfigured as error:
        db.session.rollback()
        outbox.hold(message, str(error))
        db.session.commit()
        raise
    except SQLAlchemyError:
        raise  # nothing can be written now; the lease says when it is tried again
    except Exception as error:  # whatever it is, the message must not be lost
        db.session.rollback()
        fate = _failed(message, error)
    db.session.commit()
    # Only now: a log that blocks must not hold the database's write lock.
    log.info("mail %s (%s): %s", message.id, message.kind, fate)
    return True


def _try(message: OutboxMessage, relay: BaseEmailBackend) -> str:
    if message.attempts > current().RECOVERY_MAIL_ATTEMPTS:
        return _give_up(message, message.reason or "every attempt was cut short")
    mail.deliver(message, relay)
    in_time = outbox.sent(message)
    if in_time:
        links.delivered(message)
    return _settled(message, "mail_sent", in_time)


def _failed(message: OutboxMessage, error: Exception) -> str:
    cause = audit.without_secrets(f"{type(error).__name__}: {error}")
    final = why_final(error)
    if final or message.attempts >= current().RECOVERY_MAIL_ATTEMPTS:
        return _give_up(message, final or cause)
    outbox.retry_later(message, cause)
    return f"attempt {message.attempts} failed: {cause}"


def _give_up(message: OutboxMessage, reason: str) -> str:
    in_time = outbox.give_up(message, reason)
    if in_time:
        links.undelivered(message)
    return _settled(message, "mail_given_up", in_time, reason)


def _settled(message: OutboxMessage, kind: str, in_time: bool, reason: str | None = None) -> str:
    """Record it, unless the lease was lost: the message is another worker's then. Its fate in words."""
    if not in_time:
        return "another worker has it: the lease was lost"
    audit.record(kind, reason=reason and reason[:255], user_id=message.user_id)
    return f"{kind} {reason or ''}".rstrip()
