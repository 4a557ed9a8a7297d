"""Identities: one normal form for each kind, the same in the database and in requests. Look-alikes are others."""

import itertools
import time
import unicodedata
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from support.commands import run
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, load_settings

from app import create_app
from app.accounts import identity_mappers
from app.accounts.identities import IdentityError
from app.accounts.identity_mappers import normalize_identity
from app.accounts.models import User
from app.cli.admin import find_account
from app.db.engine import db

ANY_SCRIPT = {"RECOVERY_USERNAME_ASCII": False}


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
        ("username", None, ["<b>alice</b>", "<x>alice", "<script>alice</script>", "al ice", "alice&co", "élodie", "ı", ""]),
        ("username", None, ["12345"]),  # it may be a phone number
        ("us_phone_number", "+14155550123", ["+14155550123", "(415) 555-0123", "4155550123"]),
        ("us_phone_number", "+4930901820", ["+49 30 901820"]),
        ("us_phone_number", None, ["+1 415 555 0123 ext. 5", "555", "alice", ""]),
    ],
)  # fmt: skip
@pytest.mark.requirement("R39", "R40")
def test_identity_normal_form(app: Flask, column: str, stored: str | None, spellings: list[str]) -> None:
    with app.app_context():
        for typed in spellings:
            assert normalize_identity(column, typed) == stored, typed


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (ANY_SCRIPT, {"Élodie": "élodie", "e\u0301lodie": "élodie", "Straße": "strasse", "İsmail": "i\u0307smail", "सचिन": "सचिन"}),
        (ANY_SCRIPT, {"สมชาย": "สมชาย", "Nguyễn": "nguyễn", "מֹשֶׁה": "מֹשֶׁה", "ᾳ\u0313": "ᾀ".casefold()}),
        (ANY_SCRIPT, {"\u0307alice": None, "1\u0307a": None, "\u093f": None}),
        ({"SECURITY_USERNAME_ALLOWED_CHARS": ["L", "N", "Po", "Pc"]}, {"el.odie_2": "el.odie_2"}),
        ({"SECURITY_USERNAME_ALLOWED_CHARS": ["L", "N", "S"]}, {"el<b>odie": None}),
    ],
)  # fmt: skip
def test_username_characters_follow_the_settings(settings: Any, names: dict[str, str | None]) -> None:
    with create_app(load_settings(**settings)).app_context():
        assert {name: normalize_identity("username", name) for name in names} == names


@pytest.mark.requirement("R39")
def test_username_folding_is_stable() -> None:
    """The normal form of a normal form is itself, so a stored name is found by the same text."""
    letters, marks = "İıſßΐΣςᾳΰŉǰﬃÅクｸहกمא1", "\u0307\u0345\u0301\u0323\u093c\u0e33\u0e49\u05b9\ufe0f"
    with create_app(load_settings(**ANY_SCRIPT)).app_context():
        for typed in map("".join, itertools.product(letters, marks, (*"aΣ1", *marks))):
            name = normalize_identity("username", typed)
            assert name is None or normalize_identity("username", name) == name, ascii(typed)


@BOTH
def test_username_with_marks_is_stored_found_and_unique(make_site: Any) -> None:
    site: Site = make_site(**ANY_SCRIPT)
    for name in ("İsmail", "सचिन", "Straße"):
        with site.app.app_context():
            db.session.get_one(User, 1).username = name
            db.session.commit()
            db.session.get_one(User, 2).username = name.upper()
            with pytest.raises(IntegrityError):
                db.session.commit()
        for typed in (name, name.lower(), name.upper(), unicodedata.normalize("NFD", name)):
            assert site.password_works(OLD_PASSWORD, typed), ascii(typed)
            site.new_link(typed)


def test_forms_of_flask_security_have_the_same_rules(app: Flask) -> None:
    security = app.extensions["security"]
    with app.app_context():
        assert security.username_util.validate("BoB") == (None, "bob")
        for name in ("12345", "<b>bob</b>", "b" * 65):
            assert security.username_util.validate(name)[0], name
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
    with site.app.app_context():
        for column, value in (("email", "nonsense"), ("username", "<b></b>"), ("us_phone_number", "12")):
            with pytest.raises(IdentityError, match=column):
                setattr(db.session.get(User, 1), column, value)


@BOTH
@pytest.mark.requirement("R39")
def test_duplicate_identity_is_refused_by_every_writer(site: Site) -> None:
    twins = {"email": "ALICE@example.com", "username": "ALICE", "us_phone_number": "+14155550123"}
    for column, duplicate in twins.items():
        update = text(f"""UPDATE "user" SET {column} = :duplicate WHERE username = 'bob'""")
        with site.app.app_context(), pytest.raises(IntegrityError):
            db.session.execute(update, {"duplicate": duplicate})
    with site.app.app_context(), pytest.raises(IdentityError, match="another account"):
        site.app.extensions["security"].datastore.create_user(email="ALICE@Example.com", password=None)
    run(site, "users", "create", "Alice@example.com", "--password", NEW_PASSWORD, fails=True)
    assert len(site.rows(User)) == 4


@BOTH
@pytest.mark.requirement("R40")
def test_account_that_only_the_database_matches_is_not_found(site: Site) -> None:
    """PostgreSQL's lower() folds É, the app does not: the row is compared again."""
    site.change(User, User.username == "alice", email="élise@example.com")
    with site.app.app_context():
        assert find_account("élise@example.com") is not None
        assert find_account("Élise@example.com") is None


# --- Look-alikes ---

# Two mailboxes each, though case folding, IDNA 2003 or a reader may take one for the other.
LOOKALIKES = [
    ("i@example.com", "ı@example.com"),
    ("s@example.com", "ſ@example.com"),
    ("strasse@example.com", "straße@example.com"),
    ("fi@example.com", "ﬁ@example.com"),
    ("alice@example.com", "ａlice@example.com"),
    ("alice@example.com", "аlice@example.com"),  # a Cyrillic а
    ("alice@example.com", "alice@exаmple.com"),
    ("e@example.com", "é@example.com"),
    ("alice@fass.de", "alice@faß.de"),
]
# The same, but PostgreSQL's lower() takes them for one, so its unique index refuses to store both.
FOLDED_BY_DATABASE = [
    ("i@example.com", "İ@example.com"),
    ("élise@example.com", "ÉLISE@example.com"),
    ("élise@example.com", "E\u0301lise@example.com"),
]
# One mailbox each, by the rules of Unicode (NFC) and of domain names: as it is stored, and as it is typed.
SPELLINGS = [
    ("kate@example.com", "\N{KELVIN SIGN}ate@example.com"),
    ("élise@example.com", "e\u0301lise@example.com"),
    ("alice@bücher.example", "alice@XN--BCHER-KVA.example"),
    ("alice@example.com", "ALICE@ｅxample。com"),
]


def envelope(address: str) -> list[str]:
    local, _, domain = address.partition("@")
    return [f"{local}@{domain.encode('idna').decode() if 'ß' not in domain else 'xn--fa-hia.de'}"]


@BOTH
@pytest.mark.requirement("R18", "R40")
def test_lookalike_accounts_each_get_their_own_mail_by_every_spelling(site: Site) -> None:
    for pair in (*LOOKALIKES, *FOLDED_BY_DATABASE):
        for stored, typed in (pair, pair[::-1]):
            site.change(User, User.username == "alice", email=stored)
            site.ask(typed)
            site.work()
            assert site.mailbox.mails == [], (stored, typed)
    for pair in LOOKALIKES:
        for username, address in zip(("alice", "bob"), pair, strict=True):
            site.change(User, User.username == username, email=address)
        for address in pair:
            site.new_link(address)
            assert site.mailbox.envelopes[-1] == envelope(address)
    for stored, typed in SPELLINGS:
        site.change(User, User.username == "alice", email=stored)
        site.new_link(typed)
        assert site.mailbox.envelopes[-1] == envelope(stored)


@pytest.mark.requirement("R20", "R40")
def test_control_characters_and_several_addresses_reach_no_account(site: Site) -> None:
    for mark in "\x00\x07\x1b\x7f\x9f\ud800\ue000\uffff":
        for typed in (
            f"al{mark}ice",
            f"al{mark}ice@example.com",
            f"alice@exam{mark}ple.com",
            f"+1415{mark}5550123",
        ):
            assert site.ask(typed).status_code == 400, typed
    for typed in (
        "alice@example.com,evil@evil.example", "alice@example.com;evil@evil.example", "Alice <alice@example.com>",
        "evil@evil.example?alice@example.com", "alice%40example.com", "alice@example.com evil@evil.example",
        "alice@evil.example@example.com", "alice%0d%0aBcc: evil@evil.example", "alice@example.com\u0301", "ali\u0307ce",
        "alice@example.com\u0338",
    ):  # fmt: skip
        assert site.ask(typed).status_code in (200, 400), typed
    site.work()
    assert site.mailbox.envelopes == []


LONGEST = identity_mappers.IDENTITY_LENGTH_MAX
MARKS = [
    "<", "<a", "&#", "&lt;", "<!--", "<![CDATA[", "<a href='", '"', "a.", "@", "x@", "x@a-", "x@xn--", "x@é", "x@[1", "1", "+", "(",
    "1-", "ext", ";ext=", ";phone-context=", "٣", "ﷺ", "\u0301", "a\u0301", "İ", "ΐ",
]  # fmt: skip
EXPENSIVE = [(mark * LONGEST)[:LONGEST] for mark in MARKS]
EXPENSIVE += [f"x@{mark * 200}"[:LONGEST] for mark in ("ﷺ", "\u0344", "a.", "xn--a.")]


@pytest.mark.requirement("R32")
def test_no_identity_is_expensive_to_normalize(app: Flask) -> None:
    with app.app_context():
        for column in ("email", "username", "us_phone_number"):
            began = time.perf_counter()
            for identity in EXPENSIVE:
                identity_mappers.normalize_identity(column, identity)
            assert time.perf_counter() - began < 1.5, column
