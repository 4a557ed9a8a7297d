"""Two tutorials: Flask, a table of users, argon2-cffi, and mail while the requester waits.

They differ in the link, which BENCH_LINKS names: "jwt" signs the account and a time limit into it, and stores
nothing; "table" stores a random token with its owner.

Beside them stands the floor: what a view takes that writes one row, durably, and does nothing else. A system
that loses no mail when a process dies cannot take less, on this server and this database.
"""

import os
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import alike
import jwt
from argon2 import PasswordHasher
from flask import Flask, current_app, render_template, request, url_for
from flask_mailman import EmailMultiAlternatives, Mail
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, insert, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Mapped, mapped_column

db = SQLAlchemy()
hasher = PasswordHasher(**alike.ARGON2)
event.listen(Engine, "connect", alike.set_up_sqlite)

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


class Asked(db.Model):
    """A row of the floor."""

    id: Mapped[int] = mapped_column(primary_key=True)
    identity: Mapped[str]
    asked_at: Mapped[datetime]


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
        until = now() + timedelta(seconds=alike.LINK_SECONDS)
        db.session.add(ResetToken(token=token, user_id=user.id, expires_at=until))
        db.session.commit()
        return token

    def owner(self, token: str) -> User | None:
        row = db.session.scalar(select(ResetToken).filter_by(token=token))
        if row is None or row.used or row.expires_at < now():
            return None
        return db.session.get(User, row.user_id)

    def spend(self, token: str) -> None:
        db.session.scalars(select(ResetToken).filter_by(token=token)).one().used = True


def create_app() -> Flask:
    app = Flask(__name__, template_folder=alike.TEMPLATES)
    app.config.update(MAIL_TIMEOUT=alike.MAIL_SECONDS, MAIL_DEFAULT_SENDER=alike.SENDER)
    app.config.from_prefixed_env()
    db.init_app(app)
    Mail(app)
    with app.app_context():
        db.create_all()
    links = SignedLinks() if os.environ["BENCH_LINKS"] == "jwt" else StoredLinks()

    @app.post("/reset")
    def ask() -> str:
        user = db.session.scalar(select(User).filter_by(email=request.form["email"]))
        if user is not None:
            send(user.email, url_for("land", token=links.issue(user), _external=True))
        return page("If there is such an account, a mail is on its way.")

    @app.get("/reset/<token>")
    def land(token: str) -> Any:
        return (
            render_template("new_password.html") if links.owner(token) else (page("This link is over."), 400)
        )

    @app.post("/reset/<token>")
    def redeem(token: str) -> Any:
        user = links.owner(token)
        if user is None:
            return page("This link is over."), 400
        user.password = hasher.hash(request.form["password"])
        links.spend(token)
        db.session.commit()
        return page("Your password has been changed.")

    @app.post("/floor")
    def write_a_row() -> dict[str, str]:
        db.session.execute(insert(Asked), {"identity": request.get_json()["identity"], "asked_at": now()})
        db.session.commit()
        return {}

    app.add_url_rule("/bench/hash", "hash", lambda: hasher.hash(alike.PASSWORD))
    return app


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def send(address: str, link: str) -> None:
    text, html = (render_template(name, link=link) for name in ("mail.txt", "mail.html"))
    mail = EmailMultiAlternatives("Your new password", text, to=[address])
    mail.attach_alternative(html, "text/html")
    mail.send()


def page(text: str) -> str:
    return render_template("page.html", text=text)


def fill(count: int) -> None:
    with create_app().app_context():
        password = hasher.hash(alike.PASSWORD)
        accounts = [{"email": email, "password": password} for email in alike.known(count)]
        db.session.execute(insert(User), accounts)
        db.session.commit()
