"""A second address: it gets every notice and no link, and its reader cannot take the account over."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from support.commands import run
from support.factors import add_app, post
from support.features import SECOND_FACTOR
from support.live import base_url, live
from support.mailbox import link_in, text_of
from support.recovery import object_to, objection_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, Visitor

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


def signed_in(site: Site, password: str = OLD_PASSWORD) -> Visitor:
    visitor = site.visitor()
    assert visitor.sign_in("alice", password)
    return visitor


def mailed_link(site: Site, kind: str = "second-address") -> str:
    site.work()
    links = [re.search(rf"https?://\S+/{kind}/\S+", text_of(mail)) for mail in site.mailbox.mails]
    return [link[0] for link in links if link][-1]


def request_second(site: Site, address: str = SECOND) -> str:
    post(signed_in(site), "/second-address", email=address)
    return mailed_link(site)


def mails_to(site: Site, address: str) -> list[Any]:
    site.work()
    return [mail for mail in site.mailbox.mails if mail["To"] == address]


def change_first(site: Site) -> None:
    post(signed_in(site), "/change-email", email=NEW)
    site.visitor().submit(mailed_link(site, "change-email"))


@pytest.mark.requirement("R18", "R35")
def test_second_address_is_confirmed_in_the_browser_and_gets_notices_only(make_site: Any, page: Page) -> None:
    with live(make_site, **SETTINGS) as site:

        def press(**fields: str) -> None:
            for name, value in fields.items():
                page.locator(f"[name={name}]").first.fill(value)
            page.locator("main form [type=submit]").first.click()

        page.goto(f"{base_url(site)}/login")
        press(identity="alice", password=OLD_PASSWORD)
        page.get_by_role("link", name="Second email address").click()
        press(email="no address")
        page.get_by_text("Enter a valid email address.").first.wait_for()
        press(email=SECOND.upper())
        page.get_by_text(f"We've emailed a link to {SECOND}").wait_for()
        page.goto(re.search(r"http\S+/second-address/\S+", text_of(site.mailbox.wait_for(1)))[0])  # type: ignore[index]
        assert alice_of(site)["second_email"] is None
        press()
        page.get_by_text("Your second email address has been confirmed.").wait_for()
        assert alice_of(site)["second_email"] == SECOND
        page.goto(f"{base_url(site)}/second-address")
        press(identity="alice", password=OLD_PASSWORD)  # it has signed the account out
        page.goto(f"{base_url(site)}/second-address")
        page.get_by_text(f"{SECOND} gets a copy of every notice").wait_for()
        site.mailbox.wait_for(3)
        site.ask()
        link = link_in(site.mailbox.wait_for(4))
        assert site.visitor().set_password(link).status_code == 302
        site.mailbox.wait_for(6)
    assert [mail["To"] for mail in site.mailbox.mails] == [SECOND, FIRST, SECOND, FIRST, FIRST, SECOND]
    assert not any("/reset/" in text_of(mail) for mail in mails_to(site, SECOND))


def test_second_address_by_json(make_site: Any) -> None:
    views = {"post_change_email_view": "https://app.example.com/saved"}
    views |= {"change_email_error_view": "https://app.example.com/problem"}
    site: Site = make_site(
        **SETTINGS, RECOVERY_CLIENTS={"app": views | {"origins": ["https://app.example.com"]}}
    )
    program = signed_in(site)
    assert post(program, "/second-address", email=SECOND, client="app") == {}
    link = mailed_link(site)
    assert site.visitor().submit(link).location.startswith("https://app.example.com/saved?success=")
    assert site.visitor().submit(link).location.startswith("https://app.example.com/problem?error=")
    program = signed_in(site)
    shown = program.open("/second-address", headers={"Accept": "application/json"})
    assert shown.json["response"]["second_email"] == SECOND  # type: ignore[index]
    for bad in ("x", None, ["a@b.example"], " "):
        assert program.post_json("/second-address", json={"email": bad}).status_code == 400, bad
    assert program.post_json("/second-address", json={}).status_code == 400
    assert post(program, "/second-address", email="") == {}
    assert alice_of(site)["second_email"] is None
    told = {mail["To"] for mail in site.mailbox.mails[-2:]} if site.work() else set()
    assert told == {FIRST, SECOND}


@pytest.mark.requirement("R41")
def test_second_address_needs_a_password_that_was_entered_a_moment_ago(site: Site) -> None:
    program = signed_in(site)
    site.app.config["SECURITY_FRESHNESS"] = timedelta(0)
    site.app.config["SECURITY_FRESHNESS_GRACE_PERIOD"] = timedelta(0)
    answer = program.post_json("/second-address", json={"email": SECOND})
    assert (answer.status_code, site.messages()) == (401, [])
    assert site.visitor().post_json("/second-address", json={"email": SECOND}).status_code == 401


@pytest.mark.requirement("R55")
def test_mail_to_a_typed_second_address_is_counted_by_the_address(make_site: Any) -> None:
    site: Site = make_site(**SETTINGS, RECOVERY_MAIL_COOLDOWN="5 minutes")
    for name in ("victim", "victim+1"):
        post(signed_in(site), "/second-address", email=f"{name}@example.com")
        site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == ["victim@example.com"]


def test_link_of_a_second_address_ends(site: Site) -> None:
    """When it was used, and when the password or the second address has changed."""
    used = request_second(site)
    site.visitor().submit(used)
    pending = request_second(site, NEW)
    post(signed_in(site), "/second-address", email="")
    assert site.visitor().submit(pending).location == "/second-address"
    third = request_second(site, NEW)
    site.visitor().set_password(site.new_link())
    for link in (used, pending, third, f"{used}x"):
        page = site.visitor()
        assert page.submit(link).location == "/second-address"
        assert alice_of(site)["second_email"] is None
    site.app.config["SECURITY_CHANGE_EMAIL_WITHIN"] = timedelta(seconds=-1)
    site.change(password=site.rows(User)[1]["password"])
    late = request_second(site)
    browser = site.visitor()
    browser.submit(late)
    assert "That link has expired" in browser.open("/login").text


@pytest.mark.requirement("R18")
def test_links_of_both_addresses_change_their_own_only(site: Site) -> None:
    second = request_second(site)
    post(signed_in(site), "/change-email", email=NEW)
    first = mailed_link(site, "change-email")
    swapped = [
        second.replace("second-address", "change-email"),
        first.replace("change-email", "second-address"),
    ]
    for link in swapped:
        assert site.visitor().submit(link).status_code == 302
        assert (alice_of(site)["email"], alice_of(site)["second_email"]) == (FIRST, None)


@pytest.mark.requirement("R18")
def test_second_address_recovers_nothing(site: Site) -> None:
    site.change(second_email=SECOND)
    site.ask(SECOND)
    site.work()
    assert site.mailbox.mails == []
    assert not site.password_works(OLD_PASSWORD, SECOND)


@BOTH
@pytest.mark.requirement("R35")
def test_either_mailbox_objects_to_a_new_password(make_site: Any) -> None:
    site: Site = make_site(**SETTINGS)
    site.change(second_email=SECOND)
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
    assert "until it's clear" in object_to(site, notices[-1])
    row = alice_of(site)
    assert (row["email"], row["contested_email"], row["second_email"]) == (NEW, FIRST, SECOND)
    assert {mail["To"] for mail in site.mailbox.mails[-3:]} == {FIRST, SECOND, NEW} if site.work() else True
    for identity in (FIRST, SECOND, NEW, "alice"):
        site.ask(identity)
        site.work()
    assert not any("/reset/" in text_of(mail) for mail in site.mailbox.mails)
    mails = len(site.mailbox.mails)
    run(site, "users", "settle-address", "alice", "--keep", keep)
    row = alice_of(site)
    assert (row["email"], row["second_email"]) == ((FIRST, None) if keep == "old" else (NEW, SECOND))
    site.work()
    assert {mail["To"] for mail in site.mailbox.mails[mails:]} == {FIRST, SECOND, NEW}
    assert all(objection_in(notice) for notice in notices)
    assert "already been taken care of" in object_to(site, notices[0])


@pytest.mark.requirement("R35")
def test_objection_removes_a_second_address_that_a_thief_has_set(make_site: Any) -> None:
    site: Site = make_site(**SETTINGS, RECOVERY_OPERATOR="operator@example.com")
    thief = signed_in(site)
    site.visitor().submit(request_second(site, "thief@example.com"))
    [notice] = mails_to(site, FIRST)
    assert "Added: Second email address" in text_of(notice)
    page = site.visitor().open(objection_in(notice), follow_redirects=True).text
    assert "It also removes the new second email address." in page
    assert 'type="password"' not in page
    assert "We've removed what was added" in object_to(site, notice)
    assert alice_of(site)["second_email"] is None
    assert not thief.is_signed_in()
    assert "already been taken care of" in object_to(site, notice)
    told = [mail["To"] for mail in site.mailbox.mails[-3:]] if site.work() else []
    assert {*told} == {FIRST, "thief@example.com", "operator@example.com"}
    site.change(second_email=SECOND)
    run(site, "users", "second-address", "alice")
    assert "We've removed what was added" not in object_to(
        site, mails_to(site, SECOND)[-1]
    )  # a removal restores nothing


@pytest.mark.requirement("R37")
def test_second_mailbox_removes_no_factor_without_the_password(make_site: Any, tmp_path: Path) -> None:
    site: Site = make_site(**SETTINGS, **SECOND_FACTOR)
    site.app.instance_path = str(tmp_path)
    site.change(second_email=SECOND)
    add_app(site, signed_in(site))
    assert "The change itself is still in place" in object_to(site, mails_to(site, SECOND)[-1])
    assert alice_of(site)["tf_primary_method"] == "authenticator"


def test_second_address_by_an_admin_and_by_import(site: Site, make_site: Any, tmp_path: Path) -> None:
    assert SECOND in run(site, "users", "second-address", "alice", SECOND.upper()).output
    assert SECOND in run(site, "users", "show", "alice").output
    assert "is not an email address" in run(site, "users", "second-address", "alice", "x", fails=True).output
    assert alice_of(site)["second_email"] == SECOND
    run(site, "users", "second-address", "alice")
    assert alice_of(site)["second_email"] is None
    file = tmp_path / "users.jsonl"
    file.write_text(json.dumps({"email": "dora@example.com", "second_email": SECOND}))
    run(site, "users", "import", str(file))
    assert site.rows(User)[-1]["second_email"] == SECOND
    file.write_text(json.dumps({"email": "eve@example.com", "second_email": "x"}))
    assert "email: not valid" in run(site, "users", "import", str(file), fails=True).output
    off: Site = make_site(SQLALCHEMY_DATABASE_URI=site.app.config["SQLALCHEMY_DATABASE_URI"])
    assert (
        "RECOVERY_SECOND_ADDRESS" in run(off, "users", "second-address", "alice", SECOND, fails=True).output
    )
    assert "'second_email' is unknown" in run(off, "users", "import", str(file), fails=True).output


def test_stored_second_address_gets_nothing_while_the_setting_is_off(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True)
    site.change(second_email=SECOND)
    assert signed_in(site).open("/second-address").status_code == 404
    change_first(site)
    assert mails_to(site, SECOND) == []
