"""Rate limits by identity and by account.

Guesses are counted by the identity that was entered, whether or not it has an account. No amount of
guesses locks an owner out, because a browser that has signed in before is counted apart, and a reset clears
the count.
"""

from __future__ import annotations

from flask import session
from flask_security import current_user
from limits import parse_many
from sqlalchemy import select
from werkzeug.exceptions import BadRequest

from ..db.engine import db
from ..settings import current
from ..web.errors import InvalidRequest
from ..web.rate_limits import counts, keyed_hash, keys, limit, source
from .identities import identity_key, posted_identity
from .known_browsers import known_here
from .models import User

# A code has six digits, and up to nine are valid at once for each method: guessing for a year hits an account
# with a chance of 1 in 5. Above the limit only codes fail, so no owner is locked out of their password.
CODES_MAX = "10 per hour; 30 per day"
ASKING = "asking"
SIGNING_IN = "signing in"
ACCOUNT = "account"
CODES = "codes"
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


def may_try_code(number: int | None, typed: str) -> bool:
    """Count a one-time code that comes without a password against the account, or against what was typed."""
    key = account_key(number) if number else keyed_hash(identity_key(typed))
    return all(counts().hit(item, key, CODES) for item in parse_many(CODES_MAX))


def forget(marks: list[str]) -> None:
    """Clear the counts of an account's identities, as marks_of() returns them."""
    app_counts, here = counts(), known_here()[:1]
    keys_here = [f"{mark} {browser}" for mark in marks for browser in here]
    for item in parse_many(current().RECOVERY_LIMIT_IDENTITY):
        for key in (*marks, *keys_here):
            app_counts.clear(item, key, SIGNING_IN)


def by_identity() -> str | None:
    """Return the key of the posted identity, or of this browser's own count of it, if it signed in before."""
    try:
        identity = identity_key(posted_identity())
    except (InvalidRequest, BadRequest):  # the view refuses it; raised here, it would pass for lost storage
        return None
    browser, *marks = known_here() or [None]
    is_known = any(keyed_hash(identity, key) in marks for key in keys()) if marks else False
    return f"{keyed_hash(identity)} {browser}" if is_known else keyed_hash(identity)


def by_account() -> str:
    """Return the key of the account that is signed in, or halfway in. By number, because a reset changes the
    uniquifier, and must not begin a new count."""
    half_in = session.get("tf_user_id")
    half_in_number = select(User.id).where(User.fs_uniquifier == half_in)
    number = db.session.scalar(half_in_number) if half_in else getattr(current_user, "id", None)
    return account_key(number) if number else source()


def account_key(number: int) -> str:
    return keyed_hash(f"account {number}")


for _endpoint in BY_ACCOUNT:
    limit(_endpoint, ACCOUNT, "RECOVERY_LIMIT_IDENTITY", by_account)
