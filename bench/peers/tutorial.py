"""Two tutorials: Flask, a table of users, argon2-cffi, and mail while the requester waits.

They differ in the link, which BENCH_LINKS names: "jwt" signs the account and a time limit into it, and stores
nothing; "table" stores a random token with its owner.
"""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import alike
import jwt
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from flask import Flask, current_app, render_template_string, request, session, url_for
from flask_mailman import EmailMultiAlternatives, Mail
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, insert, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Mapped, mapped_column

db = SQLAlchemy()
hasher = PasswordHasher(**alike.ARGON2)
event.listen(Engine, "connect", alike.set_up_sqlite)

PAGE = "<!doctype html><title>{{ text }}</title><p>{{ text }}</p>"
FORM = """<!doctype html><title>New password</title>
<form method="post"><input type="password" name="password"><button>Set</button></form>"""
ALGORITHM = "HS256"


class User(db.Model):
    """An account."""

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str]


class ResetToken(db.Model):
    """A link that is stored."""

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int]
    expires_at: Mapped[datetime]
    used: Mapped[bool] = mapped_column(default=False)


class SignedLinks:
    def issue(self, user: User) -> str:
        claims = {"reset": user.id, "exp": datetime.now(UTC) + timedelta(seconds=alike.LINK_SECONDS)}
        return jwt.encode(claims, current_app.config["SECRET_KEY"], ALGORITHM)

    def owner(self, token: str) -> User | None:
        try:
            claims = jwt.decode(token, current_app.config["SECRET_KEY"], [ALGORITHM])
        except jwt.InvalidTokenError:
            return None
        return db.session.get(User, claims["reset"])

    def spend(self, token: str) -> None:
        """Do nothing: nothing is stored."""


class StoredLinks:
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


LINKS = {"jwt": SignedLinks, "table": StoredLinks}


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.update(MAIL_TIMEOUT=alike.MAIL_SECONDS, MAIL_DEFAULT_SENDER=alike.SENDER)
    app.config.from_prefixed_env()
    db.init_app(app)
    Mail(app)
    with app.app_context():
        db.create_all()
    links = LINKS[os.environ["BENCH_LINKS"]]()

    @app.post("/reset")
    def ask() -> str:
        user = user_of(request.form["email"])
        if user is not None:
            send(user.email, url_for("land", token=links.issue(user), _external=True))
        return page("If there is such an account, a mail is on its way.")

    @app.get("/reset/<token>")
    def land(token: str) -> Any:
        return render_template_string(FORM) if links.owner(token) else (page("This link is over."), 400)

    @app.post("/reset/<token>")
    def redeem(token: str) -> Any:
        user = links.owner(token)
        if user is None:
            return page("This link is over."), 400
        user.password = hasher.hash(request.form["password"])
        links.spend(token)
        db.session.commit()
        return page("Your password has been changed.")

    @app.post("/login")
    def sign_in() -> Any:
        user = user_of(request.form["email"])
        if not is_right(user, request.form["password"]):
            return page("That is not right."), 400
        session["user_id"] = user.id
        return page("You are signed in.")

    app.add_url_rule("/bench/hash", view_func=lambda: hasher.hash(alike.PASSWORD), endpoint="hash")
    return app


def is_right(user: User | None, password: str) -> bool:
    try:
        return user is not None and hasher.verify(user.password, password)
    except VerifyMismatchError:
        return False


def user_of(email: str) -> User | None:
    found: User | None = db.session.scalar(select(User).filter_by(email=email))
    return found


def send(address: str, link: str) -> None:
    mail = EmailMultiAlternatives(
        "Your new password", render_template_string(alike.TEXT, link=link), to=[address]
    )
    mail.attach_alternative(render_template_string(alike.HTML, link=link), "text/html")
    mail.send()


def page(text: str) -> str:
    return render_template_string(PAGE, text=text)


def fill(count: int) -> None:
    with create_app().app_context():
        password = hasher.hash(alike.PASSWORD)
        accounts = [{"email": email, "password": password} for email in alike.known(count)]
        db.session.execute(insert(User), accounts)
        db.session.commit()
