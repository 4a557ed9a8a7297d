"""New hashes in an application's format: its own library verifies them, and does not hash again."""

from typing import Any

import argon2
import bcrypt
import django.conf
import pytest
from django.contrib.auth import hashers
from flask import Flask
from flask_security import Security, SQLAlchemyUserDatastore, hash_password
from flask_security.utils import verify_and_update_password, verify_password
from support.application import Application
from support.foreign_hashes import FLASK_SECURITY_HASHES, HASHES
from support.recovery import code_of
from support.site import NEW_PASSWORD, SECRETS, Site
from werkzeug.security import check_password_hash

from app.accounts import foreign_hashes
from app.accounts.foreign_hashes import DEFAULTS

SALT = SECRETS["FLASK_SECURITY_PASSWORD_SALT"]
DJANGO = {
    name: f"django.contrib.auth.hashers.{name}PasswordHasher"
    for name in ("PBKDF2", "PBKDF2SHA1", "Argon2", "BCryptSHA256", "BCrypt", "Scrypt", "MD5")
}
LEGACY = {
    "django": [
        "md5$a$0cc175b9c0f1b6a831c399e269772661",
        "pbkdf2_sha1$1000000$a$XG6Bn3dSHlQ1Bq4bFkCiscUTS5Q=",
    ],
    "werkzeug": ["sha1$a$86f7e437faa5a7fce15d1ddcb9eaeaea377667b8", "pbkdf2:sha1:50000$a$86f7e437"],
    "bcrypt": ["0cc175b9c0f1b6a831c399e269772661"],
    "argon2": ["$2b$10$55WUGdiaMTvw5uos3LnPyOyWH3oBuIDsbkPwMUjbDsnywwNYVL9aa"],
    "flask-security": ["plain text"],
}
django.conf.settings.configure(PASSWORD_HASHERS=list(DJANGO.values()))


def django_verifies(password: str, hashed: str, preferred: str) -> bool:
    """True if Django accepts the password, and would not hash it anew."""
    renewed: list[str] = []
    is_right = hashers.check_password(password, hashed, renewed.append, preferred=preferred)
    return is_right and not renewed and not hashers.check_password(password + "!", hashed)


@pytest.mark.parametrize(
    "name", [name for name in HASHES if name.startswith("django ") and "sha1" not in name]
)
def test_django_verifies_the_hash_and_keeps_it(name: str) -> None:
    made = foreign_hashes.make(NEW_PASSWORD, HASHES[name], "django")
    scheme = HASHES[name].partition("$")[0]
    assert made.partition("$")[0] == scheme
    assert django_verifies(NEW_PASSWORD, made, scheme)


@pytest.mark.parametrize("name", ["werkzeug scrypt", "werkzeug pbkdf2"])
def test_werkzeug_verifies_the_hash(name: str) -> None:
    made = foreign_hashes.make(NEW_PASSWORD, HASHES[name], "werkzeug")
    assert made.partition("$")[0] == HASHES[name].partition("$")[0]
    assert check_password_hash(made, NEW_PASSWORD)
    assert not check_password_hash(made, NEW_PASSWORD + "!")


@pytest.mark.parametrize("name", ["flask-bcrypt", "devise", "laravel"])
def test_bcrypt_verifies_the_hash_and_its_letter_stays(name: str) -> None:
    made = foreign_hashes.make(NEW_PASSWORD, HASHES[name], "bcrypt")
    assert made[:7] == HASHES[name][:7]
    assert bcrypt.checkpw(NEW_PASSWORD.encode(), made.encode())
    assert not bcrypt.checkpw(b"another password", made.encode())


def test_argon2_verifies_the_hash_and_keeps_it() -> None:
    made = foreign_hashes.make(NEW_PASSWORD, HASHES["argon2"], "argon2")
    library = argon2.PasswordHasher.from_parameters(argon2.extract_parameters(HASHES["argon2"]))
    assert library.verify(made, NEW_PASSWORD)
    assert not library.check_needs_rehash(made)


@pytest.fixture
def flask_security(application: Application, make_site: Any) -> Site:
    """A Sparekey beside a stock Flask-Security application, whose salt is weaker than Sparekey allows."""
    settings = application.deployment(hash="flask-security")
    built: Site = make_site(**settings, RECOVERY_ACCOUNTS_SALT=SALT)
    return built


def stock_application(scheme: str, **options: Any) -> Flask:
    """A stock Flask-Security application that makes this kind of hash."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="secret", SECURITY_PASSWORD_SALT=SALT, SECURITY_PASSWORD_HASH=scheme, **options
    )
    user = type("User", (), {"fs_uniquifier": "", "permissions": ""})
    Security(app, SQLAlchemyUserDatastore(None, user, user), register_blueprint=False)
    return app


@pytest.mark.parametrize("name", ["argon2", "bcrypt", "pbkdf2"])
def test_flask_security_verifies_the_hash(flask_security: Site, name: str) -> None:
    old, _ = FLASK_SECURITY_HASHES[name]
    password = "zoës pässwörd, decomposed or not, of more than the 72 bytes that bcrypt reads"
    with flask_security.app.test_request_context():
        normal = flask_security.app.extensions["security"].password_util.normalize(password)
        made = foreign_hashes.make(normal, old, "flask-security")
    with stock_application("argon2").app_context() as context:
        theirs = context.app.extensions["security"].password_util.normalize(password)
        assert verify_password(theirs, made)
        assert not verify_password(theirs + "!", made)


@pytest.mark.parametrize("scheme", ["argon2", "bcrypt", "pbkdf2_sha512", "sha512_crypt"])
def test_flask_security_with_its_defaults_does_not_hash_again(
    flask_security: Site, application: Application, scheme: str
) -> None:
    stock = stock_application(scheme)
    with stock.app_context():
        application.execute("UPDATE users SET password = :hash WHERE id = 1", hash=hash_password("x"))
    assert code_of(flask_security, flask_security.new_link()) == "redeemed"
    user = type("Account", (), {"password": application.user()["password"]})()
    made = user.password
    with stock.app_context():
        assert verify_and_update_password(NEW_PASSWORD, user)
    assert user.password == made


@pytest.mark.parametrize(
    ("kind", "old"), [(kind, old) for kind, olds in LEGACY.items() for old in (*olds, "")]
)
def test_hash_of_no_use_md5_or_sha1_becomes_the_frameworks_default(
    flask_security: Site, kind: str, old: str
) -> None:
    with flask_security.app.app_context():
        made = foreign_hashes.make(NEW_PASSWORD, old, kind)
    prefix = DEFAULTS[kind].rsplit("$", 2)[0].rsplit("$a", 1)[0]
    assert made.startswith(prefix[:7] if kind == "bcrypt" else prefix)


WEAK = {
    "django": (
        "pbkdf2_sha256$20000$abc$a/pjmTPE8bKXWFPPWkNVpWkdRxqmpUn7RsyBMbVm3uo=",
        "pbkdf2_sha256$600000$",
    ),
    "werkzeug": ("pbkdf2:sha256:50000$abc$ab12", "pbkdf2:sha256:600000$"),
    "bcrypt": ("$2a$04$" + HASHES["devise"][7:], "$2a$10$"),
    "argon2": (f"$argon2id$v=19$m=4096,t=1,p=1${'A' * 22}${'A' * 43}", "$argon2id$v=19$m=19456,t=2,p=1$"),
}


@pytest.mark.parametrize("kind", WEAK)
def test_weak_parameters_are_raised_to_a_floor(kind: str) -> None:
    old, prefix = WEAK[kind]
    assert foreign_hashes.make(NEW_PASSWORD, old, kind).startswith(prefix)


def test_salts_are_random_and_as_long_as_django_wants_them() -> None:
    olds = [HASHES["django pbkdf2"], HASHES["django scrypt"]]
    salts = [foreign_hashes.make("x", old, "django").split("$")[2] for old in olds * 2]
    assert len({*salts}) == 4
    assert all(len(salt) >= 22 for salt in salts)
