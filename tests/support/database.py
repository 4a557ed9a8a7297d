"""The database of a site, as a URL and as text."""

import sqlite3
from contextlib import closing

from app.db.engine import db

from .site import Site


def database_uri(site: Site) -> str:
    with site.app.app_context():
        return db.engine.url.render_as_string(hide_password=False)


def dump(site: Site) -> str:
    """Return everything that is stored (SQLite)."""
    with closing(sqlite3.connect(database_uri(site).removeprefix("sqlite:///"))) as connection:
        return "\n".join(connection.iterdump())
