"""Identities: one normal form for each kind, the same in the database and in requests."""

import itertools
import unicodedata
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from support.site import BOTH, OLD_PASSWORD, Site, load_settings

from app import create_app
from app.accounts import identities
from app.accounts.datastore import find_account
from app.accounts.identities import IdentityError, normalize_identity
from app.accounts.models import User
from app.db.engine import db


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(load_settings())


@pytest.mark.parametrize(
    ("column", "stored", "spellings"),
    [
        ("email", "alice@example.com", ["alice@example.com", "  ALICE@EXAMPLE.COM\n", "alice@ｅxample.com"]),
        ("email", "é@example.com", ["é@example.com"]),
        ("email", "É@example.com", ["É@example.com"]),  # not ASCII: another mailbox
        ("email", "k@example.com", ["\N{KELVIN SIGN}@example.com"]),  # by Unicode's normal form
        ("email", "ſ@example.com", ["ſ@example.com"]),  # LONG S, which casefold() makes an s
        ("email", None, ["alice", "alice@localhost", "alice@example.com, evil@example.com", ""]),
        ("username", "alice", ["alice", " aLiCe\t", "ａｌｉｃｅ"]),
        ("username", "alice2", ["alice2"]),
        (
            "username",
            None,
            ["<b>alice</b>", "<x>alice", "<script>alice</script>", "al ice", "alice&co", "élodie", "ı", ""],
        ),
        ("username", None, ["12345"]),  # it may be a phone number
        ("us_phone_number", "+14155550123", ["+14155550123", "(415) 555-0123", "4155550123"]),
        ("us_phone_number", "+4930901820", ["+49 30 901820"]),
        ("us_phone_number", None, ["+1 415 555 0123 ext. 5", "555", "alice", ""]),
    ],
)
@pytest.mark.requirement("R39", "R40")
def test_identity_normal_form(app: Flask, column: str, stored: str | None, spellings: list[str]) -> None:
    with app.app_context():
        for typed in spellings:
            assert normalize_identity(column, typed) == stored, typed


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"RECOVERY_USERNAME_ASCII": False}, {"Élodie": "élodie", "e\u0301lodie": "élodie"}),
        ({"RECOVERY_USERNAME_ASCII": False}, {"Straße": "strasse", "İsmail": "i\u0307smail", "सचिन": "सचिन"}),
        (
            {"RECOVERY_USERNAME_ASCII": False},
            {"สมชาย": "สมชาย", "Nguyễn": "nguyễn", "מֹשֶׁה": "מֹשֶׁה", "ᾳ\u0313": "ᾀ".casefold()},
        ),
        ({"RECOVERY_USERNAME_ASCII": False}, {"\u0307alice": None, "1\u0307a": None, "\u093f": None}),
        ({"SECURITY_USERNAME_ALLOWED_CHARS": ["L", "N", "Po", "Pc"]}, {"el.odie_2": "el.odie_2"}),
        ({"SECURITY_USERNAME_ALLOWED_CHARS": ["L", "N", "S"]}, {"el<b>odie": None}),
    ],
)
def test_username_characters_follow_the_settings(
    settings: dict[str, Any], names: dict[str, str | None]
) -> None:
    with create_app(load_settings(**settings)).app_context():
        assert {name: normalize_identity("username", name) for name in names} == names


@pytest.mark.requirement("R39")
def test_username_folding_is_stable() -> None:
    """The normal form of a normal form is itself, so a stored name is found by the same text."""
    letters = "aİıſßΐΣςᾳΰŉǰﬃǅÅクｸहन๙กمەאA1"
    marks = "\u0307\u0345\u0301\u0323\u0327\u093c\u0903\u0e33\u0e49\u064b\u05b9\u20e3\ufe0f"
    with create_app(load_settings(RECOVERY_USERNAME_ASCII=False)).app_context():
        for text in map("".join, itertools.product(letters, marks, (*"aΣ1", *marks))):
            name = normalize_identity("username", text)
            assert name is None or normalize_identity("username", name) == name, ascii(text)


@BOTH
@pytest.mark.parametrize("name", ["İsmail", "सचिन", "Straße"])
def test_username_with_marks_is_stored_found_and_unique(make_site: Any, name: str) -> None:
    site: Site = make_site(RECOVERY_USERNAME_ASCII=False)
    with site.app.app_context():
        db.session.get_one(User, 1).username = name
        db.session.commit()
        db.session.get_one(User, 2).username = name.upper()
        with pytest.raises(IntegrityError):
            db.session.commit()
    for typed in (name, name.lower(), name.upper(), unicodedata.normalize("NFD", name)):
        assert site.password_works(OLD_PASSWORD, typed), ascii(typed)
        site.new_link(typed)


def test_flask_security_utilities_have_the_same_rules(app: Flask) -> None:
    """Its forms and `users create` call them."""
    security = app.extensions["security"]
    with app.app_context():
        assert security.username_util.validate("BoB") == (None, "bob")
        assert security.username_util.validate("") == (None, None)
        for name in ("12345", "<b>bob</b>", "b" * 65):
            assert security.username_util.validate(name)[0]
        assert security.phone_util.validate_phone_number("(415) 555-0123") is None
        assert security.phone_util.validate_phone_number("+1 415 555 0123 ext. 5")


def test_identity_kinds_are_those_of_the_settings(make_site: Any) -> None:
    site: Site = make_site(SECURITY_USER_IDENTITY_ATTRIBUTES=["username", "email"])
    site.ask("+14155550123")
    site.work()
    assert site.mailbox.mails == []
    site.new_link("alice")
    site.new_link("alice@example.com")


@pytest.mark.requirement("R39")
def test_model_stores_the_normal_form(site: Site) -> None:
    for column, typed, stored in (
        ("email", "New@Example.Com", "new@example.com"),
        ("us_phone_number", "(415) 555-0177", "+14155550177"),
        ("us_phone_number", None, None),
        ("username", " NeW ", "new"),
        ("username", "", None),
    ):
        with site.app.app_context():
            setattr(db.session.get(User, 1), column, typed)
            db.session.commit()
        assert site.rows(User)[0][column] == stored


def test_model_refuses_invalid_identities(site: Site) -> None:
    with site.app.app_context():
        alice = find_account("alice")
        for column, value in (("email", "nonsense"), ("username", "<b></b>"), ("us_phone_number", "12")):
            with pytest.raises(IdentityError, match=column):
                setattr(alice, column, value)


@pytest.mark.requirement("R39")
def test_database_refuses_duplicate_identities(site: Site) -> None:
    twins = {"email": "ALICE@example.com", "username": "ALICE", "us_phone_number": "+14155550123"}
    for column, duplicate in twins.items():
        update = text(f"UPDATE user SET {column} = :duplicate WHERE username = 'bob'")
        with site.app.app_context(), pytest.raises(IntegrityError):
            db.session.execute(update, {"duplicate": duplicate})


@pytest.mark.requirement("R40")
def test_account_is_compared_again_in_python(site: Site) -> None:
    """The row was written past the model's validators."""
    with site.app.app_context():
        db.session.execute(text("UPDATE user SET email = 'not an address' WHERE username = 'alice'"))
        db.session.commit()
        assert find_account("alice@example.com") is None
        assert find_account("alice") is not None


def test_masked_address_shows_one_letter() -> None:
    assert identities.mask_address("alice@example.com") == "a•••@example.com"
