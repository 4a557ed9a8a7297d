"""Error responses: a page for people or JSON for programs, both with an error code.

A view refuses a request by raising a RequestError. Features add subclasses, such as
recovery.link_errors.LinkError.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Flask, got_request_exception, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _, lazy_gettext as _l
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException

from ..db import audit
from ..db.engine import DATABASE_AWAY, db, describe
from .i18n import duration
from .responses import json_response, wants_json


class RequestError(Exception):
    """A refused request: `code` is for programs, `title` and `message` are for people."""

    status: int = HTTPStatus.BAD_REQUEST
    code = "invalid_request"
    title = _l("That didn't work")
    message = _l("We couldn't understand the request.")
    headers: Mapping[str, str] = {}
    again: tuple[str, Any] | None = None  # the endpoint at which the user can start over, and its button

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        self.field = field
        self.message = message or self.message
        super().__init__(self.message)


class Busy(RequestError):
    """More passwords to hash at once than this machine can."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unavailable"
    title = _l("We're very busy right now")
    message = _l("Nothing was changed. Please try again in %(time)s.")  # that of Retry-After
    headers: Mapping[str, str] = {"Retry-After": "30"}


class NoMail(RequestError):
    """A request for mail while MAIL_SERVER is empty. The message names the support contact."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "mail_not_configured"
    title = _l("Please contact support")

    def __init__(self, contact: str) -> None:
        message = _("This site doesn't send email. To get a reset link, contact support: %(contact)s")
        super().__init__(message % {"contact": contact})


class InvalidRequest(RequestError):
    """Malformed input: wrong type, missing, repeated or too long."""


class OriginNotAllowed(RequestError):
    """A request from another site."""

    status = HTTPStatus.FORBIDDEN
    code = "origin_not_allowed"
    message = _l("Requests from that origin aren't allowed.")


class CsrfFailed(RequestError):
    """A form without a valid token. Replaces Flask-WTF's CSRFError."""

    code = "csrf_failed"
    title = _l("Please try again")
    message = _l(
        "The page expired, or your browser is blocking cookies. Open it again and resubmit the form."
    )


# By status: code, title and message.
HTTP_ERRORS: dict[int, tuple[str, Any, Any]] = {
    404: (
        "not_found",
        _l("Page not found"),
        _l("The web address may be incomplete, or the page may no longer exist."),
    ),
    405: (
        "invalid_request",
        _l("You can't do that here"),
        _l("This address doesn't accept that kind of request."),
    ),
    409: (
        "conflict",
        _l("The account has changed since you opened this page"),
        _l("Nothing was saved. Please start over."),
    ),
    413: ("invalid_request", _l("That's too long"), _l("Go back, shorten what you entered, and try again.")),
    429: ("rate_limited", _l("Too many attempts"), _l("Please try again in %(time)s.")),
    500: (
        "internal_error",
        _l("Something went wrong"),
        _l("Sorry, this is our fault. Nothing was changed. Please try again later."),
    ),
    503: ("unavailable", _l("Temporarily unavailable"), Busy.message),
}


def init_app(app: Flask) -> None:
    """Register the error handlers."""
    app.register_error_handler(RequestError, respond)
    app.register_error_handler(CSRFError, lambda error: respond(CsrfFailed()))
    app.register_error_handler(HTTPException, respond_to_http_error)
    got_request_exception.connect(_roll_back, app)
    app.log_exception = partial(_log_exception, app)  # type: ignore[method-assign]  # Flask calls it by name


def respond(error: RequestError) -> ResponseReturnValue:
    """Return the response to a refused request. The text repeats Retry-After in words."""
    text = str(error.message)
    if (wait := error.headers.get("Retry-After", "")).isdecimal():
        text = text.replace("%(time)s", duration(timedelta(seconds=int(wait))))
    if wants_json(request):
        messages = [text]
        fields = {error.field: messages} if error.field else {}
        payload = {"errors": messages, "field_errors": fields, "error_code": error.code}
        return json_response(payload, error.status, error.headers)
    name = audit.request_id() if error.status == HTTPStatus.INTERNAL_SERVER_ERROR else None
    context = {"title": error.title, "text": text, "code": error.code, "request_id": name}
    page = render_template("security/problem.html", **context, again=error.again)
    return page, error.status, error.headers


def respond_to_http_error(error: HTTPException) -> ResponseReturnValue:
    """Return the response to an HTTP error, such as the 500 that Flask makes of an unhandled exception."""
    refusal, status = RequestError(), _status(error)
    if status < 400:
        return error
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    is_temporary = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    if is_temporary and not headers.get("Retry-After", "").isdecimal():  # none, or a date
        headers["Retry-After"] = "60"
    refusal.status, refusal.headers = status, headers
    if status in HTTP_ERRORS:
        refusal.code, refusal.title, refusal.message = HTTP_ERRORS[status]
    return respond(refusal)


def _status(error: HTTPException) -> int:
    """Return the status: 409 after a concurrent change, 503 while the database is away."""
    cause = getattr(error, "original_exception", None)
    if isinstance(cause, (StaleDataError, IntegrityError)):
        return HTTPStatus.CONFLICT
    if isinstance(cause, DATABASE_AWAY):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return error.code or HTTPStatus.INTERNAL_SERVER_ERROR


def _log_exception(app: Flask, exception: Any) -> None:
    """Log an unhandled exception, in one line while the database is away, or else with its traceback."""
    if isinstance(error := exception[1], DATABASE_AWAY):
        app.logger.error("Exception on %s [%s]: %s", request.path, request.method, describe(error))
    else:
        Flask.log_exception(app, exception)


def _roll_back(_app: Flask, **_: Any) -> None:
    """Roll back, because Flask-Security commits after the request also when it failed."""
    db.session.rollback()
