"""Notices of factors: the owner learns of each one that is added, changed or removed, and can object."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from support import factors
from support.commands import run
from support.database import delete_account
from support.factors import FACTORS, THIEFS_PHONE, add_app, add_passkey, post, stolen_session
from support.features import enter_password, set_up_factor
from support.mailbox import text_of, words_of
from support.recovery import mails_to, object_to, objection_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User, WebAuthn
from app.cli.admin import find_account
from app.db.audit import RecoveryEvent
from app.db.engine import db

ALICE, OPERATOR = "alice@example.com", "operator@example.com"
REMOVED = "We've removed what was added and signed you out everywhere"
STILL_THERE = "The change itself is still in place"
KNOWN = "This has already been taken care of"


@pytest.fixture
def site(make_site: Any, tmp_path: Path) -> Site:
    built: Site = make_site(**FACTORS, RECOVERY_OPERATOR=OPERATOR)
    built.app.instance_path = str(tmp_path)  # sms.txt is written there
    return built


def factors_of_alice(site: Site) -> list[Any]:
    with site.app.app_context():
        alice = find_account("alice")
        assert alice
        passkeys = db.session.scalars(select(WebAuthn.name).where(WebAuthn.user_id == alice.id)).all()
        columns = (alice.tf_totp_secret, alice.us_totp_secrets, list(alice.mf_recovery_codes or ()))
        return list(filter(None, (*columns, *passkeys)))


def object_with(site: Site, mail: Any, password: str) -> str:
    return site.visitor().submit(objection_in(mail), password=password).text


def events(site: Site, kind: str) -> list[str]:
    return [row["reason"] for row in site.rows(RecoveryEvent) if row["kind"] == kind]


@pytest.mark.parametrize(
    ("add", "named", "reason"),
    [
        (add_app, "Added: Authenticator app", "authenticator"),
        (factors.add_texts, "Added: Codes by text message: …9999", "sms"),
        (factors.add_code_sign_in, "Added: Authenticator app", "authenticator"),
        (factors.add_recovery_codes, "Added: Recovery codes", "recovery_codes"),
        (add_passkey, "Added: Passkey: My phone", "webauthn"),
    ],
)
@pytest.mark.requirement("R35", "R37")
def test_factor_of_a_stolen_session_is_told_and_removed_with_the_password(
    site: Site, add: Any, named: str, reason: str
) -> None:
    thief = stolen_session(site)
    add(site, thief)
    [added] = mails_to(site, ALICE)
    for fact in (named, "When: ", "IP address: 127.0.0.1", "Browser: Firefox, Windows"):
        assert fact in words_of(added)
    for text in ("evil", THIEFS_PHONE):
        assert text not in added.as_string()
    assert events(site, "factor_changed") == [f"added {reason}"]
    assert len(factors_of_alice(site)) == 1
    assert thief.is_signed_in()
    assert REMOVED in object_with(site, added, OLD_PASSWORD)
    assert factors_of_alice(site) == []
    assert not thief.is_signed_in()
    assert site.password_works(OLD_PASSWORD)
    [_, removal] = mails_to(site, ALICE)
    assert named.replace("Added", "Removed") in text_of(removal)
    assert len(mails_to(site, OPERATOR)) == 1
    assert events(site, "factor_changed") == [f"added {reason}", f"removed {reason}"]
    assert events(site, "not_me") == ["removed"]


@BOTH
@pytest.mark.requirement("R37")
def test_factor_is_not_removed_with_a_password_that_a_mailed_link_has_set_since(site: Site) -> None:
    factors.add_recovery_codes(site, stolen_session(site))
    added = mails_to(site)[-1]
    site.visitor().set_password(site.new_link())  # by an intruder in the mailbox
    intruder = site.visitor()
    assert intruder.sign_in(password=NEW_PASSWORD)
    assert STILL_THERE in object_with(site, added, NEW_PASSWORD)
    assert len(factors_of_alice(site)) == 1
    assert not intruder.is_signed_in()
    assert mails_to(site)[-1]["To"] == OPERATOR


@BOTH
@pytest.mark.requirement("R37")
def test_factor_outlasts_an_objection_without_a_password(site: Site) -> None:
    thief = stolen_session(site)
    add_app(site, thief)
    added = mails_to(site)[-1]
    assert 'name="password"' in site.visitor().open(objection_in(added), follow_redirects=True).text
    assert thief.is_signed_in()  # mail programs open links
    assert STILL_THERE in object_to(site, added)
    assert not thief.is_signed_in()
    assert len(factors_of_alice(site)) == 1
    enter_password(site)  # and the code is asked for
    assert mails_to(site)[-1]["To"] == OPERATOR
    assert KNOWN in object_to(site, added)
    assert REMOVED in object_with(site, added, OLD_PASSWORD)  # the owner remembers it after all
    assert site.password_works(OLD_PASSWORD)
    set_up_factor(site)  # by the owner
    for password in (OLD_PASSWORD, ""):
        assert KNOWN in object_with(site, added, password)
    assert len(factors_of_alice(site)) == 1


@pytest.mark.requirement("R57")
def test_password_of_an_objection_is_verified_and_limited_by_account(make_site: Any) -> None:
    site: Site = make_site(**FACTORS, RATELIMIT_ENABLED=True)
    thief = stolen_session(site)
    add_app(site, thief)
    url = objection_in(mails_to(site)[-1])
    wrong = site.visitor().submit(url, password="not the password")
    assert (wrong.status_code, "That isn't your current password" in wrong.text) == (400, True)
    assert 'name="objection"' in wrong.text  # the form, for another try

    def answers(*passwords: Any) -> list[Any]:
        return [site.visitor().post_json(url, json={"password": password}) for password in passwords]

    refused = answers("\ud800", ["a"], {"a": 1})
    assert [answer.status_code for answer in refused] == [400] * 3
    assert refused[0].json["response"]["state"] == "wrong_password"
    guesses = answers(*(f"guess {number}" for number in range(8)))
    # Ten, with those above that were text.
    assert [answer.status_code for answer in guesses] == [400] * 7 + [429]
    [refused] = answers(OLD_PASSWORD)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3600")
    assert "Please try again in 1 hour" in refused.text
    assert thief.is_signed_in()
    assert "done" in post(site.visitor(), url)["state"]  # ending the sessions needs no password
    assert not thief.is_signed_in()


@pytest.mark.requirement("R37")
def test_changed_or_removed_factor_is_told_and_the_password_restores_nothing(site: Site) -> None:
    """Removing the thief's app would leave the account with the password alone."""
    thief = stolen_session(site)
    set_up_factor(site)
    add_app(site, thief)
    changed = mails_to(site)[-1]
    assert "Changed: Authenticator app" in text_of(changed)
    assert 'name="password"' not in site.visitor().open(objection_in(changed), follow_redirects=True).text
    assert STILL_THERE in object_with(site, changed, OLD_PASSWORD)
    assert not thief.is_signed_in()
    assert len(factors_of_alice(site)) == 1
    site.change(tf_primary_method=None)
    thief = stolen_session(site)
    set_up_factor(site)
    post(thief, "/tf-setup", setup="disable")
    removed = mails_to(site)[-1]
    assert "Removed: Authenticator app" in text_of(removed)
    assert STILL_THERE in object_to(site, removed)
    assert not thief.is_signed_in()
    assert mails_to(site)[-1]["To"] == OPERATOR
    thief = stolen_session(site)
    set_up_factor(site, "sms")
    # Flask-Security stores the number before a code is typed, and sends no signal.
    post(thief, "/tf-setup", setup="sms", phone=THIEFS_PHONE)
    assert "Changed: Codes by text message: …9999" in text_of(mails_to(site)[-1])
    assert events(site, "factor_changed") == ["changed authenticator", "removed authenticator", "changed sms"]


@pytest.mark.parametrize(("add", "number"), [(add_app, 0), (factors.add_recovery_codes, -1)])
def test_added_factor_is_removed_although_it_was_changed(site: Site, add: Any, number: int) -> None:
    """New recovery codes, in place of the owner's, count as added."""
    thief = stolen_session(site)
    for _ in range(2):
        add(site, thief)
    mail = mails_to(site)[number]
    assert "Added: " in text_of(mail)
    assert REMOVED in object_with(site, mail, OLD_PASSWORD)
    assert factors_of_alice(site) == []


def test_objection_removes_no_other_factor(site: Site) -> None:
    thief = stolen_session(site)
    for add in (add_app, factors.add_recovery_codes, add_passkey):
        add(site, thief)
    add_passkey(site, thief, "The thiefs")
    url = objection_in(mails_to(site)[-1])
    answers = [post(site.visitor(), url, password=password) for password in ("", OLD_PASSWORD, OLD_PASSWORD)]
    assert [answer["state"] for answer in answers] == ["done", "removed", "known"]
    assert len(factors_of_alice(site)) == 3
    assert "My phone" in factors_of_alice(site)


def test_sign_in_with_a_factor_is_told_to_nobody_and_what_an_admin_removes_in_one_mail(site: Site) -> None:
    owner = stolen_session(site)
    for add in (add_app, factors.add_code_sign_in):
        add(site, owner)
    codes = post(owner, "/mf-recovery-codes", generate_new_codes="1")["recovery_codes"]
    told = len(mails_to(site))
    post(enter_password(site), "/mf-recovery", code=codes[0])
    assert len(mails_to(site)) == told
    add_passkey(site, owner)
    run(site, "users", "reset_access", "alice")
    [_, mail] = mails_to(site)[told:]
    assert text_of(mail).count("Removed: ") == 4
    assert "By: a site administrator" in text_of(mail)
    assert factors_of_alice(site) == []


def test_deleted_account_with_factors_is_told_nothing(site: Site) -> None:
    add_passkey(site, stolen_session(site))
    url = objection_in(mails_to(site)[-1])
    delete_account(site)
    assert "known" in post(site.visitor(), url, password=OLD_PASSWORD)["state"]
    assert site.rows(User)[0]["email"] != ALICE
    assert events(site, "factor_changed") == ["added webauthn"]
