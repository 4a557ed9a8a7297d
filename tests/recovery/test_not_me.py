"""This wasn't me: an objection revokes links, and after a change ends all access to the account."""

import base64
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from support.mailbox import html_of, text_of
from support.recovery import object_to, objection_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

from app.db.engine import db
from app.mail.outbox import OutboxMessage
from app.recovery import link as links

THIEFS = "a fox took the eggs away"
HELP = {"RECOVERY_SUPPORT_CONTACT": "help@example.com", "RECOVERY_OPERATOR": "operator@example.com"}
CANCELLED = "This link was canceled"
SIGNED_OUT = "Your account has been signed out everywhere"


@BOTH
@pytest.mark.requirement("R21")
def test_objection_to_instructions_cancels_the_accounts_links(make_site: Any) -> None:
    site: Site = make_site(**HELP)
    link, others = site.new_link(), site.new_link("bob")
    instructions = site.mailbox.mails[0]
    owner = site.visitor()
    owner.sign_in()
    for _ in range(3):  # mail programs open links
        assert (
            "Cancel the link" in site.visitor().open(objection_in(instructions), follow_redirects=True).text
        )
        assert site.visitor().open(objection_in(instructions), method="HEAD").status_code == 303
    assert site.visitor().open(link).status_code == 303
    assert "The link has been canceled" in object_to(site, instructions)
    assert CANCELLED in site.visitor().open(link).text
    assert site.visitor().open(others).status_code == 303
    assert owner.is_signed_in()
    assert site.password_works(OLD_PASSWORD)
    assert site.events().count("not_me") == 1
    object_to(site, instructions)
    assert site.events().count("not_me") == 1


@BOTH
@pytest.mark.requirement("R35", "R36")
def test_objection_to_a_notice_ends_all_access_and_alerts_the_operator(make_site: Any) -> None:
    site: Site = make_site(**HELP, SECURITY_REFRESH_TOKEN=True)
    site.visitor().set_password(site.new_link(), THIEFS)
    site.work()
    notice = site.mailbox.mails[-1]
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
    site.work()
    alert, notice_of_the_end = site.mailbox.mails[-2:]
    assert site.mailbox.envelopes[-2:] == [["operator@example.com"], ["alice@example.com"]]
    assert "Your old password no longer works" in " ".join(text_of(notice_of_the_end).split())
    assert "A user reported a change to their account" in text_of(alert)
    assert "alice" not in text_of(alert) + html_of(alert)
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
    answer = site.visitor().post_json(url, json={})
    assert answer.json == {"meta": {"code": 200}, "response": {"state": "done"}}
    assert site.visitor().open(link).status_code == 400


def test_objection_to_instructions_whose_link_was_used_ends_all_access(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes")
    thief = site.visitor()
    thief.set_password(site.new_link(), THIEFS)
    assert thief.sign_in(password=THIEFS)
    assert SIGNED_OUT in object_to(site, site.mailbox.mails[0])
    assert not thief.is_signed_in()
    assert not site.password_works(THIEFS)
    site.work()
    site.visitor().set_password(site.new_link())  # at once, in spite of the cool-down
    assert site.password_works(NEW_PASSWORD)


@BOTH
def test_objection_is_followed_by_a_new_link_at_once_in_spite_of_the_quotas(make_site: Any) -> None:
    """The thief's redeemed links and a canceled one start no cool-down, and count half for the daily cap."""
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes", RECOVERY_MAIL_DAILY_CAP=2)
    for password in (THIEFS, f"{THIEFS} again"):
        link, instructions = site.new_link(), site.mailbox.mails[-1]
        site.visitor().set_password(link, password)
        assert SIGNED_OUT in object_to(site, instructions)
        site.work()
    site.new_link()
    assert "The link has been canceled" in object_to(site, site.mailbox.mails[-1])
    site.visitor().set_password(site.new_link())
    assert site.password_works(NEW_PASSWORD)


def test_objection_keeps_the_thiefs_password_refused_after_a_second_one(site: Site) -> None:
    site.visitor().set_password(site.new_link(), THIEFS)
    site.work()
    for mail in list(site.mailbox.mails):  # the instructions, and the notice
        assert SIGNED_OUT in object_to(site, mail)
    site.work()
    assert "different from your current one" in site.visitor().set_password(site.new_link(), THIEFS).text


def test_objection_undoes_a_redemption_at_the_same_moment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, revoke_all_of = site.new_link(), links.revoke_all_of

    def redeemed_first(user_id: int) -> None:
        thief = threading.Thread(target=site.visitor().set_password, args=(link, THIEFS))
        thief.start()
        thief.join()
        revoke_all_of(user_id)

    monkeypatch.setattr(links, "revoke_all_of", redeemed_first)
    assert SIGNED_OUT in object_to(site, site.mailbox.mails[0])
    assert not site.password_works(THIEFS)


@BOTH
def test_objection_locks_the_account_before_its_links(site: Site) -> None:
    """As a redemption does, or the two would deadlock on PostgreSQL."""
    site.new_link()
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(" ".join(statement.split()))

    with site.app.app_context():
        event.listen(db.engine, "before_cursor_execute", note)
    object_to(site, site.mailbox.mails[0])
    revoked = next(n for n, text in enumerate(statements) if text.startswith("UPDATE reset_link"))
    assert "FROM user WHERE user.id = " in statements[revoked - 1].replace('"', "")


def test_objection_of_each_tab_is_for_its_own_mail(site: Site) -> None:
    reset_links = [site.new_link(name) for name in ("alice", "bob")]
    browser = site.visitor()
    first = browser.open(objection_in(site.mailbox.mails[0]), follow_redirects=True)
    browser.open(objection_in(site.mailbox.mails[1]), follow_redirects=True)
    browser.post_json(
        "/not-me", data=dict(re.findall(r'name="(csrf_token|objection)" value="([^"]+)"', first.text))
    )
    assert [site.visitor().open(link).status_code for link in reset_links] == [400, 303]


def test_objection_counts_before_its_message_is_settled(site: Site) -> None:
    """The worker died after the mail server had accepted the message."""
    link = site.new_link()
    site.change(OutboxMessage, state="waiting", user_id=None, settled_at=None)
    assert "The link has been canceled" in object_to(site, site.mailbox.mails[0])
    assert CANCELLED in site.visitor().open(link).text


def test_objection_after_a_changed_address_does_not_lead_to_the_new_one(make_site: Any) -> None:
    site: Site = make_site(**HELP, SECURITY_CHANGE_EMAIL=True)
    thief = site.visitor()
    thief.sign_in()
    thief.post_json("/change-email", json={"email": "thief@example.com"})
    site.work()
    confirm = re.search(r"http://\S+/change-email/\S+", text_of(site.mailbox.mails[0]))
    assert confirm
    thief.submit(confirm[0])
    site.work()
    page = object_to(site, site.mailbox.mails[-1])
    assert not thief.is_signed_in()
    assert "help@example.com" in page
    assert "/reset" not in page


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


def test_objection_link_expires_after_a_month_and_belongs_to_one_message(site: Site) -> None:
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


def test_objection_of_a_deleted_account_does_nothing(site: Site) -> None:
    site.new_link()
    with site.app.app_context():
        datastore = site.app.extensions["security"].datastore
        datastore.delete_user(datastore.find_user(email="alice@example.com"))
        datastore.commit()
    object_to(site, site.mailbox.mails[0])
    assert "not_me" not in site.events()
