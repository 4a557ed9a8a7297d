"""Rate limits by identity and by account, and the browsers that are counted apart.

Guesses are counted by the identity that was entered, whether or not it has an account. No amount of
guesses locks an owner out, because a cookie tells a browser that has signed in before, which is counted
apart, and a reset clears the count.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import partial
from typing import Any

from flask import Flask, after_this_request, current_app, request, session
from flask_security import current_user, user_authenticated
from itsdangerous import BadSignature, URLSafeSerializer
from limits import parse_many
from sqlalchemy import select
from werkzeug.exceptions import BadRequest

from ..db.engine import db
from ..settings import current
from ..settings.types import IDENTITIES
from ..web.errors import InvalidRequest
from ..web.rate_limits import hash_keys, keyed_hash, limit, rate_limiter, source
from ..web.responses import keep_cookie
from .identities import IdentityKey, identity_key, posted_identity
from .models import User

# A code has six digits, and up to nine are valid at once for each method: guessing for a year hits an account
# with a chance of 1 in 5. Above the limit only codes fail, so no owner is locked out of their password.
CODES_MAX = "10 per hour; 30 per day"
# Scopes: each has counts of its own.
ASKING = "asking"
SIGNING_IN = "signing in"
ACCOUNT = "account"
CODES = "codes"
BROWSERS = 8  # a browser's number is below, so an attacker with one account cannot collect counts without end
REMEMBERED_MAX = 12  # identities in a browser's cookie: those of four accounts
# Where a visitor who is signed in, or halfway in, could guess further or send mail.
BY_ACCOUNT = (
    "security.change_password",
    "security.verify",
    "security.change_email",
    "security.two_factor_token_validation",
    "security.two_factor_setup",
    "security.two_factor_setup_validate",
    "security.two_factor_rescue",
    "security.mf_recovery",
    "security.us_setup",
    "security.us_setup_validate",
    "security.us_verify",
    "security.us_verify_send_code",
)


def init_app(app: Flask) -> None:
    """Remember each browser that signs in."""
    user_authenticated.connect(_on_sign_in, app)


def _on_sign_in(_app: Flask, user: User, **_: Any) -> None:
    remember_browser(identity_hashes(user))


def by_identity() -> str | None:
    """Return the key of the posted identity, or of this browser's own count of it, if it signed in before."""
    try:
        identity = identity_key(posted_identity())
    except (InvalidRequest, BadRequest):  # the view refuses it; raised here, it would pass for lost storage
        return None
    browser, *remembered = _remembered() or [None]
    is_known = remembered and any(keyed_hash(identity, key) in remembered for key in hash_keys())
    return f"{keyed_hash(identity)} {browser}" if is_known else keyed_hash(identity)


def by_account() -> str:
    """Return the key of the account that is signed in, or halfway in.

    It holds the account's number, because a reset changes the uniquifier and must not begin a new count.
    """
    half_in = session.get("tf_user_id")
    half_in_number = select(User.id).where(User.fs_uniquifier == half_in)
    number = db.session.scalar(half_in_number) if half_in else getattr(current_user, "id", None)
    return account_key(number) if number else source()


def account_key(user_id: int) -> str:
    """Return the key of an account's counts."""
    return keyed_hash(f"account {user_id}")


def may_try_code(user_id: int | None, typed: str) -> bool:
    """Count a one-time code that comes without a password. False if it is one too many.

    It counts against the account, or against the typed identity where no account has it.
    """
    key = account_key(user_id) if user_id else keyed_hash(identity_key(typed))
    return all(rate_limiter().hit(item, key, CODES) for item in parse_many(CODES_MAX))


def identity_hashes(user: User) -> list[str]:
    """Return keyed hashes of an account's identities, under which guesses are counted."""
    identities = (IdentityKey(kind, getattr(user, kind)) for kind in IDENTITIES)
    return [keyed_hash(str(identity)) for identity in identities if identity.value]


def clear_guesses(hashes: list[str]) -> None:
    """Clear the counts of an account's identities, and this browser's own, by their identity_hashes()."""
    limiter, browser = rate_limiter(), _remembered()[:1]
    own = [f"{identity} {number}" for identity in hashes for number in browser]
    for item in parse_many(current().RECOVERY_LIMIT_IDENTITY):
        for key in (*hashes, *own):
            limiter.clear(item, key, SIGNING_IN)


def remember_browser(hashes: list[str]) -> None:
    """Count this browser apart when it signs in to the account with these identity_hashes()."""
    number, *others = _remembered() or [secrets.randbelow(BROWSERS)]
    others = [identity for identity in others if identity not in hashes]
    cookie = _signer().dumps([number, *others[len(hashes) - REMEMBERED_MAX :], *hashes])
    after_this_request(partial(keep_cookie, "RECOVERY_KNOWN_COOKIE", cookie))


def _remembered() -> list[Any]:
    """Return this browser's number and the identity hashes of accounts that signed in from it, or nothing."""
    cookie = request.cookies.get(current_app.config["RECOVERY_KNOWN_COOKIE"])
    try:
        return list(_signer().loads(cookie)) if cookie else []
    except BadSignature:
        return []


def _signer() -> URLSafeSerializer:
    return URLSafeSerializer(hash_keys(), "known browser", signer_kwargs={"digest_method": hashlib.sha256})


for _endpoint in BY_ACCOUNT:
    limit(_endpoint, ACCOUNT, "RECOVERY_LIMIT_IDENTITY", by_account)
