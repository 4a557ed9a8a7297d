"""The forms: one identity box (ask, sign in) and the rules for what is typed into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import g, request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_security.forms import (
    ChangePasswordForm,
    EqualToLocalize,
    Form,
    IsString,
    ResetPasswordForm,
    password_required,
)
from flask_security.proxies import _security
from werkzeug.datastructures import MultiDict
from wtforms import PasswordField, StringField, SubmitField

from .errors import InvalidRequest
from .identities import IDENTITY_LENGTH_MAX

IDENTITY_LABEL = _l("Email address, username or phone number")


def posted_identity() -> str:
    """What was typed into the identity box of this POST, form or JSON, without blanks around it.

    Checked before any work: exactly one text under `identity` (or Flask-Security's `email`) in the
    body, no longer than an address can be. Raises InvalidRequest.
    """
    body = request.get_json() if request.is_json else request.form
    given = [value for name in ("identity", "email") for value in _all_values(body, name)]
    if len(given) > 1:
        raise InvalidRequest(_("Give one email address, username or phone number."), field="identity")
    identity = given[0] if given else ""
    identity = identity.strip() if isinstance(identity, str) else "\0"  # refused below
    if not identity:
        raise InvalidRequest(_("Type your email address, username or phone number."), field="identity")
    if len(identity) > IDENTITY_LENGTH_MAX or not identity.isprintable():
        raise InvalidRequest(_("That is no email address, username or phone number."), field="identity")
    return identity


def _all_values(body: Mapping[str, Any], name: str) -> list[Any]:
    if isinstance(body, MultiDict):
        return body.getlist(name)
    return [body[name]] if name in body else []


class AskForm(Form):
    """Forgot: one box. The view reads the body through `posted_identity`."""

    email = StringField(IDENTITY_LABEL, name="identity", render_kw={"autocomplete": "username"})
    submit = SubmitField(_l("Send me a link"))


class ChangeForm(ChangePasswordForm):
    """Flask-Security's change form; it forgets to look what kind the current password is of."""

    password = PasswordField(
        _l("Current password"), [IsString()], render_kw={"autocomplete": "current-password"}
    )

    def validate(self, **kwargs: Any) -> bool:
        if isinstance(self.new_password.data, str):  # or it compares two forms of one password
            normalize = _security.password_util.normalize
            self.new_password.data = normalize(self.new_password.data)
            if isinstance(self.new_password_confirm.data, str):
                self.new_password_confirm.data = normalize(self.new_password_confirm.data)
        return bool(super().validate(**kwargs))


class NewPasswordForm(ResetPasswordForm):
    """Flask-Security's reset form, in our words."""

    password = PasswordField(
        _l("New password"), [IsString(), password_required], render_kw={"autocomplete": "new-password"}
    )
    password_confirm = PasswordField(
        _l("New password again"),
        [IsString(), EqualToLocalize("password", message="RETYPE_PASSWORD_MISMATCH"), password_required],
        render_kw={"autocomplete": "new-password"},
    )
    submit = SubmitField(_l("Set new password"))

    def validate(self, **kwargs: Any) -> bool:
        if request and request.is_json and "password_confirm" not in request.get_json():
            self.password_confirm.data = self.password.data  # a program does not mistype
        valid = super().validate(**kwargs)
        if self.password_confirm.errors and not self.password.errors:
            g.error_code = "password_mismatch"
        return valid
