"""Rate limits: a POST over one of them is answered with 429.

Every POST of Flask-Security's is limited by its source (IPv6: by /64, which is one customer's). A feature
registers further limits of its endpoints with `limit`. Known and unknown identities count alike. No limit
ends a link.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from flask import Flask, current_app, g, request
from limits import RateLimitItem, RateLimitItemPerSecond, parse_many
from werkzeug.exceptions import TooManyRequests

from ..settings import current
from ..settings.schema import Settings
from .rate_limit_storage import Counts

UNLIMITED = ("security.logout",)  # whoever wants out gets out
LIMITED = ("security.", "objections.")
POSTS = "posts"


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
    those of objections, whose links can be guessed at like any.
    """
    app.extensions["recovery_counts"] = Counts(settings)
    app.before_request(_refuse_excess)


def _refuse_excess() -> None:
    """Raise TooManyRequests for a POST over one of its limits. The limit with the shortest time is looked at
    first, and a request that it refuses counts against no other.
    """
    endpoint = request.endpoint or ""
    if request.method != "POST" or not endpoint.startswith(LIMITED) or endpoint in UNLIMITED:
        return
    rules = [RateLimit(POSTS, "RECOVERY_LIMIT_SOURCE", source), *_registered[endpoint]]
    keys: dict[str, str | None] = {}
    pairs = [(item, rule) for rule in rules for item in _parsed(getattr(current(), rule.rates))]
    for item, rule in sorted(pairs, key=lambda pair: pair[0]):
        if rule.scope not in keys:  # not before it is needed: a key may take a database look-up
            keys[rule.scope] = rule.key()
        if (key := keys[rule.scope]) and not counts().hit(item, key, rule.scope):
            g.exceeded = item, key, rule.scope
            raise TooManyRequests


@cache
def _parsed(rates: str) -> list[RateLimitItem]:
    return parse_many(rates)


def counts() -> Counts:
    """This app's."""
    ours: Counts = current_app.extensions["recovery_counts"]
    return ours


def source() -> str:
    """The address that a request counts for. The settings say how many proxies are believed."""
    return source_of(request.remote_addr or "") or "unknown"


def source_of(text: str) -> str | None:
    """What an address counts as; None for what is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def seconds_to_wait() -> int:
    """After a refusal: when the source may try again."""
    if "exceeded" not in g:
        return 60
    return max(1, round(counts().window(*g.exceeded).reset_time - time.time()))


def is_first(secret: str, seconds: int) -> bool:
    """Whether this one-time secret was not seen within so many seconds. It is now."""
    return counts().hit(RateLimitItemPerSecond(1, seconds), "once", keyed_hash(secret))


def keyed_hash(text: str, key: bytes | None = None) -> str:
    """What stands for an identity or a token where they must not rest."""
    return hmac.digest(key or keys()[-1], text.encode("utf-8", "replace"), "sha256").hex()[:32]


def keys() -> list[bytes]:
    """The newest last, as itsdangerous wants them."""
    return current().keys("limits")[::-1]
