"""Rate limits: a POST over one of them is answered with 429.

Every POST of Flask-Security's is limited by its source. A feature registers further limits of its endpoints
with `limit`. Known and unknown identities count alike. No limit ends a link.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from flask import Flask, current_app, request
from limits import parse_many
from werkzeug.exceptions import TooManyRequests

from ..settings import current
from ..settings.schema import Settings
from .rate_limit_storage import Counts

UNLIMITED = ("security.logout",)  # signing out must always work
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
    those of objections, whose links can be guessed, too.
    """
    app.extensions["recovery_counts"] = Counts(settings)
    app.before_request(_refuse_excess)


def _refuse_excess() -> None:
    """Raise TooManyRequests for a POST over one of its limits. The shortest limit is looked at first, and a
    request that it refuses counts against no other.
    """
    endpoint = request.endpoint or ""
    if request.method != "POST" or not endpoint.startswith(LIMITED) or endpoint in UNLIMITED:
        return
    rules = [RateLimit(POSTS, "RECOVERY_LIMIT_SOURCE", source), *_registered[endpoint]]
    pairs = [(item, rule) for rule in rules for item in parse_many(getattr(current(), rule.rates))]
    keys: dict[str, str | None] = {}
    for item, rule in sorted(pairs, key=lambda pair: pair[0]):
        if rule.scope not in keys:  # not before it is needed: a key may take a database look-up
            keys[rule.scope] = rule.key()
        if (key := keys[rule.scope]) and not counts().hit(item, key, rule.scope):
            raise TooManyRequests(retry_after=counts().seconds_left(item, key, rule.scope))


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
    return hmac.digest(key or keys()[-1], text.encode("utf-8", "replace"), "sha256").hex()[:32]


def keys() -> list[bytes]:
    """Return the keys of these hashes, the newest last."""
    return current().keys("limits")[::-1]
