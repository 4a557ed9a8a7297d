"""Sessions: how long a sign-in lasts, and which keys sign its cookies.

A sign-in ends after REMEMBER_COOKIE_DURATION, or when it is signed out. Its cookies sign its time and id, so
renewing them does not extend it, and copies end with it. The newest key signs; earlier keys only verify.
"""

import hashlib
import time
from typing import Any

from flask import Flask, current_app, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_login import user_loaded_from_cookie, user_logged_out
from flask_login.utils import decode_cookie
from flask_security import UserMixin
from flask_security.utils import set_request_attr
from sqlalchemy import exists, select
from sqlalchemy.orm import contains_eager

from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import db, inserts
from ..settings import current
from .models import Role, SignedOut, User

LONGEST_SIGN_IN_SECONDS = 31 * 86_400  # no setting makes a sign-in last longer


def init_app(app: Flask) -> None:
    """Set up sessions. Comes before Flask-Security's init_app, so that its hooks see a renewed session."""
    app.before_request(_renew_session)
    app.session_interface = interface = SecureCookieSessionInterface()
    interface.digest_method = hashlib.sha256  # instead of SHA-1 (ASVS 11.4.1)
    user_loaded_from_cookie.connect(_forget_password_entry, app)
    user_logged_out.connect(_record_sign_out, app)


def load_user(cookie_id: str) -> UserMixin | None:
    """Return the account of a User.get_id(), or None after the sign-in has ended. For Flask-Login."""
    uniquifier, signed_in_at, sign_in_id = f"{cookie_id}..".split(".")[:3]
    longest = current().REMEMBER_COOKIE_DURATION.total_seconds()
    if not signed_in_at.isdecimal() or not -CLOCK_SLACK_SECONDS <= time.time() - int(signed_in_at) <= longest:
        return None
    is_valid = (User.fs_uniquifier == uniquifier, User.active, ~exists().where(SignedOut.id == sign_in_id))
    # Roles come in the same statement. SQLAlchemy's own outer join of them would scan a table on SQLite.
    query, pairs = select(User).where(*is_valid), db.metadata.tables["roles_users"]
    query = query.outerjoin(pairs, pairs.c.user_id == User.id).outerjoin(Role, Role.id == pairs.c.role_id)
    query = query.options(contains_eager(User.roles))
    user = db.session.scalars(query).unique().one_or_none() if sign_in_id else None
    if user is None:
        return None
    user.sign_in_id = sign_in_id
    set_request_attr("fs_authn_via", "session")  # as Flask-Security's own loader does
    # Of a frozen account, nobody changes the address or a factor.
    set_request_attr("fs_paa", 0 if user.contested_email else session.get("fs_paa", 0))
    return user


def _forget_password_entry(_app: Flask, **_: Any) -> None:
    """Forget when a password was entered, because the remember cookie may be another account's."""
    session.pop("fs_paa", None)
    set_request_attr("fs_paa", 0)


def _renew_session() -> None:
    """Accept a remember cookie signed with an earlier key, because Flask-Login knows only the newest."""
    if (cookie_id := _remembered(*current().SECRET_KEY_FALLBACKS)) and "_user_id" not in session:
        session.update({"_user_id": cookie_id, "_fresh": False, "_remember": "set", "fs_paa": 0})


def _remembered(*keys: str) -> str:
    """Return the User.get_id() in a remember cookie that is signed with one of the keys."""
    cookie = request.cookies.get(current_app.config["REMEMBER_COOKIE_NAME"], "")
    return next(filter(None, (decode_cookie(cookie, key=key) for key in keys)), "")


def _record_sign_out(_app: Flask, user: User, **_: Any) -> None:
    """End this browser's sign-in, and that of its remember cookie, which may be another. Commits."""
    ids = {getattr(user, "sign_in_id", ""), _remembered(*current().signing_keys).rpartition(".")[2]} - {""}
    if ids:
        rows = [{"id": sign_in_id, "ends_at": utcnow(LONGEST_SIGN_IN_SECONDS)} for sign_in_id in ids]
        db.session.execute(inserts[db.engine.dialect.name](SignedOut).values(rows).on_conflict_do_nothing())
        db.session.commit()
