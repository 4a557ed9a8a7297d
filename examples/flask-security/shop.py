"""A stock Flask-Security application, as in its quick start. It knows nothing of Sparekey but a link.

python examples/flask-security/shop.py --port 8001     # with three sample users
"""

import argparse
import os
from pathlib import Path

from flask import Flask, redirect
from flask_security import Security, SQLAlchemyUserDatastore, auth_required, current_user, hash_password
from flask_security.models import fsqla_v3 as fsqla
from flask_sqlalchemy import SQLAlchemy

FILE = os.environ.get("SHOP_FILE", Path(__file__).with_name("shop.db"))
SPAREKEY = os.environ.get("SPAREKEY_URL", "http://127.0.0.1:5000")

app = Flask(__name__)
app.config.update(
    SECRET_KEY="of an example, not of a site",
    SECURITY_PASSWORD_SALT="the salt of an example",
    SECURITY_CHANGEABLE=True,
    SECURITY_SEND_PASSWORD_CHANGE_EMAIL=False,
    # PostgreSQL, if PGDATABASE names a database; or else a file.
    SQLALCHEMY_DATABASE_URI="postgresql+psycopg://" if "PGDATABASE" in os.environ else f"sqlite:///{FILE}",
)

db = SQLAlchemy(app)
fsqla.FsModels.set_db_info(db)


class Role(db.Model, fsqla.FsRoleMixin):
    pass


class User(db.Model, fsqla.FsUserMixin):
    pass


class WebAuthn(db.Model, fsqla.FsWebAuthnMixin):
    pass


users = SQLAlchemyUserDatastore(db, User, Role)
app.security = Security(app, users)


@app.get("/")
@auth_required()
def home():
    return f"Hello, {current_user.email}"


@app.get("/reset")  # free without SECURITY_RECOVERABLE
def forgot():
    return redirect(f"{SPAREKEY}/reset")


def set_up():
    db.create_all()
    if not users.find_user(email="alice@example.com"):
        users.create_user(email="alice@example.com", password=hash_password("alice will forget this"))
        left = hash_password("bob has left the shop")
        users.create_user(email="bob@example.com", password=left, active=False)
        users.create_user(email="carol@example.com", password=None)
        db.session.commit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8001)
    with app.app_context():
        set_up()
    app.run(port=parser.parse_args().port)
