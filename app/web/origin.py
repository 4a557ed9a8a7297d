"""CSRF and CORS: which site may send a request.

A form needs Flask-WTF's token, always. JSON needs none when its Origin is absent (no browser sends JSON to
another site without a preflight), is ours, or is a configured client's. Any other is refused, `null` too.
Preflights are answered for configured origins only. Cookies are never the only proof of the sender.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, g, request
from flask_babel import gettext as _
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import BadRequest

from ..settings.schema import Settings
from ..settings.urls import origin_of
from .clients import configured, origins_of
from .errors import InvalidRequest, OriginNotAllowed

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # they change nothing
CORS_HEADERS = "Content-Type, Authentication-Token, X-CSRFToken, X-CSRF-Token, X-XSRF-Token"
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": CORS_HEADERS,
    "Access-Control-Max-Age": "600",  # seconds for which a browser may remember the answer
}
PASSWORDS = ("password", "password_confirm", "new_password", "new_password_confirm")
ONE_TEXT = ("identity", "email", "username", "name", "phone", "next", *PASSWORDS)  # never a list
ANY_TEXT = (*PASSWORDS, "passcode")  # may hold what is no text elsewhere
csrf = CSRFProtect()


def init_app(app: Flask, settings: Settings) -> None:
    """Check forms by token and JSON by origin. Must come before Flask-Security."""
    clients = app.extensions["recovery_clients"] = configured(settings)
    origins = {origin for client in clients.values() for origin in origins_of(client)}
    app.extensions["recovery_foreign"] = origins - {origin_of(settings.RECOVERY_PUBLIC_URL)}
    csrf.init_app(app)
    app.before_request(_check_request)
    app.after_request(_allow_origin)


def _check_request() -> None:
    """Refuse what another site sends, and what no view can read, before any view sees it."""
    if request.routing_exception is not None:
        return  # 404 and 405 say more
    _check_fields()
    if request.method in SAFE_METHODS:
        return
    if not request.is_json:
        csrf.protect()
        return
    own = request.host_url.rstrip("/")  # of RECOVERY_PUBLIC_URL, to which every request is rewritten
    foreign = current_app.extensions["recovery_foreign"]
    if request.headers.get("Origin", own) not in {own, *foreign}:
        raise OriginNotAllowed
    g.csrf_valid = True  # Flask-WTF's mark for a request that was checked


def _check_fields() -> None:
    """Refuse a body that cannot be read, several values of a field, since one may be read here and another
    there, and texts that are none.
    """
    if request.content_length is None and "Transfer-Encoding" in request.headers:
        abort(HTTPStatus.LENGTH_REQUIRED)  # Flask-Security reads no body of unknown length
    body = _json_object() if request.is_json and request.content_length else {}
    for name in ONE_TEXT:
        if isinstance(body.get(name), list) or len(request.form.getlist(name)) > 1:
            raise InvalidRequest(_("Give one value."), field=name)
    for name, value in body.items():  # a lone surrogate cannot be stored
        if isinstance(value, str) and name not in ANY_TEXT and any("\ud800" <= c <= "\udfff" for c in value):
            raise InvalidRequest(_("That is no text."), field=name)
    for target in (*request.args.getlist("next"), *request.form.getlist("next"), body.get("next", "")):
        if target != "" and not _may_lead_to(target):
            raise InvalidRequest(_("That is no address to go on to."), field="next")


def _json_object() -> dict[str, Any]:
    try:
        body = request.get_json()
    except (BadRequest, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidRequest(_("The body must be a JSON object."))
    return body


def _may_lead_to(target: Any) -> bool:
    """True if a `next` is a URL, and does not lead from https to http."""
    try:
        return isinstance(target, str) and (urlsplit(target).scheme, request.scheme) != ("http", "https")
    except ValueError:
        return False


def _allow_origin(response: Response) -> Response:
    """Add CORS headers for configured origins. Never `*`, because answers may depend on who asks."""
    foreign, origin = current_app.extensions["recovery_foreign"], request.headers.get("Origin")
    if foreign:
        response.vary.add("Origin")
    if origin in foreign:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = "Retry-After"
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers.update(PREFLIGHT)
    return response
