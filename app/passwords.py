"""Passwords: what a new one must be, and the one form in which all are compared.

Length counts code points after NFC (NIST SP 800-63B-4 §3.1.1.2). No composition rules.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from flask import current_app, g
from flask_security import PasswordUtil
from flask_security.utils import get_message, hash_password, verify_password

from .settings import current

MESSAGES = {
    "PASSWORD_INVALID_LENGTH": "Use at least %(length)s characters. A few words in a row do well.",
    "PASSWORD_TOO_LONG": "Use at most %(length)s characters.",
    "PASSWORD_NOT_TEXT": "This holds a character that no keyboard makes. Please type the password.",
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
        """The reasons against this password (None: it is good), and its normal form."""
        settings = current()
        normal = self.normalize(password)
        if len(normal) > (limit := settings.RECOVERY_PASSWORD_LENGTH_MAX):
            return _refused("password_too_long", "PASSWORD_TOO_LONG", limit), normal
        if len(normal) < (limit := settings.SECURITY_PASSWORD_LENGTH_MIN):
            return _refused("password_too_short", "PASSWORD_INVALID_LENGTH", limit), normal
        if any("\ud800" <= character <= "\udfff" for character in password):
            return [get_message("PASSWORD_NOT_TEXT")[0]], normal
        return None, normal


def _refused(code: str, message: str, limit: int) -> list[str]:
    """The words for people, and the code for programs."""
    g.error_code = code
    return [get_message(message, length=limit)[0]]


def verify_nothing(password: str) -> None:
    """Cost what verifying a real password costs, for accounts that have none or do not exist."""
    cached = current_app.extensions
    if "dummy_hash" not in cached:
        cached["dummy_hash"] = hash_password("no account has this password")
    verify_password(password, cached["dummy_hash"])
