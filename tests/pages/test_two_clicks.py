"""Two clicks on a button are one: the browser drops the answer to the first, with its cookies, and shows the second's."""

import re
from collections.abc import Callable
from datetime import datetime
from html import unescape
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from support.features import CODE_SIGN_IN, CONFIRMATION, REGISTRATION
from support.live import base_url, live, mailed_link
from support.recovery import objection_in
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, Visitor, csrf_token

from app.accounts.models import User

ALICE, CAROL, MOVED = "alice@example.com", "carol@example.com", "alice@new.example"
NEW = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}


def submit_twice(visitor: Visitor, page: str, url: str | None = None, **fields: str) -> str:
    """Fill in a form, send it twice with the same cookies, and return the page that the browser shows."""
    form = visitor.open(page, follow_redirects=True)
    url = url or unescape(re.search(r'<form method="post" action="([^"]+)"', form.text)[1])  # type: ignore[index]
    cookies = dict(visitor.client._cookies or {})
    for _ in range(2):
        visitor.client._cookies = dict(cookies)
        answer = visitor.post_json(url, data={"csrf_token": csrf_token(form), **fields})
    return (visitor.open(answer.location, follow_redirects=True) if answer.location else answer).text


def has_mailed_once(address: str) -> Callable[[Site], bool]:
    return lambda site: site.mailbox.envelopes.count([address]) == 1


PASSWORD, SIGNED_IN = {"identity": "alice", "password": OLD_PASSWORD}, "You're signed in"
BY_CODE = {"identity": "alice", "passcode": OLD_PASSWORD}
FORMS: list[Any] = [  # is alice signed in, page, URL, fields, heading of the page behind, settings, fact that holds
    (False, "/reset", None, {"identity": "alice"}, "Check your email", {}, has_mailed_once(ALICE)),
    (False, "/login", None, PASSWORD, SIGNED_IN, {}, None),
    (True, "/", "/logout", {}, "Sign in", {}, None),
    (True, "/verify", None, {"password": OLD_PASSWORD}, SIGNED_IN, {}, None),
    (True, "/", "/language", {"language": "de"}, SIGNED_IN, {}, lambda site: site.rows(User)[0]["language"] == "de"),
    (True, "/change-email", "/change-email", {"email": MOVED}, "Check your email", {"SECURITY_CHANGE_EMAIL": True}, has_mailed_once(MOVED)),
    (False, "/confirm", None, {"identity": "alice"}, "Sign in", CONFIRMATION, has_mailed_once(ALICE)),
    (False, "/recover-username", None, {"identity": ALICE}, "Sign in", {"SECURITY_USERNAME_RECOVERY": True}, has_mailed_once(ALICE)),
    (False, "/register", None, {"email": CAROL}, "Check your email", REGISTRATION, has_mailed_once(CAROL)),
    (False, "/us-signin", None, BY_CODE, SIGNED_IN, CODE_SIGN_IN, None),
    (False, "/us-signin", "/us-signin/send-code", {"identity": "alice"}, "Sign in with a code", CODE_SIGN_IN, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("signed_in", "page", "url", "fields", "heading", "settings", "holds"), FORMS, ids=[f"{row[1]} {row[2]}" for row in FORMS]
)  # fmt: skip
def test_form_sent_twice_works_once(
    make_site: Any, signed_in: bool, page: str, url: str, fields: Any, heading: str, settings: Any, holds: Any
) -> None:
    site: Site = make_site(**{"RECOVERY_MAIL_COOLDOWN": "30 seconds", **settings})
    visitor = site.visitor()
    assert not signed_in or visitor.sign_in()
    shown = submit_twice(visitor, page, url, **fields)
    assert f"<h1>{heading}</h1>" in unescape(shown)
    assert 'class="message error"' not in shown
    site.work()
    assert holds is None or holds(site)


def test_this_wasnt_me_sent_twice_is_reported_once(site: Site) -> None:
    site.new_link()
    shown = submit_twice(site.visitor(), objection_in(site.mailbox.mails[0]))
    assert "<h1>This has already been taken care of</h1>" in shown
    assert site.events().count("not_me") == 1


def test_address_of_a_frozen_account_is_settled_by_two_clicks(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_older_factor = "app.recovery.address_change.has_older_factor"
    monkeypatch.setattr(has_older_factor, lambda user: user.contested_at is not None)
    visitor = site.visitor()
    assert visitor.sign_in()
    site.change(contested_email="alice@old.example", contested_at=datetime(2026, 1, 1))
    assert SIGNED_IN in unescape(submit_twice(visitor, "/", "/settle-address", keep="new"))
    assert site.rows(User)[0]["contested_email"] is None


def test_change_of_password_sent_twice_without_a_script_changes_it_once(site: Site) -> None:
    """The cookie of the new session was in the answer that the browser dropped, so the user signs in again."""
    visitor = site.visitor()
    assert visitor.sign_in()
    assert "<h1>Sign in</h1>" in submit_twice(visitor, "/change", **NEW)
    assert site.events().count("password_changed") == 1
    assert site.password_works(NEW_PASSWORD)


# --- In Chromium ---


def click_twice(page: Page, button: str, pause: int, latency: int) -> int:
    """Click twice while the first request is on its way. Return the number of requests that were sent."""
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    conditions = {"offline": False, "latency": latency, "downloadThroughput": -1, "uploadThroughput": -1}
    network.send("Network.emulateNetworkConditions", conditions)
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    box = page.get_by_role("button", name=button, exact=True).bounding_box()
    assert box is not None
    place = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(*place)
    page.wait_for_timeout(pause)
    page.mouse.click(*place)
    page.wait_for_timeout(2.5 * latency)
    page.wait_for_load_state()
    network.detach()  # which ends the latency
    return len(posts)


def fill_in(page: Page, url: str, **fields: str) -> None:
    page.goto(url)
    for name, value in fields.items():
        page.fill(f"[name={name}]", value)


@pytest.mark.requirement("R13")
@pytest.mark.parametrize(
    ("latency", "pause", "javascript"), [(300, 80, False), (1000, 800, False), (300, 80, True)]
)
def test_two_clicks_set_the_password(
    make_site: Any, open_tab: Callable[..., Page], latency: int, pause: int, javascript: bool
) -> None:
    page = open_tab(javascript=javascript)
    with live(make_site) as site:
        fill_in(page, mailed_link(site), password=NEW_PASSWORD, password_confirm=NEW_PASSWORD)
        assert click_twice(page, "Set new password", pause, latency) == (1 if javascript else 2)
        expect(page.get_by_role("heading", level=1)).to_have_text("Your password has been changed")
        assert site.password_works(NEW_PASSWORD)
        assert site.events().count("redeemed") == 1
        assert [message["kind"] for message in site.messages()].count("reset_notice") == 1


def test_script_sends_a_form_once_and_again_after_going_back(
    make_site: Any, open_tab: Callable[..., Page]
) -> None:
    page = open_tab(javascript=True)
    with live(make_site) as site:
        for password in ("wrong", OLD_PASSWORD):
            fill_in(page, f"{base_url(site)}/login", identity="alice", password=password)
            page.get_by_role("button", name="Sign in", exact=True).click()
            page.wait_for_load_state()
            page.go_back()
        fill_in(page, f"{base_url(site)}/change", **NEW)
        assert click_twice(page, "Change your password", 150, 300) == 1
        expect(page.get_by_role("heading", level=1)).to_have_text(SIGNED_IN)
        expect(page.locator(".message.error")).to_have_count(0)
        button = page.get_by_role("button", name="Sign out")
        button.evaluate("button => { button.form.target = '_blank'; }")  # so that this page stays
        with page.expect_popup():
            button.click()
        expect(button).to_be_disabled()
