"""Front ends: which one a request belongs to, and whether its origin may send it.

Why this is safe: a form needs Flask-WTF's token, always. JSON needs none when its Origin is absent
(no browser sends it that way across sites: a JSON content type asks for a preflight first) or is
ours; any other Origin is refused. Cookies are never the only proof of who sent a request.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Request, Response, abort, g, jsonify, request
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import BadRequest

from .errors import InvalidRequest, OriginNotAllowed, RequestError
from .settings import Settings, current

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # they change nothing
BROWSER = "browser"  # the built-in pages

csrf = CSRFProtect()


def init_app(app: Flask, settings: Settings) -> None:
    """Check forms by token and JSON by origin. Must come before Flask-Security."""
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # as long as the session: a page may stay open overnight
    app.config["WTF_CSRF_HEADERS"] = ["X-CSRFToken", "X-CSRF-Token", "X-XSRF-Token"]
    csrf.init_app(app)
    app.before_request(_check_request)


def wants_json(request: Request) -> bool:
    """Whether the answer is for a program: it sent JSON or asks for it before anything else."""
    return request.is_json or request.accept_mimetypes.best == "application/json"


def json_answer(
    payload: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None, _user: Any = None
) -> Response:
    """Flask-Security's envelope. Every refusal in it carries an error_code."""
    if status >= 400:
        payload = {"error_code": "invalid_request", "errors": [], "field_errors": {}, **payload}
    answer = jsonify({"meta": {"code": status}, "response": payload})
    answer.status_code = status
    answer.headers.update(headers or {})
    return answer


def json_refusal(error: RequestError) -> Response:
    """A refusal in that envelope."""
    fields = {error.field: [error.message]} if error.field else {}
    payload = {"errors": [error.message], "field_errors": fields, "error_code": error.code}
    return json_answer(payload, error.status)


def _check_request() -> None:
    """Refuse what another site sends, and what no view can read, before any view sees it."""
    if request.routing_exception is not None:
        return  # 404 and 405 say more
    if request.content_length is None and "Transfer-Encoding" in request.headers:
        abort(HTTPStatus.LENGTH_REQUIRED)  # Flask-Security reads no body of unknown length
    body = _json_object() if request.is_json and request.content_length else {}
    for target in (*request.values.getlist("next"), body.get("next", "")):
        _require_url(target)
    if request.method in SAFE_METHODS:
        return
    if not request.is_json:
        csrf.protect()
        return
    origin = request.headers.get("Origin")
    if origin is not None and origin != _origin_of(current().RECOVERY_PUBLIC_URL):
        raise OriginNotAllowed
    g.csrf_valid = True  # Flask-WTF's mark for a request that was checked


def _json_object() -> dict[str, Any]:
    try:
        body = request.get_json()
    except (BadRequest, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


def _require_url(target: Any) -> None:
    try:
        urlsplit(target)
    except (AttributeError, TypeError, ValueError):
        raise InvalidRequest("That is no address to go on to.", field="next") from None
    if not isinstance(target, str):
        raise InvalidRequest("That is no address to go on to.", field="next")


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
