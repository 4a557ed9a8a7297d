"""Identities: one normal form for each kind, stored and asked for alike."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from support.site import Site

from app.accounts import datastore, identities
from app.accounts.identities import IdentityError, normalize_identity
from app.accounts.models import User
from app.db.engine import db


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("alice@example.com", "alice@example.com"),
        ("  ALICE@EXAMPLE.COM\n", "alice@example.com"),
        ("alice@ｅxample.com", "alice@example.com"),
        ("é@example.com", "é@example.com"),
        ("É@example.com", "É@example.com"),  # not ASCII: two mailboxes until a mail server says otherwise
        ("\N{KELVIN SIGN}@example.com", "k@example.com"),  # the same letter in Unicode's normal form
        ("ſ@example.com", "ſ@example.com"),  # LONG S, which casefold() makes an s
        ("alice", None),
        ("alice@localhost", None),
        ("alice@example.com, evil@example.com", None),
        ("", None),
    ],
)
@pytest.mark.requirement("R39", "R40")
def test_email(typed: str, stored: str | None) -> None:
    assert identities.normalize_email(typed) == stored


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("alice", "alice"),
        (" BoB\t", "bob"),
        ("ａｌｉｃｅ", "alice"),
        ("<b>alice</b>", None),
        ("<script>alice</script>", None),
        ("al ice", None),
        ("alice&co", None),
        ("élodie", None),
        ("ı", None),
        ("12345", None),  # a number: it may be a telephone's
        ("alice2", "alice2"),
        ("", None),
    ],
)
def test_username(site: Site, typed: str, stored: str | None) -> None:
    with site.app.app_context():
        assert normalize_identity("username", typed) == stored


@pytest.mark.parametrize(
    ("typed", "stored", "settings"),
    [
        ("Élodie", "élodie", {"RECOVERY_USERNAME_ASCII": False}),
        ("e\u0301lodie", "élodie", {"RECOVERY_USERNAME_ASCII": False}),
        ("Straße", "strasse", {"RECOVERY_USERNAME_ASCII": False}),
        ("el.odie_2", "el.odie_2", {"SECURITY_USERNAME_ALLOWED_CHARS": ["L", "N", "Po", "Pc"]}),
        ("el<b>odie", None, {"SECURITY_USERNAME_ALLOWED_CHARS": ["L", "N", "S"]}),
    ],
)
def test_a_username_may_hold_what_the_settings_allow(
    make_site: Any, typed: str, stored: str | None, settings: Any
) -> None:
    with make_site(**settings).app.app_context():
        assert normalize_identity("username", typed) == stored


def test_flask_security_has_the_same_rule_for_usernames_and_phones(site: Site) -> None:
    """Its forms and `users create` ask its utils."""
    security = site.app.extensions["security"]
    with site.app.app_context():
        assert security.username_util.validate("BoB") == (None, "bob")
        assert security.username_util.validate("") == (None, None)
        for name in ("12345", "<b>bob</b>", "b" * 65):
            assert security.username_util.validate(name)[0]
        assert security.phone_util.validate_phone_number("(415) 555-0123") is None
        assert security.phone_util.validate_phone_number("+1 415 555 0123 ext. 5")


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("+14155550123", "+14155550123"),
        ("(415) 555-0123", "+14155550123"),
        ("4155550123", "+14155550123"),
        ("+49 30 901820", "+4930901820"),
        ("+1 415 555 0123 ext. 5", None),
        ("555", None),
        ("alice", None),
        ("", None),
    ],
)
def test_phone(site: Site, typed: str, stored: str | None) -> None:
    with site.app.app_context():
        assert normalize_identity("us_phone_number", typed) == stored


def test_the_order_of_the_kinds_is_behaviour(make_site: Any) -> None:
    """Whoever lets digits-only names in decides by order what a number means."""
    site: Site = make_site(SECURITY_USER_IDENTITY_ATTRIBUTES=["username", "email"])
    site.ask("+14155550123")
    site.work()
    assert site.mailbox.mails == []  # telephone numbers are not asked for
    site.new_link("alice")
    site.new_link("alice@example.com")


@pytest.mark.parametrize("look_alike", ["ALİCE@example.com", "alıce@example.com", "bob@exampłe.com"])
@pytest.mark.requirement("R40")
def test_a_look_alike_is_somebody_else(site: Site, look_alike: str) -> None:
    site.ask(look_alike)
    site.work()
    assert site.mailbox.mails == []


@pytest.mark.requirement("R40")
def test_what_the_database_finds_is_compared_again(site: Site) -> None:
    """A row that some script wrote past the model, found by the database's own idea of case."""
    with site.app.app_context():
        db.session.execute(text("UPDATE user SET email = 'not an address' WHERE username = 'alice'"))
        db.session.commit()
        assert datastore.find_account("alice@example.com") is None
        found = datastore.find_account("alice")
        assert found is not None


@pytest.mark.parametrize(
    ("column", "typed", "stored"),
    [
        ("email", "New@Example.Com", "new@example.com"),
        ("username", " NeW ", "new"),
        ("us_phone_number", "(415) 555-0177", "+14155550177"),
        ("username", "", None),
        ("us_phone_number", None, None),
    ],
)
@pytest.mark.requirement("R39")
def test_the_model_stores_the_normal_form_whatever_writes_it(
    site: Site, column: str, typed: Any, stored: Any
) -> None:
    with site.app.app_context():
        user = datastore.find_account("alice")
        setattr(user, column, typed)
        db.session.commit()
    assert site.rows(User)[0][column] == stored


@pytest.mark.parametrize(
    ("column", "value"), [("email", "nonsense"), ("username", "<b>"), ("us_phone_number", "12")]
)
def test_the_model_refuses_what_no_account_can_have(site: Site, column: str, value: str) -> None:
    with site.app.app_context(), pytest.raises(IdentityError, match=column):
        setattr(datastore.find_account("alice"), column, value)


@pytest.mark.parametrize(
    ("column", "twin"),
    [("email", "ALICE@example.com"), ("username", "ALICE"), ("us_phone_number", "+14155550123")],
)
@pytest.mark.requirement("R39")
def test_twins_are_refused_by_the_database_itself(site: Site, column: str, twin: str) -> None:
    with site.app.app_context(), pytest.raises(IntegrityError):
        db.session.execute(text(f"UPDATE user SET {column} = :twin WHERE username = 'bob'"), {"twin": twin})


def test_an_address_is_shown_masked() -> None:
    assert identities.mask_address("alice@example.com") == "a•••@example.com"
