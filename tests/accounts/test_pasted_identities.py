"""Identities as people paste and type them: the clear ones are accepted, the impossible ones refused."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page
from sqlalchemy import event
from support.commands import run
from support.features import REGISTRATION, confirm_addresses
from support.live import base_url, live
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, load_settings

from app import create_app
from app.accounts.identities import map_identity
from app.accounts.models import User
from app.db.engine import db

ADDRESS, NUMBER = "alice@example.com", "+14155550123"
FORMAT_CHARACTERS = (
    "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u061c\u180e\u202a\u202d\u202e\u202c\u2066\u2069"
)


def value_of(typed: str) -> str | None:
    """Return the normal form of an identity as it is typed."""
    return (key := map_identity(typed)) and key.value


# As they are pasted from mails, chats, spreadsheets and contacts.
ADDRESSES = [
    f"{ADDRESS},", f"{ADDRESS}.", f"{ADDRESS};", f"{ADDRESS}?", f"{ADDRESS}。", f"({ADDRESS})", f"<{ADDRESS}>",
    f"<{ADDRESS}>,", f"[{ADDRESS}]", f'"{ADDRESS}"', f"'{ADDRESS}'", f"“{ADDRESS}”", f"«\u00a0{ADDRESS}\u00a0»",
    f"mailto:{ADDRESS}", f"MAILTO:{ADDRESS}", f"<mailto:{ADDRESS}>", "alice＠example.com", "alice@example．com",
    "ａｌｉｃｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", f"\u202a{ADDRESS}\u202c", f"\ufeff{ADDRESS}", f"\u00a0{ADDRESS}\u3000",
]  # fmt: skip
NUMBERS = [
    "\u202d+1 (415) 555-0123\u202c", "+1\u00a0415\u00a0555\u00a00123", "+1\u202f415\u202f555\u202f0123",
    "+1\u2009415\u2009555\u20090123", "+1 415\u2011555\u20110123", "+14155550123.", "(415) 555-0123", "tel:+1-415-555-0123",
    "＋１４１５５５５０１２３", "+١٤١٥٥٥٥٠١٢٣", "\t+1 415 555 0123\n",
]  # fmt: skip
NAMES = ["alice,", "“alice”", "<alice>", "ａｌｉｃｅ", "alice\u00a0"]
IMPOSSIBLE = [
    "alice@example", "alice@@example.com", "@", "alice@", "@alice", "alice example.com", "alice@exa mple.com", "al ice",
    "alice@example.com, bob@example.com", "Alice <alice@example.com>", "mailto:@", "+1 415 555", "12", "!!!",
    "alice@localhost", "alice@corp.local", "alice@example.com\r\nBcc: evil@example.com", "alice\x00",
]  # fmt: skip


PASTED = {ADDRESS: ADDRESSES, NUMBER: NUMBERS, "alice": NAMES}


@pytest.mark.requirement("R18")
def test_pasted_identity_finds_its_account(site: Site) -> None:
    with site.app.app_context():
        for stored, spellings in PASTED.items():
            marked = (
                stored[:place] + mark + stored[place:]
                for mark in FORMAT_CHARACTERS
                for place in range(len(stored) + 1)
            )
            for typed in (*spellings, *marked):
                assert value_of(typed) == stored, ascii(typed)
        # Without the joiner, the domain is another one, to which the mail would go (RFC 5892 A.1).
        assert value_of("alice@نامه\u200cای.com") is None
        assert value_of("alice@نامه\u200bای.com") == "alice@نامهای.com"
    for typed in (ADDRESSES[0], NUMBERS[0], NAMES[0]):
        site.new_link(typed)
        assert site.mailbox.envelopes[-1] == [ADDRESS]
        assert site.password_works(OLD_PASSWORD, typed)


@pytest.mark.requirement("R1", "R7")
def test_impossible_identity_is_refused_by_its_text_alone_and_stays_in_its_box(make_site: Any) -> None:
    """The same for every database: nothing is looked up."""
    site: Site = make_site(SECURITY_CONFIRMABLE=True, SECURITY_USERNAME_RECOVERY=True)
    statements: list[str] = []
    with site.app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for typed in IMPOSSIBLE:
        answer: Any = site.ask(typed)
        assert answer.status_code == 400, typed
        [message] = answer.json["response"]["field_errors"]["identity"]
        assert "Check for typos" in message
    for page in ("/reset", "/confirm", "/recover-username"):
        answer = site.visitor().submit(page, identity='alice@example "&<')
        assert answer.status_code == 400
        assert "Check for typos" in answer.text
        assert 'value="alice@example &#34;&amp;&lt;"' in answer.text
    assert statements == []
    assert site.messages() == []


@BOTH
@pytest.mark.requirement("R39")
def test_every_way_to_store_an_address_drops_the_same_characters(make_site: Any, tmp_path: Any) -> None:
    site: Site = make_site(**REGISTRATION, SECURITY_CHANGE_EMAIL=True)
    confirm_addresses(site)
    visitor = site.visitor()
    visitor.submit("/register", email="\u200bcarol@example.com,", username="carol\u200b")
    visitor.sign_in()
    visitor.submit("/change-email", email="<alice@new.example>\u202c")
    site.work()
    assert ["carol@example.com"] in site.mailbox.envelopes
    assert ["alice@new.example"] in site.mailbox.envelopes
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"email": "\ufeffdora@example.com\u00a0", "username": "dora\u200e"}))
    run(site, "users", "import", str(file))
    run(site, "users", "create", "email:<erin@example.com>", "--password", OLD_PASSWORD)
    stored = {row["email"]: row["username"] for row in site.rows(User)}
    assert {"carol@example.com", "dora@example.com", "erin@example.com"} <= stored.keys()
    assert stored["dora@example.com"] == "dora"
    assert "dora@example.com" in run(site, "users", "show", "dora@example.com\u200b").output


def test_browser_sends_a_pasted_address(make_site: Any, page: Page) -> None:
    """In a box of the type "email", Chromium would refuse it itself."""
    with live(make_site, **REGISTRATION) as site:
        page.goto(f"{base_url(site)}/register")
        page.fill("[name=email]", "\u200b<carol@example.com>,")
        page.locator("main form [type=submit]").click()
        assert "/check-mail" in page.url


# --- Addresses that are usual in a network of its own ---

INSIDE = {
    "RECOVERY_SPECIAL_USE_DOMAINS": ["local", "localhost"],
    "SECURITY_EMAIL_VALIDATOR_ARGS": {"globally_deliverable": False},
    "MAIL_DEFAULT_SENDER": "no-reply@server",
    "RECOVERY_OPERATOR": "root@localhost",
}


@BOTH
def test_account_inside_a_network_gets_its_link_and_signs_in(make_site: Any) -> None:
    site: Site = make_site(**INSIDE)
    for address in ("alice@corp.local", "root@localhost", "ops@server"):
        run(site, "users", "create", f"email:{address}", "--password", OLD_PASSWORD, "--active")
        link = site.new_link(address)
        assert site.mailbox.envelopes[-1] == [address]
        assert site.visitor().set_password(link).location == "/reset-done"
        site.work()
        assert site.password_works(NEW_PASSWORD, address)


def test_lifting_a_domain_lifts_no_other() -> None:
    with create_app(load_settings(RECOVERY_SPECIAL_USE_DOMAINS=["local"])).app_context():
        assert value_of("alice@corp.local") == "alice@corp.local"
        for address in ("alice@corp.localhost", "alice@corp.invalid", "alice@local"):
            assert value_of(address) is None, address
    with create_app(load_settings()).app_context():
        assert value_of("alice@corp.local") is None


ARGUMENTS = {
    "allow_quoted_local": ('"al ice"@example.com', '"al ice"@example.com'),
    "allow_display_name": ("Alice <alice2@example.com>", "alice2@example.com"),
    "test_environment": ("alice@test", "alice@test"),
    "allow_domain_literal": ("alice@[192.0.2.1]", "alice@[192.0.2.1]"),
    "strict": ("alice@example.org", "alice@example.org"),  # no argument turns DNS on
}


def test_arguments_of_the_validator_are_honored(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dns.resolver.Resolver.resolve", lambda *_, **__: 1 / 0)
    plain: Site = make_site()
    for argument, (typed, stored) in ARGUMENTS.items():
        with plain.app.app_context():
            assert value_of(typed) is None or argument == "strict"
        site: Site = make_site(SECURITY_EMAIL_VALIDATOR_ARGS={argument: True})
        site.change(email=stored)
        site.new_link(typed)
        assert site.mailbox.envelopes[-1] == [stored]
        assert site.password_works(OLD_PASSWORD, typed)
