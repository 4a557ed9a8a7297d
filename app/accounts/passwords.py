"""Passwords: what a new one must be, and the one form in which all are compared.

Length counts code points after NFC (NIST SP 800-63B-4 §3.1.1.2). No composition rules: what is refused is
too short, too long, tried first by whoever guesses, known from a breach, or in use already.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from flask import Response, after_this_request
from flask_babel import lazy_gettext as _l
from flask_security import PasswordUtil, current_user
from flask_security.forms import ChangePasswordForm, IsString
from flask_security.proxies import _security
from flask_security.utils import get_message, verify_password
from sqlalchemy.exc import SQLAlchemyError
from wtforms import PasswordField

from ..db import audit
from ..db.engine import db
from ..settings import current
from ..web.i18n import N_
from ..web.responses import Refusal, code_of
from . import breaches, common_passwords
from .breaches import BreachesUnknown

log = logging.getLogger(__name__)

MESSAGES = {
    "PASSWORD_INVALID_LENGTH": N_("Use at least %(length)s characters. A few words in a row do well."),
    "PASSWORD_TOO_LONG": N_("Use at most %(length)s characters."),
    "PASSWORD_NOT_TEXT": N_("This holds a character that no keyboard makes. Please type the password."),
    "PASSWORD_COMMON": N_(
        "This is one of the first passwords that anybody would try. "
        "Take a few words that have nothing to do with each other."
    ),
    "PASSWORD_ABOUT_YOU": N_(
        "This is too close to your name, your address or the name of this site. "
        "Take a few words that have nothing to do with them."
    ),
    "PASSWORD_BREACHED": N_(
        "This password was in a data breach of some site, so it is on the lists of those who guess. "
        "Take one that you use nowhere else."
    ),
    "PASSWORD_UNCHECKED": N_(
        "We can not find out right now whether this password was in a data breach. "
        "Nothing was changed. Please try again in a minute."
    ),
    "PASSWORD_IS_THE_SAME": N_("The new password must be another one than the current."),
}
# NFC joins a few code points into one, never this many: longer input is too long unread.
_NFC_SHRINKS_AT_MOST = 4


class RecoveryPasswordUtil(PasswordUtil):
    """Flask-Security's seam for password rules."""

    def normalize(self, password: str) -> str:
        """NFC, the same in register, reset, change and sign-in. Never fails, whatever the input.

        What is far too long stays longer than any password that was accepted, so it matches none.
        """
        enough = _NFC_SHRINKS_AT_MOST * current().RECOVERY_PASSWORD_LENGTH_MAX + 1
        normal = password if len(password) > enough else unicodedata.normalize("NFC", password)
        return normal[:enough].encode("utf-8", "replace").decode()

    def validate(self, password: str, is_register: bool, **kwargs: Any) -> tuple[list[str] | None, str]:
        """Return the first reason against this password, or None, and its normal form."""
        normal = self.normalize(password)
        for code, message, values in _reasons_against(password, normal, kwargs):
            return [Refusal(get_message(message, **values)[0], code)], normal
        return None, normal


Reason = tuple[str, str, dict[str, Any]]  # the code for programs, the message's name, what it mentions


def _reasons_against(password: str, normal: str, known: dict[str, Any]) -> Iterator[Reason]:
    """The cheap ones first."""
    settings = current()
    if len(normal) > (limit := settings.RECOVERY_PASSWORD_LENGTH_MAX):
        yield "password_too_long", "PASSWORD_TOO_LONG", {"length": limit}
    if len(normal) < (limit := settings.SECURITY_PASSWORD_LENGTH_MIN):
        yield "password_too_short", "PASSWORD_INVALID_LENGTH", {"length": limit}
    if any("\ud800" <= character <= "\udfff" for character in password):
        yield "invalid_request", "PASSWORD_NOT_TEXT", {}
    if common_passwords.is_common(normal):
        yield "password_common", "PASSWORD_COMMON", {}
    if common_passwords.is_about(normal, _words_about(known)):
        yield "password_common", "PASSWORD_ABOUT_YOU", {}
    yield from _breaches_of(normal)
    if _is_withdrawn(normal, known.get("user")):
        yield "password_unchanged", "PASSWORD_IS_THE_SAME", {}


def _words_about(known: dict[str, Any]) -> Iterator[str]:
    """Names of the site and of the account, as far as they are known."""
    settings = current()
    yield settings.RECOVERY_SITE_NAME
    yield urlsplit(settings.RECOVERY_PUBLIC_URL).hostname or ""
    for column in ("email", "username", "us_phone_number"):
        yield getattr(known.get("user"), column, None) or str(known.get(column) or "")


def _breaches_of(password: str) -> Iterator[Reason]:
    check = current().SECURITY_PASSWORD_CHECK_BREACHED
    if not check:
        return
    try:
        if breaches.times_seen(password):
            yield "password_breached", "PASSWORD_BREACHED", {}
    except BreachesUnknown:
        if check == "strict":  # or the local list has decided
            yield "unavailable", "PASSWORD_UNCHECKED", {}


def _is_withdrawn(password: str, user: Any) -> bool:
    """True if it is the password that was taken away from this account last."""
    withdrawn = getattr(user, "withdrawn_password", None)
    with suppress(ValueError, RuntimeError):  # a stored hash of no scheme that we can read
        return bool(withdrawn and verify_password(password, withdrawn))
    return False


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
        valid = bool(super().validate(**kwargs))
        if code := code_of(self.new_password.errors):
            user_id = current_user.id

            @after_this_request
            def record(response: Response) -> Response:  # after the view, since it rolls back
                record_refused_password(code, user_id)
                return response

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
