"""Who may ask how often: more than a person needs is refused with 429.

    source     every POST of Flask-Security's, counted by address (IPv6: by /64, what one customer has)
    identity   asking and signing in, counted by what was typed, in the form in which it is looked up
    account    whoever is in already, where they could guess on: the password again, a code
    link       passwords tried with one link: only who has it can use that up
    bad links  links that were not made here, counted by source, opening them included; good ones pass

Nothing here knows whether an account exists: known and unknown count alike. Nothing here ends a link. Nobody
can shut an owner out: a browser that has signed in before counts apart from everybody else's guesses, and a
reset clears what was counted against the account.

What counts, and where, is counts.py's.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Flask, after_this_request, current_app, g, request, session
from flask_security import current_user, user_authenticated
from itsdangerous import BadSignature, URLSafeSerializer
from limits import RateLimitItem, RateLimitItemPerSecond, parse_many
from sqlalchemy import select
from werkzeug.exceptions import BadRequest, TooManyRequests

from . import handles
from .askings import form_of
from .counts import Counts
from .db import db
from .errors import InvalidRequest, LinkError
from .forms import posted_identity
from .models import User
from .settings import Settings, current

if TYPE_CHECKING:
    from flask import Response

UNLIMITED = ("security.logout",)  # whoever wants out gets out
LIMITED = ("security.", "objections.")
# A code has six digits, and up to nine are valid at once for each way to get one: who guesses for a year hits
# an account with a chance of 1 in 5. Over it only codes fail, so nobody is shut out of their password.
CODES_MAX = "10 per hour; 30 per day"
BROWSERS = 8  # whoever was in once can not collect counts of their own without end
ACCOUNTS_MAX = 4  # that one browser is known for
KNOWN_SECONDS = 365 * 86_400  # how long a browser that has signed in is known

POSTS = "posts"
ASKING = "asking"
SIGNING_IN = "signing in"
TRYING = "trying a link"
BAD_LINKS = "bad links"
ACCOUNT = "account"
CODES = "codes"
ASKING_ENDPOINTS = (
    "security.forgot_password",
    "security.send_confirmation",
    "security.recover_username",
    "security.register",
    "security.us_signin_send_code",
)
SIGN_IN_ENDPOINTS = ("security.login", "security.us_signin")
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


class RateLimit(NamedTuple):
    """A limit of an endpoint's POSTs."""

    scope: str  # keeps its counts apart from those of other limits with the same key
    rates: str  # the setting that holds them
    key: Callable[[], str | None]  # whose requests are counted together; None: this request is not limited


_registered: dict[str, list[RateLimit]] = defaultdict(list)  # by endpoint


def limit(endpoint: str, scope: str, rates: str, key: Callable[[], str | None]) -> None:
    """Register a rate limit for the POSTs of an endpoint, besides that of the source."""
    _registered[endpoint].append(RateLimit(scope, rates, key))


def init_app(app: Flask, settings: Settings) -> None:
    """Limit every POST of Flask-Security's, whatever features are on: each takes a guess or sends mail. And
    those of objections, whose links can be guessed at like any.
    """
    app.extensions["recovery_counts"] = Counts(settings)
    app.before_request(_refuse_excess)
    app.config["RECOVERY_KNOWN_COOKIE"] = app.config["SESSION_COOKIE_NAME"].replace("session", "known")
    user_authenticated.connect(_on_sign_in, app)


def _refuse_excess() -> None:
    """Raise TooManyRequests for a POST over one of its limits. The limit with the shortest time is looked at
    first, and a request that it refuses counts against no other.
    """
    endpoint = request.endpoint or ""
    if request.method != "POST" or not endpoint.startswith(LIMITED) or endpoint in UNLIMITED:
        return
    rules = [RateLimit(POSTS, "RECOVERY_LIMIT_SOURCE", source), *_registered[endpoint]]
    keys: dict[str, str | None] = {}
    pairs = [(item, rule) for rule in rules for item in _parsed(getattr(current(), rule.rates))]
    for item, rule in sorted(pairs, key=lambda pair: pair[0]):
        if rule.scope not in keys:  # not before it is needed: a key may take a database look-up
            keys[rule.scope] = rule.key()
        if (key := keys[rule.scope]) and not counts().hit(item, key, rule.scope):
            g.exceeded = item, key, rule.scope
            raise TooManyRequests


@cache
def _parsed(rates: str) -> list[RateLimitItem]:
    return parse_many(rates)


def counts() -> Counts:
    """This app's."""
    ours: Counts = current_app.extensions["recovery_counts"]
    return ours


def source() -> str:
    """The address that a request counts for. The settings say how many proxies are believed."""
    return source_of(request.remote_addr or "") or "unknown"


def source_of(text: str) -> str | None:
    """What an address counts as; None for what is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def seconds_to_wait() -> int:
    """After a refusal: when the source may try again."""
    if "exceeded" not in g:
        return 60
    return max(1, round(counts().window(*g.exceeded).reset_time - time.time()))


def know_this_browser(user: User) -> None:
    """From now on it counts apart when it signs in to this account: its owner is there."""
    mine = [mark_of(name) for name in names_of(user)]
    browser, *others = _known_here() or [secrets.randbelow(BROWSERS)]
    others = [marks for marks in others if not set(marks) & set(mine)]
    value = _signer().dumps([browser, *others[1 - ACCOUNTS_MAX :], mine])
    after_this_request(partial(_remember, value))


def may_have_bad_link() -> bool:
    """Count one that was not made here. Good links pass, whatever was opened from the same address."""
    items = parse_many(current().RECOVERY_LIMIT_BAD_LINKS)
    return all(counts().hit(item, source(), BAD_LINKS) for item in items)


def may_try_code(number: int | None, typed: str) -> bool:
    """Count a one-time code that comes without a password, since there are few enough to guess: against the
    account, or, where there is none, against what was typed."""
    who = mark_of_account(number) if number else mark_of(form_of(typed))
    return all(counts().hit(item, who, CODES) for item in parse_many(CODES_MAX))


def is_first(secret: str, seconds: int) -> bool:
    """Whether this one-time secret was not seen within so many seconds. It is now."""
    return counts().hit(RateLimitItemPerSecond(1, seconds), "once", mark_of(secret))


def forget(user: User) -> None:
    """Whatever was counted against the account's identities counts no more."""
    items = parse_many(current().RECOVERY_LIMIT_IDENTITY)
    for key in {key for name in names_of(user) for key in (mark_of(name), _key_of(name))}:
        for item in items:
            counts().clear(item, key, SIGNING_IN)


def _on_sign_in(_app: Flask, user: User, **_: Any) -> None:
    know_this_browser(user)


def _remember(value: str, response: Response) -> Response:
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


def _by_identity() -> str | None:
    """The identity; for a browser that has signed in with it before, that browser's own count of it."""
    typed = _typed()
    return _key_of(typed) if typed else None  # nothing was typed, which is refused anyway


def _key_of(name: str) -> str:
    mark = mark_of(name)
    if not (known := _known_here()):
        return mark
    ours = {mark_of(name, key) for key in _keys()}
    return f"{mark} {known[0]}" if any(ours & set(marks) for marks in known[1:]) else mark


def _known_here() -> list[Any]:
    """What this browser's cookie says: a number, and the marks of each account that it has signed in to."""
    cookie = request.cookies.get(current_app.config["RECOVERY_KNOWN_COOKIE"])
    try:
        known: list[Any] = _signer().loads(cookie) if cookie else []
    except BadSignature:
        return []
    return known


def _by_account() -> str:
    """Who is signed in, or halfway so, by number: a reset changes the uniquifier, and begins no new count."""
    half_in = session.get("tf_user_id")
    which = select(User.id).where(User.fs_uniquifier == half_in)
    number = db.session.scalar(which) if half_in else getattr(current_user, "id", None)
    return mark_of_account(number) if number else source()


def _by_link() -> str:
    token = str((request.view_args or {}).get("token", ""))
    with suppress(LinkError):
        token = handles.token_behind(token)
    return mark_of(token)


def _typed() -> str | None:
    """What stands for the identity of this request; None where there is none, which is refused anyway."""
    if "typed_form" not in g:
        try:
            typed = posted_identity()
        except (InvalidRequest, BadRequest):  # what escapes here passes for a failure of the storage
            typed = ""
        g.typed_form = form_of(typed) if typed else None
    form: str | None = g.typed_form
    return form


def names_of(user: User) -> Iterable[str]:
    names = (user.email, user.username, user.us_phone_number)
    return [form_of(str(name)) for name in names if name]


def mark_of(text: str, key: bytes | None = None) -> str:
    """What stands for an identity or a token where they must not rest."""
    return hmac.digest(key or _keys()[-1], text.encode("utf-8", "replace"), "sha256").hex()[:32]


def mark_of_account(number: int) -> str:
    return mark_of(f"account {number}")


def _signer() -> URLSafeSerializer:
    return URLSafeSerializer(_keys(), "known browser", signer_kwargs={"digest_method": hashlib.sha256})


def _keys() -> list[bytes]:
    """The newest last, as itsdangerous wants them."""
    return current().keys("limits")[::-1]


for _endpoint in ASKING_ENDPOINTS:
    limit(_endpoint, ASKING, "RECOVERY_LIMIT_IDENTITY", _by_identity)
for _endpoint in SIGN_IN_ENDPOINTS:
    limit(_endpoint, SIGNING_IN, "RECOVERY_LIMIT_IDENTITY", _by_identity)
for _endpoint in BY_ACCOUNT:
    limit(_endpoint, ACCOUNT, "RECOVERY_LIMIT_IDENTITY", _by_account)
limit("security.reset_password", TRYING, "RECOVERY_LIMIT_LINK", _by_link)
