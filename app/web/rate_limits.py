"""Rate limits: a POST over one of them is answered with 429.

Every POST of Flask-Security's is limited by its source. A feature registers further limits of its endpoints
with `limit`. Known and unknown identities count alike. No limit ends a link. Counts are shared in Redis, or
this process's own.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from flask import Flask, current_app, request
from limits import RateLimitItem, WindowStats, parse_many
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter
from werkzeug.exceptions import TooManyRequests

from ..settings import current
from ..settings.schema import Settings

log = logging.getLogger(__name__)

UNLIMITED = ("security.logout",)  # signing out must always work
LIMITED = ("security.", "objections.")
POSTS = "posts"
REDIS_SECONDS = 0.2  # how long a request waits for Redis before it counts without
AWAY_SECONDS = 5  # how long a process counts alone before it tries Redis again
SWEEP_LEAST = 10_000
PREFIX = "sparekey"


class RateLimit(NamedTuple):
    """A limit of an endpoint's POSTs."""

    scope: str  # keeps its counts apart from those of other limits with the same key
    rates: str  # the setting that holds them
    key: Callable[[], str | None]  # whose requests are counted together; None: this request is not limited


_registered: dict[str, list[RateLimit]] = defaultdict(list)  # by endpoint


def limit(endpoint: str, scope: str, rates: str, key: Callable[[], str | None]) -> None:
    """Register a rate limit for the POSTs of an endpoint, besides that of the source."""
    _registered[endpoint].append(RateLimit(scope, rates, key))


def init_app(app: Flask, settings: Settings) -> None:
    """Limit every POST of Flask-Security's, whatever features are on: each takes a guess or sends mail. And
    those of objections, whose links can be guessed, too.
    """
    uri, enabled = settings.RATELIMIT_STORAGE_URI, settings.RATELIMIT_ENABLED
    is_shared = enabled and uri != "memory://"
    app.extensions["recovery_counts"] = SharedCounts(uri) if is_shared else Counts(enabled=enabled)
    app.before_request(_refuse_excess)


def _refuse_excess() -> None:
    """Raise TooManyRequests for a POST over one of its limits. The shortest limit is looked at first, and a
    request that it refuses counts against no other.
    """
    endpoint = request.endpoint or ""
    if request.method != "POST" or not endpoint.startswith(LIMITED) or endpoint in UNLIMITED:
        return
    settings, app_counts = current(), counts()
    rules = [RateLimit(POSTS, "RECOVERY_LIMIT_SOURCE", source), *_registered[endpoint]]
    pairs = [(item, rule) for rule in rules for item in parse_many(getattr(settings, rule.rates))]
    key_of = cache(lambda rule: rule.key())  # not before it is needed: it may take a database look-up
    for item, rule in sorted(pairs, key=lambda pair: pair[0]):
        if (key := key_of(rule)) and not app_counts.hit(item, key, rule.scope):
            window = app_counts.get_window_stats(item, key, rule.scope)
            raise TooManyRequests(retry_after=max(1, round(window.reset_time - time.time())))


class Counts:
    """FixedWindowRateLimiter in memory. That of `limits` sweeps its whole table every 10 ms: in a flood of a
    hundred thousand keys it does nothing else.
    """

    shared: FixedWindowRateLimiter | None = None

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._windows: dict[str, WindowStats] = {}  # when each ends, and how many are left until then
        self._lock = threading.Lock()
        self._sweep_at = SWEEP_LEAST

    def hit(self, item: RateLimitItem, *key: str) -> bool:
        """Count one. False if it is one too many."""
        if not self._enabled:
            return True
        with self._lock:
            name, now = item.key_for(*key), time.time()
            end, left = self._windows.get(name, (now, 0))
            if end <= now:
                end, left = now + item.get_expiry(), item.amount
            self._windows[name] = WindowStats(end, max(0, left - 1))
            if len(self._windows) >= self._sweep_at:
                self._windows = {name: window for name, window in self._windows.items() if window[0] > now}
                self._sweep_at = max(SWEEP_LEAST, 2 * len(self._windows))
        return left > 0

    def clear(self, item: RateLimitItem, *key: str) -> None:
        """Start a new window."""
        with self._lock:
            self._windows.pop(item.key_for(*key), None)

    def get_window_stats(self, item: RateLimitItem, *key: str) -> WindowStats:
        """Return when the window ends, and how many are left until then."""
        return self._windows.get(item.key_for(*key), WindowStats(time.time(), item.amount))


class SharedCounts(Counts):
    """Counts in Redis, and in memory for as long as Redis does not answer."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        waits = {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS}
        options: dict[str, Any] = {**waits, "retry": None}
        self.shared = FixedWindowRateLimiter(storage_from_string(uri, **options))
        self._away_until = 0.0

    def hit(self, item: RateLimitItem, *key: str) -> bool:
        return bool(self._ask("hit", item, *key))

    def clear(self, item: RateLimitItem, *key: str) -> None:
        self._ask("clear", item, *key)

    def get_window_stats(self, item: RateLimitItem, *key: str) -> WindowStats:
        stats: WindowStats = self._ask("get_window_stats", item, *key)
        return stats

    def _ask(self, method: str, item: RateLimitItem, *key: str) -> Any:
        if time.monotonic() >= self._away_until:
            try:
                return getattr(self.shared, method)(item, PREFIX, *key)
            except Exception as error:  # whatever the storage raises
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.warning("Redis does not count (%s): this process counts alone", type(error).__name__)
        return getattr(super(), method)(item, *key)


def counts() -> Counts:
    """Return this app's counts."""
    app_counts: Counts = current_app.extensions["recovery_counts"]
    return app_counts


def source() -> str:
    """Return what a request counts for: its address, with RECOVERY_TRUSTED_PROXIES proxies believed."""
    return source_of(request.remote_addr or "") or "unknown"


def source_of(text: str) -> str | None:
    """Return the address, or its /64 (one customer's) for IPv6. None if the text is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def keyed_hash(text: str, key: bytes | None = None) -> str:
    """Return a keyed hash, stored in place of an identity or a token."""
    key = key or current().derive_keys("limits")[0]
    return hmac.digest(key, text.encode("utf-8", "replace"), "sha256").hex()[:32]


def keys() -> list[bytes]:
    """Return the keys of these hashes, the newest last."""
    return current().derive_keys("limits")[::-1]
