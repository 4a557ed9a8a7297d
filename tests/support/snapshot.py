"""`make snapshot`: writes the database of this version as SQL for both databases, to tests/db/.

tests/db/test_upgrade.py loads the snapshots of every release and upgrades them. A snapshot has the accounts of
site.py, a link that was mailed to alice (in its first line) and bob's request, which waits.
"""

import re
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg

from app import __version__, create_app
from app.db.engine import db

from . import servers
from .database import dump
from .mailbox import Mailbox, listening
from .site import ROOT, Site, fill, load_settings

FOLDER = ROOT / "tests" / "db"
SNAPSHOTS = sorted(FOLDER.glob("release-*.sql"))
# psql's, and the session's that restores it
NOISE = re.compile(r"(--|SET |\\|SELECT pg_catalog\.set_config|$)")


def dialect_of(snapshot: Path) -> str:
    return snapshot.suffixes[-2].removeprefix(".")


def load(snapshot: Path, uri: str) -> str:
    """Run the SQL in an empty database, and return the link that was mailed to alice."""
    sql = snapshot.read_text(encoding="utf-8")
    if dialect_of(snapshot) == "sqlite":
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as file:
            file.executescript(sql)
    else:
        with psycopg.connect(uri) as connection:
            connection.execute(sql.encode())
    return sql.partition("\n")[0].removeprefix("-- ")


def use(uri: str) -> tuple[Site, str]:
    """Return a site whose database holds every kind of row that an upgrade meets, and alice's link."""
    with listening(Mailbox(servers.free_port())) as mailbox:
        settings = load_settings(SQLALCHEMY_DATABASE_URI=fill(uri), MAIL_PORT=mailbox.port)
        site = Site(create_app(settings), mailbox)
        link = site.new_link("alice@example.com")
        site.ask("bob@example.com")
    with site.app.app_context():
        db.engine.dispose()
    return site, link


def statements(site: Site, uri: str) -> Iterator[str]:
    if uri.startswith("sqlite:"):
        yield dump(site)
    else:
        command = ["pg_dump", "--inserts", "--no-owner", "--no-privileges", uri]
        dumped = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        yield from (line for line in dumped.splitlines() if not NOISE.match(line))


def main() -> None:
    programs = servers.find_postgresql()
    assert programs, "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
    with tempfile.TemporaryDirectory() as folder, servers.postgresql(programs) as server:
        for dialect, uri in {"sqlite": f"sqlite:///{folder}/site.db", "postgresql": server.create()}.items():
            site, link = use(uri)
            snapshot = FOLDER / f"release-{__version__}.{dialect}.sql"
            snapshot.write_text("\n".join([f"-- {link}", *statements(site, uri), ""]), encoding="utf-8")
            print(f"{snapshot.relative_to(ROOT)}: {snapshot.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
