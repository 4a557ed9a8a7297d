"""Identities as people paste and type them: the clear ones are accepted, the impossible ones refused."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page
from sqlalchemy import event
from support.commands import run
from support.features import REGISTRATION, confirm_addresses
from support.live import base_url, live
from support.site import BOTH, OLD_PASSWORD, Site

from app.accounts import identities
from app.accounts.identities import normalize_identity
from app.accounts.models import User
from app.db.engine import db

ADDRESS, NUMBER = "alice@example.com", "+14155550123"
FORMAT_CHARACTERS = (
    "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u061c\u180e\u202a\u202d\u202e\u202c\u2066\u2069"
)
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


@pytest.mark.parametrize(
    ("typed", "stored"),
    [*((text, ADDRESS) for text in ADDRESSES), *((text, NUMBER) for text in NUMBERS), *((text, "alice") for text in NAMES)],
)  # fmt: skip
@pytest.mark.requirement("R18")
def test_pasted_identity_finds_its_account(site: Site, typed: str, stored: str) -> None:
    with site.app.app_context():
        key = identities.map_identity(typed)
    assert key is not None
    assert key.value == stored
    site.new_link(typed)
    assert site.mailbox.envelopes == [[ADDRESS]]
    assert site.password_works(OLD_PASSWORD, typed)


@BOTH
@pytest.mark.requirement("R18")
def test_format_character_anywhere_in_an_identity_is_dropped(site: Site) -> None:
    with site.app.app_context():
        for mark in FORMAT_CHARACTERS:
            for stored in (ADDRESS, NUMBER, "alice"):
                for place in range(len(stored) + 1):
                    typed = stored[:place] + mark + stored[place:]
                    key = identities.map_identity(typed)
                    assert key is not None, ascii(typed)
                    assert key.value == stored, ascii(typed)


@pytest.mark.parametrize("typed", IMPOSSIBLE)
@pytest.mark.requirement("R1", "R7")
def test_impossible_identity_is_refused_by_its_text_alone(site: Site, typed: str) -> None:
    """The same for every database: nothing is looked up."""
    statements: list[str] = []
    with site.app.app_context():
        event.listen(
            db.engine, "before_cursor_execute", lambda _c, _cursor, text, *_: statements.append(text)
        )
    answer = site.ask(typed)
    assert answer.status_code == 400
    [message] = answer.json["response"]["field_errors"]["identity"]  # type: ignore[index]
    assert "Check for typos" in message
    assert statements == []
    site.work()
    assert site.messages() == []


@pytest.mark.parametrize("page", ["/reset", "/confirm", "/recover-username"])
def test_refused_identity_stays_in_its_box(make_site: Any, page: str) -> None:
    site: Site = make_site(SECURITY_CONFIRMABLE=True, SECURITY_USERNAME_RECOVERY=True)
    answer = site.visitor().submit(page, identity='alice@example "&<')
    assert answer.status_code == 400
    assert "Check for typos" in answer.text
    assert 'value="alice@example &#34;&amp;&lt;"' in answer.text


def test_zero_width_joiner_that_belongs_to_a_domain_is_not_dropped(site: Site) -> None:
    """Without it, the domain is another one, to which the mail would go (RFC 5892 A.1)."""
    with site.app.app_context():
        assert normalize_identity("email", "alice@نامه\u200cای.com") is None
        assert normalize_identity("email", "alice@نامه\u200bای.com") == "alice@نامهای.com"


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
        page.goto(f"{base_url(site)}/reset")
        page.fill("[name=identity]", "alice@example")
        page.locator("main form [type=submit]").click()
        assert "Check for typos" in page.inner_text("main")
        assert page.input_value("[name=identity]") == "alice@example"
