"""The forms: one identity box (ask, sign in) and the rules for what is typed into it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask import g, request
from flask_security.confirmable import requires_confirmation
from flask_security.forms import (
    EqualToLocalize,
    Form,
    IsString,
    NextFormMixin,
    ResetPasswordForm,
    password_required,
)
from flask_security.proxies import _security
from flask_security.utils import get_message
from werkzeug.datastructures import MultiDict
from wtforms import BooleanField, PasswordField, StringField, SubmitField

from .errors import InvalidRequest
from .identities import IDENTITY_LENGTH_MAX, find_account
from .passwords import verify_nothing

if TYPE_CHECKING:
    from wtforms import Field

    from .models import User

IDENTITY_LABEL = "Email address, username or phone number"


def posted_identity() -> str:
    """What was typed into the identity box of this POST, form or JSON, without blanks around it.

    Checked before any work: exactly one text under `identity` (or Flask-Security's `email`) in the
    body, no longer than an address can be. Raises InvalidRequest.
    """
    body = request.get_json() if request.is_json else request.form
    given = [value for name in ("identity", "email") for value in _all_values(body, name)]
    if len(given) > 1:
        raise InvalidRequest("Give one identity.", field="identity")
    identity = given[0] if given else ""
    if not isinstance(identity, str):
        raise InvalidRequest("The identity must be text.", field="identity")
    identity = identity.strip()
    if not identity:
        raise InvalidRequest("Type your email address, username or phone number.", field="identity")
    if len(identity) > IDENTITY_LENGTH_MAX or not identity.isprintable():
        raise InvalidRequest("That is no email address, username or phone number.", field="identity")
    return identity


def _all_values(body: Mapping[str, Any], name: str) -> list[Any]:
    if isinstance(body, MultiDict):
        return body.getlist(name)
    return [body[name]] if name in body else []


class AskForm(Form):
    """Forgot: one box. The view reads the body through `posted_identity`."""

    email = StringField(IDENTITY_LABEL, name="identity", render_kw={"autocomplete": "username"})
    submit = SubmitField("Send me a link")


class NewPasswordForm(ResetPasswordForm):
    """Flask-Security's reset form, in our words."""

    password = PasswordField(
        "New password", [IsString(), password_required], render_kw={"autocomplete": "new-password"}
    )
    password_confirm = PasswordField(
        "New password again",
        [IsString(), EqualToLocalize("password", message="RETYPE_PASSWORD_MISMATCH"), password_required],
        render_kw={"autocomplete": "new-password"},
    )
    submit = SubmitField("Set new password")

    def validate(self, **kwargs: Any) -> bool:
        if request and request.is_json and "password_confirm" not in request.get_json():
            self.password_confirm.data = self.password.data  # a program does not mistype
        valid = super().validate(**kwargs)
        if self.password_confirm.errors and not self.password.errors:
            g.error_code = "password_mismatch"
        return valid


class SignInForm(Form, NextFormMixin):
    """Sign in: the same box, and a password.

    It keeps Flask-Security's attribute name `email` but does not derive from its LoginForm, whose
    subclasses are rewritten when usernames are on. Whether an account is unknown, inactive, locked,
    unconfirmed or without a password: one verification, the same statements, one message.
    """

    email = StringField(IDENTITY_LABEL, name="identity", render_kw={"autocomplete": "username"})
    password = PasswordField("Password", render_kw={"autocomplete": "current-password"})
    remember = BooleanField("Stay signed in on this device")
    submit = SubmitField("Sign in")

    requires_confirmation = False  # Flask-Security's view asks

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user: User | None = None
        if not self.next.data:
            self.next.data = request.args.get("next", "")

    def validate(self, **kwargs: Any) -> bool:
        if not super().validate(**kwargs):
            return False
        try:
            identity = posted_identity()
        except InvalidRequest as error:
            return _refuse(self.email, error.message)
        password = self.password.data
        if not isinstance(password, str) or not password:
            return _refuse(self.password, "Type your password.")
        self.user = self._authenticated(identity, _security.password_util.normalize(password))
        if self.user is None:
            self.form_errors.append(get_message("GENERIC_AUTHN_FAILED")[0])
            g.error_code = "sign_in_failed"
        return self.user is not None

    def _authenticated(self, identity: str, password: str) -> User | None:
        user = find_account(identity)
        if not _verified(user, password):
            if user is not None:
                user.track_failed_authn("password")
            return None
        assert user is not None
        usable = user.is_active and not user.is_locked() and not requires_confirmation(user)
        return user if usable else None


def _verified(user: User | None, password: str) -> bool:
    """One verification, whoever it is for."""
    with suppress(ValueError, RuntimeError):  # a stored hash of no scheme that we can read
        if user is not None and user.password:
            return user.verify_and_update_password(password)
    verify_nothing(password)
    return False


def _refuse(field: Field, message: str) -> bool:
    field.errors = [message]
    return False
