"""Sparekey itself with one more route, to measure in multiples of one hash; in its own environment."""

import os

import alike
import flask_migrate
from flask import Flask
from flask_security.utils import hash_password
from passlib.context import CryptContext
from sqlalchemy import insert

import app as product
from app.accounts.models import User
from app.db.engine import db

CHEAP = {"argon2__memory_cost": 8, "argon2__rounds": 1, "argon2__parallelism": 1}


def create_app() -> Flask:
    app = product.create_app()
    security = app.extensions["security"]
    if "BENCH_CHEAP_HASH" in os.environ:  # bench/scale.py measures the database; settings refuse such a hash
        security.pwd_context = CryptContext(["argon2"], **CHEAP)
    app.add_url_rule("/bench/hash", "hash", lambda: security.pwd_context.hash(alike.PASSWORD))
    return app


def fill(count: int) -> None:
    with product.create_app().app_context():
        flask_migrate.upgrade()
        same = {"password": hash_password(alike.PASSWORD), "active": True}
        accounts = [
            {"email": email, "fs_uniquifier": email.partition("@")[0], **same} for email in alike.known(count)
        ]
        db.session.execute(insert(User), accounts)
        db.session.commit()
