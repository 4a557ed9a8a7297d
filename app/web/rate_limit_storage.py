"""Counts of rate limits: shared in Redis, or this process's own."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from limits import RateLimitItem, WindowStats
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..settings.schema import Settings

log = logging.getLogger(__name__)

REDIS_SECONDS = 0.2  # how long a request waits for Redis before it counts without
AWAY_SECONDS = 5  # how long a process counts alone before it tries Redis again
SWEEP_LEAST = 10_000
PREFIX = "sparekey"
IN_MEMORY = "memory://"


class Memory:
    """FixedWindowRateLimiter in memory. That of `limits` sweeps its whole table every 10 ms: in a flood of a
    hundred thousand keys it does nothing else.
    """

    def __init__(self) -> None:
        self._windows: dict[str, tuple[float, int]] = {}  # when the window ends, and the count in it
        self._lock = threading.Lock()
        self._sweep_at = SWEEP_LEAST

    def hit(self, item: RateLimitItem, *key: str) -> bool:
        """Count one. False if it is one too many."""
        with self._lock:
            end, count = self._window(item, *key)
            self._windows[item.key_for(*key)] = end, count + 1
            if len(self._windows) >= self._sweep_at:
                now = time.time()
                self._windows = {name: window for name, window in self._windows.items() if window[0] > now}
                self._sweep_at = max(SWEEP_LEAST, 2 * len(self._windows))
        return count < item.amount

    def clear(self, item: RateLimitItem, *key: str) -> None:
        """Start a new window."""
        with self._lock:
            self._windows.pop(item.key_for(*key), None)

    def get_window_stats(self, item: RateLimitItem, *key: str) -> WindowStats:
        """Return when the window ends, and how many are left until then."""
        end, count = self._window(item, *key)
        return WindowStats(end, max(0, item.amount - count))

    def _window(self, item: RateLimitItem, *key: str) -> tuple[float, int]:
        now = time.time()
        window = self._windows.get(item.key_for(*key))
        return window if window and window[0] > now else (now + item.get_expiry(), 0)


class Counts:
    """The counts of an app: in Redis, and in memory for as long as Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        self.enabled = settings.RATELIMIT_ENABLED
        self.own = Memory()
        self.shared: FixedWindowRateLimiter | None = None
        if (uri := settings.RATELIMIT_STORAGE_URI) != IN_MEMORY:
            waits = {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS}
            options: dict[str, Any] = {**waits, "retry": Retry(NoBackoff(), 0)}
            self.shared = FixedWindowRateLimiter(storage_from_string(uri, **options))
        self._away_until = 0.0

    def hit(self, item: RateLimitItem, *key: str) -> bool:
        """Count one. False if it is one too many."""
        return not self.enabled or bool(self._ask("hit", item, *key))

    def clear(self, item: RateLimitItem, *key: str) -> None:
        """Start a new window."""
        if self.enabled:
            self._ask("clear", item, *key)

    def seconds_left(self, item: RateLimitItem, *key: str) -> int:
        """Return in how many seconds a new window starts."""
        window: WindowStats = self._ask("get_window_stats", item, *key)
        return max(1, round(window.reset_time - time.time()))

    def _ask(self, method: str, item: RateLimitItem, *key: str) -> Any:
        if self.shared and time.monotonic() >= self._away_until:
            try:
                return getattr(self.shared, method)(item, PREFIX, *key)
            except Exception as error:  # whatever the storage raises
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.warning("Redis does not count (%s): this process counts alone", type(error).__name__)
        return getattr(self.own, method)(item, PREFIX, *key)
