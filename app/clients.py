"""Front ends: which one a request belongs to, where its links land, and whether its origin may ask.

Why this is safe: a form needs Flask-WTF's token, always. JSON needs none when its Origin is absent
(no browser sends it that way across sites: a JSON content type asks for a preflight first), is ours,
or is a configured client's; any other Origin is refused, `null` too. Preflights are answered for
configured origins only. Cookies are never the only proof of who sent a request. Redirects lead to
configured views and nowhere else: nothing in a request is part of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Flask, Request, Response, abort, current_app, g, jsonify, request
from flask_babel import gettext as _
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import BadRequest

from . import kinds
from .errors import InvalidRequest, OriginNotAllowed, RequestError
from .settings import Settings, current

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # they change nothing
CORS_METHODS = "GET, POST"
CORS_HEADERS = "Content-Type, Authentication-Token, X-CSRFToken, X-CSRF-Token, X-XSRF-Token"
CORS_SECONDS = 600  # how long a browser may remember a preflight

BROWSER = "browser"  # the built-in pages
DEFAULT = "default"  # JSON that names no client

# What Flask-Security's own refusals are called.
CODES = {401: "not_signed_in"}

# Fields of which there is one, or none.
ONE_TEXT = (
    "identity",
    "email",
    "password",
    "password_confirm",
    "new_password",
    "new_password_confirm",
    "next",
    "username",
    "name",
    "phone",
)
PASSWORDS = ("password", "password_confirm", "new_password", "new_password_confirm", "passcode")

csrf = CSRFProtect()


@dataclass(frozen=True)
class Client:
    """A named front end. Without views, its links land on the built-in pages."""

    name: str
    reset_view: str | None = None
    reset_error_view: str | None = None
    post_reset_view: str | None = None  # where the built-in pages lead on to when all is done
    origins: tuple[str, ...] = ()
    token_in: str = "query"  # noqa: S105  # a place, not a password

    def landing(self, token: str) -> str | None:
        """Where a good link leads."""
        return self.reset_view and _with(self.reset_view, {"token": token}, self.token_in)

    def problem(self, error: RequestError) -> str | None:
        """Where a link leads that can not be used: text for people, a code for programs."""
        told = {"error": error.message, "code": error.code}
        return self.reset_error_view and _with(self.reset_error_view, told)


def configured(settings: Settings) -> dict[str, Client]:
    """Every client by its name."""
    named = {
        name: Client(name, **{**table.model_dump(), "origins": _origins_of(table)})
        for name, table in settings.RECOVERY_CLIENTS.items()
    }
    return {**named, BROWSER: Client(BROWSER), DEFAULT: _default_client(settings)}


def init_app(app: Flask, settings: Settings) -> None:
    """Check forms by token and JSON by origin. Must come before Flask-Security."""
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # as long as the session: a page may stay open overnight
    app.config["WTF_CSRF_HEADERS"] = ["X-CSRFToken", "X-CSRF-Token", "X-XSRF-Token"]
    clients = app.extensions["recovery_clients"] = configured(settings)
    ours = kinds.origin_of(settings.RECOVERY_PUBLIC_URL)
    app.extensions["recovery_foreign"] = {o for client in clients.values() for o in client.origins} - {ours}
    csrf.init_app(app)
    app.before_request(_check_request)
    app.after_request(_allow_origin)


def named(name: str) -> Client:
    """A client; the built-in pages for one that is configured no more."""
    clients: dict[str, Client] = current_app.extensions["recovery_clients"]
    return clients.get(name, clients[BROWSER])


def name_in_request() -> str:
    """The client that a POST belongs to. Raises InvalidRequest for one that is not configured."""
    if not request.is_json:
        return BROWSER
    name = request.get_json().get("client", DEFAULT)
    if not isinstance(name, str) or name not in current_app.extensions["recovery_clients"]:
        raise InvalidRequest(_("There is no such client."), field="client")
    return name


def what_to_know() -> dict[str, Any]:
    """What a client can tell its user before anything is typed."""
    settings = current()
    return {
        "identity_attributes": settings.SECURITY_USER_IDENTITY_ATTRIBUTES,
        "password_length_min": settings.SECURITY_PASSWORD_LENGTH_MIN,
        "password_length_max": settings.RECOVERY_PASSWORD_LENGTH_MAX,
        "password_blocklist": True,
        "sends_mail": settings.sends_mail,
        "support_contact": settings.RECOVERY_SUPPORT_CONTACT,
    }


def wants_json(request: Request) -> bool:
    """Whether the answer is for a program: it sent JSON or asks for it before anything else."""
    return request.is_json or request.accept_mimetypes.best == "application/json"


def json_answer(
    payload: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None, _user: Any = None
) -> Response:
    """Flask-Security's envelope. Every refusal in it carries an error_code."""
    if status == 500 and "error_code" not in payload:  # Flask-Security's, for codes that could not be sent
        status, payload = 503, {"error_code": "unavailable", **payload}
    if status >= 400:
        code = g.get("error_code") or CODES.get(status, "invalid_request")
        payload = {"error_code": code, "errors": [], "field_errors": {}, **payload}
    answer = jsonify({"meta": {"code": status}, "response": payload})
    answer.status_code = status
    answer.headers.update(headers or {})
    return answer


def json_refusal(error: RequestError, headers: dict[str, str] | None = None) -> Response:
    """A refusal in that envelope."""
    said = [str(error.message)]
    fields = {error.field: said} if error.field else {}
    payload = {"errors": said, "field_errors": fields, "error_code": error.code}
    return json_answer(payload, error.status, headers)


def _check_request() -> None:
    """Refuse what another site sends, and what no view can read, before any view sees it."""
    if request.routing_exception is not None:
        return  # 404 and 405 say more
    if request.content_length is None and "Transfer-Encoding" in request.headers:
        abort(HTTPStatus.LENGTH_REQUIRED)  # Flask-Security reads no body of unknown length
    body = _json_object() if request.is_json and request.content_length else {}
    _require_once(body)
    for target in (*request.args.getlist("next"), *request.form.getlist("next"), body.get("next", "")):
        if target != "":
            _require_url(target)
    if request.method in SAFE_METHODS:
        return
    if not request.is_json:
        csrf.protect()
        return
    origin, foreign = request.headers.get("Origin"), current_app.extensions["recovery_foreign"]
    if origin is not None and origin not in (kinds.origin_of(current().RECOVERY_PUBLIC_URL), *foreign):
        raise OriginNotAllowed
    g.csrf_valid = True  # Flask-WTF's mark for a request that was checked


def _json_object() -> dict[str, Any]:
    try:
        body = request.get_json()
    except (BadRequest, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidRequest(_("The body must be a JSON object."))
    return body


def _require_once(body: dict[str, Any]) -> None:
    """No field of ours is a list: who sends several values means to have one read here and another there."""
    for name, value in body.items():
        if name in ONE_TEXT and isinstance(value, list):
            raise InvalidRequest(_("Give one value."), field=name)
        if isinstance(value, str) and name not in PASSWORDS and any("\ud800" <= c <= "\udfff" for c in value):
            raise InvalidRequest(_("That is no text."), field=name)
    form = request.form
    for name in ONE_TEXT:
        if len(form.getlist(name)) > 1:
            raise InvalidRequest(_("Give one value."), field=name)


def _require_url(target: Any) -> None:
    with suppress(ValueError):
        if isinstance(target, str):
            parts, public = urlsplit(target), urlsplit(current().RECOVERY_PUBLIC_URL)
            if (parts.scheme, public.scheme) != ("http", "https"):
                return
    raise InvalidRequest(_("That is no address to go on to."), field="next")


def _allow_origin(response: Response) -> Response:
    """CORS, for configured origins alone. Never `*`: answers may depend on who asks."""
    foreign = current_app.extensions["recovery_foreign"]
    if foreign:
        response.vary.add("Origin")
    if request.headers.get("Origin") in foreign:
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Allow-Credentials"] = "true"
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers["Access-Control-Allow-Methods"] = CORS_METHODS
            response.headers["Access-Control-Allow-Headers"] = CORS_HEADERS
            response.headers["Access-Control-Max-Age"] = str(CORS_SECONDS)
        response.headers["Access-Control-Expose-Headers"] = "Retry-After"
    return response


def _origins_of(table: kinds.ClientTable) -> tuple[str, ...]:
    """From where it may ask: as said, or where its view is."""
    view = table.reset_view or ""
    return tuple(table.origins) or ((kinds.origin_of(view),) if view.startswith("http") else ())


def _default_client(settings: Settings) -> Client:
    """What Flask-Security's own settings describe, with its redirects made absolute."""
    config: Mapping[str, Any] = settings.handed_on
    if config.get("SECURITY_REDIRECT_BEHAVIOR") != "spa":
        return Client(DEFAULT)
    view, error_view = (
        _absolute(config[f"SECURITY_{name}"], settings) for name in ("RESET_VIEW", "RESET_ERROR_VIEW")
    )
    return Client(DEFAULT, view, error_view, origins=(kinds.origin_of(view),))


def _absolute(view: str, settings: Settings) -> str:
    """As Flask-Security: SECURITY_REDIRECT_HOST replaces the host. https, but on this machine."""
    public = urlsplit(settings.RECOVERY_PUBLIC_URL)
    parts = urlsplit(view)
    host = settings.handed_on.get("SECURITY_REDIRECT_HOST") or parts.netloc or public.netloc
    on_this_machine = kinds.is_loopback(urlsplit(f"//{host}").hostname or "")
    scheme = parts.scheme or public.scheme
    if scheme == "http" and not on_this_machine:
        scheme = "https"
    return parts._replace(scheme=scheme, netloc=host).geturl()


def _with(url: str, values: dict[str, str], place: str = "query") -> str:
    """The URL with values added; what its query holds already is kept."""
    if place == "fragment":
        return f"{url}#{urlencode(values)}"
    return f"{url}{'&' if '?' in url else '?'}{urlencode(values)}"
