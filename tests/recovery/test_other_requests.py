"""Mails besides reset links: confirmation, forgotten usernames, changes of address, and sign-in codes."""

import re
from datetime import datetime
from typing import Any

import pytest
from support import factors, features
from support.features import CODE_SIGN_IN, PUBLIC_URL, confirm_addresses, one_time_code, set_up_code_sign_in
from support.mailbox import html_of, text_of
from support.site import OLD_PASSWORD, Site

from app.accounts.models import User
from app.mail.outbox import OutboxMessage

HELP = "help@example.com"
KINDS = {"/confirm": "confirmation_instructions", "/recover-username": "username_recovery"}


@pytest.fixture
def site(make_site: Any) -> Site:
    return confirm_addresses(make_site(**features.MAIL_FEATURES, RECOVERY_SUPPORT_CONTACT=HELP))


@pytest.fixture
def codes(make_site: Any) -> Site:
    """A site with sign-in by codes."""
    built: Site = make_site(**CODE_SIGN_IN)
    return built


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


@pytest.mark.requirement("R18")
def test_username_recovery_mails_the_username_to_a_confirmed_address(site: Site) -> None:
    site.visitor().submit("/recover-username", "/recover-username", identity="alice@example.com")
    assert deliver(site, r"\balice\b") == "alice"
    site.change(confirmed_at=None)
    site.visitor().post_json("/auth/recover-username", json={"identity": "alice@example.com"})
    site.work()
    assert len(site.mailbox.mails) == 1
    assert site.messages()[-1]["reason"] == "the address is not confirmed"


def test_mail_of_a_feature_that_was_switched_off_is_dropped_and_no_page_fails(make_site: Any) -> None:
    on = confirm_addresses(make_site(**features.ALL_FEATURES | factors.FACTORS))
    set_up_code_sign_in(on)
    alice, dora = factors.stolen_session(on), on.visitor()
    for path in (*KINDS, "/us-signin/send-code"):
        alice.post_json(path, json={"identity": "alice@example.com"})
    alice.post_json("/second-address", json={"email": "alice@home.example.com"})
    dora.submit("/register", email="dora@example.com")
    assert len(on.messages()) == 5
    uri = on.app.config["SQLALCHEMY_DATABASE_URI"]
    off: Site = make_site(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_PUBLIC_URL=factors.PUBLIC_URL)
    off.work()
    assert {(row["state"], row["reason"].partition("(")[0]) for row in off.messages()} == {
        ("dropped", "the feature is off ")
    }
    assert off.mailbox.mails == []
    assert len(off.rows(User)) == 4  # without dora
    dora.client.application = off.app
    assert dora.open("/check-mail").status_code == 200


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("path", KINDS)
def test_other_requests_mail_the_account_alone_and_once_in_the_cooldown(make_site: Any, path: str) -> None:
    site = confirm_addresses(make_site(**features.MAIL_FEATURES, RECOVERY_MAIL_COOLDOWN="5 minutes"))
    if path == "/confirm":
        site.change(confirmed_at=None)
    for identity in ("alice@example.com", "nobody@example.com", "inactive@example.com", "alice") * 2:
        site.visitor().post_json("/auth" + path, json={"identity": identity})
        site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == ["alice@example.com"]
    assert {message["kind"] for message in site.messages()} == {KINDS[path]}
    assert any("RECOVERY_MAIL_COOLDOWN" in (message["reason"] or "") for message in site.messages())


# --- Changes of address ---


@pytest.mark.requirement("R55")
def test_address_change_mails_a_mailbox_once_in_the_cooldown_for_all_requesters(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True, RECOVERY_MAIL_COOLDOWN="5 minutes")
    for thief in ("alice", "bob"):
        visitor = site.visitor()
        assert visitor.sign_in(thief)
        answers = []
        for typed in ("victim", "VICTIM", "victim+1", f"{thief}.new"):
            answers.append(visitor.post_json("/change-email", json={"email": f"{typed}@example.org"}))
            site.work()
        facts = [{**answer.json["response"], "csrf_token": "dated"} for answer in answers]  # type: ignore[index]
        assert (answers[3].status_code, facts[3]) == (answers[2].status_code, facts[2])
    recipients = ["victim@example.org", "alice.new@example.org", "bob.new@example.org"]
    notices = ["alice@example.com", "bob@example.com"]  # one to each account's own address
    assert sorted(mail["To"] for mail in site.mailbox.mails) == sorted(recipients + notices)


def test_address_change_that_fails_sends_no_mail(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail and change are one transaction."""
    alice = site.visitor()
    alice.sign_in()
    monkeypatch.setattr("flask_security.change_email.do_flash", lambda *_: 1 / 0)
    answer = alice.submit("/change-email", "/change-email", email="alice@new.example.com")
    assert answer.status_code == 500
    assert site.messages() == []


# --- Sign-in with a password or a mailed code in one box ---


def signs_in(site: Site, passcode: str, identity: str = "alice@example.com") -> bool:
    visitor = site.visitor()
    visitor.submit("/us-signin", "/us-signin", identity=identity, passcode=passcode)
    return visitor.is_signed_in()


def test_code_sign_in_takes_a_password_or_a_mailed_code_once(make_site: Any) -> None:
    site: Site = make_site(**CODE_SIGN_IN, RATELIMIT_ENABLED=True)
    set_up_code_sign_in(site)
    assert signs_in(site, OLD_PASSWORD)
    assert not signs_in(site, "wrong")
    site.visitor().submit("/us-signin", "/us-signin/send-code", identity="alice", chosen_method="email")
    site.work()
    code = re.findall(r"\b\d{6}\b", text_of(site.mailbox.mails[-1]))[-1]
    assert not signs_in(site, code, "bob@example.com")
    assert [signs_in(site, code, "alice") for _ in range(2)] == [True, False]


@pytest.mark.requirement("R57")
def test_code_sign_in_limits_guesses_by_account_and_not_the_password(make_site: Any) -> None:
    site: Site = make_site(**CODE_SIGN_IN, RATELIMIT_ENABLED=True, RECOVERY_LIMIT_SOURCE="1000 per minute")
    secret = set_up_code_sign_in(site)
    for number in range(10):
        identity = ("alice", "alice@example.com", "+14155550123")[number % 3]
        assert not signs_in(site, f"00000{number}", identity)
    assert not signs_in(site, one_time_code(site, secret))
    assert signs_in(site, OLD_PASSWORD)


def test_code_mail_goes_only_to_an_account_that_chose_it_and_in_time(codes: Site) -> None:
    def request_code(identity: str) -> None:
        body = {"identity": identity, "chosen_method": "email"}
        assert codes.visitor().post_json("/us-signin/send-code", json=body).status_code == 200

    for identity in ("alice", "nobody", "inactive@example.com"):
        request_code(identity)
    codes.work()
    assert "does not use sign-in codes" in codes.messages()[0]["reason"]
    set_up_code_sign_in(codes)
    request_code("alice")
    codes.change(OutboxMessage, OutboxMessage.id > 0, created_at=datetime(2026, 1, 1))
    codes.work()
    assert "older than a code's lifetime" in codes.messages()[-1]["reason"]
    assert codes.mailbox.mails == []


def test_code_sign_in_refuses_accounts_that_may_not_sign_in_and_incomplete_requests(codes: Site) -> None:
    for identity in ("inactive@example.com", "sso@example.com", "nobody@example.com"):
        assert not signs_in(codes, OLD_PASSWORD, identity), identity
    dummy = codes.app.extensions["dummy_totp"]
    assert not signs_in(codes, one_time_code(codes, dummy))
    secret, visitor = set_up_code_sign_in(codes), codes.visitor()
    assert not signs_in(codes, one_time_code(codes, dummy))
    link = f"/us-verify-link?id={codes.rows(User)[0]['fs_uniquifier']}&code={one_time_code(codes, secret)}"
    assert visitor.open(link).status_code == 404  # Flask-Security's
    assert not visitor.is_signed_in()
    for body in ({}, {"identity": "alice"}, {"identity": 7, "passcode": 7}, {"identity": "", "passcode": ""}):
        assert codes.visitor().post_json("/us-signin", json=body).status_code == 400
    assert codes.visitor().post_json("/us-signin/send-code", json={}).status_code == 400


def test_code_is_used_up_though_a_second_factor_follows(make_site: Any) -> None:
    """Flask-Security's views commit nothing, neither at a sign-in nor at a confirmation of who it is."""
    site: Site = make_site(**{**CODE_SIGN_IN, **features.SECOND_FACTOR})
    alice, secret = site.visitor(), set_up_code_sign_in(site)
    assert alice.sign_in()
    body = {"passcode": one_time_code(site, secret)}
    assert [alice.post_json("/us-verify", json=body).status_code for _ in range(2)] == [200, 400]
    secret = set_up_code_sign_in(site)
    features.set_up_factor(site)
    assert not signs_in(site, OLD_PASSWORD)
    body = {"identity": "alice", "passcode": one_time_code(site, secret)}
    assert [site.visitor().post_json("/us-signin", json=body).status_code for _ in range(2)] == [200, 400]
