"""Error pages: every refusal and failure as a page for people or JSON for programs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Flask, got_request_exception, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l
from flask_wtf.csrf import CSRFError
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException

from ..db import audit
from ..db.engine import DATABASE_AWAY, db
from .errors import Busy, RequestError
from .responses import json_answer, json_refusal, wants_json

# By status: code for programs, title and text for people.
WORDS: dict[int, tuple[str, Any, Any]] = {
    404: (
        "not_found",
        _l("There is nothing here"),
        _l("The address may be incomplete, or the page is gone."),
    ),
    405: (
        "invalid_request",
        _l("That can not be done here"),
        _l("This address does not take that kind of request."),
    ),
    409: ("conflict", _l("The account has changed meanwhile"), _l("Nothing was saved. Please start again.")),
    413: (
        "invalid_request",
        _l("That is too long"),
        _l("What was sent is longer than anything we expect. Please go back and shorten it."),
    ),
    429: ("rate_limited", _l("Too many tries"), _l("Please wait a minute, then try again.")),
    500: (
        "internal_error",
        _l("Something went wrong here"),
        _l("It is our fault, not yours. Nothing was changed."),
    ),
    503: ("unavailable", _l("This does not work right now"), Busy.message),
}
BAD_REQUEST = ("invalid_request", RequestError.title, RequestError.message)


class CsrfFailed(RequestError):
    """A form without a valid token (Flask-WTF's CSRFError, in our words)."""

    code = "csrf_failed"
    title = _l("Please try that again")
    message = _l(
        "For your safety a form works only in the browser that opened it, with cookies allowed. "
        "Open the page again, then send it."
    )


def init_app(app: Flask) -> None:
    app.register_error_handler(RequestError, refuse)
    app.register_error_handler(CSRFError, lambda error: refuse(CsrfFailed()))
    app.register_error_handler(HTTPException, http_error)
    got_request_exception.connect(_roll_back, app)


def refuse(error: RequestError) -> ResponseReturnValue:
    """Answer a refused request."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if wants_json(request):
        return json_refusal(error, headers)
    page = render_template("security/problem.html", title=error.title, text=error.message, code=error.code)
    return page, error.status, headers


def http_error(error: HTTPException) -> ResponseReturnValue:
    """Answer an HTTP error, and an exception that became one."""
    status = _status(error)
    if status < 400:
        return error
    code, title, text = WORDS.get(status, BAD_REQUEST)
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers.setdefault("Retry-After", "60")
    if wants_json(request):
        return json_answer({"errors": [str(text)], "error_code": code}, status, headers)
    name = audit.request_id() if status == HTTPStatus.INTERNAL_SERVER_ERROR else None
    page = render_template("security/problem.html", title=title, text=text, code=code, request_id=name)
    return page, status, headers


def _status(error: HTTPException) -> int:
    """Return the status. Another request was faster, or the database is away: neither is an error of ours."""
    match getattr(error, "original_exception", None):
        case StaleDataError():
            return HTTPStatus.CONFLICT
        case cause if isinstance(cause, DATABASE_AWAY):
            return HTTPStatus.SERVICE_UNAVAILABLE
    return error.code or HTTPStatus.INTERNAL_SERVER_ERROR


def _roll_back(_app: Flask, **_: Any) -> None:
    """Roll back, because Flask-Security commits after the request also when it failed."""
    db.session.rollback()
