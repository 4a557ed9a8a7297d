"""Imported password hashes: they verify at sign-in, which replaces them with hashes of Sparekey's own.

An imported hash is stored with a prefix. It cannot pass for Sparekey's own, made with SECURITY_PASSWORD_SALT.
"""

import base64
import hashlib
import hmac
import re
import unicodedata
from contextlib import suppress
from typing import Any

from flask_security.utils import get_hmac
from passlib.context import CryptContext
from passlib.registry import register_crypt_handler
from passlib.utils import to_unicode
from passlib.utils.handlers import MinimalHandler
from werkzeug.security import check_password_hash

MARK = "$foreign$"  # the prefix of imported hashes
STOCK = "flask-security"  # a further prefix, for hashes of other Flask-Security applications
BCRYPT_BYTES_MAX = 72  # bcrypt reads no further
SCRYPT_BYTES_MAX = 256 * 1024 * 1024  # of memory; a hash that needs more never verifies
_STOCK_SCHEMES = ("argon2", "bcrypt", "pbkdf2_sha256", "pbkdf2_sha512", "sha256_crypt", "sha512_crypt")
_DJANGO_SCHEMES = ("argon2", "bcrypt", "bcrypt_sha256", "pbkdf2_sha1", "pbkdf2_sha256")
LIBPASS = CryptContext([*_STOCK_SCHEMES, *(f"django_{name}" for name in _DJANGO_SCHEMES)])
_OTHERS = {
    "werkzeug": re.compile(r"(?:scrypt:\d+:\d+:\d+|pbkdf2:sha(?:1|256|512):\d+)\$[^$]+\$[0-9a-f]+"),
    "django_scrypt": re.compile(r"scrypt\$\d+\$[^$]+\$\d+\$\d+\$[A-Za-z0-9+/]+={0,2}"),
}
# Flask-Bcrypt, Devise without a pepper and Laravel make bcrypt; argon2-cffi and Laravel make argon2.
FORMATS = ("bcrypt", "argon2", *(f"django_{name}" for name in _DJANGO_SCHEMES), *_OTHERS)


def identify_format(hashed: str) -> str | None:
    """Return the format of an imported hash (of FORMATS, or STOCK), or None when it cannot be verified."""
    name = next((name for name, shape in _OTHERS.items() if shape.fullmatch(hashed)), None)
    bare = hashed.removeprefix(STOCK)
    with suppress(ValueError):
        LIBPASS.needs_update(bare)  # parses all of it; identify() reads only its beginning
        name = LIBPASS.identify(bare)
    if hashed.startswith(STOCK):
        return STOCK if name in _STOCK_SCHEMES else None
    return name if name in FORMATS else None


def mark(hashed: str, *, is_stock: bool) -> str:
    """Return an imported hash as accounts store it. `is_stock`: Flask-Security made it, elsewhere."""
    return MARK + (STOCK if is_stock else "") + hashed


def unmark(password_hash: str | None) -> str:
    """Return an imported hash as its application has it."""
    return (password_hash or "").removeprefix(MARK).removeprefix(STOCK)


def imported_format(password_hash: str) -> str | None:
    """Return the format of an account's imported hash, or None when the hash is Sparekey's own."""
    return identify_format(password_hash.removeprefix(MARK)) if password_hash.startswith(MARK) else None


class ImportedHash(MinimalHandler):  # type: ignore[misc]  # libpass has no types
    """A libpass scheme that verifies imported hashes and makes none."""

    name = "foreign"
    setting_kwds = ()
    context_kwds = ()

    @classmethod
    def identify(cls, hash: str | bytes) -> bool:
        return bool(to_unicode(hash).startswith(MARK))

    @classmethod
    def verify(cls, secret: str | bytes, hash: str | bytes, **_: Any) -> bool:
        """True if the secret has this hash. Raises ValueError for a hash of no known format."""
        password, hashed = to_unicode(secret), to_unicode(hash).removeprefix(MARK)
        hash_format = identify_format(hashed)
        if hash_format is None:
            raise ValueError("a hash of no known format")
        if hash_format == "werkzeug":
            return check_password_hash(hashed, password)
        if hash_format == "django_scrypt":
            return hmac.compare_digest(django_scrypt(password, *hashed.split("$")[1:5]), hashed)
        encoded = password.encode()
        if hash_format == STOCK:  # of the NFKD form, with a SECURITY_PASSWORD_SALT that this one must equal
            encoded, hashed = get_hmac(unicodedata.normalize("NFKD", password)), hashed.removeprefix(STOCK)
        if LIBPASS.identify(hashed) in ("bcrypt", "django_bcrypt"):
            encoded = encoded[:BCRYPT_BYTES_MAX]
        return bool(LIBPASS.verify(encoded, hashed))

    @classmethod
    def hash(cls, secret: str | bytes, **_: Any) -> str:
        raise NotImplementedError("no new hash is made this way")

    genhash = genconfig = hash


register_crypt_handler(ImportedHash)  # for SECURITY_PASSWORD_SCHEMES


def django_scrypt(password: str, work: str, salt: str, block: str, parallel: str) -> str:
    """Return scrypt$work$salt$block$parallel$digest, as Django's ScryptPasswordHasher does."""
    cost = {"n": int(work), "r": int(block), "p": int(parallel), "maxmem": SCRYPT_BYTES_MAX, "dklen": 64}
    digest = base64.b64encode(hashlib.scrypt(password.encode(), salt=salt.encode(), **cost))
    return f"scrypt${work}${salt}${block}${parallel}${digest.decode()}"
