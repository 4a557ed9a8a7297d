"""Hashes of new passwords as another application verifies them (RECOVERY_ACCOUNTS).

A new hash has the scheme and parameters of the one it replaces, raised to a floor, or else the application
would hash again at sign-in, and Django would end the user's other sessions and links with it.
"""

import secrets
from typing import Any

from flask_security.utils import get_hmac
from werkzeug.security import generate_password_hash

from ..settings.secrets import ARGON2_MINIMA
from .imported_hashes import (
    BCRYPT_BYTES_MAX,
    LIBPASS,
    SCRYPT_BYTES_MAX,
    STOCK,
    django_scrypt,
    identify_format,
    unmark,
)

SALT_LENGTH = 22  # with fewer of its 62 characters, Django hashes again at sign-in
# The least rounds, of OWASP's Password Storage Cheat Sheet or a scheme's own default.
FLOORS = {"bcrypt": 10, "django_bcrypt_sha256": 10, "scrypt": 2**14, "sha256_crypt": 535_000}
FLOORS |= dict.fromkeys(("pbkdf2", "pbkdf2_sha256", "django_pbkdf2_sha256"), 600_000)
FLOORS |= {"pbkdf2_sha512": 210_000, "sha512_crypt": 656_000}
_ARGON2 = f"$argon2id$v=19$m=65536,t=3,p=4${'A' * 22}${'A' * 43}"
# With the parameters of the framework's default, in place of a hash that is of no use, MD5 or SHA-1.
DEFAULTS = {
    STOCK: _ARGON2,
    "django": f"pbkdf2_sha256$1000000${'a' * SALT_LENGTH}${'A' * 43}=",
    "werkzeug": f"scrypt:32768:8:1${'a' * 16}${'0' * 128}",
    "bcrypt": f"$2b$12${'.' * 53}",
    "argon2": _ARGON2,
}


def format_of(hashed: str, kind: str) -> str | None:
    """Return the format of an application's hash, or None if RECOVERY_ACCOUNTS.hash has no such format."""
    name = identify_format(STOCK + hashed if kind == STOCK else hashed) or ""
    return name if name.partition("_")[0] == kind else None


def is_cut(replaced: str | None, kind: str) -> bool:
    """True if the application reads only the first 72 bytes of a password, up to a NUL: plain bcrypt."""
    return _template(unmark(replaced), kind).startswith(("$2", "bcrypt$")) and kind != STOCK


def make(password: str, replaced: str, kind: str) -> str:
    """Return the hash of a password in its application's normal form, in place of another hash."""
    template = _template(replaced, kind)
    method, _, rest = template.partition("$")
    scheme, *parameters = method.split(":")
    if kind == "werkzeug":
        place = 1 if scheme == "pbkdf2" else 0
        parameters[place] = str(max(int(parameters[place]), FLOORS[scheme]))
        return generate_password_hash(password, ":".join([scheme, *parameters]))
    if scheme == "scrypt":
        work, _, block, parallel, _ = rest.split("$")
        work = str(max(int(work), FLOORS["scrypt"]))
        return django_scrypt(password, work, secrets.token_hex(SALT_LENGTH // 2), block, parallel)
    prefix = {"bcrypt": "bcrypt$", "argon2": "argon2"}.get(scheme, "")  # Django's
    template = template.removeprefix(prefix)
    handler = LIBPASS.handler(LIBPASS.identify(template))
    secret = get_hmac(password) if kind == STOCK else password.encode()
    secret = secret[:BCRYPT_BYTES_MAX] if handler.name == "bcrypt" else secret
    return prefix + str(handler.using(**_options(handler, template, kind)).hash(secret))


def _template(replaced: str, kind: str) -> str:
    """Return the hash whose scheme and parameters a new one gets."""
    scheme, *parameters = replaced.split("$")
    if format_of(replaced, kind) is None or "sha1" in scheme:
        return DEFAULTS[kind]
    if scheme == "scrypt":  # Django's: memory by RFC 7914 §2; one that needs more cannot be made
        work, _salt, block, *_ = parameters
        return replaced if 128 * int(work) * int(block) < SCRYPT_BYTES_MAX else DEFAULTS[kind]
    return replaced


def _options(handler: Any, template: str, kind: str) -> dict[str, Any]:
    """Return libpass's options for a hash with the template's parameters."""
    old = handler.from_string(template)
    options: dict[str, Any] = {"rounds": max(old.rounds, FLOORS.get(handler.name, 0))}
    if "bcrypt" in handler.name:
        return options | {"ident": old.ident}
    if handler.name == "argon2":
        options |= {"type": old.type, "memory_cost": old.memory_cost, "parallelism": old.parallelism}
        if not any(old.memory_cost >= memory and old.rounds >= rounds for memory, rounds in ARGON2_MINIMA):
            options |= {"memory_cost": max(old.memory_cost, 19_456), "rounds": max(old.rounds, 2)}
    return options | ({"salt_size": SALT_LENGTH} if kind == "django" else {})
