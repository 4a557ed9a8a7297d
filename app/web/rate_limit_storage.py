"""Counts that end by themselves: in Redis, where several processes count together, or in this one's memory.

While Redis is away or hangs, each process counts for itself. The counting is the library's (limits), but not
its memory, which looks through all that it holds a hundred times a second: who names a million identities
would take a core with that. This one looks when it has doubled.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from limits import RateLimitItem, WindowStats
from limits.storage import Storage, storage_from_string
from limits.strategies import FixedWindowRateLimiter

from ..settings.schema import Settings

log = logging.getLogger(__name__)

REDIS_SECONDS = 0.2  # how long a request waits for Redis before it counts without
AWAY_SECONDS = 5  # for how long nobody tries again
SWEEP_LEAST = 10_000  # below so many, what has ended takes no room worth looking for
PREFIX = "sparekey"
IN_MEMORY = "memory://"


class Counts:
    """How often something was done, by what and by whom."""

    def __init__(self, settings: Settings) -> None:
        self.enabled = settings.RATELIMIT_ENABLED
        self.own = FixedWindowRateLimiter(Memory())
        self.shared: FixedWindowRateLimiter | None = None  # which raises whatever Redis does
        if settings.RATELIMIT_STORAGE_URI != IN_MEMORY:
            storage = storage_from_string(settings.RATELIMIT_STORAGE_URI, **_patience())
            self.shared = FixedWindowRateLimiter(storage)
        self._away_until = 0.0

    def hit(self, item: RateLimitItem, *key: str) -> bool:
        """Count one. False when it is one too many."""
        return not self.enabled or bool(self._ask("hit", item, *key))

    def clear(self, item: RateLimitItem, *key: str) -> None:
        """Begin anew."""
        if self.enabled:
            self._ask("clear", item, *key)

    def window(self, item: RateLimitItem, *key: str) -> WindowStats:
        """When it begins anew, as seconds since 1970, and how many are left until then."""
        stats: WindowStats = self._ask("get_window_stats", item, *key)
        return stats

    def _ask(self, verb: str, item: RateLimitItem, *key: str) -> Any:
        if self.shared and time.monotonic() >= self._away_until:
            try:
                return getattr(self.shared, verb)(item, PREFIX, *key)
            except Exception as error:  # whatever the storage raises
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.warning("Redis does not count (%s): this process counts alone", type(error).__name__)
        return getattr(self.own, verb)(item, PREFIX, *key)


def _patience() -> dict[str, Any]:
    """One try, and a short one."""
    from redis.backoff import NoBackoff  # a tenth of a second, for whoever has no Redis
    from redis.retry import Retry

    waits = {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS}
    return {**waits, "retry": Retry(NoBackoff(), 0)}


class Memory(Storage):
    """A table of counts and their ends."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._sweep_at = SWEEP_LEAST

    @property
    def base_exceptions(self) -> type[Exception]:
        """Nothing here fails."""
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """The count with these."""
        with self._lock:
            count, end = self._at(key) or (0, time.time() + expiry)
            self._counts[key] = count + amount, end
            if len(self._counts) >= self._sweep_at:
                self._sweep()
            return count + amount

    def get(self, key: str) -> int:
        """The count."""
        found = self._at(key)
        return found[0] if found else 0

    def get_expiry(self, key: str) -> float:
        """Its end; now, for what is not counted."""
        found = self._at(key)
        return found[1] if found else time.time()

    def check(self) -> bool:
        """Always there."""
        return True

    def reset(self) -> int:
        """Forget everything. How much that was."""
        with self._lock:
            count = len(self._counts)
            self._counts.clear()
            return count

    def clear(self, key: str) -> None:
        """Forget one."""
        with self._lock:
            self._counts.pop(key, None)

    def _at(self, key: str) -> tuple[int, float] | None:
        found = self._counts.get(key)
        return found if found and found[1] > time.time() else None

    def _sweep(self) -> None:
        now = time.time()
        self._counts = {key: value for key, value in self._counts.items() if value[1] > now}
        self._sweep_at = max(SWEEP_LEAST, 2 * len(self._counts))
