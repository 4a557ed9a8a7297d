"""The tutorial with a table: a link holds a random token; its row says whose it is, and if it is over."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import alike
import tutorial
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column
from tutorial import User, db


class ResetToken(db.Model):
    """A link."""

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int]
    expires_at: Mapped[datetime]
    used: Mapped[bool] = mapped_column(default=False)


class TableLinks:
    """See tutorial.Links."""

    def issue(self, user: User) -> str:
        token = secrets.token_urlsafe(32)
        until = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=alike.LINK_SECONDS)
        db.session.add(ResetToken(token=token, user_id=user.id, expires_at=until))
        db.session.commit()
        return token

    def owner(self, token: str) -> User | None:
        row = db.session.scalar(select(ResetToken).filter_by(token=token))
        if row is None or row.used or row.expires_at < datetime.now(UTC).replace(tzinfo=None):
            return None
        return db.session.get(User, row.user_id)

    def spend(self, token: str) -> None:
        db.session.scalars(select(ResetToken).filter_by(token=token)).one().used = True


def create_app() -> Flask:
    return tutorial.create_app(TableLinks())


def fill(count: int) -> None:
    tutorial.fill(create_app(), count)
