"""What the tutorials have in common: Flask, a table of users, argon2-cffi, and mail while the asker waits.

They differ in what a link holds: `tutorial_table.py`, `tutorial_jwt.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import alike
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from flask import Flask, render_template_string, request, session, url_for
from flask_mailman import EmailMultiAlternatives, Mail
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, insert, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Mapped, mapped_column

db = SQLAlchemy()
hasher = PasswordHasher(**alike.ARGON2)
event.listen(Engine, "connect", alike.set_up_sqlite)

SAID = "<!doctype html><title>{{ said }}</title><p>{{ said }}</p>"
FORM = """<!doctype html><title>New password</title>
<form method="post"><input type="password" name="password"><button>Set</button></form>"""


class User(db.Model):
    """An account."""

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str]


class Links(Protocol):
    """How a tutorial makes a link, and what it does when somebody comes with one."""

    def issue(self, user: User) -> str: ...
    def owner(self, token: str) -> User | None: ...
    def spend(self, token: str) -> None: ...


def user_of(email: str) -> User | None:
    found: User | None = db.session.scalar(select(User).filter_by(email=email))
    return found


def create_app(links: Links) -> Flask:
    app = Flask(__name__)
    app.config.update(MAIL_TIMEOUT=alike.MAIL_SECONDS, MAIL_DEFAULT_SENDER=alike.SENDER)
    app.config.from_prefixed_env()
    db.init_app(app)
    Mail(app)
    with app.app_context():
        db.create_all()
    routes: list[tuple[str, str, Callable[..., Any]]] = [
        ("POST", "/reset", lambda: _ask(links)),
        ("GET", "/reset/<token>", lambda token: _land(links, token)),
        ("POST", "/reset/<token>", lambda token: _redeem(links, token)),
        ("POST", "/login", _sign_in),
        ("GET", "/bench/hash", lambda: hasher.hash(alike.PASSWORD)),
    ]
    for method, rule, view in routes:
        app.add_url_rule(rule, f"{method} {rule.split('/')[1]} {rule.count('/')}", view, methods=[method])
    return app


def _ask(links: Links) -> str:
    user = user_of(request.form["email"])
    if user is not None:
        link = url_for("GET reset 2", token=links.issue(user), _external=True)
        mail = EmailMultiAlternatives(
            "Your new password", render_template_string(alike.TEXT, link=link), to=[user.email]
        )
        mail.attach_alternative(render_template_string(alike.HTML, link=link), "text/html")
        mail.send()
    return _say("If there is such an account, a mail is on its way.")


def _land(links: Links, token: str) -> Any:
    return render_template_string(FORM) if links.owner(token) else (_say("This link is over."), 400)


def _redeem(links: Links, token: str) -> Any:
    user = links.owner(token)
    if user is None:
        return _say("This link is over."), 400
    user.password = hasher.hash(request.form["password"])
    links.spend(token)
    db.session.commit()
    return _say("Your password is changed.")


def _sign_in() -> Any:
    user = user_of(request.form["email"])
    try:
        if user is not None and hasher.verify(user.password, request.form["password"]):
            session["user_id"] = user.id
            return _say("You are signed in.")
    except VerifyMismatchError:
        pass
    return _say("That is not right."), 400


def _say(said: str) -> str:
    return render_template_string(SAID, said=said)


def fill(app: Flask, count: int) -> None:
    with app.app_context():
        password = hasher.hash(alike.PASSWORD)
        db.session.execute(
            insert(User), [{"email": email, "password": password} for email in alike.known(count)]
        )
        db.session.commit()
