"""The tutorial with a JWT: a link holds who may set a password and until when, signed; nothing is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import alike
import jwt
import tutorial
from flask import Flask, current_app
from tutorial import User, db

ALGORITHM = "HS256"


class SignedLinks:
    """See tutorial.Links."""

    def issue(self, user: User) -> str:
        until = datetime.now(UTC) + timedelta(seconds=alike.LINK_SECONDS)
        return jwt.encode({"reset": user.id, "exp": until}, current_app.config["SECRET_KEY"], ALGORITHM)

    def owner(self, token: str) -> User | None:
        try:
            said = jwt.decode(token, current_app.config["SECRET_KEY"], [ALGORITHM])
        except jwt.InvalidTokenError:
            return None
        return db.session.get(User, said["reset"])

    def spend(self, token: str) -> None:
        """There is nothing that could be spent."""


def create_app() -> Flask:
    return tutorial.create_app(SignedLinks())


def fill(count: int) -> None:
    tutorial.fill(create_app(), count)
