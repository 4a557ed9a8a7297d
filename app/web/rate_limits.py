"""Rate limits: a POST over one of them gets a 429.

Every POST to Flask-Security is limited by its source. A feature registers further limits for its endpoints.
Known and unknown identities count alike. No limit ends a link. Counts are kept in Redis, where all processes
share them, or in the memory of each process.
"""

import ipaddress
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from itertools import product
from typing import Any

from flask import Flask, current_app, request
from limits import RateLimitItem, WindowStats, parse_many
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter
from werkzeug.exceptions import TooManyRequests

from ..db.encryption import keyed_hashes
from ..settings import current
from ..settings.schema import Settings

log = logging.getLogger(__name__)

LIMITED_PREFIXES = ("security.", "objections.")  # of endpoints
UNLIMITED = ("security.logout",)  # signing out must always work
POSTS = "posts"
MEMORY = "memory://"  # RATELIMIT_STORAGE_URI without Redis
REDIS_TIMEOUT_SECONDS = 0.2  # after it, this process counts in memory
REDIS_RETRY_SECONDS = 5  # for so long, it does not try Redis again
SWEEP_MIN = 10_000  # windows in memory, before expired ones are removed
# Lengths of IPv6 networks, and how many times the rates each is allowed. A customer has a /64, /56 or /48
# (RFC 6177, 6to4), worth 16 sources and not 65,536. Some providers give many customers a /64 each of one /48.
NETWORKS = {64: 1, 56: 4, 48: 16}


Key = Callable[[], str | None]  # returns the key of a request's count, or None for no limit
_registered: dict[str, list[tuple[str, str, Key]]] = defaultdict(list)  # by endpoint


def limit(endpoint: str, scope: str, rates: str, key: Key) -> None:
    """Register a rate limit for the POSTs of an endpoint, in addition to the limit by source.

    `scope` separates the counts of limits with the same key. `rates` is the name of a setting.
    """
    _registered[endpoint].append((scope, rates, key))


def init_app(app: Flask, settings: Settings) -> None:
    """Limit every POST to Flask-Security and to objections, because each takes a guess or sends mail."""
    uri = settings.RATELIMIT_STORAGE_URI
    app.extensions["recovery_limiter"] = RateLimiter(settings.RATELIMIT_ENABLED, uri)
    app.before_request(_refuse_excess)


def _refuse_excess() -> None:
    """Raise TooManyRequests for a POST over one of its limits.

    The limit of the shortest period comes first. A request that it refuses counts against no other.
    """
    endpoint = request.endpoint or ""
    if request.method != "POST" or not endpoint.startswith(LIMITED_PREFIXES) or endpoint in UNLIMITED:
        return
    settings, limiter = current(), rate_limiter()
    by_source = limits_by_source(settings.RECOVERY_LIMIT_SOURCE)
    counts: list[tuple[RateLimitItem, str, Key]]
    counts = [(item, POSTS, partial(str, network)) for item, network in by_source]
    for scope, rates, key in _registered[endpoint]:
        key_of: Key = cache(key)  # called late, because it may query the database
        counts += [(item, scope, key_of) for item in parse_many(getattr(settings, rates))]
    for item, scope, key_of in sorted(counts, key=lambda count: count[0]):
        if (name := key_of()) and not limiter.hit(item, name, scope):
            # The whole period, because the rest of it would tell when another visitor used up the count.
            raise TooManyRequests(retry_after=item.get_expiry())


class RateLimiter:
    """A fixed-window rate limiter in Redis, or in memory without one and while it does not respond.

    The memory storage of `limits` sweeps its whole table every 10 ms, so that a flood of a hundred thousand
    keys keeps it busy.
    """

    redis: FixedWindowRateLimiter | None = None

    def __init__(self, enabled: bool, uri: str = MEMORY) -> None:
        self.enabled = enabled
        if uri != MEMORY:
            options: dict[str, Any] = {"key_prefix": "sparekey", "retry": None}
            options |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), REDIS_TIMEOUT_SECONDS)
            self.redis = FixedWindowRateLimiter(storage_from_string(uri, **options))
        self._away_until = 0.0
        self._windows: dict[str, WindowStats] = {}  # by key
        self._lock = threading.Lock()
        self._sweep_at = SWEEP_MIN

    def hit(self, item: RateLimitItem, *key: str) -> bool:
        """Count a request. Return False if it exceeds the limit."""
        if not self.enabled:
            return True
        if (is_within := self._ask_redis("hit", item, *key)) is not None:
            return is_within
        with self._lock:
            name, now = item.key_for(*key), time.time()
            end, left = self._windows.get(name, (now, 0))
            if not now < end <= now + item.get_expiry():  # over, or made before the clock was set back
                end, left = now + item.get_expiry(), item.amount
            self._windows[name] = WindowStats(end, max(0, left - 1))
            if len(self._windows) >= self._sweep_at:
                self._windows = {name: window for name, window in self._windows.items() if window[0] > now}
                self._sweep_at = max(SWEEP_MIN, 2 * len(self._windows))
        return left > 0

    def test(self, item: RateLimitItem, *key: str) -> bool:
        """True if another request would not exceed the limit."""
        if (is_within := self._ask_redis("test", item, *key)) is not None:
            return is_within
        end, left = self._windows.get(item.key_for(*key), (0.0, 1))
        return left > 0 or end <= time.time()

    def clear(self, item: RateLimitItem, *key: str) -> None:
        """Forget the window."""
        self._ask_redis("clear", item, *key)
        with self._lock:
            self._windows.pop(item.key_for(*key), None)

    def _ask_redis(self, method: str, item: RateLimitItem, *key: str) -> bool | None:
        """Return the answer of Redis, or None without one, or while it does not respond."""
        if self.redis is None or not self.enabled or time.monotonic() < self._away_until:
            return None
        try:
            return bool(getattr(self.redis, method)(item, *key))
        except Exception as error:  # the storage can raise any
            self._away_until = time.monotonic() + REDIS_RETRY_SECONDS
            name = type(error).__name__
            log.warning("Redis does not respond (%s): rate limits are counted in memory", name)
            return None


def rate_limiter() -> RateLimiter:
    """Return the app's rate limiter."""
    limiter: RateLimiter = current_app.extensions["recovery_limiter"]
    return limiter


def limits_by_source(rates: str, address: str | None = None) -> list[tuple[RateLimitItem, str]]:
    """Return the limits of an IP address, each with the key of its count, the smallest network first.

    By default it is that of the current request, behind RECOVERY_TRUSTED_PROXIES proxies.
    """
    address = (request.remote_addr or "unknown") if address is None else address
    networks = {address: 1}
    with suppress(ValueError):  # it is IPv4
        ip = ipaddress.IPv6Address(address)
        wider = {str(ipaddress.ip_network((ip, length), False)): times for length, times in NETWORKS.items()}
        networks = {str(ip.ipv4_mapped): 1} if ip.ipv4_mapped else wider
    pairs = product(networks.items(), parse_many(rates))
    return [(type(item)(item.amount * times, item.multiples), key) for (key, times), item in pairs]


def count_key(text: str) -> str:
    """Return a keyed hash, under which an identity or a token is counted."""
    return count_keys(text)[0]


def count_keys(text: str) -> list[str]:
    """Return the hash under each valid SECRET_KEY, the newest first."""
    return [hashed[:32] for hashed in keyed_hashes(text, "limits")]
