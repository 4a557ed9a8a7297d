"""A challenge without a puzzle before a request for an email: ALTCHA's proof of work (RECOVERY_CHALLENGE).

A challenge is signed and rests nowhere. The store of the rate limits remembers those that were solved, so
that each is worth one request.
"""

import time
from functools import partial
from secrets import randbelow
from typing import Any

from altcha import Payload, create_challenge, verify_solution
from flask import request
from flask_babel import lazy_gettext as _l
from limits import RateLimitItemPerSecond, parse_many

from ..settings import current
from .errors import RequestError
from .rate_limits import limits_by_source, rate_limiter

# About a second of one core: TRIES to 2 * TRIES keys are derived, each with ROUNDS.
ALGORITHM, ROUNDS, TRIES = "PBKDF2/SHA-256", 2000, 1000
LIFETIME_SECONDS = 600
ONCE = RateLimitItemPerSecond(1, LIFETIME_SECONDS)
LOAD, SOLVED = "requests for an email", "solved challenges"  # scopes of counts


class ChallengeRequired(RequestError):
    """A request without the solution of a challenge, while one is required."""

    code = "challenge_required"
    message = _l("Please try again. Your browser needs to complete a quick security check first.")


def create() -> dict[str, Any]:
    """Return a new challenge in ALTCHA's format."""
    key, ends_at = current().derive_keys("challenge")[0], int(time.time()) + LIFETIME_SECONDS
    make = partial(create_challenge, ALGORITHM, ROUNDS, counter=TRIES + randbelow(TRIES), expires_at=ends_at)
    return make(hmac_secret=key, hmac_key_secret=key).to_dict()  # the second verifies solutions without work


def is_due(*, count: bool = False) -> bool:
    """True if the next request of this kind needs a solution. `count`: this is that request."""
    settings, limiter = current(), rate_limiter()
    if settings.RECOVERY_CHALLENGE != "under-load":
        return settings.RECOVERY_CHALLENGE == "always"
    rates = limits_by_source(settings.RECOVERY_CHALLENGE_SOURCE)
    rates += [(item, "all") for item in parse_many(settings.RECOVERY_CHALLENGE_TOTAL)]
    ask = limiter.hit if count else limiter.test
    answers = [ask(item, key, LOAD) for item, key in rates]  # of all, because each counts
    return not all(answers)


def require() -> None:
    """Count this request. Raises ChallengeRequired if it needs a solution, and has none or a used one."""
    solution = (request.get_json() if request.is_json else request.form).get("altcha")
    if is_due(count=True) and not (isinstance(solution, str) and _is_solved(solution)):
        raise ChallengeRequired


def _is_solved(solution: str) -> bool:
    verify = partial(verify_solution, solution)
    is_right = any(verify(key, hmac_key_secret=key).verified for key in current().derive_keys("challenge"))
    # The signature names the challenge, however its solution is spelled.
    return is_right and rate_limiter().hit(
        ONCE, str(Payload.from_base64(solution).challenge.signature), SOLVED
    )
