"""The cookie of a browser that has signed in before: guesses from elsewhere do not count against it."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from flask import Flask, Response, after_this_request, current_app, request
from flask_security import user_authenticated
from itsdangerous import BadSignature, URLSafeSerializer

from ..settings.types import IDENTITIES
from ..web.rate_limits import keyed_hash, keys
from .identities import IdentityKey
from .models import User

BROWSERS = 8  # an attacker with one account cannot collect counts without end
MARKS_MAX = 12  # the identities of four accounts
KNOWN_SECONDS = 365 * 86_400


def init_app(app: Flask) -> None:
    user_authenticated.connect(_on_sign_in, app)


def _on_sign_in(_app: Flask, user: User, **_: Any) -> None:
    remember_browser(marks_of(user))


def marks_of(user: User) -> list[str]:
    """Return keyed hashes of an account's identities, under which guesses are counted."""
    identities = (IdentityKey(kind, getattr(user, kind)) for kind in IDENTITIES)
    return [keyed_hash(str(identity)) for identity in identities if identity.value]


def remember_browser(marks: list[str]) -> None:
    """Count this browser apart when it signs in to the account with these marks."""
    browser, *others = known_here() or [secrets.randbelow(BROWSERS)]
    others = [mark for mark in others if mark not in marks]
    value = _signer().dumps([browser, *others[len(marks) - MARKS_MAX :], *marks])

    @after_this_request
    def set_cookie(response: Response) -> Response:
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
    """Return this browser's number, and the marks of the accounts that signed in from it."""
    cookie = request.cookies.get(current_app.config["RECOVERY_KNOWN_COOKIE"])
    try:
        return list(_signer().loads(cookie)) if cookie else []
    except BadSignature:
        return []


def _signer() -> URLSafeSerializer:
    return URLSafeSerializer(keys(), "known browser", signer_kwargs={"digest_method": hashlib.sha256})
