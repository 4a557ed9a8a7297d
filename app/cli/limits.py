"""`manage.py limits`: what is counted against an identity or address right now, and clearing it.

Counts in the memory of web processes cannot be seen from here, only those in Redis.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import click
from flask.cli import with_appcontext
from limits import RateLimitItem, parse_many
from limits.strategies import FixedWindowRateLimiter

from ..accounts.identities import identity_key
from ..accounts.known_browsers import BROWSERS, names_of
from ..accounts.limits import ACCOUNT, ASKING, CODES, CODES_MAX, SIGNING_IN, account_key
from ..recovery import opened_links
from ..settings import current
from ..web import rate_limits
from . import admin
from .output import Row, format_option, write_rows

IN_MEMORY = (
    "Limits are counted in the memory of each web process (RATELIMIT_STORAGE_URI): they can not be seen from"
    " here. They end by themselves, and when the web processes start again."
)


class NotSeen(click.ClickException):
    """The counts cannot be seen from here; the text says why."""


@click.group("limits")
def group() -> None:
    """Who is slowed down right now."""


@group.command()
@click.argument("who")
@format_option
@with_appcontext
def show(who: str, form: str) -> None:
    """What is counted against WHO: an identity, or an address that requests come from."""
    write_rows(counts(who), form, "nothing is counted")


@group.command()
@click.argument("who")
@with_appcontext
def clear(who: str) -> None:
    """Forget what is counted against WHO: an identity, or an address that requests come from."""
    cleared, limits = len(counts(who)), _limits_of(who)
    with _counters() as counters:
        for scope, key, limit in limits:
            counters.clear(limit, rate_limits.PREFIX, key, scope)
    admin.record("limits clear", user=admin.find(who))
    click.echo(f"{cleared} cleared")


def counts(who: str) -> list[Row]:
    """Return every count that is not zero. Raises NotSeen."""
    rows, limits = [], _limits_of(who)
    with _counters() as counters:
        for scope, key, limit in limits:
            reset_at, remaining = counters.get_window_stats(limit, rate_limits.PREFIX, key, scope)
            if used := limit.amount - remaining:
                ends_in = max(0, round(reset_at - time.time()))
                row = {"what": scope, "used": used, "of": str(limit), "is_over": remaining <= 0}
                rows.append({**row, "ends_in_seconds": ends_in})
    return rows


@contextmanager
def _counters() -> Iterator[FixedWindowRateLimiter]:
    shared = rate_limits.counts().shared
    if shared is None:
        raise NotSeen(IN_MEMORY)
    try:
        yield shared
    except Exception as error:  # the storage can raise anything
        raise NotSeen(f"Limits can not be seen: Redis does not answer ({type(error).__name__}).") from None


def _limits_of(who: str) -> list[tuple[str, str, RateLimitItem]]:
    return [(scope, key, limit) for scope, key, rates in _keys_of(who) for limit in parse_many(rates)]


def _keys_of(who: str) -> Iterator[tuple[str, str, str]]:
    """Yield scope, key and rates of every count that an identity or address can have."""
    settings, user = current(), admin.find(who)
    for name in names_of(user) if user else [identity_key(who)]:
        mark = rate_limits.keyed_hash(name)
        browsers = [f"{mark} {number}" for number in range(BROWSERS)]
        for scope, key in product((ASKING, SIGNING_IN), (mark, *browsers)):
            yield scope, key, settings.RECOVERY_LIMIT_IDENTITY
    if user:
        yield ACCOUNT, account_key(user.id), settings.RECOVERY_LIMIT_IDENTITY
        yield CODES, account_key(user.id), CODES_MAX
    elif source := rate_limits.source_of(who):
        yield rate_limits.POSTS, source, settings.RECOVERY_LIMIT_SOURCE
        yield opened_links.BAD_LINKS, source, settings.RECOVERY_LIMIT_BAD_LINKS
