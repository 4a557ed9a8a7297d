"""New hashes in an application's format: its own library verifies them, and does not hash again."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import argon2
import bcrypt
import django.conf
import pytest
from argon2.exceptions import VerifyMismatchError
from django.contrib.auth import hashers
from flask import Flask
from flask_security import Security, SQLAlchemyUserDatastore, hash_password
from flask_security.utils import verify_and_update_password, verify_password
from support.application import Application
from support.foreign_hashes import HASHES
from support.recovery import code_of
from support.site import NEW_PASSWORD, SECRETS, Site
from werkzeug.security import check_password_hash

from app.accounts import foreign_hashes
from app.accounts.foreign_hashes import DEFAULTS

SALT = SECRETS["FLASK_SECURITY_PASSWORD_SALT"]
NAMES = ("PBKDF2", "PBKDF2SHA1", "Argon2", "BCryptSHA256", "BCrypt", "Scrypt", "MD5")
django.conf.settings.configure(
    PASSWORD_HASHERS=[f"django.contrib.auth.hashers.{name}PasswordHasher" for name in NAMES]
)


def django_verifies(hashed: str, password: str) -> bool:
    """True if Django accepts the password. It would not hash it anew."""
    renewed: list[str] = []
    is_right = hashers.check_password(password, hashed, renewed.append, preferred=hashed.partition("$")[0])
    assert not renewed
    return bool(is_right)


def argon2_verifies(hashed: str, password: str) -> bool:
    library = argon2.PasswordHasher.from_parameters(argon2.extract_parameters(HASHES["argon2"]))
    assert not library.check_needs_rehash(hashed)
    with suppress(VerifyMismatchError):
        return library.verify(hashed, password)
    return False


LIBRARIES: dict[str, tuple[Callable[[str, str], bool], list[str]]] = {
    "django": (django_verifies, [name for name in HASHES if name.startswith("django ") and "sha1" not in name]),
    "werkzeug": (check_password_hash, ["werkzeug scrypt", "werkzeug pbkdf2"]),
    "bcrypt": (lambda hashed, password: bcrypt.checkpw(password.encode(), hashed.encode()), ["flask-bcrypt", "devise", "laravel"]),
    "argon2": (argon2_verifies, ["argon2"]),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (_, names) in LIBRARIES.items() for name in names])  # fmt: skip
def test_library_verifies_the_hash_and_keeps_it(kind: str, name: str) -> None:
    verifies, old = LIBRARIES[kind][0], HASHES[name]
    made = foreign_hashes.make(NEW_PASSWORD, old, kind)
    assert made != old
    assert (made.partition("$")[0], made[:7]) == (old.partition("$")[0], old[:7])  # bcrypt's letter, too
    assert verifies(made, NEW_PASSWORD)
    assert not verifies(made, NEW_PASSWORD + "!")


@pytest.fixture
def flask_security(application: Application, make_site: Any) -> Site:
    """A Sparekey beside a stock Flask-Security application, whose salt is weaker than Sparekey allows."""
    settings = application.deployment(hash="flask-security")
    built: Site = make_site(**settings, RECOVERY_ACCOUNTS_SALT=SALT)
    return built


def stock_application(scheme: str) -> Flask:
    """A stock Flask-Security application that makes this kind of hash."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="secret", SECURITY_PASSWORD_SALT=SALT, SECURITY_PASSWORD_HASH=scheme)
    user = type("User", (), {"fs_uniquifier": "", "permissions": ""})
    Security(app, SQLAlchemyUserDatastore(None, user, user), register_blueprint=False)
    return app


@pytest.mark.parametrize("scheme", ["argon2", "bcrypt", "pbkdf2_sha512", "sha512_crypt"])
def test_flask_security_with_its_defaults_verifies_the_hash_and_does_not_hash_again(
    flask_security: Site, application: Application, scheme: str
) -> None:
    stock = stock_application(scheme)
    with stock.app_context():
        application.execute("UPDATE users SET password = :hash WHERE id = 1", hash=hash_password("x"))
    password = "zoës pässwörd, decomposed or not, of more than the 72 bytes that bcrypt reads"
    assert code_of(flask_security, flask_security.new_link(), password) == "redeemed"
    made = application.user()["password"]
    user = type("Account", (), {"password": made})()
    with stock.app_context():
        normal = stock.extensions["security"].password_util.normalize(password)
        assert verify_and_update_password(normal, user)
        assert not verify_password(normal + "!", made)
    assert user.password == made


@pytest.mark.parametrize(
    ("kind", "old"),
    [
        ("django", ""),
        ("django", "md5$a$0cc175b9c0f1b6a831c399e269772661"),
        ("django", "pbkdf2_sha1$1000000$a$XG6Bn3dSHlQ1Bq4bFkCiscUTS5Q="),
        ("werkzeug", ""),
        ("werkzeug", "sha1$a$86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"),
        ("werkzeug", "pbkdf2:sha1:50000$a$86f7e437"),
        ("bcrypt", "0cc175b9c0f1b6a831c399e269772661"),
        ("argon2", "$2b$10$55WUGdiaMTvw5uos3LnPyOyWH3oBuIDsbkPwMUjbDsnywwNYVL9aa"),
        ("flask-security", "plain text"),
    ],
)
def test_hash_of_no_use_md5_or_sha1_becomes_the_frameworks_default(
    flask_security: Site, kind: str, old: str
) -> None:
    with flask_security.app.app_context():
        made = foreign_hashes.make(NEW_PASSWORD, old, kind)
    prefix = DEFAULTS[kind].rsplit("$", 2)[0].rsplit("$a", 1)[0]
    assert made.startswith(prefix[:7] if kind == "bcrypt" else prefix)


@pytest.mark.parametrize(
    ("kind", "old", "prefix"),
    [
        ("django", "pbkdf2_sha256$20000$abc$a/pjmTPE8bKXWFPPWkNVpWkdRxqmpUn7RsyBMbVm3uo=", "pbkdf2_sha256$600000$"),
        ("django", f"scrypt$262144$abc$8$1${'A' * 86}==", "pbkdf2_sha256$"),  # of 256 MiB
        ("werkzeug", "pbkdf2:sha256:50000$abc$ab12", "pbkdf2:sha256:600000$"),
        ("bcrypt", "$2a$04$" + HASHES["devise"][7:], "$2a$10$"),
        ("argon2", f"$argon2id$v=19$m=4096,t=1,p=1${'A' * 22}${'A' * 43}", "$argon2id$v=19$m=19456,t=2,p=1$"),
    ],
)  # fmt: skip
def test_weak_parameters_are_raised_to_a_floor(kind: str, old: str, prefix: str) -> None:
    assert foreign_hashes.make(NEW_PASSWORD, old, kind).startswith(prefix)


def test_salts_are_random_and_as_long_as_django_wants_them() -> None:
    olds = [HASHES["django pbkdf2"], HASHES["django scrypt"]]
    salts = [foreign_hashes.make("x", old, "django").split("$")[2] for old in olds * 2]
    assert len({*salts}) == 4
    assert all(len(salt) >= 22 for salt in salts)
