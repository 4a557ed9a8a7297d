"""The checks of what a deployment has in its database: tables, a worker, mail that flows, accounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from ..accounts.models import User
from ..db import migrations
from ..db.engine import db
from ..mail import heartbeat
from ..pages import health
from ..settings.checks import Finding, Kind

DATABASE = "SQLALCHEMY_DATABASE_URI"
AWAY = Kind(
    "database-away",
    "error",
    "The database does not answer: {why}.",
    "Nothing works without it.",
    "Start it, make what is missing, or correct the address. By socket, PostgreSQL knows you by the user that"
    " runs this.",
    DATABASE,
)
NOT_SET_UP = Kind(
    "migrations-missing",
    "error",
    "The database's tables are {state}.",
    "Requests and mails would fail.",
    "Run manage.py db upgrade.",
    DATABASE,
)
TOO_NEW = Kind(
    "migrations-unknown",
    "error",
    "The database was set up by a newer Sparekey ({state}).",
    "This one does not know its tables.",
    "Install the newer one again.",
    DATABASE,
)
HELD = Kind(
    "mail-held",
    "error",
    "A worker can not send: {why}.",
    "All mail waits.",
    "Correct the setting it names; the worker takes it when it starts again.",
)
NO_ACCOUNTS = Kind(
    "no-accounts",
    "info",
    "There is no account.",
    "Nobody can sign in, or recover.",
    "Make one with manage.py users create.",
)
# The problems of /readyz as findings.
KIND_OF_PROBLEM = {
    health.NO_DATABASE: AWAY,
    health.MAIL_HELD: HELD,
    health.NO_WORKER: Kind(
        "worker-not-seen",
        "error",
        "No worker was seen in the last minute.",
        "Mail waits until one runs.",
        "Start manage.py worker, and let your system start it again when it stops.",
    ),
    health.MAIL_LATE: Kind(
        "mail-late",
        "warning",
        "Mail waits that nobody has tried for longer than RECOVERY_READY_MAIL_AGE.",
        "Links come late, or not at all.",
        "See manage.py outbox list, and start more workers.",
        "RECOVERY_READY_MAIL_AGE",
    ),
    health.OUTBOX_FULL: Kind(
        "outbox-full",
        "error",
        "As many mails wait as may wait.",
        "Requests for more are not kept.",
        "See manage.py outbox list: is it a flood?",
        "RECOVERY_MAIL_WAITING_MAX",
    ),
    health.BUDGET_SPENT: Kind(
        "mail-budget-spent",
        "warning",
        "As many mails went out in the last hour as may go out.",
        "The others wait.",
        "See manage.py events: is it a flood?",
        "RECOVERY_MAIL_HOURLY_MAX",
    ),
}
KINDS = [NOT_SET_UP, TOO_NEW, NO_ACCOUNTS, *KIND_OF_PROBLEM.values()]


def look() -> list[Finding]:
    """Return the findings in the database. Needs an app context."""
    try:
        return list(_of_tables()) or list(_of_content())
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error)
        return [AWAY.found(why=reason.splitlines()[0])]


def _of_tables() -> Iterator[Finding]:
    path = db.engine.url.database if db.engine.dialect.name == "sqlite" else None
    if path and not Path(path).exists():  # because connecting would create it, for the user who checks
        yield NOT_SET_UP.found(state="not there yet")
        return
    with db.engine.connect() as connection:
        options = {"version_table": migrations.VERSION_TABLE}
        current = MigrationContext.configure(connection, opts=options).get_current_revision()
    script = ScriptDirectory(migrations.Migrations.directory)
    newest = script.get_current_head()
    if current is None:
        yield NOT_SET_UP.found(state="not there yet")
    elif current not in {known.revision for known in script.walk_revisions()}:
        yield TOO_NEW.found(state=current)
    elif current != newest:
        yield NOT_SET_UP.found(state=f"of version {current}, and {newest} is needed")


def _of_content() -> Iterator[Finding]:
    troubles = {trouble for trouble in heartbeat.workers() if trouble}
    for problem in health.look().problems:
        for trouble in sorted(troubles) if problem == health.MAIL_HELD else [""]:
            yield KIND_OF_PROBLEM[problem].found(why=trouble)
    if db.session.scalar(select(User.id).limit(1)) is None:
        yield NO_ACCOUNTS.found()
