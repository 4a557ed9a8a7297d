"""Rate limits by identity and by account, and the cookie of a browser that has signed in before.

Guesses count against the identity that was entered, whether or not an account has it. Guesses lock no owner
out, because a browser that has signed in has counts of its own, and a reset clears all counts. Requests for
mail are not counted here, because a count would tell that another visitor asked: the worker's quotas are.
"""

import secrets
from functools import partial
from typing import Any

from flask import Flask, after_this_request, current_app, request, session
from flask_security import current_user, user_authenticated
from itsdangerous import BadSignature
from limits import parse_many
from sqlalchemy import select
from werkzeug.exceptions import BadRequest

from ..db.engine import db
from ..settings import current
from ..web.errors import InvalidRequest
from ..web.rate_limits import count_key, count_keys, limit, rate_limiter
from ..web.responses import keep_cookie
from ..web.tokens import UncompressedToken
from .identities import IdentityKey, identity_columns, map_identity, posted_identity
from .identity_mappers import normalize_identity
from .models import User

# A code has six digits, and up to nine are valid at once for each method. So a year of guesses hits an
# account with a chance of 1 in 5. Above the limit only codes fail, so owners can still use their password.
GUESSES_MAX = "10 per hour; 30 per day"
# Scopes: each has counts of its own.
SIGNING_IN = "signing in"
ACCOUNT = "account"
CODES = "codes"
OBJECTING = "objecting"
BROWSERS = 8  # numbers for browsers: few, because an attacker with one account can get a count for each
REMEMBERED_MAX = 12  # identities in a browser's cookie, for four accounts
# Endpoints where a visitor who is signed in, or halfway in, could guess or send mail.
BY_ACCOUNT = (
    *("security.change_password", "security.verify", "security.change_email", "security.mf_recovery"),
    *("security.two_factor_setup", "security.two_factor_setup_validate", "security.two_factor_rescue"),
    *("security.two_factor_token_validation", "security.us_setup", "security.us_setup_validate"),
    *("security.us_verify", "security.us_verify_send_code", "security.tf_select", "security.second_address"),
    *("security.mf_recovery_codes", "security.wan_register_response"),
)


def init_app(app: Flask) -> None:
    """Remember each browser that signs in."""
    user_authenticated.connect(_on_sign_in, app)


def _on_sign_in(_app: Flask, user: User, **_: Any) -> None:
    remember_browser(identity_hashes(user))


def by_identity() -> str | None:
    """Return the key of the posted identity's count, which a browser that has signed in has for itself.

    Returns None for a malformed identity, which the view refuses.
    """
    try:
        identity = str(posted_identity().key)
    except (InvalidRequest, BadRequest):
        return None
    browser = known_browser(identity)
    return count_key(identity) if browser is None else f"{count_key(identity)} {browser}"


def known_browser(identity: str) -> int | None:
    """Return the number of a browser in which an account signed in with an identity's key, or None."""
    browser, *remembered = _remembered() or [None]
    is_known = not set(remembered).isdisjoint(count_keys(identity))
    return browser if is_known else None


def by_account() -> str | None:
    """Return the key of the account that is signed in, or None.

    It is made from the id, because a reset changes the uniquifier and must not begin a new count.
    """
    user_id = getattr(current_user, "id", None)
    return account_key(user_id) if user_id else None


def by_half_finished_sign_in() -> str | None:
    """Return the key of the account whose second factor is to come, or None. Another may be signed in."""
    uniquifier = session.get("tf_user_id")
    user_id = uniquifier and db.session.scalar(select(User.id).where(User.fs_uniquifier == uniquifier))
    if not user_id or user_id == getattr(current_user, "id", None):  # by_account() counts that
        return None
    return account_key(user_id)


def account_key(user_id: int) -> str:
    """Return the key of an account's counts."""
    return count_key(f"account {user_id}")


def may_guess(scope: str, user_id: int | None, identity: IdentityKey | None = None) -> bool:
    """Count a one-time code without a password, or an objection's password. True if it may be verified.

    It counts against the account or, without one, against the typed identity.
    """
    key = account_key(user_id) if user_id else count_key(str(identity))
    return all(rate_limiter().hit(item, key, scope) for item in parse_many(GUESSES_MAX))


def identity_hashes(user: User, *, by_each_key: bool = False) -> list[str]:
    """Return the keyed hashes under which guesses at an account are counted, by default the newest key's.

    `by_each_key`: of every text that leads to the account, by every valid key.
    """
    values = {kind: value for kind in identity_columns() if (value := getattr(user, kind))}
    # Normalized, because an application's table may hold another form.
    normal = {kind: normalize_identity(kind, value) or value for kind, value in values.items()}
    keys: list[IdentityKey | None] = [IdentityKey(kind, value) for kind, value in normal.items()]
    if by_each_key and current().RECOVERY_ACCOUNTS:
        # An application's username may look like another account's address, so these make no known browser.
        forms = (form for value in values.values() for form in (value, value.lower(), value.upper()))
        keys += map(map_identity, (*normal.values(), *forms))
    names = dict.fromkeys(str(key) for key in keys if key)
    hashes = map(count_keys, names)  # of each name, the newest key's first
    return [each for of_name in hashes for each in (of_name if by_each_key else of_name[:1])]


def clear_guesses(hashes: list[str]) -> None:
    """Clear the counts of an account, everyone's and this browser's. `hashes`: its identity_hashes()."""
    limiter, number = rate_limiter(), _remembered()[:1]
    keys = [*hashes, *(f"{identity} {browser}" for identity in hashes for browser in number)]
    for item in parse_many(current().RECOVERY_LIMIT_IDENTITY):
        for key in keys:
            limiter.clear(item, key, SIGNING_IN)


def remember_browser(hashes: list[str]) -> None:
    """Give this browser counts of its own for an account. `hashes`: the account's identity_hashes()."""
    number, *others = _remembered() or [secrets.randbelow(BROWSERS)]
    others = [identity for identity in others if identity not in hashes]
    cookie = _signer().dumps([number, *others[len(hashes) - REMEMBERED_MAX :], *hashes])
    after_this_request(partial(keep_cookie, current_app.config["RECOVERY_KNOWN_COOKIE"], cookie))


def _remembered() -> list[Any]:
    """Return this browser's number and the identity hashes of accounts that signed in here, or nothing."""
    cookie = request.cookies.get(current_app.config["RECOVERY_KNOWN_COOKIE"])
    try:
        return list(_signer().loads(cookie)) if cookie else []
    except BadSignature:
        return []


def _signer() -> UncompressedToken:
    return UncompressedToken.signed_for("limits", "known browser")


for _endpoint in BY_ACCOUNT:
    limit(_endpoint, ACCOUNT, "RECOVERY_LIMIT_IDENTITY", by_account)
    limit(_endpoint, ACCOUNT, "RECOVERY_LIMIT_IDENTITY", by_half_finished_sign_in)
