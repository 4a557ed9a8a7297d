"""How many events there ever were, by kind, and how long mails took: what /metrics tells. Right with any
number of processes, since it is counted in the database, and whatever was purged.

Events are counted where they lie, so no request writes for it. Those that are settled are added to totals,
each once: a mark says up to which. So a look counts only what is newer, and a purge deletes what is added.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, String, case, func, literal, select, union_all, update
from sqlalchemy.orm import Mapped, mapped_column

from .audit import RecoveryEvent
from .clock import utcnow
from .engine import Model, change, db, inserts


class EventTotal(Model):
    """How many events there were, whatever was purged since; `tally.py` adds them up."""

    kind: Mapped[str] = mapped_column(String(40), primary_key=True)
    reason: Mapped[str] = mapped_column(String(255), primary_key=True)
    within: Mapped[float] = mapped_column(primary_key=True)  # a bound of the time that a mail took
    count: Mapped[int]
    seconds: Mapped[float]


MARK = ""  # the row of no kind: its count is the newest event that is added
SETTLED_SECONDS = 600  # no transaction is open for so long: what is older is all there
WORTH_IT = 1_000  # fewer new events are counted at each look as cheaply
BATCH = 100_000
# Those whose reason is one of a few words; of others it is text, and may be anybody's.
WITH_REASON = ("requested", "mail_sent", "refused", "password_refused", "not_me")
# Delivery times are counted up to these, in seconds; what took longer, or has no time, stands under its own.
BOUNDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
BEYOND, UNTIMED = 1e9, 0.0


def counts() -> list[Any]:
    """Rows of kind, reason, within, count and seconds; some may come twice."""
    totals = select(
        EventTotal.kind, EventTotal.reason, EventTotal.within, EventTotal.count, EventTotal.seconds
    )
    while True:
        upto = mark()  # as a number, or PostgreSQL would take it for a third of the table, and read it all
        found: list[Any] = [*db.session.execute(union_all(totals, _counted(RecoveryEvent.id > upto)))]
        if (MARK, "", UNTIMED, upto, 0.0) in found:  # nothing was added meanwhile
            return [row for row in found if row.kind != MARK]


def mark() -> int:
    """Up to which event the totals go."""
    return db.session.scalars(select(EventTotal.count).where(EventTotal.kind == MARK)).one()


def fold(least: int = WORTH_IT) -> bool:
    """Add a batch of settled events to the totals, if there are so many. Commits. True: look again."""
    upto, settled = mark(), _newest_settled()
    if settled - upto < least:
        db.session.rollback()
        return False
    next_mark = min(settled, upto + BATCH)
    found = db.session.execute(_counted(RecoveryEvent.id > upto, RecoveryEvent.id <= next_mark)).all()
    moved = update(EventTotal).where(EventTotal.kind == MARK, EventTotal.count == upto)
    if not change(moved.values(count=next_mark)):  # somebody else has added them meanwhile
        db.session.rollback()
        return True
    for row in found:
        db.session.execute(_add(db.engine.dialect.name), row._asdict())
    db.session.commit()
    return True


def _newest_settled() -> int:
    before = select(utcnow(-SETTLED_SECONDS)).scalar_subquery()
    settled = select(RecoveryEvent.id).where(RecoveryEvent.at <= before)
    return db.session.scalar(settled.order_by(RecoveryEvent.at.desc(), RecoveryEvent.id.desc()).limit(1)) or 0


def _counted(*which: ColumnElement[bool]) -> Select[Any]:
    seconds = RecoveryEvent.seconds
    has_reason = RecoveryEvent.kind.in_(WITH_REASON)
    each = (
        select(
            RecoveryEvent.kind.concat("").label("kind"),  # or SQLite would read the whole index by kind
            case((has_reason, func.coalesce(RecoveryEvent.reason, "")), else_="").label("reason"),
            case(
                (seconds.is_(None), literal(UNTIMED)),
                *((seconds <= bound, literal(bound)) for bound in BOUNDS),
                else_=literal(BEYOND),
            ).label("within"),
            func.coalesce(seconds, 0.0).label("seconds"),
        )
        .where(*which)
        .subquery()
    )
    label = (each.c.kind, each.c.reason, each.c.within)
    counted = (func.count().label("count"), func.sum(each.c.seconds).label("seconds"))
    return select(*label, *counted).group_by(*label)


def _add(dialect: str) -> Any:
    new = inserts[dialect](EventTotal.__table__)
    more = {name: EventTotal.__table__.c[name] + new.excluded[name] for name in ("count", "seconds")}
    return new.on_conflict_do_update(index_elements=["kind", "reason", "within"], set_=more)
