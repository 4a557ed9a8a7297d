"""The password policy, and the normal form in which passwords are compared.

The length is counted in code points after NFC (NIST SP 800-63B-4 §3.1.1.2). There are no composition rules. A
new password is refused when it is too short, too long, easily guessed, breached or withdrawn.
"""

import unicodedata
from typing import Any
from urllib.parse import urlsplit

from flask import current_app
from flask_babel import lazy_gettext as _l
from flask_security import PasswordUtil, current_user
from flask_security.forms import ChangePasswordForm, IsString
from flask_security.utils import get_message
from wtforms import PasswordField

from ..db import audit
from ..db.engine import db
from ..settings import current
from ..web.responses import CodedMessage, code_of
from . import breaches, common_passwords, foreign_hashes
from .hashing import password_matches
from .identities import identity_columns
from .imported_hashes import BCRYPT_BYTES_MAX

_NFC_SHRINKS_AT_MOST = 4  # code points that NFC joins into one


class RecoveryPasswordUtil(PasswordUtil):
    """The password policy, where Flask-Security asks for it."""

    def normalize(self, password: str) -> str:
        """Return the password in NFC, or in the form of the application that has the accounts. Never fails.

        Far too long input is cut first, because NFC would take seconds. It stays longer than any accepted
        password, so it matches none.
        """
        enough = _NFC_SHRINKS_AT_MOST * current().RECOVERY_PASSWORD_LENGTH_MAX + 1
        return super().normalize(password[:enough]).encode("utf-8", "replace").decode()

    def validate(self, password: str, is_register: bool, **kwargs: Any) -> tuple[list[str] | None, str]:
        """Return the first refusal of a new password, or None, and its normal form.

        Keyword arguments are the fields of a registration, or `user`, as Flask-Security passes them.
        """
        normal = self.normalize(password)
        refusal = _policy_refusal(password, normal, kwargs)
        return [refusal] if refusal else None, normal


def _policy_refusal(password: str, normal: str, owner: dict[str, Any]) -> CodedMessage | None:
    """Return the first refusal, the cheap checks first."""
    settings, user = current(), owner.get("user")
    stored, normal = normal, unicodedata.normalize("NFC", normal)
    accounts = settings.RECOVERY_ACCOUNTS
    is_cut = accounts and foreign_hashes.is_cut(getattr(user, "password", None), accounts.hash)
    if is_cut and len(stored.encode()) > BCRYPT_BYTES_MAX:
        return _refusal("password_too_long", "PASSWORD_TOO_MANY_BYTES", length=BCRYPT_BYTES_MAX)
    if len(normal) > (longest := settings.RECOVERY_PASSWORD_LENGTH_MAX):
        return _refusal("password_too_long", "PASSWORD_TOO_LONG", length=longest)
    if len(normal) < (shortest := settings.SECURITY_PASSWORD_LENGTH_MIN):
        return _refusal("password_too_short", "PASSWORD_INVALID_LENGTH", length=shortest)
    if any("\ud800" <= character <= "\udfff" for character in password) or (is_cut and "\0" in stored):
        return _refusal("invalid_request", "PASSWORD_NOT_TEXT")
    names = [settings.RECOVERY_SITE_NAME, urlsplit(settings.RECOVERY_PUBLIC_URL).hostname]
    names += (getattr(user, kind, owner.get(kind)) for kind in identity_columns())
    if reason := common_passwords.reason_guessed(normal, [str(name) for name in names if name]):
        return _refusal("password_common", reason)
    if refusal := _breach_refusal(normal):
        return refusal
    withdrawn = getattr(user, "withdrawn_password", None)
    if withdrawn and password_matches(stored, withdrawn):
        return _refusal("password_unchanged", "PASSWORD_IS_THE_SAME")
    return None


def _breach_refusal(password: str) -> CodedMessage | None:
    """Return a refusal by the breach service, if it is to be asked."""
    if not (check := current().SECURITY_PASSWORD_CHECK_BREACHED):
        return None
    try:
        count = breaches.count_breaches(password)
    except breaches.BreachesUnknown:  # with "best-effort" the local list suffices
        return _refusal("unavailable", "PASSWORD_UNCHECKED") if check == "strict" else None
    is_breached = count >= current_app.config["SECURITY_PASSWORD_BREACHED_COUNT"]
    return _refusal("password_breached", "PASSWORD_BREACHED") if is_breached else None


def _refusal(code: str, message: str, **values: Any) -> CodedMessage:
    return CodedMessage(get_message(message, **values)[0], code)


class ChangeForm(ChangePasswordForm):
    """Flask-Security's change form."""

    # Flask-Security's field accepts JSON values that are no text, and its view then fails.
    password = PasswordField(
        _l("Current password"), [IsString()], render_kw={"autocomplete": "current-password"}
    )

    def validate(self, **kwargs: Any) -> bool:
        valid = bool(super().validate(**kwargs))
        if (unchanged := _refusal("password_unchanged", "PASSWORD_IS_THE_SAME")) in self.password.errors:
            self.password.errors, self.new_password.errors = [], [unchanged]  # it is the new one's
        report_mismatch(self.new_password, self.new_password_confirm)
        if code := code_of(self.new_password.errors):
            record_refused_password(code, current_user.id)
        return valid


def report_mismatch(password: Any, confirmation: Any) -> None:
    """Give the confirmation's errors the code `password_mismatch`; drop them beside the password's."""
    coded = [CodedMessage(str(error), "password_mismatch") for error in confirmation.errors]
    confirmation.errors = [] if password.errors else coded


def record_refused_password(code: str, user_id: int, client: str | None = None) -> None:
    """Record a refusal by the password policy in its own transaction; other codes are ignored."""
    if code.startswith("password_"):
        db.session.rollback()
        audit.record("password_refused", reason=code, user_id=user_id, client=client)
        db.session.commit()
