"""The sign-in form: the identity box and a password. Nothing about it tells who has an account."""

from __future__ import annotations

from typing import Any

from flask import request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_security.confirmable import requires_confirmation
from flask_security.forms import Form, NextFormMixin
from flask_security.proxies import _security
from flask_security.utils import get_message, hash_password
from sqlalchemy import func, literal, select
from wtforms import BooleanField, PasswordField, StringField, SubmitField

from ..db import audit
from ..db.engine import db
from ..web.errors import InvalidRequest
from ..web.rate_limits import limit
from ..web.responses import CodedMessage
from .hashing import password_matches
from .identities import CASE_INSENSITIVE, IDENTITY_LABEL, map_identity, normalize_identity, posted_identity
from .limits import SIGNING_IN, by_identity
from .models import User


class SignInForm(Form, NextFormMixin):
    """Sign in with the identity box and a password.

    Not a LoginForm, because Flask-Security rewrites its subclasses when usernames are on. An account that is
    unknown, inactive, locked, unconfirmed or without a password costs the same verification and statements,
    and gets the same message.
    """

    email = StringField(IDENTITY_LABEL, name="identity", render_kw={"autocomplete": "username"})
    password = PasswordField(_l("Password"), render_kw={"autocomplete": "current-password"})
    remember = BooleanField(_l("Stay signed in on this device"))
    submit = SubmitField(_l("Sign in"))

    requires_confirmation = False  # Flask-Security's view asks
    user: User | None = None  # Flask-Security's name for the account that signs in

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.next.data:
            self.next.data = request.args.get("next", "")

    def validate(self, **kwargs: Any) -> bool:
        if not super().validate(**kwargs):
            return False
        try:
            identity = posted_identity()
        except InvalidRequest as error:
            self.email.errors = [error.message]
            return False
        if not isinstance(self.password.data, str) or not self.password.data:
            self.password.errors = [_("Type your password.")]
            return False
        number, self.user = _authenticate(identity, _security.password_util.normalize(self.password.data))
        if self.user is None:
            self.form_errors.append(CodedMessage(get_message("GENERIC_AUTHN_FAILED")[0], "sign_in_failed"))
            audit.record("sign_in_refused", user_id=number)
        return self.user is not None


def _authenticate(identity: str, password: str) -> tuple[int | None, User | None]:
    """Return the number of the account that has the identity, and the account if it may sign in."""
    number, stored = credentials(identity, User.password)
    if not password_matches(password, stored):
        return number, None
    user = db.session.get(User, number)
    if user is None or user.password != stored:  # a reset was faster
        return number, None
    if _security.pwd_context.needs_update(stored):
        user.password = hash_password(password)
    return number, user if may_sign_in(user) else None


def may_sign_in(user: User) -> bool:
    """True if the account may sign in with its password."""
    return user.is_active and not user.is_locked() and not requires_confirmation(user)


def credentials(identity: str, *secrets: Any) -> tuple[Any, ...]:
    """Return the account's number and these columns, or an empty row for nobody.

    No more is read before the password is verified: building the account takes 0.1 ms, which would tell who
    has one (`make oracle`).
    """
    if (known := map_identity(identity)) is None:
        return (None,) * (1 + len(secrets))
    column, form = known
    stored: Any = getattr(User, column)
    # The database folds case by its own rule; normalize_identity() compares by ours.
    is_it = func.lower(stored) == func.lower(form) if column in CASE_INSENSITIVE else stored == form
    always_one_row = select(literal(1)).subquery("one_row").outerjoin(User, is_it)
    *values, found = db.session.execute(select(User.id, *secrets, stored).select_from(always_one_row)).one()
    return tuple(values) if normalize_identity(column, found or form) == form else (None,) * len(values)


limit("security.login", SIGNING_IN, "RECOVERY_LIMIT_IDENTITY", by_identity)
