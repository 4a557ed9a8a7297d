"""A deployment with accounts. `site.ask("alice")`, `site.work()`, `site.last_link()` and a `Visitor`'s `open`, `submit`
and `post_json` tell most stories.
"""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import flask_migrate
import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_security.utils import hash_password
from sqlalchemy import select, update
from werkzeug.serving import make_server
from werkzeug.test import TestResponse
from werkzeug.wsgi import ClosingIterator

from app import create_app, settings
from app.accounts.models import User
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.db.migrations import identity_columns
from app.mail import worker
from app.mail.outbox import OutboxMessage
from app.recovery.link import ResetLink
from app.settings import schema

from . import caches, hashes
from .mailbox import Mailbox, link_in

ROOT = Path(__file__).resolve().parents[2]
OLD_PASSWORD = "the old password of alice"
NEW_PASSWORD = "a brand new password for alice"
PUBLIC_URL = "http://127.0.0.1:5000"

SECRETS = {
    "FLASK_SECRET_KEY": "zKq4wX1mP8vT0rJ7yB5nD2sG9hL6cF3a",
    "FLASK_SECURITY_PASSWORD_SALT": "uE6oI2aY9tR4wQ1pL8kJ5hG3fD7sZ0xC",
}

# Identities that lead to no account that can recover. All get the same answer.
NOBODYS = {
    "absent address": "nobody@example.com",
    "absent username": "nobody",
    "absent number": "+14155550199",
    "inactive": "inactive@example.com",
    "without password": "sso@example.com",
}

caches.share()
BOTH = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


class Visitor:
    """A browser without JavaScript, or a JSON client. Keeps cookies, and sends the CSRF token of forms."""

    def __init__(self, app: Flask) -> None:
        base = urlsplit(app.config["RECOVERY_PUBLIC_URL"])
        self.client: FlaskClient = app.test_client()
        self.base = f"{base.scheme}://{base.netloc}"

    def open(self, url: str, **options: Any) -> TestResponse:
        return self.client.open(url, base_url=self.base, **options)

    def submit(self, page: str, url: str | None = None, **fields: Any) -> TestResponse:
        """Open a page, fill in its form and post it."""
        form = self.open(page, follow_redirects=True)
        target = url or re.search(r'<form method="post" action="([^"]+)"', form.text)[1]  # type: ignore[index]
        fields.setdefault("csrf_token", csrf_token(form))
        referer = {"Referer": urljoin(self.base, page)}  # as browsers send it; Flask-WTF requires it on https
        return self.client.post(target, base_url=self.base, data=fields, headers=referer)

    def post_json(self, url: str, **options: Any) -> TestResponse:
        return self.client.post(url, base_url=self.base, **options)

    def sign_in(self, identity: str = "alice", password: str = OLD_PASSWORD) -> bool:
        self.submit("/login", identity=identity, password=password)
        return self.is_signed_in()

    def is_signed_in(self) -> bool:
        return self.open("/change").status_code == 200

    def set_password(self, link: str, password: str = NEW_PASSWORD, again: str | None = None) -> TestResponse:
        return self.submit(link, password=password, password_confirm=password if again is None else again)


def csrf_token(page: TestResponse) -> str:
    match = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
    return match[1] if match else ""


@dataclass
class Site:
    """A deployment with its database and its mail."""

    app: Flask
    mailbox: Mailbox

    def visitor(self) -> Visitor:
        return Visitor(self.app)

    def ask(self, identity: str = "alice@example.com") -> TestResponse:
        return self.visitor().post_json("/reset", json={"identity": identity})

    def work(self) -> int:
        """Work as the worker does, until no mail is due."""
        with self.app.app_context():
            return worker.work_until_done()

    def post_events(self) -> int:
        """Post events to the webhook as the worker does, until none is due."""
        with self.app.app_context():
            return worker.post_due_events()

    def last_link(self) -> str:
        return link_in(self.mailbox.mails[-1])

    def new_link(self, identity: str = "alice@example.com") -> str:
        """Request a link, work, and return the mailed link."""
        before = len(self.mailbox.mails)
        assert self.ask(identity).status_code == 200
        self.work()
        assert len(self.mailbox.mails) == before + 1
        return self.last_link()

    def password_works(self, password: str, identity: str = "alice") -> bool:
        return self.visitor().sign_in(identity, password)

    def change(self, model: Any = User, *where: Any, **values: Any) -> None:
        """Write to the database directly, as a script would. Without conditions, change alice or every row."""
        with self.app.app_context():
            where = where or ((User.email == "alice@example.com",) if model is User else ())
            db.session.execute(update(model).where(*where).values(**values))
            db.session.commit()

    def rows(self, model: Any) -> list[dict[str, Any]]:
        with self.app.app_context():
            table = model.__table__
            return [dict(row) for row in db.session.execute(select(table).order_by(table.c.id)).mappings()]

    def messages(self) -> list[dict[str, Any]]:
        return self.rows(OutboxMessage)

    def links(self) -> list[dict[str, Any]]:
        return self.rows(ResetLink)

    def events(self) -> list[str]:
        return [row["kind"] for row in self.rows(RecoveryEvent)]


def load_settings(**overrides: Any) -> schema.Settings:
    return settings.load({**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}, **overrides)


def add_accounts(app: Flask) -> None:
    """Add alice and bob, who can recover, and two accounts that cannot."""
    datastore = app.extensions["security"].datastore
    for name, number in (("alice", 23), ("bob", 24)):
        known = {"email": f"{name}@example.com", "username": name, "us_phone_number": f"+141555501{number}"}
        datastore.create_user(**known, password=hash_password(OLD_PASSWORD))
    datastore.create_user(email="inactive@example.com", password=hash_password(OLD_PASSWORD), active=False)
    datastore.create_user(email="sso@example.com", password=None)
    db.session.commit()


def fill(uri: str) -> str:
    """Migrate a database and add the accounts. Tests copy the result, because both take time."""
    app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=uri))
    with app.app_context():
        flask_migrate.upgrade()
        identity_columns.add("employee_number")  # because User keeps the column once an app has configured it
        add_accounts(app)
        hashes.keep()
        db.engine.dispose()
    return uri


def buffered(app: Any) -> Any:
    """Read responses completely. Werkzeug's server leaves a file open if the browser resets the connection."""

    def answer(environ: Any, start_response: Any) -> list[bytes]:
        with closing(ClosingIterator(app(environ, start_response))) as parts:
            return list(parts)

    return answer


@contextmanager
def served(app: Flask, port: int, tls: Any = None) -> Iterator[None]:
    """Serve an app on a real socket, with a worker beside it."""
    server = make_server("127.0.0.1", port, buffered(app), threaded=True, ssl_context=tls)
    # By default a server notices only after half a second that it shall stop.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with working(app):
            yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def working(app: Flask, threads: int = 1) -> Iterator[threading.Event]:
    """Run a worker that sends in so many threads."""
    stop = threading.Event()

    def work() -> None:
        with app.app_context():
            worker.run(stop, threads)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(timeout=30)
        assert not thread.is_alive()


def at_work(site: Site, threads: int = 1) -> AbstractContextManager[threading.Event]:
    return working(site.app, threads)


def wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.02)
