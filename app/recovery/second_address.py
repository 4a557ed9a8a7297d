"""The second address of an account: it gets every notice, and no link. Off by default.

Its owner enters it when signed in, and confirms it by the button behind a mailed link, which signs the
account out everywhere. It is no identity, so no request can name it.
"""

from datetime import UTC, datetime
from typing import Any

from flask import current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_security import auth_required, current_user
from flask_security.proxies import _datastore, _security
from flask_security.utils import base_render_json, check_and_get_token_status, do_flash, get_message, get_url

from ..accounts.models import User
from ..db import audit
from ..db.engine import db
from ..mail import composing, outbox, quota
from ..mail.composing import composer
from ..mail.flask_security_mails import EXPIRED
from ..mail.outbox import OutboxMessage
from ..web.responses import context_of, json_response, new_form, wants_json

MAIL = "second_address"


@auth_required("session", "token", within=lambda: current_app.config["SECURITY_FRESHNESS"])
def manage() -> ResponseReturnValue:
    """Answer GET and POST of `/second-address`, with a password that was entered a moment ago."""
    form, is_post = new_form("change_email_form"), request.method == "POST"
    if is_post and form.email.data == "":
        current_user.second_email = None
        flashed = _("Your second email address has been removed."), "success"
    elif is_post and form.validate():
        _mail_link(current_user, form.email.data)
        flashed = get_message("CHANGE_EMAIL_SENT", email=form.email.data)
    elif wants_json(request):
        values = {"second_email": current_user.second_email}
        return base_render_json(form, include_user=False, additional=values)
    else:
        page = render_template("security/second_address.html", change_email_form=form, **context_of(MAIL))
        return page, 400 if form.errors else 200
    db.session.commit()
    if wants_json(request):
        return json_response({})
    do_flash(*flashed)
    return redirect(url_for("security.second_address"), 303)


def _mail_link(user: User, address: str) -> None:
    token = _security.change_email_serializer.dumps([_name(user), user.second_email, address])
    values = {"address": address, "token": token}
    outbox.enqueue(MAIL, user_id=user.id, quota=quota.of_address(address), **values)
    audit.record("address_requested", user_id=user.id)


def _name(user: User) -> str:
    """Return what a token holds in place of the uniquifier, so that it changes no first address."""
    return f"second address of {user.fs_uniquifier}"


@composer(MAIL, needs="RECOVERY_SECOND_ADDRESS")
def _compose(message: OutboxMessage) -> composing.Mail:
    within = current_app.config["SECURITY_CHANGE_EMAIL_WITHIN"]
    if datetime.now(UTC) > datetime.fromisoformat(message.content["occurred_at"]) + within:
        raise composing.Undeliverable(EXPIRED)
    quota.refuse_excess(message)
    link = url_for("security.second_address_confirm", token=message.content["token"], _external=True)
    return composing.write(message, MAIL, message.content["address"], link=link, within=within)


def confirm(token: str) -> ResponseReturnValue:
    """Set the second address, and redirect with a message as Flask-Security does. The link ends with it."""
    valid = current_app.config["SECURITY_CHANGE_EMAIL_WITHIN"]
    expired, invalid, state = check_and_get_token_status(token, "change_email", valid)
    name, earlier, address = state if not (expired or invalid) else ("", None, None)
    user: Any = _datastore.find_user(fs_uniquifier=name.rpartition(" ")[2])
    if not (user and user.is_active and (name, earlier) == (_name(user), user.second_email)):
        text, category = get_message("CHANGE_EMAIL_EXPIRED" if expired else "API_ERROR")
        return redirect(get_url(url_for("security.second_address"), qparams={category: text}))
    user.second_email = address
    _datastore.set_uniquifier(user)
    db.session.commit()
    return redirect(get_url("/", qparams={"success": _("Your second email address has been confirmed.")}))
