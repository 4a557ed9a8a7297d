"""This wasn't me: an objection revokes links, and after a change ends all access to the account."""

import base64
import json
import re
import shlex
from datetime import timedelta
from functools import partial
from html import unescape
from typing import Any

import pytest
from support.commands import run
from support.concurrency import interrupt
from support.database import delete_account
from support.mailbox import html_of, text_of, words_of
from support.recovery import code_of, mails_to, object_to, objection_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

from app.mail.outbox import OutboxMessage
from app.recovery import link as links

THIEFS = "a fox took the eggs away"
CANCELLED = "This link was canceled"
SIGNED_OUT = "Your account has been signed out everywhere"


@BOTH
@pytest.mark.requirement("R21")
def test_objection_to_instructions_cancels_the_accounts_links(site: Site) -> None:
    link, others = site.new_link(), site.new_link("bob")
    instructions = site.mailbox.mails[0]
    owner = site.visitor()
    owner.sign_in()
    for _ in range(3):  # mail programs open links
        page = site.visitor().open(objection_in(instructions), follow_redirects=True)
        assert "Cancel the link" in page.text
        assert site.visitor().open(objection_in(instructions), method="HEAD").status_code == 303
    assert site.visitor().open(link).status_code == 303
    assert "The link has been canceled" in object_to(site, instructions)
    assert CANCELLED in site.visitor().open(link).text
    assert site.visitor().open(others).status_code == 303
    assert owner.is_signed_in()
    assert site.password_works(OLD_PASSWORD)
    object_to(site, instructions)
    assert site.events().count("not_me") == 1


@BOTH
@pytest.mark.requirement("R35", "R36")
def test_objection_to_a_notice_ends_all_access_and_alerts_the_operator(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_OPERATOR="operator@example.com", SECURITY_REFRESH_TOKEN=True)
    site.visitor().set_password(site.new_link(), THIEFS)
    notice = mails_to(site)[-1]
    thief, program, waiting = site.visitor(), site.visitor(), site.new_link()
    assert thief.sign_in(password=THIEFS)
    program.post_json("/login?include_auth_token", json={"identity": "alice", "password": THIEFS})
    assert program.post_json("/refresh-token", json={}).status_code == 200
    assert "Sign out everywhere" in site.visitor().open(objection_in(notice), follow_redirects=True).text
    assert thief.is_signed_in()
    assert SIGNED_OUT in object_to(site, notice)
    assert not thief.is_signed_in()
    assert program.post_json("/refresh-token", json={}).status_code == 400
    assert not site.password_works(THIEFS)
    assert CANCELLED in site.visitor().open(waiting).text
    alert, notice_of_the_end = mails_to(site)[-2:]
    assert site.mailbox.envelopes[-2:] == [["operator@example.com"], ["alice@example.com"]]
    assert "Your old password no longer works" in words_of(notice_of_the_end)
    assert "A user reported a change to their account" in text_of(alert)
    assert "alice" not in text_of(alert) + html_of(alert)
    for words in (text_of(alert), unescape(html_of(alert))):
        [command] = re.findall(r"manage\.py (users show '#\d+')", words)
        assert "alice@example.com" in run(site, *shlex.split(command)).output
    site.visitor().set_password(site.new_link(), "the third password of alice")
    owner = site.visitor()
    assert owner.sign_in(password="the third password of alice")
    # A mail found later ends nothing again.
    assert "This has already been taken care of" in object_to(site, notice)
    assert owner.is_signed_in()


def test_objection_page_leaves_the_address_bar_and_its_post_may_be_a_programs(site: Site) -> None:
    link, visitor = site.new_link(), site.visitor()
    url = objection_in(site.mailbox.mails[0])
    landing = visitor.open(url)
    assert (landing.status_code, landing.location) == (303, "/not-me")
    assert landing.headers["Referrer-Policy"] == "no-referrer"
    answer = visitor.open("/not-me", headers={"Accept": "application/json"})
    assert (answer.json or {})["response"] == {"state": "asked"}
    assert "not_me" not in site.events()
    # The worker died after the mail server had accepted the message.
    site.change(OutboxMessage, state="waiting", user_id=None, settled_at=None)
    answer = site.visitor().post_json(url, json={})
    assert answer.json == {"meta": {"code": 200}, "response": {"state": "done"}}
    assert CANCELLED in site.visitor().open(link).text


@BOTH
def test_objection_is_followed_by_a_new_link_at_once_in_spite_of_the_quotas(make_site: Any) -> None:
    """The thief's redeemed links and a canceled one start no cool-down, and count half for the daily cap."""
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes", RECOVERY_MAIL_DAILY_CAP=2)
    thief = site.visitor()
    for password in (THIEFS, f"{THIEFS} again"):
        link, instructions = site.new_link(), site.mailbox.mails[-1]
        thief.set_password(link, password)
        assert thief.sign_in(password=password)
        assert SIGNED_OUT in object_to(site, instructions)  # whose link was used
        assert not thief.is_signed_in()
        assert not site.password_works(password)
        site.work()
    site.new_link()
    assert "The link has been canceled" in object_to(site, site.mailbox.mails[-1])
    site.visitor().set_password(site.new_link())
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R37")
def test_objection_keeps_the_thiefs_password_refused_until_the_next_reset(site: Site) -> None:
    site.visitor().set_password(site.new_link(), THIEFS)
    for mail in mails_to(site):  # the instructions, and the notice
        assert SIGNED_OUT in object_to(site, mail)
    site.work()
    link = site.new_link()
    assert "different from your current one" in site.visitor().set_password(link, THIEFS).text
    for password in (NEW_PASSWORD, THIEFS):
        assert code_of(site, link, password) == "redeemed"
        site.work()
        link = site.new_link()


def test_objection_undoes_a_redemption_at_the_same_moment(site: Site, monkeypatch: Any) -> None:
    redeem = partial(site.visitor().set_password, site.new_link(), THIEFS)
    interrupt(monkeypatch, links, "revoke_all_of", redeem)
    assert SIGNED_OUT in object_to(site, site.mailbox.mails[0])
    assert not site.password_works(THIEFS)


def test_objection_of_each_tab_is_for_its_own_mail(site: Site) -> None:
    reset_links = [site.new_link(name) for name in ("alice", "bob")]
    browser = site.visitor()
    first, _ = (browser.open(objection_in(mail), follow_redirects=True) for mail in site.mailbox.mails)
    fields = dict(re.findall(r'name="(csrf_token|objection)" value="([^"]+)"', first.text))
    browser.post_json("/not-me", data=fields)
    assert [site.visitor().open(link).status_code for link in reset_links] == [400, 303]


@pytest.mark.requirement("R10")
def test_objection_token_cannot_be_forged_or_used_for_something_else(site: Site) -> None:
    link = site.new_link()
    url = objection_in(site.mailbox.mails[0])
    before, token = url[:-43], url[-43:]
    assert len(base64.urlsafe_b64decode(token + "=")) == 32
    assert token != link[-43:]
    # Not the last character, which holds two unused bits.
    changed = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(0, 42, 3)]
    for forged in (*changed, link[-43:], "x", "é" * 43, "A" * 43, "=" * 43):
        assert site.visitor().open(before + forged).status_code == 400, forged
    assert site.visitor().open(f"/reset/{token}").status_code == 400
    assert site.visitor().submit("/", "/not-me").status_code == 400  # without having opened the link
    assert site.visitor().post_json(url, data={}).status_code == 400  # a form of another site
    assert site.visitor().open(link).status_code == 303
    payload = before.rpartition("/")[2].split(".")[0]
    content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert content == [site.messages()[0]["message_id"]]  # which tells no number of messages


def test_objection_link_ends_after_a_month_and_with_its_message_or_account(site: Site) -> None:
    site.new_link()
    url = objection_in(site.mailbox.mails[0])
    [message] = site.messages()
    site.change(OutboxMessage, message_id="<another@id.example.com>")  # with its number, after a restore
    assert site.visitor().open(url).status_code == 400
    month_ago = message["created_at"] - timedelta(days=31)
    site.change(OutboxMessage, message_id=message["message_id"], created_at=month_ago, settled_at=month_ago)
    page = site.visitor().open(url)
    assert (page.status_code, "expired" in page.text) == (400, True)
    assert "too old to use" in page.text
    site.change(OutboxMessage, created_at=message["created_at"], settled_at=message["settled_at"])
    delete_account(site)
    object_to(site, site.mailbox.mails[0])
    assert "not_me" not in site.events()
