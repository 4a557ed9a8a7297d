"""The database's versions (Alembic, through Flask-Migrate): `manage.py db upgrade`."""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from flask_migrate import Migrate

from ..db import db

migrate = Migrate(db=db, directory=str(Path(__file__).parent))


def init_app(app: Flask) -> None:
    migrate.init_app(app)
