"""Registration: the page, and the worker's part that makes the account. Off by default.

The web request looks up no account. The worker makes one and mails a reset link, or tells the owner of an
existing account about the attempt. The answer and its time are the same for both.

An account gets its password and username only when its owner redeems the link, so an attacker who registers
another's address gains and changes nothing.
"""

from typing import Any, cast

from flask import current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _, lazy_gettext as _l
from flask_security import anonymous_user_required, user_not_registered, user_registered
from flask_security.confirmable import requires_confirmation
from flask_security.forms import Form, IsString
from flask_security.proxies import _datastore, _security
from flask_security.utils import base_render_json, get_url
from wtforms import EmailField, Field, StringField, SubmitField, ValidationError

from ..accounts.hashing import unusable_hash
from ..accounts.identities import IdentityKey, PostedIdentity
from ..accounts.identity_mappers import IDENTITY_LENGTH_MAX, normalize_identity
from ..accounts.models import User, plain_name
from ..db import audit
from ..db.engine import db
from ..mail import composing, quota
from ..mail.composing import Undeliverable, composer
from ..mail.outbox import OutboxMessage
from ..web import clients
from ..web.errors import InvalidRequest
from ..web.responses import context_of, json_response, wants_json
from ..web.typed_identity import remember
from . import instructions
from .request import store_request


class RegistrationForm(Form):
    """The registration form. Flask-Security's would look the account up."""

    email = EmailField(_l("Email address"), [IsString()], render_kw={"autocomplete": "email"})
    username = StringField(_l("Username (optional)"), [IsString()], render_kw={"autocomplete": "username"})
    submit = SubmitField(_l("Sign up"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not current_app.config["SECURITY_USERNAME_ENABLE"]:
            del self.username

    def validate_email(self, field: Field) -> None:
        stored = normalize_identity("email", field.data or "")
        if stored is None or len(stored) > IDENTITY_LENGTH_MAX:
            raise ValidationError(_("Enter your email address."))
        field.data = stored

    def validate_username(self, field: Field) -> None:
        problem, field.data = _security.username_util.validate(field.data)
        if problem:
            raise ValidationError(problem)


@anonymous_user_required
def register() -> ResponseReturnValue:
    """Answer GET and POST of `/register`."""
    is_json, typed = wants_json(request), {"formdata": request.form} if request.form else {}
    form = RegistrationForm(**typed)
    if request.method != "POST":
        return json_response(clients.public_policy()) if is_json else _render(form)
    if "identity" in (request.get_json() if request.is_json else request.form):
        raise InvalidRequest(_("Only one value is allowed."), field="identity")  # it would be ignored
    if not form.validate():
        return base_render_json(form, include_user=False) if is_json else (_render(form), 400)
    name = form.username.data if form.username else None
    email = str(form.email.data)
    identity = PostedIdentity(email, IdentityKey("email", email))
    store_request(quota.REGISTRATION, identity, quota=quota.of_address(email), username=name)
    if is_json:
        return json_response({})
    remember(email, "email")
    own_view = current_app.config["SECURITY_POST_REGISTER_VIEW"]
    return redirect(get_url(own_view) if own_view else url_for("pages.check_mail", after="sign-up"), 303)


def _render(form: RegistrationForm) -> str:
    return render_template("security/register_user.html", register_user_form=form, **context_of("register"))


@composer(quota.REGISTRATION, needs="SECURITY_REGISTERABLE")
def compose(message: OutboxMessage) -> composing.Mail:
    """Make the account and mail its link, or tell the owner of an existing one. Raises Undeliverable."""
    instructions.check_age(message)
    quota.refuse_excess(message)  # before any look-up
    user = _find_or_create(message.content["identity"])
    message.user_id = user.id
    reason, is_confirmed = user.reason_not_recoverable(confirmed=True), not requires_confirmation(user)
    if reason and not (is_confirmed and instructions.is_explained(reason)):
        raise Undeliverable(reason)
    if is_confirmed:
        mail = composing.write(
            message, "welcome_existing", user.email, reset_link=None, confirmation_link=None
        )
        exists = {"existing_email": True, "existing_username": False}
        mail.signal = (user_not_registered, {"user": user, "form_data": {}, **exists})
        return mail
    name = message.content["username"]  # stays with the link until its owner redeems it
    other = name and _datastore.find_user(case_insensitive=True, username=name)
    is_taken = bool(other) and other != user
    chosen = "" if is_taken or user.username else plain_name(name)
    names = {"missed": name if is_taken else None, "chosen": chosen}
    return instructions.compose_with_link(message, user, "welcome", **names)


def _find_or_create(email: str) -> User:
    """Return the account with this address. A new one has a hash that matches no password."""
    user = cast("User | None", _datastore.find_user(case_insensitive=True, email=email))
    if user is None:
        user = cast("User", _datastore.create_user(email=email, password=unusable_hash()))
        audit.record("registered", user_id=user.id)
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's
        user_registered.send(app, user=user, confirm_token=None, confirmation_token=None, form_data={})
        db.session.commit()  # on SQLite, the lock would last until the mail is written
    elif normalize_identity("email", user.email) != email:
        raise Undeliverable("another account has almost the same address")
    return user
