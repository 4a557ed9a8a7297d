"""The sign-in form: the identity box, and a password. Nothing about it tells who has an account."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from flask import g, request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_security.confirmable import requires_confirmation
from flask_security.forms import Form, NextFormMixin
from flask_security.proxies import _security
from flask_security.utils import get_message, hash_password, verify_password
from sqlalchemy import bindparam, func, literal, select
from wtforms import BooleanField, PasswordField, StringField, SubmitField

from ..db import audit
from ..db.engine import db
from ..web.errors import InvalidRequest
from ..web.rate_limits import limit
from .hashing import verify_nothing
from .identities import canonical, known_as
from .identity_field import IDENTITY_LABEL, posted_identity
from .limits import SIGNING_IN, by_identity
from .models import User

if TYPE_CHECKING:
    from wtforms import Field


class SignInForm(Form, NextFormMixin):
    """Sign in: the same box, and a password.

    It keeps Flask-Security's attribute name `email` but does not derive from its LoginForm, whose
    subclasses are rewritten when usernames are on. Whether an account is unknown, inactive, locked,
    unconfirmed or without a password: one verification, the same statements, one message.
    """

    email = StringField(IDENTITY_LABEL, name="identity", render_kw={"autocomplete": "username"})
    password = PasswordField(_l("Password"), render_kw={"autocomplete": "current-password"})
    remember = BooleanField(_l("Stay signed in on this device"))
    submit = SubmitField(_l("Sign in"))

    requires_confirmation = False  # Flask-Security's view asks

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user: User | None = None  # Flask-Security's name for who may come in
        self.number: int | None = None  # of the account that was found, for the log
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
            return _refuse(self.password, _("Type your password."))
        self.user = self._authenticated(identity, _security.password_util.normalize(password))
        if self.user is None:
            self.form_errors.append(get_message("GENERIC_AUTHN_FAILED")[0])
            g.error_code = "sign_in_failed"
            audit.record("sign_in_refused", user_id=self.number)
        return self.user is not None

    def _authenticated(self, identity: str, password: str) -> User | None:
        self.number, stored = credentials(identity, User.password)
        if not verified(password, stored):
            return None
        user = db.session.get(User, self.number)
        if user is None or user.password != stored:  # a reset was faster
            return None
        if _security.pwd_context.needs_update(stored):
            user.password = hash_password(password)
        return user if may_come_in(user) else None


def may_come_in(user: User) -> bool:
    """Whoever knows the password."""
    return user.is_active and not user.is_locked() and not requires_confirmation(user)


def credentials(identity: str, *secrets: Any) -> tuple[Any, ...]:
    """Number of the account, and these columns of it. No more is read before they are verified, and an empty
    row for nobody: building the account takes 0.1 ms, which would tell (`make oracle`).
    """
    known = known_as(identity)
    if known is None:
        return (None, *(None for _ in secrets))
    column, form = known
    found = db.session.execute(_looking_up(column, secrets), {"form": form})
    *values, stored = found.one()
    return tuple(values if canonical(column, stored or form) == form else (None for _ in values))


@cache  # a statement is made once: it takes longer to make than to run
def _looking_up(column: str, secrets: tuple[Any, ...]) -> Any:
    attribute = getattr(User, column)
    form: Any = bindparam("form")
    # Lowered on both sides by the database, whose rule is its own; compared above by ours.
    is_it = attribute == form if column == "us_phone_number" else func.lower(attribute) == func.lower(form)
    always_one = select(literal(1)).subquery("one_row").outerjoin(User, is_it)
    return select(User.id, *secrets, attribute).select_from(always_one)


def verified(password: str, stored: str | None) -> bool:
    """One verification, whoever it is for."""
    with suppress(ValueError, RuntimeError):  # a stored hash of no scheme that we can read
        if stored:
            return bool(verify_password(password, stored))
    verify_nothing(password)
    return False


def _refuse(field: Field, message: str) -> bool:
    field.errors = [message]
    return False


limit("security.login", SIGNING_IN, "RECOVERY_LIMIT_IDENTITY", by_identity)
