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

from .. import audit, limits
from ..askings import form_of
from ..counts import PREFIX
from ..db import db
from ..settings import current
from .listing import Row, format_option, write_json, write_table
from .lookup import find

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
    audit.record("admin", reason=f"limits clear {audit.whoever()}"[:255], user_id=user.id if user else None)
    db.session.commit()
    click.echo(f"{cleared} cleared")


class NotSeen(click.ClickException):
    """What is counted can not be seen from here; the text says why."""


def counts(who: str) -> list[Row]:
    """What is not nothing. Raises NotSeen."""
    if limits.counts().shared is None:
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
    names = limits.names_of(user) if user else [form_of(who)]
    for name in names:
        mark = limits.mark_of(name)
        browsers = [f"{mark} {number}" for number in range(limits.BROWSERS)]
        for scope in (limits.ASKING, limits.SIGNING_IN):
            for key in (mark, *browsers):
                yield scope, key, settings.RECOVERY_LIMIT_IDENTITY
    if user:
        mark = limits.mark_of_account(user.id)
        yield limits.ACCOUNT, mark, settings.RECOVERY_LIMIT_IDENTITY
        yield limits.CODES, mark, limits.CODES_MAX
    elif source := limits.source_of(who):
        yield limits.POSTS, source, settings.RECOVERY_LIMIT_SOURCE
        yield limits.BAD_LINKS, source, settings.RECOVERY_LIMIT_BAD_LINKS


def _strategy() -> FixedWindowRateLimiter:
    shared = limits.counts().shared
    assert shared is not None  # asked before
    return shared
