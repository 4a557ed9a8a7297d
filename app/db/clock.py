"""The database's clock, shared by all machines."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, ScalarSelect, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

CLOCK_SLACK_SECONDS = 60  # times further in the future come from before the clock was set back


class utcnow(FunctionElement[Any]):  # noqa: N801  # reads as an SQL function, like func.now
    """The database's time as an SQL function: naive UTC, plus a number of seconds."""

    type = DateTime()
    name = "utcnow"
    inherit_cache = True

    def __init__(self, plus_seconds: float = 0.0) -> None:
        super().__init__(literal(float(plus_seconds)))


@compiles(utcnow, "sqlite")
def _utcnow_on_sqlite(element: utcnow, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    # Six digits, as SQLAlchemy stores a DateTime, because SQLite compares times as text.
    return f"(strftime('%Y-%m-%d %H:%M:%f', julianday('now') + ({seconds}) / 86400.0) || '000')"


@compiles(utcnow, "postgresql")
def _utcnow_on_postgresql(element: utcnow, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(timezone('utc', clock_timestamp()) + make_interval(secs => {seconds}))"


def instant(plus_seconds: float = 0.0) -> ScalarSelect[Any]:
    """Return a time as a subquery, because a value that changes from row to row could use no index."""
    return select(utcnow(plus_seconds)).scalar_subquery()


def parse_time(text: str) -> datetime:
    """Return an ISO 8601 time in UTC without a zone, as it is stored. Raises ValueError, OverflowError."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
