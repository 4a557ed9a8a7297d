"""The lease on the message in hand: renewed while its worker lives, however slow the relay is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from flask import Flask, current_app
from sqlalchemy.exc import SQLAlchemyError

from . import health, outbox
from .db import db
from .models import OutboxMessage
from .settings import current

RENEWALS = 3  # as often in the time of one lease, so that one may fail

log = logging.getLogger(__name__)


@contextmanager
def kept(message: OutboxMessage, abandon: Callable[[], None]) -> Iterator[None]:
    """Renew the lease until the end of the block. `abandon` is called if it is lost: end the block then.

    Hold no transaction inside: on SQLite the renewal would wait for it.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # the proxy's own
    over = threading.Event()

    def keep() -> None:
        with app.app_context():
            _keep(message, over, abandon)

    keeper = threading.Thread(target=keep, name="lease")
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _keep(message: OutboxMessage, over: threading.Event, abandon: Callable[[], None]) -> None:
    pause = current().RECOVERY_MAIL_LEASE.total_seconds() / RENEWALS
    is_held = True
    while is_held and not over.wait(pause):
        try:
            is_held = outbox.renew(message)
            health.sign_again()
            db.session.commit()
        except Exception as error:  # the next renewal may come in time
            log.warning("the lease of mail %s could not be renewed: %s", message.id, type(error).__name__)
            with suppress(SQLAlchemyError):
                db.session.rollback()
    if not is_held:
        abandon()
