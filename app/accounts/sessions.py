"""Sessions: how long a sign-in lasts, and under which keys its cookies are signed.

A sign-in ends REMEMBER_COOKIE_DURATION after it was made, however its cookies are kept or renewed, because
they sign that moment. The newest key signs; the earlier ones only read.
"""

from __future__ import annotations

import hashlib
import time

from flask import Flask, current_app, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_login.utils import decode_cookie
from flask_security import UserMixin
from flask_security.proxies import _security
from flask_security.utils import set_request_attr

from ..settings import current

CLOCK_SLACK_SECONDS = 60  # a sign-in from later than now was made before the clock was set back


class SessionInterface(SecureCookieSessionInterface):
    """Flask's, signed with SHA-256."""

    digest_method = staticmethod(hashlib.sha256)


def init_app(app: Flask) -> None:
    """Before Flask-Security's own start, and before anybody asks who is signed in."""
    app.before_request(_renew_under_the_new_key)
    app.session_interface = SessionInterface()


def load_user(cookie_id: str) -> UserMixin | None:
    """Return the account that User.get_id() names, while the sign-in lasts. For Flask-Login."""
    uniquifier, _, made_at = str(cookie_id).partition(".")
    limit = current().REMEMBER_COOKIE_DURATION.total_seconds()
    if not made_at.isdecimal() or not -CLOCK_SLACK_SECONDS <= time.time() - int(made_at) <= limit:
        return None
    user = _security.datastore.find_user(fs_uniquifier=uniquifier)
    if user is None or not user.active:
        return None
    set_request_attr("fs_authn_via", "session")  # as Flask-Security's own loader does
    set_request_attr("fs_paa", session.get("fs_paa", 0))
    return user


def _renew_under_the_new_key() -> None:
    """Read Flask-Login's remember cookie with the earlier keys, too, because Flask-Login knows only one."""
    cookie = request.cookies.get(current_app.config["REMEMBER_COOKIE_NAME"])
    if cookie is None or "_user_id" in session:
        return
    for key in current_app.config["SECRET_KEY_FALLBACKS"]:
        if cookie_id := decode_cookie(cookie, key=key):
            session.update({"_user_id": cookie_id, "_fresh": False, "_remember": "set"})
