"""The numbers behind /metrics, as Prometheus's library wants them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError

from ..db import audit, event_totals
from ..db.clock import utcnow
from ..db.engine import db
from ..mail import heartbeat
from ..mail.outbox import OutboxMessage
from ..recovery import link as links
from ..recovery import not_me
from ..recovery.request import ASKINGS
from . import health, openapi

__all__ = ["CONTENT_TYPE_LATEST", "WAITING", "exposed"]

# What may wait, and for how long; a dead letter waits for an admin.
WAITING = ("untried", "retried", "given_up")


def exposed() -> bytes:
    """All of them, in the text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(Numbers())
    return generate_latest(registry)


class Numbers(Collector):
    """One look. While the database is away it says that, and nothing else."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("sparekey_database_up", "Whether the database answers.")
        try:
            found = [*_of_events(event_totals.counts()), *_of_what_waits(), *_of_health()]
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
        if within != event_totals.UNTIMED:
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
            for bound in (*event_totals.BOUNDS, math.inf)
        ]
        took.add_metric([mail], buckets, sums[mail])
    yield took


def _expected() -> Iterator[tuple[str, str]]:
    """What is told from the start, or the first of a kind would be no increase."""
    for kind in audit.OUTCOMES:
        if kind not in (*audit.LOG_ONLY, *event_totals.WITH_REASON):
            yield kind, ""
    for kind in ("requested", "mail_sent"):
        yield from ((kind, asking.mail) for asking in ASKINGS.values())
    yield from (("refused", kind.code) for kind in links.LinkError.__subclasses__())
    yield from (("password_refused", code) for code in openapi.CODES if code.startswith("password_"))
    yield from (("not_me", mail) for mail in not_me.KINDS)


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
    seen.add_metric([], len(heartbeat.workers()))
    yield seen
    wrong = health.look().problems
    told = GaugeMetricFamily("sparekey_problem", "Whether /readyz says so.", labels=["problem"])
    for problem in health.PROBLEMS:
        told.add_metric([problem], problem in wrong)
    yield told
