"""CSRF and CORS: the sites that may send a request.

A form always needs Flask-WTF's token. JSON needs an Origin that is absent, our own, or a configured client's:
no browser sends JSON to another site without a preflight. Any other origin is refused, `null` too. Preflights
are answered for configured origins only. Cookies are never the only proof of the sender.
"""

from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, g, make_response, request
from flask_babel import gettext as _
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import BadRequest

from ..settings.schema import Settings
from ..settings.urls import origin_of
from .clients import configured_clients, origins_of
from .errors import InvalidRequest, OriginNotAllowed
from .public_url import ANY_HOST
from .responses import form_page, wants_json

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # they change nothing
PASSWORDS = ("password", "password_confirm", "new_password", "new_password_confirm")
SINGLE_VALUED = ("identity", "email", "username", "name", "phone", "next", *PASSWORDS)
UNCHECKED = (*PASSWORDS, "passcode")  # checked by the password rules
OWN_BLUEPRINTS = ("security", "pages", "objections")  # whose views change nothing by GET
csrf = CSRFProtect()


def init_app(app: Flask, settings: Settings) -> None:
    """Check forms by token and JSON by origin. Call this before Flask-Security's init_app."""
    clients = app.extensions["recovery_clients"] = configured_clients(settings)
    origins = {origin for client in clients.values() for origin in origins_of(client)}
    app.extensions["recovery_foreign"] = origins - {origin_of(settings.RECOVERY_PUBLIC_URL)}
    csrf.init_app(app)
    app.before_request(_check_request)
    app.after_request(_allow_origin)


def _check_request() -> Response | None:
    """Refuse requests of other sites and unreadable input, before any view runs."""
    if request.routing_exception is not None:
        return None  # a 404 or 405 says more
    _check_fields()
    if request.method in SAFE_METHODS:
        return None
    own = f"{request.scheme}://{request.host}"  # that of RECOVERY_PUBLIC_URL (public_url.py)
    foreign = current_app.extensions["recovery_foreign"]
    if request.is_json and request.headers.get("Origin", own) not in {own, *foreign}:
        raise OriginNotAllowed
    try:
        if not request.is_json:
            csrf.protect(apply_exemptions=True)
    except CSRFError:
        if request.origin == own and not wants_json(request) and (page := _page_of_form()):
            return page
        raise
    g.csrf_valid = True  # Flask-WTF's mark for a request that was checked
    return None


def _page_of_form() -> Response | None:
    """Return the page that a form is on, with the text that was typed and a new token, or None."""
    path = form_page()
    if not path:
        return None
    routes = current_app.url_map.bind_to_environ(request.environ)
    rule, values = routes.match(path, "GET", return_rule=True)
    if rule.endpoint.partition(".")[0] not in OWN_BLUEPRINTS or rule.endpoint in ANY_HOST:
        return None  # what a proxy hides, a Referer must not show
    request.method = "GET"  # the view shows its form, and changes nothing
    request.url_rule, request.view_args = rule, dict(values)  # which some views read
    page = make_response(current_app.ensure_sync(current_app.view_functions[rule.endpoint])(**values))
    page.status_code = page.status_code if page.location else HTTPStatus.BAD_REQUEST
    return page


def _check_fields() -> None:
    """Refuse an unreadable body, malformed texts, and several values of one field.

    Of several values, Sparekey might check one and Flask-Security use another.
    """
    if request.content_length is None and "Transfer-Encoding" in request.headers:
        abort(HTTPStatus.LENGTH_REQUIRED)  # Flask-Security ignores a body of unknown length
    body = _json_object() if request.is_json and request.content_length else {}
    for name in SINGLE_VALUED:
        if isinstance(body.get(name), list) or len(request.form.getlist(name)) > 1:
            raise InvalidRequest(_("Only one value is allowed."), field=name)
    for name, value in body.items():  # no database stores a lone surrogate
        if isinstance(value, str) and name not in UNCHECKED and any("\ud800" <= c <= "\udfff" for c in value):
            raise InvalidRequest(_("This must be text."), field=name)
    for target in (*request.args.getlist("next"), *request.form.getlist("next"), body.get("next", "")):
        if target != "" and not _may_lead_to(target):
            raise InvalidRequest(_("You can't continue to that address."), field="next")


def _json_object() -> dict[str, Any]:
    try:
        body = request.get_json()
    except (BadRequest, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidRequest(_("The request body must be a JSON object."))
    return body


def _may_lead_to(target: Any) -> bool:
    """True if the value of `next` is a URL that does not lead from https to http."""
    try:
        return isinstance(target, str) and (urlsplit(target).scheme, request.scheme) != ("http", "https")
    except ValueError:
        return False


def _allow_origin(response: Response) -> Response:
    """Add CORS headers for configured origins. Never `*`, because a response may depend on the requester."""
    foreign, origin = current_app.extensions["recovery_foreign"], request.headers.get("Origin")
    if foreign:
        response.vary.add("Origin")
    if origin in foreign:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = "Retry-After"
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers["Access-Control-Allow-Methods"] = "GET, POST"
            response.headers["Access-Control-Max-Age"] = "600"  # seconds for which a browser may remember it
            # All that it asks for: its libraries add their own, such as traceparent. The origin is trusted.
            asked_for = request.headers.get("Access-Control-Request-Headers", "")
            response.headers["Access-Control-Allow-Headers"] = asked_for
            response.vary.add("Access-Control-Request-Headers")
    return response
