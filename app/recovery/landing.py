"""The landing of a reset link: the token leaves the address bar, on the way to the form or the client's view.

A cookie keeps the token, and a handle replaces it in the URL. A handle works only in the browser that opened
the link, so a log or a Referer that holds it gives nothing away. A token has one handle and one CSRF token in
every tab, because tabs that open at the same time overwrite each other's session.
"""

import hashlib
from contextlib import suppress

from flask import Response, current_app, make_response, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l
from sqlalchemy import update
from werkzeug.exceptions import TooManyRequests

from ..db import audit
from ..db.clock import utcnow
from ..db.encryption import DecryptionError, decrypt, encrypt
from ..db.engine import DATABASE_AWAY, change, db
from ..settings import current
from ..web import clients, errors
from ..web.origin import csrf
from ..web.rate_limits import count_key, limit, limits_by_source, rate_limiter
from ..web.responses import json_response, keep_cookie, wants_json
from . import link as links
from .link import ResetLink
from .link_errors import LinkError, LinkInvalid

LINKS_MAX = 8  # open in one browser; the oldest is dropped first, because proxies limit the Cookie header
HANDLE_PREFIX = "~"  # tokens are base64url, so none starts with it
LINK_ATTEMPTS = "trying a link"
BAD_LINKS = "bad links"

UNKNOWN_HANDLE = _l(
    "This page was opened in a different browser or too long ago. Open the link in the email "
    "again, and make sure cookies are allowed."
)


def land(token: str) -> ResponseReturnValue:
    """Answer GET and HEAD of a reset link, and consume nothing."""
    link = links.resolve(token)
    answer: ResponseReturnValue = ""
    if wants_json(request):
        facts = {"expires_at": f"{link.expires_at:%Y-%m-%dT%H:%M:%SZ}", "invited": link.user.is_invited}
        answer = json_response(facts)
    elif target := clients.landing_url(link.client, token):
        answer = redirect(target)
    elif request.method != "HEAD":
        answer = keep(token)
    if request.method != "HEAD":
        record_opening(link)
    return answer


def keep(token: str) -> Response:
    """Put the token into a cookie, and redirect to its handle."""
    handle = HANDLE_PREFIX + hashlib.sha256(f"handle {token}".encode()).hexdigest()[:20]
    answer = make_response(redirect(url_for("security.reset_password", token=handle), 303))
    name = current_app.config["RECOVERY_LINK_COOKIE"]
    others = [cookie for cookie in request.cookies if cookie.startswith(name) and cookie != name + handle]
    for cookie in others[: 1 - LINKS_MAX]:
        keep_cookie(cookie, "", answer, seconds=0)
    # The encryption adds random bytes, so each browser's differs.
    return keep_cookie(name + handle, encrypt({"token": token}), answer, seconds=None)


def is_handle(token: str) -> bool:
    """True if the last part of the URL is a handle instead of a token."""
    return token.startswith(HANDLE_PREFIX)


def resolve_handle(handle_or_token: str) -> str:
    """Return the token. Raises LinkInvalid for a handle that this browser does not have."""
    if not is_handle(handle_or_token):
        return handle_or_token
    try:
        return str(decrypt(cookie_of(handle_or_token)).get("token"))
    except DecryptionError:
        raise LinkInvalid(UNKNOWN_HANDLE, client=clients.BROWSER) from None


def cookie_of(handle: str) -> str:
    """Return this browser's cookie with the token of a handle, or nothing."""
    return request.cookies.get(current_app.config["RECOVERY_LINK_COOKIE"] + handle, "")


def form_token(handle: str) -> str:
    """Return the CSRF token of a handle's form, which only the link's token yields. Raises LinkInvalid."""
    return hashlib.sha256(f"form {resolve_handle(handle)}".encode()).hexdigest()


def check_form(handle: str) -> None:
    """Refuse a form that was not rendered for its link in this browser. Raises CSRFError or LinkInvalid."""
    is_of_link = is_handle(handle) and request.form.get("csrf_token") == form_token(handle)
    if not (request.is_json or is_of_link):
        csrf.protect()


def refuse_link(error: LinkError) -> ResponseReturnValue:
    """Answer a link that cannot be used, on the page or view of the client that it belongs to.

    Each invalid link counts for its source. Valid links pass, however many invalid ones came from there.
    """
    if isinstance(error, LinkInvalid):
        limits = limits_by_source(current().RECOVERY_LIMIT_BAD_LINKS)
        over = next((item for item, key in limits if not rate_limiter().hit(item, key, BAD_LINKS)), None)
        if over:
            return errors.respond_to_http_error(TooManyRequests(retry_after=over.get_expiry()))
    if request.endpoint == "security.reset_password" and request.method == "POST":  # a password came with it
        db.session.rollback()
        audit.record("refused", reason=error.code, user_id=error.user_id, client=error.client)
        db.session.commit()
    if not wants_json(request) and (target := clients.error_url(error.client, error)):
        return redirect(target)
    return errors.respond(error)


def record_opening(link: ResetLink, by: str | None = None) -> None:
    """Record the first opening. If the database cannot be written, the form is shown all the same."""
    if link.opened_at is not None:
        return
    user_id, client = link.user_id, link.client
    try:
        first = update(ResetLink).where(ResetLink.id == link.id, ResetLink.opened_at.is_(None))
        # First the event: it locks the account before the link, as a redemption does (PostgreSQL).
        audit.record("opened", reason=by, user_id=user_id, client=client)
        if change(first.values(opened_at=utcnow())):
            db.session.commit()
        else:
            db.session.rollback()
    except DATABASE_AWAY:
        db.session.rollback()


def _by_link() -> str:
    """Return the key under which attempts on one link are counted."""
    token: str = (request.view_args or {})["token"]
    with suppress(LinkError):
        token = resolve_handle(token)
    return count_key(token)


limit("security.reset_password", LINK_ATTEMPTS, "RECOVERY_LIMIT_LINK", _by_link)
