"""Passwords: what a new one must be, and the one form in which all are compared.

Length counts code points after NFC (NIST SP 800-63B-4 §3.1.1.2). No composition rules: what is refused is
too short, too long, tried first by whoever guesses, known from a breach, or in use already.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

from flask_babel import lazy_gettext as _l
from flask_security import PasswordUtil, current_user
from flask_security.forms import ChangePasswordForm, IsString
from flask_security.utils import get_message
from sqlalchemy.exc import SQLAlchemyError
from wtforms import PasswordField

from ..db import audit
from ..db.engine import db
from ..settings import current
from ..settings.types import IDENTITIES
from ..web.responses import CodedMessage, code_of
from . import breaches, common_passwords
from .breaches import BreachesUnknown
from .hashing import password_matches

log = logging.getLogger(__name__)

# NFC joins no more code points than this into one.
_NFC_SHRINKS_AT_MOST = 4


class RecoveryPasswordUtil(PasswordUtil):
    """Flask-Security's seam for password rules."""

    def normalize(self, password: str) -> str:
        """NFC, the same in register, reset, change and sign-in. Never fails, whatever the input.

        What is far too long is cut, because NFC is slow with it. It stays longer than any password that is
        accepted, so it matches none.
        """
        enough = _NFC_SHRINKS_AT_MOST * current().RECOVERY_PASSWORD_LENGTH_MAX + 1
        return super().normalize(password[:enough]).encode("utf-8", "replace").decode()

    def validate(self, password: str, is_register: bool, **kwargs: Any) -> tuple[list[str] | None, str]:
        """Return the first reason against this password, or None, and its normal form."""
        normal = self.normalize(password)
        refusal = _refusal_of(password, normal, kwargs)
        return [refusal] if refusal else None, normal


def _refusal_of(password: str, normal: str, form: dict[str, Any]) -> CodedMessage | None:
    """The cheap reasons first. `form`: a registration's fields, or the user whose password it is to be."""
    settings, user = current(), form.get("user")
    if len(normal) > (longest := settings.RECOVERY_PASSWORD_LENGTH_MAX):
        return _refusal("password_too_long", "PASSWORD_TOO_LONG", length=longest)
    if len(normal) < (shortest := settings.SECURITY_PASSWORD_LENGTH_MIN):
        return _refusal("password_too_short", "PASSWORD_INVALID_LENGTH", length=shortest)
    if any("\ud800" <= character <= "\udfff" for character in password):
        return _refusal("invalid_request", "PASSWORD_NOT_TEXT")
    if common_passwords.is_common(normal):
        return _refusal("password_common", "PASSWORD_COMMON")
    site = (settings.RECOVERY_SITE_NAME, urlsplit(settings.RECOVERY_PUBLIC_URL).hostname)
    owner = (getattr(user, kind, form.get(kind)) for kind in IDENTITIES)
    if common_passwords.is_about(normal, [str(word) for word in (*site, *owner) if word]):
        return _refusal("password_common", "PASSWORD_ABOUT_YOU")
    if refusal := _breach_of(normal, settings.SECURITY_PASSWORD_CHECK_BREACHED):
        return refusal
    withdrawn = getattr(user, "withdrawn_password", None)
    if withdrawn and password_matches(normal, withdrawn):
        return _refusal("password_unchanged", "PASSWORD_IS_THE_SAME")
    return None


def _breach_of(password: str, check: str | bool) -> CodedMessage | None:
    try:
        if check and breaches.count_breaches(password):
            return _refusal("password_breached", "PASSWORD_BREACHED")
    except BreachesUnknown:
        if check == "strict":  # or the local list has decided
            return _refusal("unavailable", "PASSWORD_UNCHECKED")
    return None


def _refusal(code: str, message: str, **values: Any) -> CodedMessage:
    return CodedMessage(get_message(message, **values)[0], code)


class ChangeForm(ChangePasswordForm):
    """Flask-Security's change form; it forgets to look what kind the current password is of."""

    password = PasswordField(
        _l("Current password"), [IsString()], render_kw={"autocomplete": "current-password"}
    )

    def validate(self, **kwargs: Any) -> bool:
        valid = bool(super().validate(**kwargs))
        if code := code_of(self.new_password.errors):
            record_refused_password(code, current_user.id)
        return valid


def record_refused_password(code: str, user_id: int, client: str | None = None) -> None:
    """Record the event in a transaction of its own. A database that cannot be written changes no answer."""
    if not code.startswith("password_"):  # it was not the password that was refused
        return
    try:
        db.session.rollback()
        audit.record("password_refused", reason=code, user_id=user_id, client=client)
        db.session.commit()
    except SQLAlchemyError as error:
        db.session.rollback()
        log.warning("a refused password could not be noted: %s", type(error).__name__)
