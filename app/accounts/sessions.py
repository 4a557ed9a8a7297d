"""Sessions: how long a sign-in lasts, and which keys sign its cookies.

A sign-in ends after REMEMBER_COOKIE_DURATION. Its cookies sign the time of the sign-in, so renewing them does
not extend it. The newest key signs; earlier keys only verify.
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

from ..db.clock import CLOCK_SLACK_SECONDS
from ..settings import current


class SessionInterface(SecureCookieSessionInterface):
    """Flask's session cookie, signed with SHA-256."""

    digest_method = staticmethod(hashlib.sha256)


def init_app(app: Flask) -> None:
    """Set up sessions. Comes before Flask-Security's init_app, so that its hooks see a renewed session."""
    app.before_request(_renew_session)
    app.session_interface = SessionInterface()


def load_user(cookie_id: str) -> UserMixin | None:
    """Return the account of a User.get_id(), or None after the sign-in has ended. For Flask-Login."""
    uniquifier, _, signed_in_at = str(cookie_id).partition(".")
    longest = current().REMEMBER_COOKIE_DURATION.total_seconds()
    if not signed_in_at.isdecimal() or not -CLOCK_SLACK_SECONDS <= time.time() - int(signed_in_at) <= longest:
        return None
    user = _security.datastore.find_user(fs_uniquifier=uniquifier)
    if user is None or not user.active:
        return None
    set_request_attr("fs_authn_via", "session")  # as Flask-Security's own loader does
    set_request_attr("fs_paa", session.get("fs_paa", 0))
    return user


def _renew_session() -> None:
    """Accept a remember cookie signed with an earlier key, because Flask-Login knows only the newest."""
    cookie = request.cookies.get(current_app.config["REMEMBER_COOKIE_NAME"])
    if cookie is None or "_user_id" in session:
        return
    for key in current_app.config["SECRET_KEY_FALLBACKS"]:
        if cookie_id := decode_cookie(cookie, key=key):
            session.update({"_user_id": cookie_id, "_fresh": False, "_remember": "set"})
