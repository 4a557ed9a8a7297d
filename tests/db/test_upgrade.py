"""A release: its version, and the upgrade of every earlier one's database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import CliRunner
from sqlalchemy import text
from support import snapshot as snapshots
from support.site import NEW_PASSWORD, ROOT, Site

import manage
from app import __version__
from app.db.clock import utcnow
from app.db.engine import db
from app.db.migrations import version_options
from app.db.migrations.identity_columns import is_compared
from app.mail.outbox import OutboxMessage
from app.recovery.link import ResetLink


def test_version_is_told_to_the_admin_and_begins_the_changes() -> None:
    assert CliRunner().invoke(manage.cli, ["--version"]).output == f"Sparekey {__version__}\n"
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0] == f"## {__version__}"


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
@pytest.mark.parametrize("snapshot", snapshots.SNAPSHOTS, ids=lambda path: path.stem)
def test_database_of_a_release_is_upgraded_and_recovers_its_accounts(
    snapshot: Path, request: pytest.FixtureRequest, tmp_path: Path, make_site: Any
) -> None:
    """A link that was mailed before the upgrade works, and so does a request that waited."""
    is_sqlite = snapshots.dialect_of(snapshot) == "sqlite"
    uri = f"sqlite:///{tmp_path}/old.db" if is_sqlite else request.getfixturevalue("postgresql").create()
    link = snapshots.load(snapshot, uri)
    site: Site = make_site(SQLALCHEMY_DATABASE_URI=uri)
    with site.app.app_context():
        flask_migrate.upgrade()
        with db.engine.connect() as connection:
            options = {**version_options(), "include_object": is_compared}
            differences = compare_metadata(MigrationContext.configure(connection, opts=options), db.metadata)
        with db.engine.begin() as connection:
            connection.execute(text("CREATE TABLE report (id integer)"))  # of another application, later
        flask_migrate.upgrade()
    assert differences == [], "add a migration, or before the release is tagged: make snapshot"

    site.change(ResetLink, expires_at=datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1))
    site.change(OutboxMessage, OutboxMessage.state == "waiting", created_at=utcnow(), due_at=utcnow())
    site.work()
    for name, url in {"alice": link, "bob": site.last_link()}.items():
        site.visitor().set_password(url)
        assert site.password_works(NEW_PASSWORD, name)
