"""Password hashes of other applications: they verify at sign-in, and are then replaced by our own.

An imported hash is stored behind a mark, so that it is never taken for one of ours, which are made with
SECURITY_PASSWORD_SALT.
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
from passlib.utils import to_unicode
from passlib.utils.handlers import MinimalHandler
from werkzeug.security import check_password_hash

MARK = "$foreign$"
STOCK = "flask-security"  # the prefix of another Flask-Security's hash
BCRYPT_BYTES_MAX = 72  # bcrypt reads no further
SCRYPT_BYTES_MAX = 256 * 1024 * 1024  # of memory; a hash that needs more is refused
_DJANGOS = ("argon2", "bcrypt", "bcrypt_sha256", "pbkdf2_sha1", "pbkdf2_sha256")
_B64, _BCRYPT = "[A-Za-z0-9+/]+={0,2}", r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}"
_ARGON2 = r"\$argon2(?:id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
_PBKDF2 = r"\$pbkdf2-sha(?:256|512)\$\d+\$[./A-Za-z0-9]+\$[./A-Za-z0-9]+"
_CRYPT = r"\$(?:5\$(?:rounds=\d+\$)?[^$]*\$[./A-Za-z0-9]{43}|6\$(?:rounds=\d+\$)?[^$]*\$[./A-Za-z0-9]{86})"
# The hashes that can be verified, by the library that makes them.
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
_BCRYPTS = re.compile(rf"(?:bcrypt\$)?{_BCRYPT}")  # bcrypt of the password itself, not of its digest
_OF_STOCK = ("argon2", "bcrypt", "pbkdf2_sha256", "pbkdf2_sha512", "sha256_crypt", "sha512_crypt")
_LIBPASS = CryptContext([*_OF_STOCK, *(f"django_{name}" for name in _DJANGOS)])


def format_of(hashed: str) -> str | None:
    """Return the library that made the hash, or None when it cannot be verified."""
    return next((name for name, shape in FORMATS.items() if shape.fullmatch(hashed)), None)


def stored(hashed: str, *, is_stock: bool = False) -> str | None:
    """Return an imported hash as the table keeps it, or None when it cannot be verified."""
    named = STOCK + hashed if is_stock else hashed
    known = format_of(named)
    return MARK + named if known and is_stock is (known == STOCK) else None


def source_of(kept: str) -> str | None:
    """Return the library that made a stored hash, or None when the hash is ours."""
    return format_of(kept.removeprefix(MARK)) if kept.startswith(MARK) else None


class Foreign(MinimalHandler):  # type: ignore[misc]  # libpass has no types
    """A scheme of libpass's that verifies imported hashes, and makes none."""

    name = "foreign"
    setting_kwds = ()
    context_kwds = ()

    @classmethod
    def identify(cls, hash: str | bytes) -> bool:  # as libpass's
        return bool(to_unicode(hash).startswith(MARK))

    @classmethod
    def verify(cls, secret: str | bytes, hash: str | bytes, **_: Any) -> bool:  # as libpass's
        """Raises ValueError for a hash of no known format."""
        return _verify(to_unicode(secret), to_unicode(hash).removeprefix(MARK))

    @classmethod
    def hash(cls, secret: str | bytes, **_: Any) -> str:
        raise NotImplementedError("no new hash is made this way")

    genhash = genconfig = hash


def init() -> None:
    """Register the scheme, before Flask-Security asks libpass for it."""
    register_crypt_handler(Foreign)


def _verify(password: str, hashed: str) -> bool:
    known = format_of(hashed)
    if known is None:
        raise ValueError("a hash of no known format")
    if known == "werkzeug":
        return check_password_hash(hashed, password)
    if known == "django_scrypt":
        return _verify_django_scrypt(password, hashed)
    secret = password.encode()
    if (
        known == STOCK
    ):  # it normalizes to NFKD, and mixes in its SECURITY_PASSWORD_SALT, which ours must equal
        secret, hashed = get_hmac(unicodedata.normalize("NFKD", password)), hashed.removeprefix(STOCK)
    if _BCRYPTS.fullmatch(hashed):
        secret = secret[:BCRYPT_BYTES_MAX]
    return bool(_LIBPASS.verify(secret, hashed))


def _verify_django_scrypt(password: str, hashed: str) -> bool:
    """Verify scrypt$work$salt$block$parallel$digest, as Django's ScryptPasswordHasher does."""
    _, work, salt, block, parallel, digest = hashed.split("$")
    cost = {"n": int(work), "r": int(block), "p": int(parallel), "maxmem": SCRYPT_BYTES_MAX, "dklen": 64}
    made = hashlib.scrypt(password.encode(), salt=salt.encode(), **cost)
    return hmac.compare_digest(made, base64.b64decode(digest))
