"""A second address: it gets every notice and no link, and its reader cannot take the account over."""

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.commands import run
from support.factors import post, stolen_session
from support.mailbox import text_of
from support.recovery import link_of, mails_to, object_to, objection_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User

FIRST, SECOND, NEW = "alice@example.com", "alice@home.example.com", "alice@new.example.com"
SETTINGS = {"RECOVERY_SECOND_ADDRESS": True, "SECURITY_CHANGE_EMAIL": True}
CHANGED = "A new password was set for your Sparekey account"


@pytest.fixture
def site(make_site: Any) -> Site:
    built: Site = make_site(**SETTINGS)
    return built


def alice_of(site: Site) -> dict[str, Any]:
    return site.rows(User)[0]


def request_second(site: Site, address: str = SECOND) -> str:
    post(stolen_session(site), "/second-address", email=address)
    return link_of(site, "second-address")


def recipients(site: Site, after: int) -> set[str]:
    """Work, and return to whom mails went after the first so many."""
    return {str(mail["To"]) for mail in mails_to(site)[after:]}


def change_first(site: Site) -> None:
    post(stolen_session(site), "/change-email", email=NEW)
    site.visitor().submit(link_of(site, "change-email"))


@pytest.mark.parametrize("page", ["/change-email", "/second-address"])
def test_link_that_expired_before_its_mail_could_be_sent_is_not_mailed(make_site: Any, page: str) -> None:
    site: Site = make_site(**SETTINGS, SECURITY_CHANGE_EMAIL_WITHIN="1 second")
    post(stolen_session(site), page, email=SECOND)
    run(site, "outbox", "retry", "1")
    time.sleep(1.1)
    site.work()
    assert SECOND not in recipients(site, after=0)
    assert site.messages()[0]["reason"] == "its link or code has expired meanwhile"


@pytest.mark.requirement("R18", "R35")
def test_second_address_is_confirmed_by_a_button_and_gets_notices_only(site: Site) -> None:
    alice = stolen_session(site)
    assert 'href="/second-address">Second email address' in alice.open("/").text
    assert "Enter a valid email address." in alice.submit("/second-address", email="no address").text
    alice.submit("/second-address", email=SECOND.upper())
    assert f"We&#39;ve emailed a link to {SECOND}" in alice.open("/second-address").text
    link, browser = link_of(site, "second-address"), site.visitor()
    browser.open(link, follow_redirects=True)
    assert alice_of(site)["second_email"] is None
    browser.submit(link)
    assert "Your second email address has been confirmed." in browser.open("/login").text
    assert alice_of(site)["second_email"] == SECOND
    assert not alice.is_signed_in()
    page = stolen_session(site).open("/second-address").text
    assert f"{SECOND}</bdi></strong> gets a copy of every notice" in page
    assert recipients(site, 1) == {FIRST, SECOND}
    site.visitor().set_password(site.new_link())
    assert [mail["To"] for mail in mails_to(site, SECOND)] == [SECOND] * 3
    assert not any("/reset/" in text_of(mail) for mail in mails_to(site, SECOND))


def test_second_address_by_json(make_site: Any) -> None:
    views = {"post_change_email_view": "https://app.example.com/saved"}
    views |= {"change_email_error_view": "https://app.example.com/problem"}
    clients = {"app": views | {"origins": ["https://app.example.com"]}}
    site: Site = make_site(**SETTINGS, RECOVERY_CLIENTS=clients)
    assert post(stolen_session(site), "/second-address", email=SECOND, client="app") == {}
    link = link_of(site, "second-address")
    assert site.visitor().submit(link).location.startswith("https://app.example.com/saved?success=")
    assert site.visitor().submit(link).location.startswith("https://app.example.com/problem?error=")
    program = stolen_session(site)
    shown = program.open("/second-address", headers={"Accept": "application/json"})
    assert shown.json["response"]["second_email"] == SECOND  # type: ignore[index]
    for body in ({}, *({"email": bad} for bad in ("x", None, ["a@b.example"], " "))):
        assert program.post_json("/second-address", json=body).status_code == 400, body
    mails = len(mails_to(site))  # works first: the notice of the confirmation still waits here
    assert post(program, "/second-address", email="") == {}
    assert alice_of(site)["second_email"] is None
    assert recipients(site, mails) == {FIRST, SECOND}


@pytest.mark.requirement("R41", "R55")
def test_second_address_needs_a_fresh_password_and_is_mailed_once_in_the_cooldown(make_site: Any) -> None:
    site: Site = make_site(**SETTINGS, RECOVERY_MAIL_COOLDOWN="5 minutes")
    for name in ("victim", "victim+1"):
        request_second(site, f"{name}@example.com")
    assert [mail["To"] for mail in site.mailbox.mails] == ["victim@example.com"]
    program, messages = stolen_session(site), site.messages()
    site.app.config["SECURITY_FRESHNESS"] = site.app.config["SECURITY_FRESHNESS_GRACE_PERIOD"] = timedelta(0)
    for visitor in (program, site.visitor()):
        assert visitor.post_json("/second-address", json={"email": SECOND}).status_code == 401
    assert site.messages() == messages


@pytest.mark.requirement("R18")
def test_link_of_a_second_address_ends_and_changes_no_first_one(site: Site) -> None:
    """When it was used, and when the password or the second address has changed."""
    used = request_second(site)
    post(stolen_session(site), "/change-email", email=NEW)
    names = ("second-address", "change-email")
    for link in (used.replace(*names), link_of(site, "change-email").replace(*names[::-1])):
        assert site.visitor().submit(link).status_code == 302
        assert (alice_of(site)["email"], alice_of(site)["second_email"]) == (FIRST, None)
    site.visitor().submit(used)
    assert alice_of(site)["second_email"] == SECOND
    pending = request_second(site, NEW)
    post(stolen_session(site), "/second-address", email="")
    assert site.visitor().submit(pending).location == "/second-address"
    third = request_second(site, NEW)
    site.visitor().set_password(site.new_link())
    for link in (used, pending, third, f"{used}x"):
        assert site.visitor().submit(link).location == "/second-address"
        assert alice_of(site)["second_email"] is None
    site.app.config["SECURITY_CHANGE_EMAIL_WITHIN"] = timedelta(seconds=-1)
    site.change(password=site.rows(User)[1]["password"])
    browser = site.visitor()
    browser.submit(request_second(site))
    assert "That link has expired" in browser.open("/login").text


@BOTH
@pytest.mark.requirement("R18", "R35")
def test_either_mailbox_objects_to_a_new_password_and_the_second_recovers_nothing(make_site: Any) -> None:
    site: Site = make_site(**SETTINGS)
    site.change(second_email=SECOND)
    site.ask(SECOND)
    assert mails_to(site, SECOND) == []
    assert not site.password_works(OLD_PASSWORD, SECOND)
    for address in (SECOND, FIRST):
        password = f"{NEW_PASSWORD} of round {len(address)}"
        site.visitor().set_password(site.new_link(), password)
        assert site.password_works(password)
        notice = mails_to(site, address)[-1]
        assert notice["Subject"] == CHANGED
        object_to(site, notice)
        assert not site.password_works(password)
        assert alice_of(site)["email"] == FIRST
        site.work()


@BOTH
@pytest.mark.requirement("R35")
@pytest.mark.parametrize("keep", ["old", "new"])
def test_second_mailbox_freezes_a_change_of_the_first_and_gains_nothing(make_site: Any, keep: str) -> None:
    site: Site = make_site(**SETTINGS)
    site.change(second_email=SECOND)
    change_first(site)
    notices = mails_to(site, SECOND)
    assert len(notices) == 2  # of the request and of the change
    assert "a•••@new.example.com" in text_of(notices[-1])
    mails = len(site.mailbox.mails)
    assert "until it's clear" in object_to(site, notices[-1])
    row = alice_of(site)
    assert (row["email"], row["contested_email"], row["second_email"]) == (NEW, FIRST, SECOND)
    assert recipients(site, mails) == {FIRST, SECOND, NEW}
    for identity in (FIRST, SECOND, NEW, "alice"):
        site.ask(identity)
    assert not any("/reset/" in text_of(mail) for mail in mails_to(site))
    mails = len(site.mailbox.mails)
    run(site, "users", "settle-address", "alice", "--keep", keep)
    row = alice_of(site)
    assert (row["email"], row["second_email"]) == ((FIRST, None) if keep == "old" else (NEW, SECOND))
    assert recipients(site, mails) == {FIRST, SECOND, NEW}
    assert "already been taken care of" in object_to(site, notices[0])


@pytest.mark.requirement("R35")
def test_objection_removes_a_second_address_that_a_thief_has_set(make_site: Any) -> None:
    site: Site = make_site(**SETTINGS, RECOVERY_OPERATOR="operator@example.com")
    thief = stolen_session(site)
    site.visitor().submit(request_second(site, "thief@example.com"))
    [notice] = mails_to(site, FIRST)
    assert "Added: Second email address" in text_of(notice)
    page = site.visitor().open(objection_in(notice), follow_redirects=True).text
    assert "It also removes the new second email address." in page
    assert 'type="password"' not in page
    mails = len(site.mailbox.mails)
    assert "We've removed what was added" in object_to(site, notice)
    assert alice_of(site)["second_email"] is None
    assert not thief.is_signed_in()
    assert "already been taken care of" in object_to(site, notice)
    assert recipients(site, mails) == {FIRST, "thief@example.com", "operator@example.com"}
    site.change(second_email=SECOND)
    run(site, "users", "second-address", "alice")
    page = object_to(site, mails_to(site, SECOND)[-1])
    assert "We've removed what was added" not in page  # a removal restores nothing


def test_second_address_by_admin_and_import_and_while_off(site: Site, make_site: Any, tmp_path: Path) -> None:
    uri = site.app.config["SQLALCHEMY_DATABASE_URI"]
    off: Site = make_site(SECURITY_CHANGE_EMAIL=True, SQLALCHEMY_DATABASE_URI=uri)
    file = tmp_path / "users.jsonl"

    def second(address: str, fails: bool = False, site: Site = site) -> str:
        return run(site, "users", "second-address", "alice", address, fails=fails).output

    def load(address: str, fails: bool = False, site: Site = site) -> str:
        file.write_text(json.dumps({"email": "dora@example.com", "second_email": address}))
        return run(site, "users", "import", str(file), fails=fails).output

    assert SECOND in second(SECOND.upper())
    assert SECOND in run(site, "users", "show", "alice").output
    assert "is not an email address" in second("x", fails=True)
    assert alice_of(site)["second_email"] == SECOND
    run(site, "users", "second-address", "alice")
    assert alice_of(site)["second_email"] is None
    assert "email: not valid" in load("x", fails=True)
    load(SECOND)
    assert site.rows(User)[-1]["second_email"] == SECOND
    assert "RECOVERY_SECOND_ADDRESS" in second(SECOND, fails=True, site=off)
    assert "'second_email' is unknown" in load(SECOND, fails=True, site=off)
    site.work()
    second(SECOND)
    told = len(mails_to(off, SECOND))
    assert stolen_session(off).open("/second-address").status_code == 404
    change_first(off)
    assert len(mails_to(off, SECOND)) == told
