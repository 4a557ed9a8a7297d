"""Who is signed in: for how long, in which cookies, and under which keys.

A sign-in ends REMEMBER_COOKIE_DURATION after it was made, whatever was kept and however it is renewed: the
moment stands in what the cookies sign. Everything is signed with the newest key; the earlier ones only read.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

from flask import Flask, current_app, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_login.utils import decode_cookie
from itsdangerous import Serializer

from ..settings.schema import Settings

CLOCK_SLACK_SECONDS = 60  # a sign-in from later than now was made before the clock was mended
SIGNATURE = {"digest_method": hashlib.sha256}  # SHA-1, the default, is not for new uses (ASVS 11.4.1)


class SessionInterface(SecureCookieSessionInterface):
    """Flask's, signed with SHA-256."""

    digest_method = staticmethod(hashlib.sha256)


def prepare(app: Flask) -> None:
    """Before Flask-Security's own start, and before anybody asks who is signed in."""
    app.before_request(_renew_under_the_new_key)
    app.session_interface = SessionInterface()


def init_app(app: Flask, settings: Settings) -> None:
    """After it. Flask-Security lists the newest key first, and so would sign with the oldest."""
    security = app.extensions["security"]
    for name, serializer in list(vars(security).items()):
        if isinstance(serializer, Serializer):
            salt, kind = serializer.salt, type(serializer)
            setattr(security, name, kind(settings.signing_keys, salt=salt, signer_kwargs=SIGNATURE))
    manager = security.login_manager
    manager.user_loader(_while_it_lasts(manager._user_callback, settings))


def stamped(uniquifier: str) -> str:
    """What a sign-in keeps of an account, with the moment it was made."""
    return f"{uniquifier}.{int(time.time())}"


def _while_it_lasts(load: Callable[[str], Any], settings: Settings) -> Callable[[str], Any]:
    def load_user(kept: str) -> Any:
        uniquifier, _, made_at = str(kept).partition(".")
        limit = settings.REMEMBER_COOKIE_DURATION.total_seconds()
        if not made_at.isdecimal() or not -CLOCK_SLACK_SECONDS <= time.time() - int(made_at) <= limit:
            return None
        return load(uniquifier)

    return load_user


def _renew_under_the_new_key() -> None:
    """Flask-Login's own cookie ("stay signed in") knows one key: read it with the earlier ones, too."""
    cookie = request.cookies.get(current_app.config["REMEMBER_COOKIE_NAME"])
    if cookie is None or "_user_id" in session:
        return
    for key in current_app.config["SECRET_KEY_FALLBACKS"]:
        if kept := decode_cookie(cookie, key=key):
            session.update({"_user_id": kept, "_fresh": False, "_remember": "set"})
