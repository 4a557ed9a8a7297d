"""Signing up, where it is switched on. Nobody is looked up while anybody waits.

    POST /register   what was typed is checked as far as it tells nothing, and rests sealed in the outbox
    the worker       makes the account and mails the link to confirm it; or tells its owner that there is one

So whoever signs up somebody else's address hears the same, after the same time, as for a new one.
"""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any, cast

from flask import current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_security import anonymous_user_required, unauth_csrf, user_registered
from flask_security.confirmable import generate_confirmation_link, requires_confirmation
from flask_security.forms import Form, IsString
from flask_security.proxies import _security
from flask_security.utils import base_render_json, hash_password
from sqlalchemy import func, select
from werkzeug.datastructures import MultiDict
from wtforms import EmailField, Field, StringField, SubmitField

from . import audit, budget, clients, health, letters, outbox
from .askings import same_as
from .db import db
from .errors import NoMail, Undeliverable
from .forms import NewPasswordForm
from .identities import canonical
from .models import OutboxMessage, User
from .passwords import repeat_for_programs
from .settings import current

MAIL = "registration"
TAKEN = "registration_existing"


class RegistrationForm(Form):
    """It does not derive from Flask-Security's, which looks up whether there is such an account."""

    email = EmailField("Email address", [IsString()], render_kw={"autocomplete": "email"})
    username = StringField("Username (optional)", [IsString()], render_kw={"autocomplete": "username"})
    password = NewPasswordForm.password
    password_confirm = NewPasswordForm.password_confirm
    submit = SubmitField("Sign up")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not current_app.config["SECURITY_USERNAME_ENABLE"]:
            del self.username

    def validate(self, **kwargs: Any) -> bool:
        repeat_for_programs(self)
        if not super().validate(**kwargs):
            return False
        names = {"email": _normal(self.email, "Type your email address.")}
        if self.username and self.username.data:
            names["username"] = _normal(self.username, "Take another username.")
        bad, self.password.data = _security.password_util.validate(self.password.data, True, **names)
        self.password.errors = [*self.password.errors, *(bad or [])]
        return not self.errors


def _normal(field: Field, otherwise: str) -> str | None:
    """What is stored of it, in place of what was typed; an error at the field when that is nothing."""
    stored = canonical(field.name, field.data or "")
    if stored is None:
        field.errors = [*field.errors, otherwise]
    else:
        field.data = stored
    return stored


@unauth_csrf()
@anonymous_user_required
def register() -> ResponseReturnValue:
    """The view behind Flask-Security's `security.register`."""
    is_json = clients.wants_json(request)
    if request.method != "POST":
        return clients.json_answer(clients.what_to_know()) if is_json else _page(RegistrationForm())
    if not current().sends_mail:
        raise NoMail(current().RECOVERY_SUPPORT_CONTACT)
    form = RegistrationForm(MultiDict(request.get_json()) if request.is_json else request.form)
    if not form.validate():
        return base_render_json(form, include_user=False) if is_json else (_page(form), 400)
    typed = {"email": form.email.data, "username": form.username.data if form.username else None}
    password = hash_password(form.password.data)
    if not health.is_full():
        outbox.enqueue(MAIL, same=same_as(MAIL, str(form.email.data)), password=password, **typed)
    audit.record("requested", reason=MAIL, client=clients.name_in_request())
    db.session.commit()
    return clients.json_answer({}) if is_json else redirect(url_for("pages.check_mail", to="confirm"), 303)


def _page(form: RegistrationForm) -> str:
    return render_template("security/register_user.html", register_user_form=form)


def compose(message: OutboxMessage) -> EmailMessage:
    """For the worker. Raises Undeliverable."""
    typed = outbox.content_of(message)
    if outbox.age_of(message) > current().SECURITY_RESET_PASSWORD_WITHIN:
        raise Undeliverable("it was asked for too long ago (SECURITY_RESET_PASSWORD_WITHIN)")
    user = db.session.scalar(select(User).where(func.lower(User.email) == func.lower(typed["email"])))
    if user is None:
        user = _new_account(typed)
    message.user_id = user.id
    if reason := budget.why_no_other(MAIL, user):
        raise Undeliverable(reason, user.id)
    if not requires_confirmation(user):
        return letters.write(message, TAKEN, user.email)
    if user.password != typed["password"]:
        # Somebody, perhaps another, signs up again before it is confirmed: only the newest mail's link works.
        user.password = typed["password"]
        _security.datastore.set_uniquifier(user)
    link, _ = generate_confirmation_link(user)
    missed = _missed(typed["username"], user)
    return letters.write(message, MAIL, user.email, confirmation_link=link, missed=missed)


def _new_account(typed: dict[str, Any]) -> User:
    """Without the username if somebody else has it: that is told to the owner of the address, by mail."""
    name = typed["username"]
    if name and db.session.scalar(select(User.id).where(User.username == name)) is not None:
        name = None
    password = typed["password"]
    user = _security.datastore.create_user(email=typed["email"], username=name, password=password)
    audit.record("registered", user_id=user.id)
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's
    user_registered.send(app, user=user, confirm_token=None, confirmation_token=None, form_data={})
    return cast("User", user)


def _missed(name: str | None, user: User) -> str | None:
    """The username that was asked for, if the account did not get it."""
    return name if name and user.username != name else None
