"""Mails besides reset links: confirmation, forgotten usernames, changes of address."""

import re
from typing import Any

import pytest
from support.features import MAIL_FEATURES, PUBLIC_URL, confirm_addresses
from support.mailbox import html_of, text_of
from support.site import OLD_PASSWORD, Site

from app.accounts.models import User

HELP = "help@example.com"
KINDS = {"/confirm": "confirmation_instructions", "/recover-username": "username_recovery"}


@pytest.fixture
def site(make_site: Any) -> Site:
    return confirm_addresses(make_site(**MAIL_FEATURES, RECOVERY_SUPPORT_CONTACT=HELP))


def deliver(site: Site, pattern: str) -> str:
    """Send the waiting mail and return the match in its text, which the outbox must hold only encrypted."""
    waiting = [message for message in site.messages() if message["state"] == "waiting"]
    site.work()
    mail = site.mailbox.mails[-len(waiting)]  # a notice to another address may follow
    match = re.search(pattern, text_of(mail))
    assert match, text_of(mail)
    assert match[0] not in str(waiting)
    assert site.messages()[-len(waiting)]["sealed"] is None
    for url in re.findall(r"https?://[^\s\"<>]+", text_of(mail) + html_of(mail)):
        assert url.startswith(PUBLIC_URL), url
    return match[0]


@pytest.mark.requirement("R19")
def test_confirmation_link_confirms_the_address(site: Site) -> None:
    site.change(confirmed_at=None)
    site.visitor().submit("/confirm", "/confirm", identity="Alice@example.com")
    site.visitor().submit(deliver(site, rf"{PUBLIC_URL}/confirm/\S+"))
    assert site.rows(User)[0]["confirmed_at"]
    site.work()
    site.new_link()


def test_username_recovery_mails_the_username(site: Site) -> None:
    site.visitor().submit("/recover-username", "/recover-username", identity="alice@example.com")
    assert deliver(site, r"\balice\b") == "alice"


@pytest.mark.requirement("R18")
def test_username_recovery_needs_a_confirmed_address(site: Site) -> None:
    site.change(confirmed_at=None)
    site.visitor().post_json("/auth/recover-username", json={"identity": "alice@example.com"})
    site.work()
    assert site.mailbox.mails == []
    assert site.messages()[-1]["reason"] == "the address is not confirmed"


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("path", KINDS)
def test_other_requests_mail_the_account_alone_and_once_in_the_cooldown(make_site: Any, path: str) -> None:
    site = confirm_addresses(make_site(**MAIL_FEATURES, RECOVERY_MAIL_COOLDOWN="5 minutes"))
    if path == "/confirm":
        site.change(confirmed_at=None)
    for identity in ("alice@example.com", "nobody@example.com", "inactive@example.com", "alice") * 2:
        site.visitor().post_json("/auth" + path, json={"identity": identity})
        site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == ["alice@example.com"]
    assert {message["kind"] for message in site.messages()} == {KINDS[path]}
    assert any("RECOVERY_MAIL_COOLDOWN" in (message["reason"] or "") for message in site.messages())


@pytest.mark.requirement("R41")
def test_address_change_needs_the_password_again(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True)
    alice = site.visitor()
    alice.sign_in()
    with alice.client.session_transaction(base_url=alice.base) as session:
        session["fs_paa"] -= 61  # she typed it a minute ago
    refused = alice.post_json("/change-email", json={"email": "thief@example.com"})
    assert refused.status_code == 401
    assert site.work() == 0
    assert alice.post_json("/verify", json={"password": OLD_PASSWORD}).status_code == 200
    assert alice.post_json("/change-email", json={"email": "alice@new.example.com"}).status_code == 200


@pytest.mark.requirement("R41")
def test_address_change_is_confirmed_at_the_new_address_and_told_to_the_old(site: Site) -> None:
    alice = site.visitor()
    alice.sign_in()
    alice.submit("/change-email", "/change-email", email="alice@new.example.com")
    link = deliver(site, rf"{PUBLIC_URL}/change-email/\S+")
    assert site.mailbox.envelopes == [["alice@new.example.com"], ["alice@example.com"]]
    reset_link = site.new_link("alice")
    assert site.mailbox.envelopes[-1] == ["alice@example.com"]  # nothing has changed yet
    alice.submit(link)
    assert site.visitor().open(reset_link).status_code == 400
    site.work()
    assert site.rows(User)[0]["email"] == "alice@new.example.com"
    assert site.mailbox.envelopes[-1] == ["alice@example.com"]
    notice = text_of(site.mailbox.mails[-1])
    for words in ("a•••@new.example.com", "UTC", HELP, "Wasn't you?"):
        assert words in notice
    assert site.events()[-2:] == ["address_changed", "mail_sent"]


@pytest.mark.requirement("R55")
def test_address_change_mails_a_mailbox_once_in_the_cooldown_for_all_requesters(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True, RECOVERY_MAIL_COOLDOWN="5 minutes")
    for thief in ("alice", "bob"):
        visitor = site.visitor()
        assert visitor.sign_in(thief)
        for typed in ("victim@example.org", "VICTIM@example.org", "victim+1@example.org"):
            answer = visitor.post_json("/change-email", json={"email": typed})
            assert answer.status_code == 200
            site.work()
        other = visitor.post_json("/change-email", json={"email": f"{thief}@new.example.com"})
        facts = [{**each.json["response"], "csrf_token": "dated"} for each in (other, answer)]  # type: ignore[index]
        assert (other.status_code, facts[0]) == (answer.status_code, facts[1])
        site.work()
    recipients = ["victim@example.org", "alice@new.example.com", "bob@new.example.com"]
    notices = ("alice@example.com", "bob@example.com")  # one to each account's own address
    assert [mail["To"] for mail in site.mailbox.mails if mail["To"] not in notices] == recipients
    assert len(site.mailbox.mails) == len(recipients) + len(notices)


def test_address_change_that_fails_sends_no_mail(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail and change are one transaction."""
    alice = site.visitor()
    alice.sign_in()
    monkeypatch.setattr("flask_security.change_email.do_flash", lambda *_: 1 / 0)
    answer = alice.submit("/change-email", "/change-email", email="alice@new.example.com")
    assert answer.status_code == 500
    assert site.messages() == []
