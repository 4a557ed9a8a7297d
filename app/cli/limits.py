"""`manage.py limits`: what is counted against somebody right now, and clearing it.

Counts in the memory of web processes can not be seen from here: they are there only with a Redis.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask.cli import with_appcontext
from limits import parse_many
from limits.strategies import FixedWindowRateLimiter

from ..accounts.identities import identity_key
from ..accounts.known_browsers import BROWSERS, names_of
from ..accounts.limits import ACCOUNT, ASKING, CODES, CODES_MAX, SIGNING_IN, account_key
from ..db import audit
from ..db.engine import db
from ..recovery import opened_links
from ..settings import current
from ..web import rate_limits
from ..web.rate_limit_storage import PREFIX
from . import output
from .lookup import find
from .output import Row, format_option, write_json, write_table

IN_MEMORY = (
    "Limits are counted in the memory of each web process (RATELIMIT_STORAGE_URI): they can not be seen from"
    " here. They end by themselves, and when the web processes start again."
)
Key = tuple[str, str, str]  # what is counted, whose, and at which rates


@click.group("limits")
def group() -> None:
    """Who is slowed down right now."""


@group.command()
@click.argument("who")
@format_option
@with_appcontext
def show(who: str, form: str) -> None:
    """What is counted against WHO: an identity, or an address that requests come from."""
    rows = counts(who)
    if form == "json":
        write_json(rows)
    elif rows:
        write_table(rows)
    else:
        click.echo("nothing is counted")


@group.command()
@click.argument("who")
@with_appcontext
def clear(who: str) -> None:
    """Forget what is counted against WHO: an identity, or an address that requests come from."""
    cleared = len(counts(who))
    keys = list(_keys_of(who))
    with _redis_answers():
        for scope, key, rates in keys:
            for item in parse_many(rates):
                _strategy().clear(item, PREFIX, key, scope)
    user = find(who)
    audit.record("admin", reason=f"limits clear {output.whoever()}"[:255], user_id=user.id if user else None)
    db.session.commit()
    click.echo(f"{cleared} cleared")


class NotSeen(click.ClickException):
    """What is counted can not be seen from here; the text says why."""


def counts(who: str) -> list[Row]:
    """What is not nothing. Raises NotSeen."""
    if rate_limits.counts().shared is None:
        raise NotSeen(IN_MEMORY)
    keys = list(_keys_of(who))
    with _redis_answers():
        return list(_counts(keys))


@contextmanager
def _redis_answers() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever the storage raises
        raise NotSeen(f"Limits can not be seen: Redis does not answer ({type(error).__name__}).") from None


def _counts(keys: list[Key]) -> Iterator[Row]:
    for scope, key, rates in keys:
        for item in parse_many(rates):
            reset_at, remaining = _strategy().get_window_stats(item, PREFIX, key, scope)
            if used := item.amount - remaining:
                seconds = max(0, round(reset_at - time.time()))
                yield {
                    "what": scope,
                    "used": used,
                    "of": str(item),
                    "is_over": remaining <= 0,
                    "ends_in_seconds": seconds,
                }


def _keys_of(who: str) -> Iterator[Key]:
    """Everything that may be counted against somebody, and at which rates."""
    settings, user = current(), find(who)
    names = names_of(user) if user else [identity_key(who)]
    for name in names:
        mark = rate_limits.keyed_hash(name)
        browsers = [f"{mark} {number}" for number in range(BROWSERS)]
        for scope in (ASKING, SIGNING_IN):
            for key in (mark, *browsers):
                yield scope, key, settings.RECOVERY_LIMIT_IDENTITY
    if user:
        mark = account_key(user.id)
        yield ACCOUNT, mark, settings.RECOVERY_LIMIT_IDENTITY
        yield CODES, mark, CODES_MAX
    elif source := rate_limits.source_of(who):
        yield rate_limits.POSTS, source, settings.RECOVERY_LIMIT_SOURCE
        yield opened_links.BAD_LINKS, source, settings.RECOVERY_LIMIT_BAD_LINKS


def _strategy() -> FixedWindowRateLimiter:
    shared = rate_limits.counts().shared
    assert shared is not None  # asked before
    return shared
