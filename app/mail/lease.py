"""The lease on the message in hand: renewed while its worker lives, however slow the relay is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from flask import Flask, current_app
from sqlalchemy.exc import SQLAlchemyError

from ..db.engine import db
from ..settings import current
from . import heartbeat, outbox
from .outbox import OutboxMessage
from .watchdog import Watchdog

log = logging.getLogger(__name__)

RENEWALS = 3  # as often in the time of one lease, so that one may fail
_watch = Watchdog("lease")


@contextmanager
def kept(message: OutboxMessage, abandon: Callable[[], None]) -> Iterator[None]:
    """Renew the lease until the end of the block. `abandon` is called if it is lost: end the block then.

    Hold no transaction inside: on SQLite the renewal would wait for it.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # the proxy's own

    def keep() -> float | None:
        with app.app_context():
            if _is_held(message):
                return pause()
        abandon()
        return None

    with _watch.after(pause(), keep):
        yield


def pause() -> float:
    """For how many seconds a lease is good without a look."""
    return current().RECOVERY_MAIL_LEASE.total_seconds() / RENEWALS


def _is_held(message: OutboxMessage) -> bool:
    try:
        is_held = outbox.renew(message)
        heartbeat.sign_again()
        db.session.commit()
    except Exception as error:  # the next renewal may come in time
        log.warning("the lease of mail %s could not be renewed: %s", message.id, type(error).__name__)
        with suppress(SQLAlchemyError):
            db.session.rollback()
        return True
    return is_held
