"""Flask-Security-Too on its defaults, as its quick start shows it: what `oracle.py` compares with.

Recovery is on, its answers are generic, and mail goes out while the asker waits (Flask-Mailman): that is
what one gets by turning the feature on. The settings come from FLASK_<NAME>, as Sparekey's do, so that both
have the same relay, secrets and salt.
"""

from __future__ import annotations

from flask import Flask
from flask_mailman import Mail
from flask_security import Security, SQLAlchemyUserDatastore
from flask_security.models import fsqla_v3 as fsqla
from flask_sqlalchemy import SQLAlchemy

MAIL_SECONDS = 3.0  # by default it waits for ever for a relay that says nothing, and a bench must end

db = SQLAlchemy()
fsqla.FsModels.set_db_info(db)


class Role(db.Model, fsqla.FsRoleMixin):
    """A named set of permissions."""


class User(db.Model, fsqla.FsUserMixin):
    """An account."""


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.update(
        SECURITY_RECOVERABLE=True,
        SECURITY_CONFIRMABLE=True,
        SECURITY_RETURN_GENERIC_RESPONSES=True,
        SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS={  # the cost is Sparekey's, to be fair
            "argon2__memory_cost": 19456,
            "argon2__rounds": 2,
            "argon2__parallelism": 1,
        },
        SECURITY_EMAIL_VALIDATOR_ARGS={"check_deliverability": False},  # it would ask the DNS of this machine
        SECURITY_EMAIL_SENDER="no-reply@localhost",
        WTF_CSRF_ENABLED=False,
        MAIL_TIMEOUT=MAIL_SECONDS,
    )
    app.config.from_prefixed_env()
    db.init_app(app)
    Mail(app)
    Security(app, SQLAlchemyUserDatastore(db, User, Role))
    with app.app_context():
        db.create_all()
    return app
