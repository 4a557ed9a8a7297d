"""Notices of factors: the owner learns of each one that is added, changed or removed, and can object."""

import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskCliRunner
from passlib.totp import TOTP
from sqlalchemy import select
from support.factors import (
    FACTORS,
    THIEFS_PHONE,
    add_app,
    add_code_sign_in,
    add_passkey,
    add_recovery_codes,
    add_texts,
    post,
    stolen_session,
)
from support.features import enter_password, set_up_factor
from support.mailbox import text_of
from support.recovery import object_to, objection_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site
from werkzeug.test import TestResponse

import manage
from app.accounts.datastore import find_account
from app.accounts.models import User, WebAuthn
from app.db.audit import RecoveryEvent
from app.db.engine import db

HELP = {"RECOVERY_SUPPORT_CONTACT": "help@example.com", "RECOVERY_OPERATOR": "operator@example.com"}
REMOVED = "We've removed what was added and signed you out everywhere"
STILL_THERE = "The change itself is still in place"


@pytest.fixture
def site(make_site: Any, tmp_path: Path) -> Site:
    built: Site = make_site(**FACTORS, **HELP)
    built.app.instance_path = str(tmp_path)  # sms.txt is written there
    return built


def factors_of_alice(site: Site) -> list[Any]:
    with site.app.app_context():
        alice = find_account("alice")
        assert alice
        passkeys = db.session.scalars(select(WebAuthn.name).where(WebAuthn.user_id == alice.id)).all()
        columns = (alice.tf_totp_secret, alice.us_totp_secrets, list(alice.mf_recovery_codes or ()))
        return list(filter(None, (*columns, *passkeys)))


def object_with(site: Site, notice: Any, password: str) -> TestResponse:
    return site.visitor().submit(objection_in(notice), password=password)


def events(site: Site, kind: str) -> list[str]:
    return [row["reason"] for row in site.rows(RecoveryEvent) if row["kind"] == kind]


WAYS = pytest.mark.parametrize(
    ("add", "named", "reason"),
    [
        pytest.param(add_app, "Added: Authenticator app", "authenticator", id="app"),
        pytest.param(add_texts, "Added: Codes by text message: …9999", "sms", id="texts"),
        pytest.param(add_code_sign_in, "Added: Authenticator app", "authenticator", id="code-sign-in"),
        pytest.param(add_recovery_codes, "Added: Recovery codes", "recovery_codes", id="codes"),
        pytest.param(add_passkey, "Added: Passkey: My phone", "webauthn", id="passkey"),
    ],
)


@WAYS
@pytest.mark.requirement("R35", "R37")
def test_factor_of_a_stolen_session_is_told_and_removed_with_the_password(
    site: Site, add: Any, named: str, reason: str
) -> None:
    thief = stolen_session(site)
    add(site, thief)
    site.work()
    notice = site.mailbox.mails[-1]
    text = " ".join(text_of(notice).split())
    assert notice["To"] == "alice@example.com"
    assert notice["Subject"] == "Your Sparekey account was changed"
    for fact in (named, "When: ", "IP address: 127.0.0.1", "Browser: Firefox, Windows"):
        assert fact in text
    assert "evil" not in notice.as_string()
    assert THIEFS_PHONE not in notice.as_string()
    assert events(site, "factor_changed") == [f"added {reason}"]
    assert len(factors_of_alice(site)) == 1
    assert thief.is_signed_in()
    assert REMOVED in object_with(site, notice, OLD_PASSWORD).text
    assert factors_of_alice(site) == []
    assert not thief.is_signed_in()
    assert site.password_works(OLD_PASSWORD)
    site.work()
    [removal] = [mail for mail in site.mailbox.mails if "Removed: " in text_of(mail)]
    assert (removal["To"], named.replace("Added", "Removed") in text_of(removal)) == (
        "alice@example.com",
        True,
    )
    assert ["operator@example.com"] in site.mailbox.envelopes
    assert events(site, "factor_changed") == [f"added {reason}", f"removed {reason}"]
    assert events(site, "not_me") == ["removed"]


@BOTH
@pytest.mark.requirement("R37")
def test_factor_is_not_removed_with_a_password_that_a_mailed_link_has_set_since(
    make_site: Any, database: Any
) -> None:
    site: Site = make_site(**FACTORS, **HELP)
    add_recovery_codes(site, stolen_session(site))
    site.work()
    notice = site.mailbox.mails[-1]
    site.visitor().set_password(site.new_link())  # by an intruder in the mailbox
    intruder = site.visitor()
    assert intruder.sign_in(password=NEW_PASSWORD)
    assert STILL_THERE in object_with(site, notice, NEW_PASSWORD).text
    assert len(factors_of_alice(site)) == 1
    assert not intruder.is_signed_in()
    site.work()
    assert site.mailbox.envelopes[-1] == ["operator@example.com"]


@BOTH
@pytest.mark.requirement("R37")
def test_factor_outlasts_an_objection_without_a_password(make_site: Any) -> None:
    site: Site = make_site(**FACTORS, **HELP)
    thief = stolen_session(site)
    add_app(site, thief)
    site.work()
    notice = site.mailbox.mails[-1]
    page = site.visitor().open(objection_in(notice), follow_redirects=True).text
    assert 'name="password"' in page
    assert thief.is_signed_in()  # mail programs open links
    assert STILL_THERE in object_to(site, notice)
    assert not thief.is_signed_in()
    assert len(factors_of_alice(site)) == 1
    enter_password(site)  # and the code is asked for
    site.work()
    assert site.mailbox.envelopes[-1] == ["operator@example.com"]
    assert "This has already been taken care of" in object_to(site, notice)
    assert REMOVED in object_with(site, notice, OLD_PASSWORD).text  # the owner remembers it after all
    assert site.password_works(OLD_PASSWORD)
    set_up_factor(site)  # by the owner
    for password in (OLD_PASSWORD, ""):
        assert "This has already been taken care of" in object_with(site, notice, password).text
    assert len(factors_of_alice(site)) == 1


@pytest.mark.requirement("R57")
def test_password_of_an_objection_is_verified_and_limited_by_account(make_site: Any) -> None:
    site: Site = make_site(**FACTORS, **HELP, RATELIMIT_ENABLED=True)
    thief = stolen_session(site)
    add_app(site, thief)
    site.work()
    url = objection_in(site.mailbox.mails[-1])
    wrong = site.visitor().submit(url, password="not the password")
    assert (wrong.status_code, "That isn't your current password" in wrong.text) == (400, True)
    assert 'name="objection"' in wrong.text  # the form, for another try
    answers = [
        site.visitor().post_json(url, json={"password": typed}) for typed in ("\ud800", ["a"], {"a": 1})
    ]
    assert [answer.status_code for answer in answers] == [400] * 3
    assert (answers[0].json or {})["response"]["state"] == "wrong_password"
    guesses = [site.visitor().post_json(url, json={"password": f"guess {n}"}).status_code for n in range(8)]
    assert guesses == [400] * 7 + [429]  # ten, with those above that were text
    refused = site.visitor().post_json(url, json={"password": OLD_PASSWORD})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3600")
    assert "Please try again in 1 hour" in refused.text
    assert thief.is_signed_in()
    assert "done" in post(site.visitor(), url)["state"]  # ending the sessions needs no password
    assert not thief.is_signed_in()


def test_objection_to_a_factor_by_json(site: Site) -> None:
    add_app(site, stolen_session(site))
    site.work()
    url = objection_in(site.mailbox.mails[-1])
    answers = [post(site.visitor(), url, password=password) for password in ("", OLD_PASSWORD, OLD_PASSWORD)]
    assert [answer["state"] for answer in answers] == ["done", "removed", "known"]
    assert factors_of_alice(site) == []


@pytest.mark.requirement("R37")
def test_changed_or_removed_factor_is_told_and_the_password_restores_nothing(site: Site) -> None:
    """Removing the thief's app would leave the account with the password alone."""
    thief = stolen_session(site)
    set_up_factor(site)
    add_app(site, thief)
    site.work()
    notice = site.mailbox.mails[-1]
    assert "Changed: Authenticator app" in text_of(notice)
    assert 'name="password"' not in site.visitor().open(objection_in(notice), follow_redirects=True).text
    assert STILL_THERE in object_with(site, notice, OLD_PASSWORD).text
    assert not thief.is_signed_in()
    assert len(factors_of_alice(site)) == 1
    site.change(tf_primary_method=None)
    thief = stolen_session(site)
    set_up_factor(site)
    post(thief, "/tf-setup", setup="disable")
    site.work()
    assert "Removed: Authenticator app" in text_of(site.mailbox.mails[-1])
    assert STILL_THERE in object_to(site, site.mailbox.mails[-1])
    assert not thief.is_signed_in()
    site.work()
    assert site.mailbox.envelopes[-1] == ["operator@example.com"]
    assert events(site, "factor_changed") == ["changed authenticator", "removed authenticator"]


def test_removed_passkey_and_code_sign_in_are_told(site: Site) -> None:
    thief = stolen_session(site)
    add_passkey(site, thief)
    add_code_sign_in(site, thief)
    post(thief, "/wan-delete", name="My phone")
    post(thief, "/us-setup", delete_method=["authenticator"])
    site.work()
    texts = [text_of(mail) for mail in site.mailbox.mails]
    assert [re.findall(r"\w+: (?:Passkey|Authenticator)[^\r\n]+", text) for text in texts] == [
        ["Added: Passkey: My phone"],
        ["Added: Authenticator app"],
        ["Removed: Passkey: My phone"],
        ["Removed: Authenticator app"],
    ]


def test_number_for_texts_is_told_although_it_was_not_confirmed(site: Site) -> None:
    """Flask-Security stores it before a code is typed, and sends no signal."""
    thief = stolen_session(site)
    set_up_factor(site, "sms")
    post(thief, "/tf-setup", setup="sms", phone=THIEFS_PHONE)
    site.work()
    assert "Changed: Codes by text message: …9999" in text_of(site.mailbox.mails[-1])


def test_factor_that_is_required_at_sign_in_is_told(make_site: Any) -> None:
    """A thief with the password alone sets it up. Flask-Security sends no signal."""
    site: Site = make_site(**FACTORS, **HELP, SECURITY_TWO_FACTOR_REQUIRED=True)
    thief = site.visitor()
    thief.submit("/login", identity="alice", password=OLD_PASSWORD)
    key = post(thief, "/tf-setup", setup="authenticator")["tf_authr_b32key"]
    post(thief, "/tf-validate", code=TOTP(key=key).generate().token)
    assert thief.is_signed_in()
    site.work()
    notice = site.mailbox.mails[-1]
    assert "Added: Authenticator app" in text_of(notice)
    assert REMOVED in object_with(site, notice, OLD_PASSWORD).text


def test_added_factor_is_removed_although_it_was_changed_since(site: Site) -> None:
    thief = stolen_session(site)
    for _ in range(2):
        add_app(site, thief)
    site.work()
    assert REMOVED in object_with(site, site.mailbox.mails[0], OLD_PASSWORD).text
    assert factors_of_alice(site) == []


def test_new_recovery_codes_are_removed_in_place_of_the_owners(site: Site) -> None:
    owner = stolen_session(site)
    for _ in range(2):
        add_recovery_codes(site, owner)
    site.work()
    assert "Added: Recovery codes" in text_of(site.mailbox.mails[-1])
    assert REMOVED in object_with(site, site.mailbox.mails[-1], OLD_PASSWORD).text
    assert factors_of_alice(site) == []


def test_objection_removes_no_other_factor(site: Site) -> None:
    thief = stolen_session(site)
    for add in (add_app, add_recovery_codes, add_passkey):
        add(site, thief)
    add_passkey(site, thief, "The thiefs")
    site.work()
    assert REMOVED in object_with(site, site.mailbox.mails[-1], OLD_PASSWORD).text
    assert len(factors_of_alice(site)) == 3
    assert "My phone" in factors_of_alice(site)


def test_sign_in_with_a_factor_is_told_to_nobody(site: Site) -> None:
    codes = post(stolen_session(site), "/mf-recovery-codes", generate_new_codes="1")["recovery_codes"]
    set_up_factor(site)
    site.work()
    told = len(site.mailbox.mails)
    post(enter_password(site), "/mf-recovery", code=codes[0])
    site.work()
    assert len(site.mailbox.mails) == told


def test_factors_that_an_admin_removes_are_told_in_one_mail(site: Site) -> None:
    owner = stolen_session(site)
    for add in (add_app, add_code_sign_in, add_recovery_codes, add_passkey):
        add(site, owner)
    site.work()
    before = len(site.mailbox.mails)
    result = FlaskCliRunner(site.app).invoke(manage.cli, ["users", "reset_access", "alice"])
    assert result.exit_code == 0, result.output
    site.work()
    [notice] = site.mailbox.mails[before:]
    text = text_of(notice)
    assert text.count("Removed: ") == 4
    assert "By: a site administrator" in text
    assert factors_of_alice(site) == []


def test_deleted_account_with_factors_is_told_nothing(site: Site) -> None:
    add_passkey(site, stolen_session(site))
    site.work()
    with site.app.app_context():
        datastore = site.app.extensions["security"].datastore
        datastore.delete_user(datastore.find_user(email="alice@example.com"))
        datastore.commit()
    assert (
        "known" in post(site.visitor(), objection_in(site.mailbox.mails[-1]), password=OLD_PASSWORD)["state"]
    )
    assert site.rows(User)[0]["email"] != "alice@example.com"
    assert events(site, "factor_changed") == ["added webauthn"]
