"""Front ends: which one a request belongs to, and whether its origin may send it.

Why this is safe: a form needs Flask-WTF's token, always. JSON needs none when its Origin is absent
(no browser sends it that way across sites: a JSON content type asks for a preflight first) or is
ours; any other Origin is refused. Cookies are never the only proof of who sent a request.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Request, Response, g, jsonify, request
from flask_wtf.csrf import CSRFProtect

from .errors import InvalidRequest, OriginNotAllowed, RequestError
from .settings import Settings, current

BROWSER = "browser"  # the built-in pages

csrf = CSRFProtect()


def init_app(app: Flask, settings: Settings) -> None:
    """Check forms by token and JSON by origin. Must come before Flask-Security."""
    app.config["WTF_CSRF_HEADERS"] = ["X-CSRFToken", "X-CSRF-Token", "X-XSRF-Token"]
    csrf.init_app(app)
    app.before_request(_check_json)


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


def _check_json() -> None:
    """Refuse JSON from a foreign origin, and JSON that is no object, before any view sees it."""
    if request.method in ("GET", "HEAD", "OPTIONS") or not request.is_json:
        return
    origin = request.headers.get("Origin")
    if origin is not None and origin != _origin_of(current().RECOVERY_PUBLIC_URL):
        raise OriginNotAllowed
    if request.content_length and not isinstance(request.get_json(silent=True), dict):
        raise InvalidRequest("The body must be a JSON object.")
    g.csrf_valid = True  # Flask-WTF's mark for a request that was checked


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
