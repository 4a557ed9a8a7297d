"""Signing up, where it is switched on. Nobody is looked up while anybody waits.

    POST /register   what was typed is checked as far as it tells nothing, and rests sealed in the outbox
    the worker       makes the account and mails a link to set its password; or tells its owner of the old one

So whoever signs up somebody else's address hears the same, after the same time, as for a new one. And they
have nothing of that account: its password is set behind the link, which is a reset link like any other, and
whoever used it has shown that the address is theirs.
"""

from __future__ import annotations

from typing import Any, cast

from flask import current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_security import anonymous_user_required, unauth_csrf, user_registered
from flask_security.confirmable import requires_confirmation
from flask_security.forms import Form, IsString
from flask_security.proxies import _security
from flask_security.utils import base_render_json
from sqlalchemy import func, select
from werkzeug.datastructures import MultiDict
from wtforms import EmailField, Field, StringField, SubmitField

from ..accounts.hashing import of_nobody
from ..accounts.identities import IDENTITY_LENGTH_MAX, canonical
from ..accounts.limits import ASKING, by_identity
from ..accounts.models import User
from ..db import audit
from ..db.engine import db
from ..mail import budget, composing, outbox
from ..mail.composing import composer
from ..mail.errors import Undeliverable
from ..mail.outbox import OutboxMessage
from ..settings import current
from ..web import clients
from ..web.errors import InvalidRequest
from ..web.rate_limits import limit
from ..web.responses import json_answer, wants_json
from . import issuing
from .request import store_request

MAIL = "registration"
TAKEN = "registration_existing"
LENGTH_MAX = {"email": IDENTITY_LENGTH_MAX, "username": 64}


class RegistrationForm(Form):
    """It does not derive from Flask-Security's, which looks up whether there is such an account."""

    email = EmailField(_l("Email address"), [IsString()], render_kw={"autocomplete": "email"})
    username = StringField(_l("Username (optional)"), [IsString()], render_kw={"autocomplete": "username"})
    submit = SubmitField(_l("Sign up"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not current_app.config["SECURITY_USERNAME_ENABLE"]:
            del self.username

    def validate(self, **kwargs: Any) -> bool:
        if not super().validate(**kwargs):
            return False
        _normal(self.email, _("Type your email address."))
        if self.username and self.username.data:
            _normal(self.username, _("Take another username."))
        return not self.errors


def _normal(field: Field, otherwise: str) -> None:
    """What is stored of it, in place of what was typed; an error at the field when that is nothing."""
    stored = canonical(field.name, field.data or "")
    if stored is None or len(stored) > LENGTH_MAX[field.name]:
        field.errors = [*field.errors, otherwise]
    else:
        field.data = stored


@unauth_csrf()
@anonymous_user_required
def register() -> ResponseReturnValue:
    """The view behind Flask-Security's `security.register`."""
    is_json = wants_json(request)
    if request.method != "POST":
        return json_answer(clients.what_to_know()) if is_json else _page(RegistrationForm())
    if "identity" in (request.get_json() if request.is_json else request.form):
        raise InvalidRequest(_("Give one value."), field="identity")  # or another would be counted
    form = RegistrationForm(MultiDict(request.get_json()) if request.is_json else request.form)
    if not form.validate():
        return base_render_json(form, include_user=False) if is_json else (_page(form), 400)
    name = form.username.data if form.username else None
    typed = {"email": form.email.data, "username": name, "client": clients.name_in_request()}
    store_request(MAIL, typed, about="email")
    return json_answer({}) if is_json else redirect(url_for("pages.check_mail", after="sign-up"), 303)


def _page(form: RegistrationForm) -> str:
    return render_template("security/register_user.html", register_user_form=form)


@composer(MAIL, on_settled=issuing.on_settled)
def compose(message: OutboxMessage) -> composing.Mail:
    """For the worker. Raises Undeliverable."""
    typed = message.content
    if outbox.age_of(message) > current().SECURITY_RESET_PASSWORD_WITHIN:
        raise Undeliverable("it was asked for longer ago than a link works (SECURITY_RESET_PASSWORD_WITHIN)")
    user = _account_of(typed["email"])
    message.user_id = user.id
    if reason := user.why_not_recoverable(confirmed=True):
        raise Undeliverable(reason, user.id)
    if not requires_confirmation(user):
        if reason := budget.why_no_other(MAIL, user):
            raise Undeliverable(reason, user.id)
        return composing.write(message, TAKEN, user.email)
    name = typed["username"]
    is_taken = bool(name) and _is_anothers(name, user)
    if name and not is_taken:
        user.username = name
    token = issuing.token_of(message)
    letter = composing.write(message, MAIL, user.email, reset_token=token, missed=name if is_taken else None)
    issuing.issue(message, user, typed["client"], token)
    return letter


def _account_of(email: str) -> User:
    """The one that is there, or a new one. Its password is nobody's until the owner sets one by the link."""
    user = db.session.scalar(select(User).where(func.lower(User.email) == func.lower(email)))
    if user is not None:
        if canonical("email", user.email) != email:
            raise Undeliverable("an account has nearly this address")
        return user
    password = of_nobody()
    user = cast("User", _security.datastore.create_user(email=email, password=password))
    audit.record("registered", user_id=user.id)
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's
    user_registered.send(app, user=user, confirm_token=None, confirmation_token=None, form_data={})
    return user


def _is_anothers(name: str, user: User) -> bool:
    has_it = func.lower(User.username) == func.lower(name)
    return db.session.scalar(select(User.id).where(has_it, User.id != user.id)) is not None


limit("security.register", ASKING, "RECOVERY_LIMIT_IDENTITY", by_identity)
