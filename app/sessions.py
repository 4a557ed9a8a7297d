"""Who is signed in: for how long, in which cookies, and under which keys.

A sign-in ends REMEMBER_COOKIE_DURATION after it was made, whatever was kept and however it is renewed: the
moment stands in what the cookies sign. Everything is signed with the newest key; the earlier ones only read.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, current_app, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_login.utils import decode_cookie
from itsdangerous import Serializer

from .settings import Settings

CLOCK_SLACK_SECONDS = 60  # a sign-in from later than now was made before the clock was mended
SIGNATURE = {"digest_method": hashlib.sha256}  # SHA-1, the default, is not for new uses (ASVS 11.4.1)


class SessionInterface(SecureCookieSessionInterface):
    """Flask's, signed with SHA-256."""

    digest_method = staticmethod(hashlib.sha256)


def prepare(app: Flask, settings: Settings) -> None:
    """Before Flask-Security's own start, and before anybody asks who is signed in."""
    app.before_request(_renew_under_the_new_key)
    app.session_interface = SessionInterface()
    _set_cookies(app, by_tls=urlsplit(settings.RECOVERY_PUBLIC_URL).scheme == "https")
    app.config["WTF_CSRF_SECRET_KEY"] = _keys(settings)  # forms that are open survive a rotation, too
    # Flask-Login's would mark what changes its address or browser as no more fresh, which nothing here asks,
    # and set the cookie anew for that.
    app.config["SESSION_PROTECTION"] = None
    app.config.setdefault("SECURITY_REFRESH_TOKEN_MAX_AGE", settings.REMEMBER_COOKIE_DURATION)


def init_app(app: Flask, settings: Settings) -> None:
    """After it. Flask-Security lists the newest key first, and so would sign with the oldest."""
    security = app.extensions["security"]
    for name, serializer in list(vars(security).items()):
        if isinstance(serializer, Serializer):
            salt, kind = serializer.salt, type(serializer)
            setattr(security, name, kind(_keys(settings), salt=salt, signer_kwargs=SIGNATURE))
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


def _set_cookies(app: Flask, *, by_tls: bool) -> None:
    """Names and flags follow the public URL's scheme. `__Host-` binds a cookie to this very host.

    Lax, not Strict: a link is opened from webmail, and with Strict the browser would not send the
    cookie on the redirect that follows.
    """
    prefix = "__Host-" if by_tls else ""
    flags = {"secure": by_tls, "httponly": True, "samesite": "Lax"}
    app.config.update(
        SESSION_COOKIE_NAME=f"{prefix}sparekey_session",
        SESSION_COOKIE_PATH="/",
        SESSION_COOKIE_SECURE=by_tls,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        REMEMBER_COOKIE_NAME=f"{prefix}sparekey_remember",
        REMEMBER_COOKIE_SECURE=by_tls,
        REMEMBER_COOKIE_HTTPONLY=True,
        REMEMBER_COOKIE_SAMESITE="Lax",
        SECURITY_CSRF_COOKIE={**flags, "httponly": False},  # scripts must read it
        SECURITY_TWO_FACTOR_VALIDITY_COOKIE_NAME=f"{prefix}sparekey_two_factor",
        SECURITY_TWO_FACTOR_VALIDITY_COOKIE={**flags, "samesite": "Strict"},
        SECURITY_REFRESH_TOKEN_COOKIE_NAME=f"{prefix}sparekey_refresh",
        SECURITY_REFRESH_TOKEN_COOKIE={**flags, "samesite": "Strict"},
    )


def _keys(settings: Settings) -> list[str]:
    """The newest last: itsdangerous signs with that one."""
    return [*reversed(settings.SECRET_KEY_FALLBACKS), settings.SECRET_KEY]
