"""Responses: JSON in Flask-Security's envelope, forms and variables of its pages, and cookies."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from flask import Request, Response, current_app, jsonify, request
from flask_security.proxies import _security

COOKIE_SECONDS = 365 * 86_400


class CodedMessage(str):
    """A message for people with an error code for programs, which a form's errors can hold."""

    code: str

    def __new__(cls, message: str, code: str) -> Self:
        coded = super().__new__(cls, message)
        coded.code = code
        return coded


def code_of(messages: Iterable[str]) -> str | None:
    """Return the error code of the first message that has one."""
    return next((message.code for message in messages if isinstance(message, CodedMessage)), None)


def wants_json(request: Request) -> bool:
    """True if the client is a program: it sent JSON, or prefers JSON as the response."""
    return request.is_json or request.accept_mimetypes.best == "application/json"


def json_response(
    payload: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None, _user: Any = None
) -> Response:
    """Return a response in Flask-Security's envelope, with an error_code for each status from 400 on."""
    if status == 500 and "error_code" not in payload:  # Flask-Security cannot send a code
        status, payload = 503, {"error_code": "unavailable", **payload}
    if status >= 400:
        code = code_of(payload.get("errors", ())) or ("not_signed_in" if status == 401 else "invalid_request")
        payload = {"error_code": code, "errors": [], "field_errors": {}, **payload}
    response = jsonify({"meta": {"code": status}, "response": payload})
    response.status_code = status
    response.headers.update(headers or {})
    return response


def new_form(name: str, **options: Any) -> Any:
    """Return a form of the class that has this name in Flask-Security; RECOVERY_CLASSES may replace it."""
    info = _security.forms[name]
    return info.instantiator(name, info.cls, **options)


def context_of(page: str) -> dict[str, Any]:
    """Return the variables of the context processors for one of Flask-Security's pages, or for "mail"."""
    variables: dict[str, Any] = _security._run_ctx_processor(page)
    return variables


def context_names() -> set[str]:
    """Return the variables of the context processors for any page or mail."""
    return {name for page in list(_security._context_processors) for name in context_of(page)}


def form_page() -> str:
    """Return the path of the page that a form is on: its own, or else the referrer's. Empty: neither is."""
    routes = current_app.url_map.bind_to_environ({**request.environ, "REQUEST_METHOD": "GET"})
    own = request.host_url.rstrip("/") + request.script_root
    referrer = (request.referrer or "").removeprefix(own).partition("?")[0]
    return next((path for path in (request.path, referrer) if routes.test(path)), "")


def keep_cookie(
    name: str, value: str, response: Response, *, seconds: int | None = COOKIE_SECONDS
) -> Response:
    """Set a cookie that no script can read, for so long, or until the browser is closed (None)."""
    is_secure = current_app.config["SESSION_COOKIE_SECURE"]
    response.set_cookie(name, value, max_age=seconds, secure=is_secure, httponly=True, samesite="Lax")
    return response
