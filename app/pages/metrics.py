"""Prometheus metrics: events of the last hour, unsettled mail, workers and problems.

Every value is a gauge, read from the database at each scrape, so every web process gives the same answer. No
value names an account or contains typed text. But a frequent reader can see that a request led to a mail, and
thus that an account exists. So a scrape needs RECOVERY_METRICS_TOKEN.
"""

import hmac
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from itertools import product

from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError

from ..db.audit import LOG_ONLY, OUTCOMES, RecoveryEvent
from ..db.clock import instant, utcnow
from ..db.engine import db
from ..mail import heartbeat
from ..mail.outbox import IS_ASIDE, WEBHOOK, OutboxMessage
from ..settings import current
from . import health

METRICS = {
    "sparekey_database_up": "1 if the database answers. Otherwise this is the only metric.",
    "sparekey_events_last_hour": "Events of the audit trail.",
    "sparekey_deliveries_last_hour": "Messages that the mail server accepted within `le` seconds.",
    "sparekey_mails": "Mails that are not settled.",
    "sparekey_oldest_mail_seconds": "Age of the oldest unsettled mail.",
    "sparekey_webhooks": "Events for the webhook that are not settled.",
    "sparekey_oldest_webhook_seconds": "Age of the oldest unsettled event for the webhook.",
    "sparekey_workers": "Workers seen within the last minute.",
    "sparekey_problem": "1 if /readyz reports the problem.",
}
# Events whose reason is a fixed word. Any other reason is free text, which may name a person.
KINDS_WITH_FIXED_REASONS = ("requested", "mail_sent", "opened", "refused", "password_refused", "not_me")
DELIVERY_BOUNDS = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)  # seconds
IN_LAST_HOUR = RecoveryEvent.at >= instant(-3600)
# Of unsettled messages and dead letters. STATUS is the first that applies.
STATES = ("untried", "set_aside", "postponed", "retried", "given_up")
STATUS = case(
    (OutboxMessage.state == "given_up", "given_up"),
    (IS_ASIDE, "set_aside"),
    (OutboxMessage.created_at > utcnow(), "postponed"),
    (OutboxMessage.attempts > 0, "retried"),
    else_="untried",
)

Sample = tuple[str, dict[str, str], float]  # name, labels, value
blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
def show() -> ResponseReturnValue:
    token = current().RECOVERY_METRICS_TOKEN
    if not token:
        abort(HTTPStatus.NOT_FOUND)
    authorization = request.headers.get("Authorization", "").encode("latin-1", "replace")
    if not hmac.compare_digest(authorization, f"Bearer {token}".encode()):
        text = "Give RECOVERY_METRICS_TOKEN as a bearer token.\n"
        return Response(text, HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"}, mimetype="text/plain")
    try:
        samples = [*_events(), *_deliveries(), *_messages(), *_health()]
    except SQLAlchemyError:
        db.session.rollback()
        samples = []
    return _exposition([("sparekey_database_up", {}, bool(samples)), *samples])


def _exposition(samples: list[Sample]) -> Response:
    import prometheus_client  # loaded only by a server that is scraped

    registry = prometheus_client.CollectorRegistry()
    gauges: dict[str, prometheus_client.Gauge] = {}
    for name, labels, value in samples:
        if name not in gauges:
            gauges[name] = prometheus_client.Gauge(name, METRICS[name], labels, registry=registry)
        (gauges[name].labels(**labels) if labels else gauges[name]).set(value)
    body = prometheus_client.generate_latest(registry)
    return Response(body, content_type=prometheus_client.CONTENT_TYPE_LATEST)


def _events() -> Iterator[Sample]:
    """Yield the events of each kind. A kind without events is 0, so that a sum by kind is never missing."""
    kinds = [kind for kind in OUTCOMES if kind not in LOG_ONLY]
    event = RecoveryEvent
    # Listing the kinds lets SQLite use the index on kind and time.
    recent = select(event.kind, event.reason, func.count()).where(event.kind.in_(kinds), IN_LAST_HOUR)
    counts = Counter({(kind, ""): 0 for kind in kinds})
    for kind, reason, count in db.session.execute(recent.group_by(event.kind, event.reason)):
        counts[kind, (kind in KINDS_WITH_FIXED_REASONS and reason) or ""] += count
    for (kind, reason), count in counts.items():
        yield "sparekey_events_last_hour", {"kind": kind, "reason": reason}, count


def _deliveries() -> Iterator[Sample]:
    """Yield cumulative counts of deliveries, in the form that histogram_quantile() needs."""
    reason, seconds = RecoveryEvent.reason, RecoveryEvent.seconds
    within = {str(float(bound)): func.count(case((seconds <= bound, 1))) for bound in DELIVERY_BOUNDS}
    within["+Inf"] = func.count(seconds)
    sent = select(reason, *within.values()).where(RecoveryEvent.kind == "mail_sent", IN_LAST_HOUR)
    for mail, *counts in db.session.execute(sent.group_by(reason)):
        for bound, count in zip(within, counts, strict=True):
            yield "sparekey_deliveries_last_hour", {"mail": mail or "", "le": bound}, count


def _messages() -> Iterator[Sample]:
    # The range lets SQLite use the index, although nearly all messages have one state: sent.
    unsettled = OutboxMessage.state.in_(("waiting", "given_up")), OutboxMessage.due_at > datetime.min
    group = (OutboxMessage.kind == WEBHOOK).label("is_webhook"), STATUS.label("status")
    columns = *group, func.count(), func.min(OutboxMessage.created_at), utcnow()
    rows = db.session.execute(select(*columns).where(*unsettled).group_by("is_webhook", "status"))
    groups = {row[:2]: row[2:] for row in rows}
    for (name, key), state in product((("mail", False), ("webhook", True)), STATES):
        count, oldest, now = groups.get((key, state), (0, None, None))
        age = max(0, (now - oldest).total_seconds()) if oldest else 0
        yield f"sparekey_{name}s", {"state": state}, count
        yield f"sparekey_oldest_{name}_seconds", {"state": state}, age


def _health() -> Iterator[Sample]:
    yield "sparekey_workers", {}, len(heartbeat.worker_troubles())
    problems = health.check()["problems"]
    for problem in health.PROBLEMS:
        yield "sparekey_problem", {"problem": problem}, problem in problems
