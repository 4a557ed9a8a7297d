"""Telling the operator: by an event, a warning in the log, and by mail if RECOVERY_OPERATOR is set."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any

from flask_babel import gettext
from sqlalchemy import select

from ..db import audit
from ..db.audit import RecoveryEvent
from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import db
from ..settings import current
from ..web import i18n
from ..web.i18n import N_
from . import outbox

BURST_SECONDS = 600  # more than so many of a kind in this time: RECOVERY_BURSTS
LOOK_SECONDS = 30
QUIET_SECONDS = 3_600  # a burst that goes on is told of once in this time
BURST = N_(
    "There are more events of the kind “%(kind)s” than usual (RECOVERY_BURSTS):"
    " more than %(limit)s in %(minutes)s minutes."
)


def tell(what: str, *, user_id: int | None = None, **values: Any) -> None:
    """Mail it, in the current transaction. `what` is a sentence without personal data, with %(places)s for
    values. It is said in BABEL_DEFAULT_LOCALE, whatever the person speaks who brought it about.
    """
    if to := current().RECOVERY_OPERATOR:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with i18n.speaking(None):
            said = gettext(what, **values)
            outbox.enqueue("operator_alert", address=to, what=said, changed_at=at, account=user_id)


class Watch:
    """A worker's eye on bursts. Whoever has one may call `look` as often as they like."""

    def __init__(self) -> None:
        self.looked = -math.inf

    def look(self) -> None:
        if time.monotonic() - self.looked >= LOOK_SECONDS:
            self.looked = time.monotonic()
            watch()


def watch() -> None:
    """Look for bursts. Commits."""
    for kind, limit in current().RECOVERY_BURSTS.items():
        if _is_more_than(limit, kind) and not _is_told(kind):
            minutes = BURST_SECONDS // 60
            audit.record("burst", reason=f"{kind}: more than {limit} in {minutes} minutes")
            tell(BURST, kind=kind, limit=limit, minutes=minutes)
    db.session.commit()


def _is_more_than(limit: int, kind: str) -> bool:
    """Counts no further than it must: a burst may be large."""
    since, until = _span(BURST_SECONDS)
    of_kind = (RecoveryEvent.kind == kind, RecoveryEvent.at.between(since, until))
    return db.session.scalar(select(RecoveryEvent.id).where(*of_kind).offset(limit).limit(1)) is not None


def _is_told(kind: str) -> bool:
    since, until = _span(QUIET_SECONDS)
    told = select(RecoveryEvent.id).where(
        RecoveryEvent.at.between(since, until),
        RecoveryEvent.kind == "burst",
        RecoveryEvent.reason.startswith(f"{kind}:", autoescape=True),
    )
    return db.session.scalar(told.limit(1)) is not None


def _span(seconds: float) -> tuple[object, object]:
    """From so long ago until now; asked for once, so that an index helps."""
    return select(utcnow(-seconds)).scalar_subquery(), select(utcnow(CLOCK_SLACK_SECONDS)).scalar_subquery()
