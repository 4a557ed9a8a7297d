"""Passwords that another application has hashed: they verify at sign-in, and are hashed anew as ours then.

A foreign hash is stored behind a mark of its own, so that it is never taken for one of ours, which are made
with SECURITY_PASSWORD_SALT. What verifies it is a library: libpass, Werkzeug, or Python's own scrypt.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import unicodedata
from typing import Any

from flask_security.utils import get_hmac
from passlib.context import CryptContext
from passlib.registry import register_crypt_handler
from passlib.utils.handlers import MinimalHandler
from werkzeug.security import check_password_hash

MARK = "$foreign$"
STOCK = "flask-security"  # before a hash of Flask-Security's that is not ours
BCRYPT_BYTES_MAX = 72  # whatever made the hash read no further
SCRYPT_BYTES_MAX = 256 * 1024 * 1024  # of memory: a hash that asks for more is refused
_DJANGOS = ("argon2", "bcrypt", "bcrypt_sha256", "pbkdf2_sha1", "pbkdf2_sha256")
_B64, _BCRYPT = "[A-Za-z0-9+/]+={0,2}", r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}"
_ARGON2 = r"\$argon2(?:id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
_PBKDF2 = r"\$pbkdf2-sha(?:256|512)\$\d+\$[./A-Za-z0-9]+\$[./A-Za-z0-9]+"
_CRYPT = r"\$(?:5\$(?:rounds=\d+\$)?[^$]*\$[./A-Za-z0-9]{43}|6\$(?:rounds=\d+\$)?[^$]*\$[./A-Za-z0-9]{86})"
# What can be verified, by the library that makes it.
FORMATS = {
    "werkzeug": re.compile(r"(?:scrypt:\d+:\d+:\d+|pbkdf2:sha(?:1|256|512):\d+)\$[^$]+\$[0-9a-f]+"),
    "bcrypt": re.compile(_BCRYPT),  # Flask-Bcrypt, Devise without a pepper, Laravel
    "argon2": re.compile(_ARGON2),  # argon2-cffi, Laravel
    "django_pbkdf2": re.compile(rf"pbkdf2_sha(?:1|256)\$\d+\$[^$]+\${_B64}"),
    "django_argon2": re.compile(rf"argon2{_ARGON2}"),
    "django_bcrypt": re.compile(rf"bcrypt(?:_sha256)?\${_BCRYPT}"),
    "django_scrypt": re.compile(rf"scrypt\$\d+\$[^$]+\$\d+\$\d+\${_B64}"),
    STOCK: re.compile(rf"{STOCK}(?:{_BCRYPT}|{_ARGON2}|{_PBKDF2}|{_CRYPT})"),
}
_BCRYPTS = re.compile(rf"(?:bcrypt\$)?{_BCRYPT}")  # as bcrypt reads a password: without hashing it before
_OF_STOCK = ("argon2", "bcrypt", "pbkdf2_sha256", "pbkdf2_sha512", "sha256_crypt", "sha512_crypt")
_LIBPASS = CryptContext([*_OF_STOCK, *(f"django_{name}" for name in _DJANGOS)])


def format_of(hashed: str) -> str | None:
    """Whose hash it is; None for one that can not be verified."""
    return next((name for name, shape in FORMATS.items() if shape.fullmatch(hashed)), None)


def stored(hashed: str, *, is_stock: bool = False) -> str | None:
    """A hash of others, or of stock Flask-Security's, as the table keeps it; None: it can not be verified."""
    named = STOCK + hashed if is_stock else hashed
    known = format_of(named)
    return MARK + named if known and is_stock is (known == STOCK) else None


def source_of(kept: str) -> str | None:
    """Whose hash stands in the table, when it is not ours."""
    return format_of(kept.removeprefix(MARK)) if kept.startswith(MARK) else None


class Foreign(MinimalHandler):  # type: ignore[misc]  # libpass has no types
    """libpass's seam: a scheme that verifies and makes nothing."""

    name = "foreign"
    setting_kwds = ()
    context_kwds = ()

    @classmethod
    def identify(cls, hash: str | bytes) -> bool:  # as libpass's
        return _as_text(hash).startswith(MARK)

    @classmethod
    def verify(cls, secret: str | bytes, hash: str | bytes, **_: Any) -> bool:  # as libpass's
        """Raises ValueError for a hash of no known format."""
        return _verify(_as_text(secret), _as_text(hash).removeprefix(MARK))

    @classmethod
    def hash(cls, secret: str | bytes, **_: Any) -> str:
        raise NotImplementedError("no new hash is made this way")

    genhash = genconfig = hash


def init() -> None:
    """Before Flask-Security asks libpass for its schemes."""
    register_crypt_handler(Foreign)


def _verify(password: str, hashed: str) -> bool:
    known = format_of(hashed)
    if known == "werkzeug":
        return check_password_hash(hashed, password)
    if known == "django_scrypt":
        return _verify_django_scrypt(password, hashed)
    secret = password.encode()
    if known == STOCK:
        # It normalizes to NFKD where we take NFC, and mixes its salt in: ours is the same.
        secret, hashed = get_hmac(unicodedata.normalize("NFKD", password)), hashed.removeprefix(STOCK)
    if _BCRYPTS.fullmatch(hashed):
        secret = secret[:BCRYPT_BYTES_MAX]
    if known:
        return bool(_LIBPASS.verify(secret, hashed))
    raise ValueError("a hash of no known format")


def _verify_django_scrypt(password: str, hashed: str) -> bool:
    """Django's ScryptPasswordHasher: scrypt$work$salt$block$parallel$digest."""
    _, work, salt, block, parallel, digest = hashed.split("$")
    cost = {"n": int(work), "r": int(block), "p": int(parallel), "maxmem": SCRYPT_BYTES_MAX, "dklen": 64}
    made = hashlib.scrypt(password.encode(), salt=salt.encode(), **cost)
    return hmac.compare_digest(made, base64.b64decode(digest))


def _as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
