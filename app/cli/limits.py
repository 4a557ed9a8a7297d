"""`manage.py limits`: the rate limit counts of an identity or IP address, and clearing them.

Only counts in Redis can be read here. Those in the memory of web processes cannot.
"""

import time

import click
from flask.cli import AppGroup
from limits import RateLimitItem, parse_many

from ..accounts import guess_limits as guesses
from ..accounts.identities import map_identity
from ..recovery.landing import BAD_LINKS
from ..settings import current
from ..web.rate_limits import POSTS, count_key, limits_by_source, rate_limiter
from . import admin
from .output import Row, format_option, write_rows

IN_MEMORY = (
    "Each web process counts limits in its own memory (RATELIMIT_STORAGE_URI), so they cannot be read or"
    " cleared here. They expire, and they end when the web processes restart."
)
group = AppGroup("limits", help="Show or clear rate limits.")


class CountsUnavailable(click.ClickException):
    """Counts that cannot be read, with the reason as its text."""


@group.command()
@click.argument("who")
@format_option
def show(who: str, form: str) -> None:
    """Show the counts of WHO: an identity, or an IP address that requests come from."""
    write_rows(counts(who), form, "nothing has been counted")


@group.command()
@click.argument("who")
def clear(who: str) -> None:
    """Clear the counts of WHO: an identity, or an IP address that requests come from."""
    cleared = len(counts(who))
    for scope, key, limit in _limits_of(who):
        rate_limiter().clear(limit, key, scope)
    admin.record("limits clear", user=admin.find_account(who))
    click.echo(f"{cleared} cleared")


def counts(who: str) -> list[Row]:
    """Return every count that is not zero. Raises CountsUnavailable."""
    rows, limits, redis = [], _limits_of(who), rate_limiter().redis
    if redis is None:
        raise CountsUnavailable(IN_MEMORY)
    for scope, key, limit in limits:
        try:
            ends_at, remaining = redis.get_window_stats(limit, key, scope)
        except Exception as error:  # storages raise various types
            reason = f"Limits cannot be read: Redis does not answer ({type(error).__name__})."
            raise CountsUnavailable(reason) from None
        if used := limit.amount - remaining:
            row = {"what": scope, "used": used, "of": str(limit), "is_over": remaining <= 0}
            network = key if "/" in key else ""  # of IPv6
            rows.append({**row, "ends_in_seconds": max(0, round(ends_at - time.time())), "network": network})
    return rows


def _limits_of(who: str) -> list[tuple[str, str, RateLimitItem]]:
    """Return scope, key and limit of every count that an identity or IP address can have."""
    settings, user = current(), admin.find_account(who)
    hashes = guesses.identity_hashes(user) if user else [count_key(str(map_identity(who) or who))]
    keys = hashes + [f"{identity} {browser}" for identity in hashes for browser in range(guesses.BROWSERS)]
    limits = [(guesses.SIGNING_IN, key, settings.RECOVERY_LIMIT_IDENTITY) for key in keys]
    if user:
        key = guesses.account_key(user.id)
        limits.append((guesses.ACCOUNT, key, settings.RECOVERY_LIMIT_IDENTITY))
        limits += [(scope, key, guesses.GUESSES_MAX) for scope in (guesses.CODES, guesses.OBJECTING)]
    counts = [(scope, key, limit) for scope, key, rates in limits for limit in parse_many(rates)]
    by_source = [(POSTS, settings.RECOVERY_LIMIT_SOURCE), (BAD_LINKS, settings.RECOVERY_LIMIT_BAD_LINKS)]
    for scope, rates in by_source:
        counts += [(scope, key, limit) for limit, key in limits_by_source(rates, who)]
    return counts
