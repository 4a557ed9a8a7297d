"""The cookie of a browser that has signed in before: guesses from elsewhere do not count against it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from functools import partial
from typing import Any

from flask import Flask, Response, after_this_request, current_app, request
from flask_security import user_authenticated
from itsdangerous import BadSignature, URLSafeSerializer

from ..web.rate_limits import keyed_hash, keys
from .identities import identity_key
from .models import User

BROWSERS = 8  # an attacker with one account cannot collect counts without end
ACCOUNTS_MAX = 4  # for which one browser is known
KNOWN_SECONDS = 365 * 86_400


def init_app(app: Flask) -> None:
    user_authenticated.connect(_on_sign_in, app)


def remember_browser(names: Iterable[str]) -> None:
    """Count this browser apart when it signs in to the account with these identity keys."""
    mine = [keyed_hash(name) for name in names]
    browser, *others = known_here() or [secrets.randbelow(BROWSERS)]
    others = [marks for marks in others if not set(marks) & set(mine)]
    value = _signer().dumps([browser, *others[1 - ACCOUNTS_MAX :], mine])
    after_this_request(partial(_set_cookie, value))


def _on_sign_in(_app: Flask, user: User, **_: Any) -> None:
    remember_browser(names_of(user))


def _set_cookie(value: str, response: Response) -> Response:
    config = current_app.config
    response.set_cookie(
        config["RECOVERY_KNOWN_COOKIE"],
        value,
        max_age=KNOWN_SECONDS,
        secure=config["SESSION_COOKIE_SECURE"],
        httponly=True,
        samesite="Lax",
    )
    return response


def known_here() -> list[Any]:
    """Return this browser's number, and the keyed hashes of each account that signed in from it."""
    cookie = request.cookies.get(current_app.config["RECOVERY_KNOWN_COOKIE"])
    try:
        known: list[Any] = _signer().loads(cookie) if cookie else []
    except BadSignature:
        return []
    return known


def names_of(user: User) -> list[str]:
    """Return the identity keys of an account."""
    names = (user.email, user.username, user.us_phone_number)
    return [identity_key(str(name)) for name in names if name]


def _signer() -> URLSafeSerializer:
    return URLSafeSerializer(keys(), "known browser", signer_kwargs={"digest_method": hashlib.sha256})
