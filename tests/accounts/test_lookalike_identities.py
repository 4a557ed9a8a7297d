"""Identities that look alike are different accounts; spellings of one mailbox are the same account."""

import time

import pytest
from sqlalchemy.exc import IntegrityError
from support.site import BOTH, NEW_PASSWORD, Site

from app.accounts import datastore, identities
from app.accounts.identities import IdentityError
from app.accounts.models import User

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
def test_lookalike_address_gets_no_mail_of_another_account(site: Site) -> None:
    for pair in (*LOOKALIKES, *FOLDED_BY_DATABASE):
        for stored, typed in (pair, pair[::-1]):
            site.change(User, User.username == "alice", email=stored)
            site.ask(typed)
            site.work()
            assert site.mailbox.mails == [], (stored, typed)


@BOTH
@pytest.mark.requirement("R18", "R40")
def test_lookalike_accounts_each_get_their_own_mail(site: Site) -> None:
    for pair in LOOKALIKES:
        for username, address in zip(("alice", "bob"), pair, strict=True):
            site.change(User, User.username == username, email=address)
        for address in pair:
            site.new_link(address)
            assert site.mailbox.envelopes[-1] == envelope(address)


@BOTH
@pytest.mark.requirement("R18")
def test_every_spelling_of_a_mailbox_reaches_the_stored_address(site: Site) -> None:
    for stored, typed in SPELLINGS:
        site.change(User, User.username == "alice", email=stored)
        site.new_link(typed)
        assert site.mailbox.envelopes[-1] == envelope(stored)


@BOTH
@pytest.mark.requirement("R40")
def test_account_that_only_the_database_matches_is_not_found(site: Site) -> None:
    """PostgreSQL's lower() folds É, the app does not: the row is compared again."""
    site.change(User, User.username == "alice", email="élise@example.com")
    with site.app.app_context():
        assert datastore.find_account("élise@example.com") is not None
        assert datastore.find_account("Élise@example.com") is None


@BOTH
@pytest.mark.requirement("R20", "R40")
def test_control_characters_and_several_addresses_reach_no_account(site: Site) -> None:
    for mark in "\x00\x07\x1b\x7f\x9f\ud800\ue000\uffff":
        typed = [
            f"al{mark}ice",
            f"al{mark}ice@example.com",
            f"alice@exam{mark}ple.com",
            f"+1415{mark}5550123",
        ]
        for identity in typed:
            assert site.ask(identity).status_code == 400, identity
    several = ["alice@example.com,evil@evil.example", "alice@example.com;evil@evil.example"]
    several += ["Alice <alice@example.com>", "evil@evil.example?alice@example.com", "alice%40example.com"]
    several += ["alice@example.com evil@evil.example", "alice@evil.example@example.com"]
    combined = ["alice@example.com\u0301", "ali\u0307ce", "alice@example.com\u0338"]
    for identity in (*several, "alice%0d%0aBcc: evil@evil.example", *combined):
        assert site.ask(identity).status_code in (200, 400), identity
    site.work()
    assert site.mailbox.envelopes == []


@BOTH
@pytest.mark.requirement("R39")
def test_duplicate_address_is_refused_by_every_writer(site: Site) -> None:
    with site.app.app_context(), pytest.raises(IdentityError, match="another account"):
        site.app.extensions["security"].datastore.create_user(email="ALICE@Example.com", password=None)
    create = ["users", "create", "Alice@example.com", "--password", NEW_PASSWORD]
    assert site.app.test_cli_runner().invoke(args=create).exit_code != 0
    with pytest.raises(IntegrityError):
        site.change(User, User.username == "bob", email="ALICE@example.com")
    assert len(site.rows(User)) == 4


LONGEST = identities.IDENTITY_LENGTH_MAX
MARKS = ["<", "<a", "&#", "&lt;", "<!--", "<![CDATA[", "<a href='", '"', "a.", "@", "x@", "x@a-", "x@xn--"]
MARKS += ["x@é", "x@[1", "1", "+", "(", "1-", "ext", ";ext=", ";phone-context=", "٣", "ﷺ", "\u0301"]
MARKS += ["a\u0301", "İ", "ΐ"]
EXPENSIVE = [(mark * LONGEST)[:LONGEST] for mark in MARKS]
EXPENSIVE += [f"x@{mark * 200}"[:LONGEST] for mark in ("ﷺ", "\u0344", "a.", "xn--a.")]


@pytest.mark.requirement("R32")
def test_no_identity_is_expensive_to_normalize(site: Site) -> None:
    with site.app.app_context():
        for column in ("email", "username", "us_phone_number"):
            began = time.perf_counter()
            for identity in EXPENSIVE:
                identities.normalize_identity(column, identity)
            assert time.perf_counter() - began < 1.5, column
