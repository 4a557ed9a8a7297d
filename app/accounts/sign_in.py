"""Sign-in with an identity and a password. Neither answer nor time tells who has an account."""

from typing import Any

from flask import Response, after_this_request, copy_current_request_context, current_app, request
from flask_babel import gettext as _, lazy_gettext as _l
from flask_security import user_failed_authn
from flask_security.confirmable import requires_confirmation
from flask_security.forms import Form, NextFormMixin
from flask_security.proxies import _security
from flask_security.utils import get_message, hash_password
from sqlalchemy import func, literal, select
from wtforms import BooleanField, HiddenField, PasswordField, StringField, SubmitField

from ..db import audit
from ..db.engine import db
from ..settings.identities import CASE_INSENSITIVE
from ..web.errors import InvalidRequest
from ..web.rate_limits import limit
from ..web.responses import CodedMessage
from .guess_limits import SIGNING_IN, by_identity
from .hashing import password_matches
from .identities import IDENTITY_LABEL, IdentityKey, posted_identity
from .identity_mappers import normalize_identity
from .models import User


class SignInForm(Form, NextFormMixin):
    """The sign-in form.

    Not a LoginForm, because Flask-Security replaces fields of its subclasses when usernames are on. Every
    failed sign-in gets the same message after the same verification and statements, whether the account is
    unknown, inactive, locked, unconfirmed or without a password.
    """

    email = StringField(IDENTITY_LABEL, name="identity", render_kw={"autocomplete": "username"})
    password = PasswordField(_l("Password"), render_kw={"autocomplete": "current-password"})
    remember = BooleanField(
        _l("Stay signed in on this device"),
        default=lambda: current_app.config["SECURITY_DEFAULT_REMEMBER_ME"],
    )
    submit = SubmitField(_l("Sign in"))

    next = HiddenField(default=lambda: request.args.get("next", ""))

    requires_confirmation = False  # read by Flask-Security's view
    user: User | None = None  # read by Flask-Security's view: the account that signs in

    def validate(self, **kwargs: Any) -> bool:
        if not super().validate(**kwargs):
            return False
        try:
            key = posted_identity().key
        except InvalidRequest as error:
            self.email.errors = [error.message]
            return False
        if not isinstance(self.password.data, str) or not self.password.data:
            self.password.errors = [_("Enter your password.")]
            return False
        user_id, self.user = _authenticate(key, _security.password_util.normalize(self.password.data))
        if self.user is None:
            refuse(self, user_id, "password")
        return self.user is not None


def _authenticate(key: IdentityKey, password: str) -> tuple[int | None, User | None]:
    """Return the id of the account with the identity, and the account if it may sign in."""
    user_id, password_hash = load_credentials(key, User.password)
    if not password_matches(password, password_hash):
        return user_id, None
    user = db.session.get(User, user_id)
    if user is None or user.password != password_hash:  # a reset was faster
        return user_id, None
    if _security.pwd_context.needs_update(password_hash):
        user.password = hash_password(password)
    return user_id, user if may_sign_in(user) else None


def refuse(form: Form, user_id: int | None, auth_type: str) -> None:
    """Give a form the message of every failed sign-in, record it, and send user_failed_authn.

    The signal is sent after the response. Before, the time would tell who has an account.
    """
    form.form_errors.append(CodedMessage(get_message("GENERIC_AUTHN_FAILED")[0], "sign_in_failed"))
    audit.record("sign_in_refused", user_id=user_id)
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's
    if user_id is None or not user_failed_authn.has_receivers_for(app):
        return

    @copy_current_request_context
    def send() -> None:
        if user := db.session.get(User, user_id):
            user.track_failed_authn(auth_type)
            db.session.commit()

    @after_this_request
    def send_after(response: Response) -> Response:
        response.call_on_close(send)
        return response


def may_sign_in(user: User) -> bool:
    """True if the account is active, unlocked and, where required, confirmed."""
    return user.is_active and not user.is_locked() and not requires_confirmation(user)


def load_credentials(key: IdentityKey, *secrets: Any) -> tuple[Any, ...]:
    """Return an account's id and these columns of User, or None for each if no account has the identity.

    Nothing else is read before the password is verified. Building a User takes time, and only for identities
    that have an account, so it would tell who has one.
    """
    column: Any = getattr(User, key.column)
    # Databases fold case by rules of their own, so normalize_identity() compares again.
    is_same = column == key.value
    if key.column in CASE_INSENSITIVE:
        is_same = func.lower(column) == func.lower(key.value)
    always_one_row = select(literal(1)).subquery("one_row").outerjoin(User, is_same)
    row = db.session.execute(select(User.id, *secrets, column).select_from(always_one_row)).one()
    db.session.rollback()  # gives the connection back, because verifying may have to wait
    *values, stored = row
    is_found = normalize_identity(key.column, stored or key.value) == key.value
    return tuple(values) if is_found else (None,) * len(values)


limit("security.login", SIGNING_IN, "RECOVERY_LIMIT_IDENTITY", by_identity)
