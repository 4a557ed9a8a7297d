"""Sparekey itself, and one route more, to measure in multiples of one hash; in its own environment."""

from __future__ import annotations

import alike
import flask_migrate
from flask import Flask
from flask_security.utils import hash_password
from sqlalchemy import insert

import app as product
from app.accounts.models import User
from app.db.engine import db


def create_app() -> Flask:
    app = product.create_app()

    @app.get("/bench/hash")
    def one_hash() -> str:
        return str(app.extensions["security"].pwd_context.hash(alike.PASSWORD))

    return app


def fill(count: int) -> None:
    with product.create_app().app_context():
        flask_migrate.upgrade()
        same = {"password": hash_password(alike.PASSWORD), "active": True}
        accounts = [{"email": email, "fs_uniquifier": email, **same} for email in alike.known(count)]
        db.session.execute(insert(User), accounts)
        db.session.commit()
