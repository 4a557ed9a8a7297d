"""Refused requests and failures, as a page for people or JSON for programs, with an error code in either.

A request is refused by raising a RequestError. Each feature adds its own: LinkError and its kinds live in
recovery/link.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, got_request_exception, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_wtf.csrf import CSRFError
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException

from ..db import audit
from ..db.engine import DATABASE_AWAY, db
from .responses import json_answer, wants_json


class RequestError(Exception):
    """A request that is refused; `code` is for programs, `title` and `message` are for the reader."""

    status: int = HTTPStatus.BAD_REQUEST
    code = "invalid_request"
    title = _l("That did not work")
    message = _l("The request could not be understood.")
    headers: Mapping[str, str] = {}

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        self.field = field
        self.message = message or self.message
        super().__init__(self.message)


class Busy(RequestError):
    """More passwords to hash than this machine can."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unavailable"
    title = _l("Too much is going on right now")
    message = _l("Nothing was changed. Please try again in a minute.")
    headers: Mapping[str, str] = {"Retry-After": "30"}


class NoMail(RequestError):
    """A mail is asked for while MAIL_SERVER is empty. The message names the support contact."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "mail_not_configured"
    title = _l("Please ask for help")

    def __init__(self, contact: str) -> None:
        message = _("This site sends no mail. Please ask %(contact)s for a link to a new password.")
        super().__init__(message % {"contact": contact})


class InvalidRequest(RequestError):
    """Malformed input: wrong type, missing, repeated or too long."""


class OriginNotAllowed(RequestError):
    status = HTTPStatus.FORBIDDEN
    code = "origin_not_allowed"
    message = _l("Requests from that origin are not allowed.")


class CsrfFailed(RequestError):
    """A form without a valid token (Flask-WTF's CSRFError, in our words)."""

    code = "csrf_failed"
    title = _l("Please try that again")
    message = _l(
        "For your safety a form works only in the browser that opened it, with cookies allowed. "
        "Open the page again, then send it."
    )


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


def init_app(app: Flask) -> None:
    app.register_error_handler(RequestError, refuse)
    app.register_error_handler(CSRFError, lambda error: refuse(CsrfFailed()))
    app.register_error_handler(HTTPException, http_error)
    got_request_exception.connect(_roll_back, app)


def refuse(error: RequestError) -> ResponseReturnValue:
    """Answer a refused request."""
    if wants_json(request):
        messages = [str(error.message)]
        fields = {error.field: messages} if error.field else {}
        payload = {"errors": messages, "field_errors": fields, "error_code": error.code}
        return json_answer(payload, error.status, error.headers)
    name = audit.request_id() if error.status == HTTPStatus.INTERNAL_SERVER_ERROR else None
    context = {"title": error.title, "text": error.message, "code": error.code, "request_id": name}
    return render_template("security/problem.html", **context), error.status, error.headers


def http_error(error: HTTPException) -> ResponseReturnValue:
    """Answer an HTTP error, and an exception that became one."""
    refusal, status = RequestError(), _status(error)
    if status < 400:
        return error
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers.setdefault("Retry-After", "60")
    refusal.status, refusal.headers = status, headers
    if status in WORDS:
        refusal.code, refusal.title, refusal.message = WORDS[status]
    return refuse(refusal)


def _status(error: HTTPException) -> int:
    """Return the status. Another request was faster, or the database is away: neither is an error of ours."""
    cause = getattr(error, "original_exception", None)
    if isinstance(cause, StaleDataError):
        return HTTPStatus.CONFLICT
    if isinstance(cause, DATABASE_AWAY):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return error.code or HTTPStatus.INTERNAL_SERVER_ERROR


def _roll_back(_app: Flask, **_: Any) -> None:
    """Roll back, because Flask-Security commits after the request also when it failed."""
    db.session.rollback()
