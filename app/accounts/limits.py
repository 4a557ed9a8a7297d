"""Rate limits by identity and by account.

Guesses are counted by the identity that was entered, whether or not it has an account. No amount of
guesses locks an owner out, because a browser that has signed in before is counted apart, and a reset clears
the count.
"""

from __future__ import annotations

from collections.abc import Iterable

from flask import g, session
from flask_security import current_user
from limits import parse_many
from sqlalchemy import select
from werkzeug.exceptions import BadRequest

from ..db.engine import db
from ..settings import current
from ..web.errors import InvalidRequest
from ..web.rate_limits import counts, keyed_hash, keys, limit, source
from .identities import identity_key
from .identity_field import posted_identity
from .known_browsers import known_here
from .models import User

# A code has six digits, and up to nine are valid at once for each way to get one: who guesses for a year hits
# an account with a chance of 1 in 5. Over it only codes fail, so nobody is shut out of their password.
CODES_MAX = "10 per hour; 30 per day"
ASKING = "asking"
SIGNING_IN = "signing in"
ACCOUNT = "account"
CODES = "codes"
# Where somebody who is in, or half in, could guess on, or send mail: counted by their account.
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
    """Count a one-time code that comes without a password, since there are few enough to guess: against the
    account, or, where there is none, against what was typed."""
    who = account_key(number) if number else keyed_hash(identity_key(typed))
    return all(counts().hit(item, who, CODES) for item in parse_many(CODES_MAX))


def forget(names: Iterable[str]) -> None:
    """Clear the counts against an account's identities, given as identity keys."""
    items = parse_many(current().RECOVERY_LIMIT_IDENTITY)
    for key in {key for name in names for key in (keyed_hash(name), _key_of(name))}:
        for item in items:
            counts().clear(item, key, SIGNING_IN)


def by_identity() -> str | None:
    """The identity; for a browser that has signed in with it before, that browser's own count of it."""
    typed = _typed()
    return _key_of(typed) if typed else None  # nothing was typed, which is refused anyway


def _key_of(name: str) -> str:
    mark = keyed_hash(name)
    if not (known := known_here()):
        return mark
    ours = {keyed_hash(name, key) for key in keys()}
    return f"{mark} {known[0]}" if any(ours & set(marks) for marks in known[1:]) else mark


def by_account() -> str:
    """Who is signed in, or halfway so, by number: a reset changes the uniquifier, and begins no new count."""
    half_in = session.get("tf_user_id")
    which = select(User.id).where(User.fs_uniquifier == half_in)
    number = db.session.scalar(which) if half_in else getattr(current_user, "id", None)
    return account_key(number) if number else source()


def _typed() -> str | None:
    """What stands for the identity of this request; None where there is none, which is refused anyway."""
    if "typed_form" not in g:
        try:
            typed = posted_identity()
        except (InvalidRequest, BadRequest):  # what escapes here passes for a failure of the storage
            typed = ""
        g.typed_form = identity_key(typed) if typed else None
    form: str | None = g.typed_form
    return form


def account_key(number: int) -> str:
    return keyed_hash(f"account {number}")


for _endpoint in BY_ACCOUNT:
    limit(_endpoint, ACCOUNT, "RECOVERY_LIMIT_IDENTITY", by_account)
