"""Sign-in with a password or a mailed code in one box."""

import re
from datetime import datetime
from typing import Any

import pytest
from support.features import CODE_SIGN_IN, SECOND_FACTOR, one_time_code, set_up_code_sign_in, set_up_factor
from support.mailbox import text_of
from support.site import OLD_PASSWORD, Site

from app.accounts.models import User
from app.mail.outbox import OutboxMessage


@pytest.fixture
def site(make_site: Any) -> Site:
    built: Site = make_site(**CODE_SIGN_IN)
    return built


def signs_in(site: Site, passcode: str, identity: str = "alice@example.com") -> bool:
    visitor = site.visitor()
    visitor.submit("/us-signin", "/us-signin", identity=identity, passcode=passcode)
    return visitor.is_signed_in()


def request_code(site: Site, identity: str = "alice") -> None:
    body = {"identity": identity, "chosen_method": "email"}
    assert site.visitor().post_json("/us-signin/send-code", json=body).status_code == 200


def test_code_sign_in_takes_a_password_or_a_mailed_code_once(make_site: Any) -> None:
    site: Site = make_site(**CODE_SIGN_IN, RATELIMIT_ENABLED=True)
    set_up_code_sign_in(site)
    assert signs_in(site, OLD_PASSWORD)
    assert not signs_in(site, "wrong")
    site.visitor().submit("/us-signin", "/us-signin/send-code", identity="alice", chosen_method="email")
    site.work()
    code = re.findall(r"\b\d{6}\b", text_of(site.mailbox.mails[-1]))[-1]
    assert [signs_in(site, code, identity) for identity in ("bob@example.com", "alice", "alice")] == [
        False, True, False
    ]  # fmt: skip


@pytest.mark.parametrize("zero", [0x660, 0x6F0, 0xFF10], ids=["Arabic", "Persian", "full-width"])
def test_code_sign_in_takes_digits_of_any_script(site: Site, zero: int) -> None:
    secret = set_up_code_sign_in(site)
    code = one_time_code(site, secret).translate({ord("0") + digit: zero + digit for digit in range(10)})
    assert signs_in(site, f"\u200e{code}")
    assert not signs_in(site, code)


def test_code_sign_in_refuses_codes_of_the_dummy_secret(site: Site) -> None:
    dummy = site.app.extensions["dummy_totp"]
    assert not signs_in(site, one_time_code(site, dummy))
    set_up_code_sign_in(site, "bob")
    assert not signs_in(site, one_time_code(site, dummy), "bob@example.com")


@pytest.mark.requirement("R57")
def test_code_sign_in_limits_guesses_by_account_and_not_the_password(make_site: Any) -> None:
    site: Site = make_site(**CODE_SIGN_IN, RATELIMIT_ENABLED=True, RECOVERY_LIMIT_SOURCE="1000 per minute")
    secret = set_up_code_sign_in(site)
    for number in range(10):
        identity = ("alice", "alice@example.com", "+14155550123")[number % 3]
        assert not signs_in(site, f"00000{number}", identity)
    assert not signs_in(site, one_time_code(site, secret))
    assert signs_in(site, OLD_PASSWORD)


def test_code_mail_goes_only_to_an_account_that_chose_it_and_in_time(site: Site) -> None:
    for identity in ("alice", "nobody", "inactive@example.com"):
        request_code(site, identity)
    site.work()
    assert "does not use sign-in codes" in site.messages()[0]["reason"]
    set_up_code_sign_in(site)
    request_code(site)
    site.change(OutboxMessage, OutboxMessage.id > 0, created_at=datetime(2026, 1, 1))
    site.work()
    assert "older than a code's lifetime" in site.messages()[-1]["reason"]
    assert site.mailbox.mails == []


def test_code_sign_in_has_no_link(site: Site) -> None:
    secret, visitor = set_up_code_sign_in(site), site.visitor()
    uniquifier = site.rows(User)[0]["fs_uniquifier"]
    answer = visitor.open(f"/us-verify-link?id={uniquifier}&code={one_time_code(site, secret)}")
    assert answer.status_code == 404
    assert not visitor.is_signed_in()


def test_code_sign_in_refuses_accounts_that_may_not_sign_in(site: Site) -> None:
    for identity in ("inactive@example.com", "sso@example.com", "nobody@example.com"):
        assert not signs_in(site, OLD_PASSWORD, identity), identity


def test_code_sign_in_asks_for_the_second_factor_and_uses_the_code_up(make_site: Any) -> None:
    """Flask-Security's view commits nothing here."""
    site: Site = make_site(**{**CODE_SIGN_IN, **SECOND_FACTOR})
    secret = set_up_code_sign_in(site)
    set_up_factor(site)
    assert not signs_in(site, OLD_PASSWORD)
    body = {"identity": "alice", "passcode": one_time_code(site, secret)}
    assert [site.visitor().post_json("/us-signin", json=body).status_code for _ in range(2)] == [200, 400]


def test_code_confirms_identity_once(site: Site) -> None:
    """Flask-Security's view commits nothing here."""
    secret, alice = set_up_code_sign_in(site), site.visitor()
    assert alice.sign_in()
    body = {"passcode": one_time_code(site, secret)}
    assert [alice.post_json("/us-verify", json=body).status_code for _ in range(2)] == [200, 400]


def test_code_sign_in_refuses_incomplete_requests(site: Site) -> None:
    for body in ({}, {"identity": "alice"}, {"identity": 7, "passcode": 7}, {"identity": "", "passcode": ""}):
        assert site.visitor().post_json("/us-signin", json=body).status_code == 400
    assert site.visitor().post_json("/us-signin/send-code", json={}).status_code == 400
