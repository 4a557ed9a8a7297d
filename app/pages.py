"""Home, the end of a reset, health, and the pages for everything that goes wrong."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    flash,
    get_flashed_messages,
    got_request_exception,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_security import auth_required, current_user
from flask_wtf.csrf import CSRFError
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import HTTPException, TooManyRequests

from . import audit, clients, health, limits, openapi
from .db import DATABASE_AWAY, db
from .errors import InvalidRequest, LinkError, LinkInvalid, RequestError
from .settings import Settings, current

pages = Blueprint("pages", __name__)

# What a plain HTTP error is called: code for machines, title and words for people.
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
    503: (
        "unavailable",
        _l("This does not work right now"),
        _l("Nothing was changed. Please try again in a minute."),
    ),
}
# What is no error of ours: another request was faster, or the database is away.
STATUS_OF: dict[type[Exception] | tuple[type[Exception], ...], int] = {
    StaleDataError: 409,
    DATABASE_AWAY: 503,
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


def init_app(app: Flask, settings: Settings) -> None:
    app.register_blueprint(pages)
    app.register_error_handler(RequestError, _refuse)
    app.register_error_handler(CSRFError, lambda error: _refuse(CsrfFailed()))
    app.register_error_handler(HTTPException, _http_error)
    got_request_exception.connect(_roll_back, app)


@pages.get("/")
def home() -> ResponseReturnValue:
    return render_template("security/home.html")


@pages.post("/language")
@auth_required("session", "token")
def choose_language() -> ResponseReturnValue:
    """In which language an account has its mails; none: in that of the page or program that asks for them."""
    language = (request.get_json() if request.is_json else request.form).get("language")
    if language not in ("", *current().RECOVERY_LANGUAGES):
        raise InvalidRequest(_("That language is not offered here."), field="language")
    current_user.language = language
    db.session.commit()
    if clients.wants_json(request):
        return clients.json_answer({})
    flash(_("Saved."), "success")
    return redirect(url_for("pages.home"), 303)


@pages.get("/check-mail")
def check_mail() -> ResponseReturnValue:
    """Where everybody ends who has asked for a link, or signed up."""
    return render_template("security/check_mail.html", to_confirm=request.args.get("after") == "sign-up")


@pages.get("/reset-done")
def reset_done() -> ResponseReturnValue:
    """The end of a reset, seen once. It says what Flask-Security's flashed message would say."""
    client = session.pop("reset_done", None)
    if client is None:
        return redirect(url_for("pages.home"))
    get_flashed_messages()
    return render_template("security/reset_done.html", onward=clients.named(client).post_reset_view)


@pages.get("/.well-known/change-password")
def change_password_url() -> ResponseReturnValue:
    """https://w3c.github.io/webappsec-change-password-url/"""
    changeable = current_app.config["SECURITY_CHANGEABLE"]
    return redirect(url_for("security.change_password" if changeable else "security.forgot_password"), 303)


@pages.get("/.well-known/security.txt")
def security_txt() -> ResponseReturnValue:
    """https://www.rfc-editor.org/rfc/rfc9116"""
    path = current().RECOVERY_SECURITY_TXT
    if not path:
        abort(HTTPStatus.NOT_FOUND)
    return Response(Path(path).read_bytes(), content_type="text/plain; charset=utf-8")


@pages.get("/openapi.json")
def describe() -> ResponseReturnValue:
    return openapi.document(current())


@pages.get("/healthz")
def alive() -> ResponseReturnValue:
    return {"status": "ok"}


@pages.get("/readyz")
def ready() -> ResponseReturnValue:
    """For an alarm. Says what does not work, never about whom."""
    found = health.look()
    return asdict(found), HTTPStatus.SERVICE_UNAVAILABLE if found.problems else HTTPStatus.OK


def _refuse(error: RequestError) -> ResponseReturnValue:
    if isinstance(error, LinkInvalid) and not limits.may_have_bad_link():
        return _http_error(TooManyRequests())
    is_redemption = request.endpoint == "security.reset_password" and request.method == "POST"
    if isinstance(error, LinkError) and is_redemption:
        _record(error)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if clients.wants_json(request):
        return clients.json_refusal(error, headers)
    if isinstance(error, LinkError) and (target := clients.named(error.client).problem(error)):
        return redirect(target)
    page = render_template("security/problem.html", title=error.title, text=error.message, code=error.code)
    return page, error.status, headers


def _record(error: LinkError) -> None:
    """A link that was refused when a password came with it. Nothing else is in the transaction."""
    db.session.rollback()
    audit.record("refused", reason=error.code, user_id=error.user_id, client=error.client)
    db.session.commit()


def _http_error(error: HTTPException) -> ResponseReturnValue:
    status = error.code or 500
    cause = getattr(error, "original_exception", None)
    status = next((code for kind, code in STATUS_OF.items() if isinstance(cause, kind)), status)
    if status < 400:
        return error
    code, title, text = WORDS.get(status, BAD_REQUEST)
    headers = dict(item for item in error.get_headers() if item[0] == "Allow")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = str(limits.seconds_to_wait())
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "60"
    if clients.wants_json(request):
        return clients.json_answer({"errors": [str(text)], "error_code": code}, status, headers)
    name = audit.request_id() if status == HTTPStatus.INTERNAL_SERVER_ERROR else None
    page = render_template("security/problem.html", title=title, text=text, code=code, request_id=name)
    return page, status, headers


def _roll_back(_app: Flask, **_: Any) -> None:
    """Flask-Security commits after the request also when it failed: leave it nothing to commit."""
    db.session.rollback()
