"""Checks of a deployment's database: tables, workers, flow of mail, accounts."""

import stat
from collections.abc import Iterator
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from ..accounts.datastore import UNCONFIRMED
from ..accounts.models import User
from ..db import migrations
from ..db.engine import db, reason_of
from ..mail import heartbeat
from ..pages import health
from ..settings import current
from ..settings.findings import KINDS, Finding, Kind


def kind_of_problem(problem: str) -> Kind:
    """Return the kind of finding for a problem of /readyz."""
    return KINDS[{"no_worker": "worker-not-seen"}.get(problem, problem.replace("_", "-"))]


def finding_of_problem(problem: str, why: str | None) -> Finding:
    """Return the finding for a problem of /readyz, and its reason."""
    return kind_of_problem(problem).found(why=why, table=current().RECOVERY_ACCOUNTS.table)


def run() -> list[Finding]:
    """Return the findings in the database. Needs an app context."""
    try:
        return [*_check_files(), *(list(_check_tables()) or _check_content())]
    except SQLAlchemyError as error:
        return [KINDS["database-away"].found(why=reason_of(error))]


def _check_files() -> Iterator[Finding]:
    database = db.engine.url.database if db.engine.dialect.name == "sqlite" else None
    for path in [Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm")] if database else []:
        if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield KINDS["database-readable"].found(where=str(path), path=path)


def _check_tables() -> Iterator[Finding]:
    path = db.engine.url.database if db.engine.dialect.name == "sqlite" else None
    if path and not Path(path).exists():  # connecting would create it, owned by the admin
        away = KINDS["database-away"].found(why=f"there is no directory {Path(path).parent}")
        is_new = Path(path).parent.is_dir()
        yield KINDS["migrations-missing"].found(state="not there yet") if is_new else away
        return
    with db.engine.connect() as connection:
        options = migrations.version_options()
        revision = MigrationContext.configure(connection, opts=options).get_current_revision()
    script = ScriptDirectory(migrations.Migrations.directory)
    newest = script.get_current_head()
    if revision is None:
        yield KINDS["migrations-missing"].found(state="not there yet")
    elif revision not in {known.revision for known in script.walk_revisions()}:
        yield KINDS["migrations-unknown"].found(state=revision)
    elif revision != newest:
        yield KINDS["migrations-missing"].found(state=f"of version {revision}, and {newest} is needed")


def _check_content() -> Iterator[Finding]:
    troubles = {trouble for trouble in heartbeat.worker_troubles() if trouble}
    state = health.check()
    for problem in state["problems"]:
        for trouble in sorted(troubles) if problem == health.MAIL_HELD else [state["reason"]]:
            yield finding_of_problem(problem, trouble)
    unconfirmed = select(func.count()).select_from(User).where(*UNCONFIRMED)
    if current().SECURITY_CONFIRMABLE and (count := db.session.scalar(unconfirmed)):
        yield KINDS["accounts-unconfirmed"].found(count=count)
    if not current().RECOVERY_ACCOUNTS and db.session.scalar(select(User.id).limit(1)) is None:
        yield KINDS["no-accounts"].found()
