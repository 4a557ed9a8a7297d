"""The database's clock: one for many machines."""

from __future__ import annotations

from typing import Any

from sqlalchemy import DateTime, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

CLOCK_SLACK_SECONDS = 60  # a time further in the future was written before the clock was set back


class utcnow(FunctionElement[Any]):  # noqa: N801  # reads as an SQL function, like func.now
    """The database's time, naive UTC, plus a number of seconds: one clock for many machines."""

    type = DateTime()
    name = "utcnow"
    inherit_cache = True

    def __init__(self, plus_seconds: float = 0.0) -> None:
        super().__init__(literal(float(plus_seconds)))


@compiles(utcnow, "sqlite")
def _utcnow_on_sqlite(element: utcnow, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    # Six digits, as SQLAlchemy stores a DateTime: text compares like time only at equal length.
    return f"(strftime('%Y-%m-%d %H:%M:%f', julianday('now') + ({seconds}) / 86400.0) || '000')"


@compiles(utcnow, "postgresql")
def _utcnow_on_postgresql(element: utcnow, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(timezone('utc', clock_timestamp()) + make_interval(secs => {seconds}))"
