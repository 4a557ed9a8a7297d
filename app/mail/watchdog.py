"""Somebody who looks at the clock while something takes its time, and calls when it is too long.

One thread for whatever its worker does: to start one for each mail takes longer than to send it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

TICK_SECONDS = 0.05  # how late a call may be
IDLE_SECONDS = 5.0  # after which the thread goes; the next one who needs it starts another
AGAIN_SECONDS = 1.0  # after a call that failed


@dataclass(eq=False)
class _Entry:
    at: float
    call: Callable[[], float | None]
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: bool = False


class Watchdog:
    """One thread, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._entries: set[_Entry] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def after(self, seconds: float, call: Callable[[], float | None]) -> Iterator[None]:
        """If the block takes longer, `call`, from the watch's thread; it says in how many seconds again, or
        None. Once the block has ended it is not called any more, and no call is under way. A call that fails
        is logged and tried again.
        """
        entry = _Entry(time.monotonic() + seconds, call)
        try:
            with self._lock:
                self._entries.add(entry)
                if self._thread is None or not self._thread.is_alive():  # a fork leaves it behind
                    self._thread = threading.Thread(target=self._look, name=self.name, daemon=True)
                    self._thread.start()
            yield
        finally:
            with self._lock:
                self._entries.discard(entry)
            with entry.lock:
                entry.is_over = True

    def _look(self) -> None:
        busy_at = time.monotonic()
        while True:
            time.sleep(TICK_SECONDS)
            now = time.monotonic()
            with self._lock:
                due = [entry for entry in self._entries if entry.at <= now]
                busy_at = now if self._entries else busy_at
                if now - busy_at > IDLE_SECONDS:
                    self._thread = None
                    return
            for entry in due:
                _call(entry)


def _call(entry: _Entry) -> None:
    with entry.lock:
        again = None if entry.is_over else _tried(entry.call)
        entry.at = time.monotonic() + (float("inf") if again is None else again)


def _tried(call: Callable[[], float | None]) -> float | None:
    """A call that fails must not end the watch: then nobody would be called any more."""
    try:
        return call()
    except Exception:
        log.exception("what took too long could not be told")
        return AGAIN_SECONDS
