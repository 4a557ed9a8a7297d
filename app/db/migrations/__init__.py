"""Migrations of the database (Alembic, through Flask-Migrate): `manage.py db upgrade`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from flask import Flask

from ..engine import db

VERSION_TABLE = "sparekey_version"  # an application in the same database may use Alembic, too


class Migrations:
    """Flask-Migrate's entry in `extensions`, made on demand, because no server needs Alembic."""

    db = db
    directory = str(Path(__file__).parent)

    @cached_property
    def migrate(self) -> Any:
        from flask_migrate import Migrate

        return Migrate(db=self.db, directory=self.directory)


def init_app(app: Flask) -> None:
    app.extensions["migrate"] = Migrations()
