"""The home page, the last page of a reset, health, OpenAPI and well-known URLs."""

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Blueprint, abort, current_app, redirect, render_template, request, session, url_for
from flask.helpers import get_flashed_messages
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_security import TwoFactorVerifyCodeForm, auth_required, current_user
from flask_security.utils import do_flash, is_user_authenticated

from ..db.engine import db
from ..recovery import address_change
from ..settings import current
from ..web import challenge, clients, headers, return_to, typed_identity
from ..web.errors import InvalidRequest
from ..web.responses import json_response, wants_json
from . import health, openapi

pages = Blueprint("pages", __name__)


@pages.get("/")
def home() -> ResponseReturnValue:
    """Show what the account's owner can do here. To others, the home page is the sign-in page."""
    if not is_user_authenticated(current_user):
        return redirect(url_for("security.login"), 303)
    return render_template("security/home.html")


def show_sign_out() -> ResponseReturnValue:
    """Show the page that has the button. A GET signs nobody out."""
    return home() if is_user_authenticated(current_user) else redirect(url_for("pages.home"))


@pages.post("/language")
@auth_required("session", "token")
def choose_language() -> ResponseReturnValue:
    """Set the language of an account's mails. Empty: the language of the page that requests each mail."""
    language = (request.get_json() if request.is_json else request.form).get("language")
    if language not in ("", *current().RECOVERY_LANGUAGES):
        raise InvalidRequest(_("That language isn't available."), field="language")
    current_user.language = language
    db.session.commit()
    if wants_json(request):
        return json_response({})
    do_flash(_("Saved."), "success")
    return redirect(url_for("pages.home"), 303)


@pages.post("/settle-address")
@auth_required("session", "token")
def settle_address() -> ResponseReturnValue:
    """Let the owner of a frozen account, who has an older second factor, choose the address to keep."""
    if current_user.contested_at is None and not wants_json(request):  # the second of two clicks
        return redirect(url_for("pages.home"), 303)
    keep = (request.get_json() if request.is_json else request.form).get("keep")
    if keep not in ("old", "new"):
        raise InvalidRequest(_("Choose one of these options."), field="keep")
    if not address_change.has_older_factor(current_user):
        raise address_change.NoOlderFactor
    address_change.settle(current_user, keep)
    db.session.commit()
    return json_response({}) if wants_json(request) else redirect(url_for("pages.home"), 303)


def lead_to_application(**_values: Any) -> ResponseReturnValue:
    """Answer for pages that are off, because an application has the accounts (RECOVERY_ACCOUNTS)."""
    if wants_json(request):
        text = _("This isn't available here. Sign in to the application your account belongs to.")
        raise InvalidRequest(text)
    return redirect(current().RECOVERY_ACCOUNTS.sign_in_url, 303)


def land_first(view: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Wrap Flask-Security's view of a mailed link. Only the button of a page reaches it, because it acts."""

    def landing_view(token: str) -> Any:
        if request.method == "POST":
            return clients.send_on(view(token), kind, token)
        session["mailed_link"] = url_for(str(request.endpoint), token=token)  # out of the address bar
        return redirect(url_for("pages.confirm_address"), 303)

    return landing_view


@pages.get("/confirm-address")
def confirm_address() -> ResponseReturnValue:
    action = session.get("mailed_link") or abort(404)
    page = render_template("security/confirm_address.html", action=action)
    tables = [client.model_dump() for client in current_app.extensions["recovery_clients"].values()]
    targets = clients.form_targets(current().library, *tables)
    return page, {"Content-Security-Policy": headers.policy({"form-action": targets})}


@pages.get("/check-mail")
def check_mail() -> ResponseReturnValue:
    """Show the same page to everyone who requested a link or signed up."""
    code_form = TwoFactorVerifyCodeForm(formdata=None)  # for its box
    context = {"reset_code_form": code_form, "last": typed_identity.find()}
    to_confirm = request.args.get("after") == "sign-up"
    return render_template("security/check_mail.html", to_confirm=to_confirm, **context)


@pages.get("/challenge")
def create_challenge() -> ResponseReturnValue:
    """Return a challenge for a request at /reset and its like."""
    return challenge.create() if current().RECOVERY_CHALLENGE != "off" else abort(HTTPStatus.NOT_FOUND)


@pages.get("/reset-done")
def reset_done() -> ResponseReturnValue:
    """Show the last page of a reset, once. It replaces Flask-Security's flashed message."""
    client, is_first = session.pop("reset_done", (None, False))
    if client is None:
        return redirect(url_for("pages.home"))
    get_flashed_messages()
    session.pop(typed_identity.KEY, None)
    url = return_to.return_url() if client == return_to.asking_client() else None
    onward = url or clients.find(client).post_reset_view
    return render_template("security/reset_done.html", onward=onward, is_first=is_first)


@pages.get("/.well-known/change-password")
def change_password_url() -> ResponseReturnValue:
    """https://w3c.github.io/webappsec-change-password-url/"""
    changeable = current_app.config["SECURITY_CHANGEABLE"]
    return redirect(url_for("security.change_password" if changeable else "security.forgot_password"), 303)


@pages.get("/.well-known/security.txt")
def security_txt() -> ResponseReturnValue:
    """https://www.rfc-editor.org/rfc/rfc9116"""
    path = current().RECOVERY_SECURITY_TXT or abort(HTTPStatus.NOT_FOUND)
    return Path(path).read_bytes(), {"Content-Type": "text/plain; charset=utf-8"}


@pages.get("/openapi.json")
def describe() -> ResponseReturnValue:
    return openapi.document(current())


@pages.get("/healthz")
def alive() -> ResponseReturnValue:
    return {"status": "ok"}


@pages.get("/readyz")
def ready() -> ResponseReturnValue:
    """Report problems to a monitor, without data of any account."""
    state = health.check()
    return state, HTTPStatus.SERVICE_UNAVAILABLE if state["problems"] else HTTPStatus.OK
