"""After a reset, and for whoever did not do it: nobody is in doubt whose account they are in, and "this was not me"
ends what somebody else has begun.
"""

from __future__ import annotations

import base64
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy import event
from support.mailbox import Mailbox, html_of, text_of
from support.servers import free_port
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, served

from app.accounts.models import User
from app.db.engine import db
from app.mail.outbox import OutboxMessage
from app.recovery import link as links

THIEFS = "a fox took the eggs away"
HELP = {"RECOVERY_SUPPORT_CONTACT": "help@example.com", "RECOVERY_OPERATOR": "operator@example.com"}


def objection_in(mail: Any) -> str:
    [text], [html] = (
        set(re.findall(r'https?://[^\s"<]+/not-me/[^\s"<]+', part(mail))) for part in (text_of, html_of)
    )
    assert text == html
    return str(text)


def object_to(site: Site, mail: Any) -> str:
    """As a browser does: open the link, press the button."""
    answer = site.visitor().submit(objection_in(mail))
    assert answer.status_code == 200, answer.text
    return answer.text


# --- whose account is it ----------------------------------------------------------------------------


@pytest.mark.requirement("R45")
def test_whoever_is_signed_in_is_named_and_then_signed_out(site: Site) -> None:
    link, mallory = site.new_link(), site.visitor()
    mallory.submit("/login", identity="bob", password=OLD_PASSWORD, remember="y")
    form = mallory.open(link, follow_redirects=True)
    assert "for <strong><bdi>a•••@example.com</bdi></strong>" in form.text
    assert "In this browser <strong><bdi>b•••@example.com</bdi></strong> is signed in" in form.text
    done = mallory.set_password(link)
    assert done.location == "/reset-done"
    assert not mallory.is_signed_in()
    assert "You are not signed in" in mallory.open("/").text


@pytest.mark.requirement("R45")
def test_the_owner_herself_is_not_told_who_she_is(site: Site) -> None:
    link, alice = site.new_link(), site.visitor()
    alice.sign_in()
    assert "is signed in" not in alice.open(link, follow_redirects=True).text
    alice.set_password(link)
    assert not alice.is_signed_in()


@pytest.mark.requirement("R37", "R45")
def test_a_reset_by_a_program_signs_nobody_in_and_the_browsers_user_out(site: Site) -> None:
    link, mallory = site.new_link(), site.visitor()
    mallory.sign_in("bob")
    answer = mallory.post_json(link + "?include_auth_token", json={"password": NEW_PASSWORD})
    assert answer.json == {"meta": {"code": 200}, "response": {}}
    assert not mallory.is_signed_in()


@pytest.mark.requirement("R36")
@pytest.mark.parametrize("end", ["reset", "objection"])
def test_refresh_tokens_end_too(make_site: Any, end: str) -> None:
    site: Site = make_site(SECURITY_REFRESH_TOKEN=True)
    site.visitor().set_password(site.new_link(), "the password before")
    site.work()
    app = site.visitor()
    body = {"identity": "alice", "password": "the password before"}
    app.post_json("/login?include_auth_token", json=body)
    assert app.post_json("/refresh-token", json={}).status_code == 200
    if end == "reset":
        site.visitor().post_json(site.new_link(), json={"password": NEW_PASSWORD})
    else:
        object_to(site, site.mailbox.mails[1])
    assert app.post_json("/refresh-token", json={}).status_code == 400


# --- this was not me --------------------------------------------------------------------------------


@BOTH
@pytest.mark.requirement("R21")
def test_whoever_did_not_ask_cancels_that_link(make_site: Any) -> None:
    site: Site = make_site(**HELP)
    link, others = site.new_link(), site.new_link("bob")
    asked = site.mailbox.mails[0]
    owner = site.visitor()
    owner.sign_in()
    for _ in range(3):  # opening changes nothing: mail programs do it
        assert "cancel the link" in site.visitor().open(objection_in(asked), follow_redirects=True).text
        assert site.visitor().open(objection_in(asked), method="HEAD").status_code == 303
    assert site.visitor().open(link).status_code == 303
    assert "That link is cancelled" in object_to(site, asked)
    assert "This link was cancelled" in site.visitor().open(link).text
    assert site.visitor().open(others).status_code == 303
    assert owner.is_signed_in()
    assert site.password_works(OLD_PASSWORD)
    assert site.events().count("not_me") == 1
    object_to(site, asked)
    assert site.events().count("not_me") == 1  # once is enough


@BOTH
@pytest.mark.requirement("R35")
def test_whoever_did_not_reset_it_ends_everything_and_the_operator_hears_of_it(make_site: Any) -> None:
    site: Site = make_site(**HELP)
    site.visitor().set_password(site.new_link())
    site.work()
    notice = site.mailbox.mails[-1]
    thief, waiting = site.visitor(), site.new_link()
    assert thief.sign_in(password=NEW_PASSWORD)
    assert "sign out everywhere" in site.visitor().open(objection_in(notice), follow_redirects=True).text
    assert thief.is_signed_in()
    assert "The account is signed out everywhere" in object_to(site, notice)
    assert not thief.is_signed_in()
    assert "This link was cancelled" in site.visitor().open(waiting).text
    site.work()
    alert = site.mailbox.mails[-1]
    assert site.mailbox.envelopes[-1] == ["operator@example.com"]
    assert "Somebody says that a change of their account was not theirs" in text_of(alert)
    assert "alice" not in text_of(alert) + html_of(alert)
    again = site.new_link()  # she goes on as the page says
    site.visitor().set_password(again, "the third password of alice")
    bob_in = site.visitor()
    assert bob_in.sign_in(password="the third password of alice")
    object_to(site, notice)  # whoever finds the old mail later can not sign her out again
    assert bob_in.is_signed_in()


def test_a_program_may_object_too(site: Site) -> None:
    link = site.new_link()
    answer = site.visitor().post_json(objection_in(site.mailbox.mails[0]), json={})
    assert answer.json == {"meta": {"code": 200}, "response": {"state": "done"}}
    assert site.visitor().open(link).status_code == 400


def test_whoever_looks_only_is_told_that_nothing_was_done(site: Site) -> None:
    site.new_link()
    visitor = site.visitor()
    visitor.open(objection_in(site.mailbox.mails[0]))
    seen = visitor.open("/not-me", headers={"Accept": "application/json"}).json
    assert (seen or {})["response"] == {"state": "asked"}
    assert "not_me" not in site.events()


def test_the_instructions_of_a_link_that_a_thief_has_used_end_everything(make_site: Any) -> None:
    site: Site = make_site(**HELP)
    link, thief = site.new_link(), site.visitor()
    thief.set_password(link, THIEFS)
    assert thief.sign_in(password=THIEFS)
    page = object_to(site, site.mailbox.mails[0])
    assert "The account is signed out everywhere" in page
    assert not thief.is_signed_in()
    assert not site.password_works(THIEFS)
    site.work()
    site.visitor().set_password(site.new_link())  # the owner recovers it as ever
    assert site.password_works(NEW_PASSWORD)


def test_a_thief_who_presses_first_wins_nothing(site: Site) -> None:
    site.visitor().set_password(site.new_link(), THIEFS)
    site.work()
    notice = site.mailbox.mails[-1]
    object_to(site, notice)
    assert not site.password_works(THIEFS)
    assert "That was done already" in object_to(site, notice)  # and no more than that is said


def test_the_thiefs_password_stays_refused_whatever_is_pressed_next(site: Site) -> None:
    site.visitor().set_password(site.new_link(), THIEFS)
    site.work()
    for mail in list(site.mailbox.mails):  # the instructions, and the notice
        assert "The account is signed out everywhere" in object_to(site, mail)
    assert "must be another one" in site.visitor().set_password(site.new_link(), THIEFS).text


def test_whoever_objects_gets_another_link_at_once(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes")
    site.visitor().set_password(site.new_link(), THIEFS)
    site.work()
    object_to(site, site.mailbox.mails[0])
    site.visitor().set_password(site.new_link())
    assert site.password_works(NEW_PASSWORD)


def test_a_redemption_at_the_same_moment_is_undone_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    link, revoke_all_of = site.new_link(), links.revoke_all_of

    def redeemed_first(user_id: int) -> None:
        thief = threading.Thread(target=site.visitor().set_password, args=(link, THIEFS))
        thief.start()
        thief.join()
        revoke_all_of(user_id)

    monkeypatch.setattr(links, "revoke_all_of", redeemed_first)
    assert "The account is signed out everywhere" in object_to(site, site.mailbox.mails[0])
    assert not site.password_works(THIEFS)


@BOTH
def test_an_objection_locks_in_the_order_of_a_redemption(site: Site) -> None:
    """The account, then its links: or each of the two would wait for the other (PostgreSQL)."""
    site.new_link()
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(" ".join(statement.split()))

    with site.app.app_context():
        event.listen(db.engine, "before_cursor_execute", note)
    object_to(site, site.mailbox.mails[0])
    revoked = next(n for n, text in enumerate(statements) if text.startswith("UPDATE reset_link"))
    assert "FROM user WHERE user.id = " in statements[revoked - 1].replace('"', "")


def test_each_tabs_button_is_for_its_own_mail(site: Site) -> None:
    links = [site.new_link(name) for name in ("alice", "bob")]
    browser = site.visitor()
    first = browser.open(objection_in(site.mailbox.mails[0]), follow_redirects=True)
    browser.open(objection_in(site.mailbox.mails[1]), follow_redirects=True)
    fields = dict(re.findall(r'name="(csrf_token|objection)" value="([^"]+)"', first.text))
    browser.post_json("/not-me", data=fields)
    assert [site.visitor().open(link).status_code for link in links] == [400, 303]


def test_an_objection_counts_before_its_mail_is_settled(site: Site) -> None:
    """The worker died after the relay had accepted."""
    link = site.new_link()
    site.change(OutboxMessage, state="waiting", user_id=None, settled_at=None)
    assert "That link is cancelled" in object_to(site, site.mailbox.mails[0])
    assert "This link was cancelled" in site.visitor().open(link).text


def test_a_number_that_comes_again_is_another_mail(site: Site) -> None:
    site.new_link("bob")
    old = objection_in(site.mailbox.mails[0])
    site.change(OutboxMessage, nonce=b"n" * 32)  # as in a database that was restored
    assert site.visitor().open(old).status_code == 400


def test_the_page_after_a_changed_address_sends_nobody_to_the_thief(make_site: Any) -> None:
    site: Site = make_site(**HELP, SECURITY_CHANGE_EMAIL=True)
    thief = site.visitor()
    thief.sign_in()
    thief.post_json("/change-email", json={"email": "thief@example.com"})
    site.work()
    confirm = re.search(r"http://\S+/change-email/\S+", text_of(site.mailbox.mails[0]))
    assert confirm
    thief.open(confirm[0])
    site.work()
    page = object_to(site, site.mailbox.mails[-1])
    assert not thief.is_signed_in()
    assert "help@example.com" in page
    assert "/reset" not in page


def test_two_who_look_the_same_masked_are_told_apart(site: Site) -> None:
    site.change(User, User.username == "bob", email="adam@example.com")
    link, bob = site.new_link("alice"), site.visitor()
    bob.sign_in("bob")
    assert "is signed in" in bob.open(link, follow_redirects=True).text


@pytest.mark.requirement("R10")
def test_an_objection_can_not_be_made_up_or_used_for_something_else(site: Site) -> None:
    link = site.new_link()
    url = objection_in(site.mailbox.mails[0])
    before, token = url[:-43], url[-43:]
    assert len(base64.urlsafe_b64decode(token + "=")) == 32
    assert token != link[-43:]
    changed = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(0, 43, 3)]
    for made_up in (*changed, link[-43:], "x", "é" * 43, "A" * 43, "=" * 43):
        assert site.visitor().open(before + made_up).status_code == 400, made_up
    assert site.visitor().open(f"/reset/{token}").status_code == 400
    assert site.visitor().submit("/", "/not-me").status_code == 400  # without the link
    assert site.visitor().post_json(url, data={}).status_code == 400  # another site's form
    assert site.visitor().open(link).status_code == 303


def test_an_objection_ends_with_its_month(site: Site) -> None:
    site.new_link()
    [message] = site.messages()
    site.change(OutboxMessage, created_at=message["created_at"] - timedelta(days=31))
    page = site.visitor().open(objection_in(site.mailbox.mails[0]))
    assert (page.status_code, "expired" in page.text) == (400, True)


def test_an_objection_of_a_deleted_account_is_harmless(site: Site) -> None:
    site.new_link()
    with site.app.app_context():
        datastore = site.app.extensions["security"].datastore
        datastore.delete_user(datastore.find_user(email="alice@example.com"))
        datastore.commit()
    object_to(site, site.mailbox.mails[0])
    assert "not_me" not in site.events()


def test_the_objection_leaves_the_address_bar_too(page: Page, make_site: Any, mailbox: Mailbox) -> None:
    port = free_port()
    site: Site = make_site(
        RECOVERY_PUBLIC_URL=f"http://127.0.0.1:{port}", RECOVERY_WORKER_POLL="0.05 seconds"
    )
    with served(site.app, port):
        site.ask()
        url = objection_in(mailbox.wait_for(1))
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.headers.get("referer", "")))
        page.goto(url)
        assert page.url == f"http://127.0.0.1:{port}/not-me"
        page.get_by_role("button", name="It was not me").click()
        assert page.get_by_role("heading", name="That link is cancelled").is_visible()
    assert not [referer for referer in sent if "not-me/" in referer]


# --- the page for a new password --------------------------------------------------------------------


@pytest.mark.requirement("R67", "R68")
def test_password_managers_and_eyes_are_helped(make_site: Any, chromium: Browser, mailbox: Mailbox) -> None:
    port = free_port()
    site: Site = make_site(
        RECOVERY_PUBLIC_URL=f"http://127.0.0.1:{port}", RECOVERY_WORKER_POLL="0.05 seconds"
    )
    with served(site.app, port), chromium.new_context() as context:
        page = context.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        site.ask()
        mailbox.wait_for(1)
        page.goto(site.last_link())
        username = page.locator('input[autocomplete="username"]')
        assert (username.input_value(), username.get_attribute("readonly")) == ("a•••@example.com", "")
        boxes = page.locator('input[autocomplete="new-password"]')
        assert boxes.count() == 2
        for box in (boxes.nth(0), boxes.nth(1)):
            assert box.get_attribute("maxlength") is None
            assert box.get_attribute("onpaste") is None
        page.keyboard.type(NEW_PASSWORD)  # the box has the focus
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the button, by keyboard alone
        assert boxes.nth(0).get_attribute("type") == "text"
        assert boxes.nth(0).input_value() == NEW_PASSWORD
        show = page.get_by_role("button", name="Hide: New password", exact=True)
        show.click()
        assert boxes.nth(0).get_attribute("type") == "password"
        boxes.nth(1).fill("something else")
        page.get_by_role("button", name="Set new password").click()
        alert = page.get_by_role("alert")
        assert alert.get_by_role("link").inner_text() == "The two passwords are not the same."
        assert alert.evaluate("summary => document.activeElement === summary")
        assert problems == []


@pytest.mark.requirement("R42")
def test_an_account_that_signs_in_elsewhere_gets_no_password_by_reset(site: Site) -> None:
    site.ask("sso@example.com")
    site.work()
    assert site.mailbox.mails == []
    assert [row["password"] for row in site.rows(User) if row["email"] == "sso@example.com"] == [None]
