"""/metrics, in Prometheus's format: what happened, what waits, what is wrong.

All of it is computed from the database when it is asked for, so it is right with any number of web processes
and workers, whichever of them answers. No account, no address and no text that anybody typed is in it. But
who reads it often sees whether a mail goes out after a request, and so whether there is an account: it is for
whoever holds RECOVERY_METRICS_TOKEN, and for nobody while that is empty.
"""

from __future__ import annotations

import hmac
import math
from collections import defaultdict
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Flask, Response, abort, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError

from . import audit, errors, health, objections, openapi, tally
from .askings import ASKINGS
from .db import db, utcnow
from .models import OutboxMessage
from .settings import current

blueprint = Blueprint("metrics", __name__)

# What may wait, and for how long; a dead letter waits for an admin.
WAITING = ("untried", "retried", "given_up")


def init_app(app: Flask) -> None:
    app.register_blueprint(blueprint)


@blueprint.get("/metrics")
def show() -> ResponseReturnValue:
    token = current().RECOVERY_METRICS_TOKEN
    if not token:
        abort(HTTPStatus.NOT_FOUND)
    given = request.headers.get("Authorization", "").encode("latin-1", "replace")
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        words, asked = "Give RECOVERY_METRICS_TOKEN as a bearer token.\n", {"WWW-Authenticate": "Bearer"}
        return Response(words, HTTPStatus.UNAUTHORIZED, asked, content_type="text/plain; charset=utf-8")
    registry = CollectorRegistry()
    registry.register(Numbers())
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class Numbers(Collector):
    """One look. While the database is away it says that, and nothing else."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("sparekey_database_up", "Whether the database answers.")
        try:
            found = [*_of_events(tally.counts()), *_of_what_waits(), *_of_health()]
        except SQLAlchemyError:
            db.session.rollback()
            found = []
        up.add_metric([], bool(found))
        yield up
        yield from found


def _of_events(rows: list[Any]) -> Iterator[Metric]:
    events: dict[tuple[str, str], int] = dict.fromkeys(_expected(), 0)
    times: dict[str, dict[float, int]] = defaultdict(lambda: defaultdict(int))
    sums: dict[str, float] = defaultdict(float)
    for kind, reason, within, count, seconds in rows:
        events[kind, reason] = events.get((kind, reason), 0) + count
        if within != tally.UNTIMED:
            times[reason][within] += count
            sums[reason] += seconds
    happened = CounterMetricFamily(
        "sparekey_events", "Events of the audit trail, purged ones included.", labels=["kind", "reason"]
    )
    for label, count in sorted(events.items()):
        happened.add_metric(label, count)
    yield happened
    took = HistogramMetricFamily(
        "sparekey_delivery_seconds", "From the request until the relay accepted the mail.", labels=["mail"]
    )
    for mail, counted in sorted(times.items()):
        buckets = [
            (floatToGoString(bound), sum(n for within, n in counted.items() if within <= bound))
            for bound in (*tally.BOUNDS, math.inf)
        ]
        took.add_metric([mail], buckets, sums[mail])
    yield took


def _expected() -> Iterator[tuple[str, str]]:
    """What is told from the start, or the first of a kind would be no increase."""
    for kind in audit.OUTCOMES:
        if kind not in (*audit.LOG_ONLY, *tally.WITH_REASON):
            yield kind, ""
    for kind in ("requested", "mail_sent"):
        yield from ((kind, asking.mail) for asking in ASKINGS.values())
    yield from (("refused", kind.code) for kind in errors.LinkError.__subclasses__())
    yield from (("password_refused", code) for code in openapi.CODES if code.startswith("password_"))
    yield from (("not_me", mail) for mail in objections.KINDS)


def _of_what_waits() -> Iterator[Metric]:
    many = GaugeMetricFamily("sparekey_mails", "Mails that are not settled.", labels=["state"])
    oldest = GaugeMetricFamily(
        "sparekey_oldest_mail_seconds", "For how long the oldest of them waits.", labels=["state"]
    )
    is_untried = (OutboxMessage.state == "waiting") & (OutboxMessage.attempts == 0)
    state = case((is_untried, "untried"), (OutboxMessage.state == "waiting", "retried"), else_="given_up")
    waiting = select(state.label("waits"), OutboxMessage.created_at).where(
        OutboxMessage.state.in_(("waiting", "given_up"))
    )
    each = waiting.subquery()
    first = func.min(each.c.created_at)
    rows = db.session.execute(select(each.c.waits, func.count(), first, utcnow()).group_by(each.c.waits))
    found = {waits: (count, (now - at).total_seconds()) for waits, count, at, now in rows}
    for waits in WAITING:
        count, age = found.get(waits, (0, 0.0))
        many.add_metric([waits], count)
        oldest.add_metric([waits], max(age, 0))
    yield from (many, oldest)


def _of_health() -> Iterator[Metric]:
    seen = GaugeMetricFamily("sparekey_workers", "Workers that were seen within the last minute.")
    seen.add_metric([], len(health.workers()))
    yield seen
    wrong = health.look().problems
    told = GaugeMetricFamily("sparekey_problem", "Whether /readyz says so.", labels=["problem"])
    for problem in health.PROBLEMS:
        told.add_metric([problem], problem in wrong)
    yield told
