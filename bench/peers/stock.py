"""Flask-Security-Too on its defaults, as its quick start shows it.

Recovery is on, its answers are generic, and mail goes out while the requester waits (Flask-Mailman): that is
the feature as one turns it on. With BENCH_MAIL_THREADS it follows the usual advice for slow mail: a thread.
"""

import os
import threading
from datetime import UTC, datetime
from typing import Any

import alike
from flask import Flask, current_app
from flask_mailman import Mail
from flask_security import MailUtil, Security, SQLAlchemyUserDatastore, hash_password
from flask_security.models import fsqla_v3 as fsqla
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, insert
from sqlalchemy.engine import Engine

db = SQLAlchemy()
fsqla.FsModels.set_db_info(db)
event.listen(Engine, "connect", alike.set_up_sqlite)


class Role(db.Model, fsqla.FsRoleMixin):
    """A named set of permissions."""


class User(db.Model, fsqla.FsUserMixin):
    """An account."""


class WebAuthn(db.Model, fsqla.FsWebAuthnMixin):
    """A passkey. Nobody has one, but an account asks for this model where that package is installed."""


class ThreadedMail(MailUtil):
    """Hands each mail to a thread of its own."""

    def send_mail(self, *words: Any, **named: Any) -> None:
        app = current_app._get_current_object()

        def send() -> None:
            with app.app_context():
                super(ThreadedMail, self).send_mail(*words, **named)

        threading.Thread(target=send).start()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.update(
        SECURITY_RECOVERABLE=True,
        SECURITY_CONFIRMABLE=True,
        SECURITY_RETURN_GENERIC_RESPONSES=True,
        SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS={  # the cost is Sparekey's, to be fair
            "argon2__memory_cost": alike.ARGON2["memory_cost"],
            "argon2__rounds": alike.ARGON2["time_cost"],
            "argon2__parallelism": alike.ARGON2["parallelism"],
        },
        SECURITY_EMAIL_VALIDATOR_ARGS={"check_deliverability": False},  # it would ask the DNS of this machine
        SECURITY_EMAIL_SENDER="no-reply@localhost",
        WTF_CSRF_ENABLED=False,
        MAIL_TIMEOUT=alike.MAIL_SECONDS,
    )
    app.config.from_prefixed_env()
    db.init_app(app)
    Mail(app)
    mail_util = ThreadedMail if "BENCH_MAIL_THREADS" in os.environ else MailUtil
    security = Security(app, SQLAlchemyUserDatastore(db, User, Role), mail_util_cls=mail_util)
    with app.app_context():
        db.create_all()

    app.add_url_rule("/bench/hash", "hash", lambda: security.pwd_context.hash(alike.PASSWORD))
    return app


def fill(count: int) -> None:
    with create_app().app_context():
        same = {"password": hash_password(alike.PASSWORD), "active": True, "confirmed_at": datetime.now(UTC)}
        accounts = [{"email": email, "fs_uniquifier": email, **same} for email in alike.known(count)]
        db.session.execute(insert(User), accounts)
        db.session.commit()
