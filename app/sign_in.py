"""The sign-in form: the identity box, and a password. Nothing about it tells who has an account."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flask import g, request
from flask_security.confirmable import requires_confirmation
from flask_security.forms import Form, NextFormMixin
from flask_security.proxies import _security
from flask_security.utils import get_message
from wtforms import BooleanField, PasswordField, StringField, SubmitField

from . import audit
from .errors import InvalidRequest
from .forms import IDENTITY_LABEL, posted_identity
from .hashing import verify_nothing
from .identities import find_account

if TYPE_CHECKING:
    from wtforms import Field

    from .models import User


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
        self.user: User | None = None  # Flask-Security's name for who may come in
        self.found: User | None = None
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
            audit.record("sign_in_refused", user_id=self.found.id if self.found else None)
        return self.user is not None

    def _authenticated(self, identity: str, password: str) -> User | None:
        user = self.found = find_account(identity)
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
