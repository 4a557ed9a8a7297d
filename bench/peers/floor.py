"""The floor: what a Flask view takes that writes one row, durably, and does nothing else.

Whoever loses no mail when a process dies can not take less, on this server and this database.
"""

from __future__ import annotations

from datetime import UTC, datetime

import alike
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, DateTime, Integer, Table, Text, event, insert
from sqlalchemy.engine import Engine

db = SQLAlchemy()
event.listen(Engine, "connect", alike.set_up_sqlite)
asked = Table(
    "asked",
    db.metadata,
    Column("id", Integer, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("asked_at", DateTime, nullable=False),
)


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    db.init_app(app)
    with app.app_context():
        db.create_all()

    @app.post("/reset")
    def ask() -> ResponseReturnValue:
        row = {"identity": request.get_json()["identity"], "asked_at": datetime.now(UTC).replace(tzinfo=None)}
        db.session.execute(insert(asked), row)
        db.session.commit()
        return jsonify({})

    return app


def fill(_count: int) -> None:
    create_app()
