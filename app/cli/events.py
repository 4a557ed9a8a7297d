"""`manage.py events`: the audit trail, newest last."""

from contextlib import suppress
from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import select

from ..db.audit import LOG_ONLY, OUTCOMES, RecoveryEvent
from ..db.clock import parse_time, utcnow
from ..db.engine import db
from ..settings.types import parse_duration
from .admin import get_account
from .output import Row, format_option, write_rows

KINDS = [kind for kind in OUTCOMES if kind not in LOG_ONLY]


def _since(_context: Any, _option: Any, value: str | None) -> Any:
    """Return the earliest time, in SQL if it is so long ago. None without the option."""
    with suppress(ValueError, OverflowError):
        return parse_time(value) if value is not None else None
    try:
        return utcnow(-parse_duration(value).total_seconds())
    except ValueError as error:
        raise click.BadParameter(f"{error}; or a date (UTC), such as 2026-01-31") from None


@click.command()
@click.option("--identity", help="Only events of this account.")
@click.option(
    "--kind", type=click.Choice(KINDS), multiple=True, help="Only events of this kind; can be repeated."
)
@click.option("--source", help="Only events from this IP address.")
@click.option("--request", "request_id", help="Only events of this request or message.")
@click.option(
    "--since",
    callback=_since,
    metavar="TIME",
    help="Only events newer than this, such as 2h or 2026-01-31 (UTC).",
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many events to show."
)
@format_option
@with_appcontext
def events(
    identity: str | None,
    kind: tuple[str, ...],
    source: str | None,
    request_id: str | None,
    since: Any,
    limit: int,
    form: str,
) -> None:
    """List the newest events, oldest first: requests, emails, and links opened, redeemed, or refused."""
    query = select(RecoveryEvent).order_by(RecoveryEvent.id.desc()).limit(limit)
    user_id = None if identity is None else get_account(identity).id
    exact = {"user_id": user_id, "source": source, "request_id": request_id}
    query = query.filter_by(**{name: value for name, value in exact.items() if value is not None})
    if kind:
        query = query.where(RecoveryEvent.kind.in_(kind))
    if since is not None:
        query = query.where(RecoveryEvent.at >= since)
    rows = [row(event) for event in reversed(db.session.scalars(query).all())]
    write_rows(rows, form, "no matching events")


def row(event: RecoveryEvent) -> Row:
    return {
        "at": event.at,
        "kind": event.kind,
        "outcome": OUTCOMES.get(event.kind, ""),
        "account": event.user_id,
        "source": event.source,
        "client": event.client,
        "request": event.request_id,
        "reason": event.reason,
    }
