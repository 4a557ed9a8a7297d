"""The end of a conversation with a relay, by `time.monotonic()`."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .smtp_failures import TOO_LONG

PAUSE_SECONDS = 0.1  # between two attempts to hang up


def refuse_after(deadline: float) -> None:
    """Raise TimeoutError if the deadline has passed."""
    if time.monotonic() >= deadline:
        raise TimeoutError(TOO_LONG)


@contextmanager
def hanging_up_at(deadline: float, relay: Any) -> Iterator[None]:
    """Close the relay's socket at the deadline, because a byte now and then keeps reads from timing out."""
    over = threading.Event()

    def hang_up() -> None:
        # Again and again, because there is no socket yet while the relay's name is looked up.
        while not over.wait(max(deadline - time.monotonic(), PAUSE_SECONDS)):
            with suppress(OSError, AttributeError, TypeError):
                # Not an SSL socket's own `shutdown`: it takes TLS off, and the rest is sent in the clear.
                socket.socket.shutdown(relay.connection.sock, socket.SHUT_RDWR)

    threading.Thread(target=hang_up, name="relay-deadline", daemon=True).start()
    try:
        yield
    finally:
        over.set()
