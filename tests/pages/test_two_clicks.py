"""Two clicks on a button are one: every form is sent twice over a slow network.

Chromium drops the answer to the first request, with its cookies, and shows the answer to the second.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from passlib.totp import TOTP
from playwright.sync_api import Page, expect
from support.features import (
    CODE_SIGN_IN,
    CONFIRMATION,
    RECOVERY_CODES,
    REGISTRATION,
    confirm_addresses,
    one_time_code,
    set_up_code_sign_in,
    set_up_factor,
)
from support.live import base_url, live, mailed_link
from support.mailbox import text_of
from support.recovery import objection_in
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, wait_for

from app.accounts.datastore import find_account
from app.accounts.models import User
from app.db.engine import db

pytestmark = pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")  # Flask-Security's

LATENCY_MS = 300  # of each request from the first click on
PAUSE_MS = 150  # between the clicks


def click_twice(page: Page, button: str, pause: int = PAUSE_MS, latency: int = LATENCY_MS) -> int:
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


@pytest.mark.requirement("R13")
@pytest.mark.parametrize("javascript", [False, True], ids=["without JavaScript", "with JavaScript"])
@pytest.mark.parametrize(("latency", "pause"), [(300, 80), (1000, 800)])
def test_two_clicks_set_the_password(
    make_site: Any, open_tab: Callable[..., Page], latency: int, pause: int, javascript: bool
) -> None:
    page = open_tab(javascript=javascript)
    with live(make_site) as site:
        page.goto(mailed_link(site))
        for name in ("password", "password_confirm"):
            page.fill(f"[name={name}]", NEW_PASSWORD)
        click_twice(page, "Set new password", pause, latency)
        expect(page.get_by_role("heading", level=1)).to_have_text("Your password has been changed")
        assert site.password_works(NEW_PASSWORD)
        assert site.events().count("redeemed") == 1
        assert [message["kind"] for message in site.messages()].count("reset_notice") == 1


@dataclass(frozen=True)
class Form:
    """A form that is sent twice: how to open and fill it in, and what holds afterwards."""

    fill: Callable[[Site, Page, str], None]
    button: str
    heading: str
    settings: dict[str, Any] = field(default_factory=dict)
    holds: Callable[[Site], object] = lambda _site: True


def sign_in(page: Page, base: str, path: str = "/") -> None:
    page.goto(f"{base}/login")
    page.fill("[name=identity]", "alice")
    page.fill("[name=password]", OLD_PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(f"{base}/**")
    page.goto(base + path)


def fill(path: str, *, signed_in: bool = False, **fields: str) -> Callable[[Site, Page, str], None]:
    """Return a function that opens a page and fills in its form."""

    def open_and_fill(_site: Site, page: Page, base: str) -> None:
        sign_in(page, base, path) if signed_in else page.goto(base + path)
        for name, value in fields.items():
            page.fill(f"[name={name}]", value)

    return open_and_fill


def mailed_once(address: str, count: int = 1) -> Callable[[Site], bool]:
    """Return a function that waits for the worker and is True if one mail went to the address."""

    def is_mailed(site: Site) -> bool:
        wait_for(lambda: "waiting" not in {message["state"] for message in site.messages()})
        return site.mailbox.envelopes.count([address]) == count

    return is_mailed


def open_confirmation(site: Site, page: Page, base: str) -> None:
    site.change(confirmed_at=None)
    site.visitor().post_json("/confirm", json={"identity": "alice"})
    link = re.search(r"http\S+/confirm/\S+", text_of(site.mailbox.wait_for(1)))
    assert link
    page.goto(link[0])


def open_objection(site: Site, page: Page, _base: str) -> None:
    site.ask()
    page.goto(objection_in(site.mailbox.wait_for(1)))


def choose_language(_site: Site, page: Page, base: str) -> None:
    sign_in(page, base)
    page.get_by_text("Email language").click()


PASSWORD = {"identity": "alice", "password": OLD_PASSWORD}
NEW_ADDRESS = fill("/change-email", signed_in=True, email="alice@new.example")
FORMS = {
    "forgot": Form(
        fill("/reset", identity="alice"), "Email me a link", "Check your email",
        holds=mailed_once("alice@example.com"),
    ),
    "sign-in": Form(fill("/login", **PASSWORD), "Sign in", "You're signed in"),
    "sign-out at home": Form(fill("/", signed_in=True), "Sign out", "Sign in"),
    "sign-out": Form(fill("/logout", signed_in=True), "Sign out", "Sign in"),
    "verify": Form(fill("/verify", signed_in=True, password=OLD_PASSWORD), "Continue", "You're signed in"),
    "language": Form(
        choose_language, "Deutsch", "You're signed in",
        holds=lambda site: site.rows(User)[0]["language"] == "de",
    ),
    "this wasn't me": Form(
        open_objection, "Cancel the link", "This has already been taken care of",
        holds=lambda site: site.events().count("not_me") == 1,
    ),
    "change of address": Form(
        NEW_ADDRESS, "Send confirmation link", "Check your email",
        {"SECURITY_CHANGE_EMAIL": True}, mailed_once("alice@new.example"),
    ),
    "request to confirm": Form(
        fill("/confirm", identity="alice"), "Email me a link", "Sign in", CONFIRMATION,
        mailed_once("carol@example.com", 0),
    ),
    "forgotten username": Form(
        fill("/recover-username", identity="alice@example.com"), "Email me my username", "Sign in",
        {"SECURITY_USERNAME_RECOVERY": True}, mailed_once("alice@example.com"),
    ),
    "sign-up": Form(
        fill("/register", email="carol@example.com"), "Sign up", "Check your email", REGISTRATION,
        mailed_once("carol@example.com"),
    ),
    "sign-in with a code": Form(
        fill("/us-signin", identity="alice", passcode=OLD_PASSWORD), "Sign in", "You're signed in", CODE_SIGN_IN
    ),
    "request for a code": Form(
        fill("/us-signin", identity="alice"), "Email me a code", "Sign in with a code", CODE_SIGN_IN,
        mailed_once("alice@example.com", 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_form_sent_twice_works_once(make_site: Any, open_tab: Callable[..., Page], name: str) -> None:
    """Without JavaScript, so that the server sees both requests."""
    form = FORMS[name]
    settings = {"RECOVERY_MAIL_COOLDOWN": "30 seconds", **form.settings}  # as by default
    page = open_tab(javascript=False)
    with live(make_site, **settings) as site:
        confirm_addresses(site)
        form.fill(site, page, base_url(site))
        assert click_twice(page, form.button) == 2
        expect(page.get_by_role("heading", level=1)).to_have_text(form.heading)
        expect(page.locator(".message.error")).to_have_count(0)
        assert form.holds(site)


def test_address_of_a_frozen_account_is_settled_by_two_clicks(
    make_site: Any, open_tab: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    has_older_factor = "app.recovery.address_change.has_older_factor"
    monkeypatch.setattr(has_older_factor, lambda user: user.contested_at is not None)
    page = open_tab(javascript=False)
    with live(make_site) as site:
        sign_in(page, base_url(site))
        site.change(contested_email="alice@old.example", contested_at=datetime(2026, 1, 1))
        page.goto(base_url(site))
        assert click_twice(page, "Keep alice@example.com") == 2
        expect(page.get_by_role("heading", level=1)).to_have_text("You're signed in")
        assert site.rows(User)[0]["contested_email"] is None


# --- Forms whose second answer cannot be the first one's: a script sends them once ---


def open_second_factor(site: Site, page: Page, base: str) -> None:
    secret = set_up_factor(site)
    sign_in(page, base, "/tf-validate")
    page.fill("[name=code]", one_time_code(site, secret))


def open_set_up(path: str) -> Callable[[Site, Page, str], None]:
    """Return a function that opens the last step of a set-up of codes from an app."""

    def open_last_step(_site: Site, page: Page, base: str) -> None:
        sign_in(page, base, path)
        if (choice := page.get_by_label("Authenticator app")).count():
            choice.check()
        page.get_by_role("button", name="Set up", exact=True).click()
        key = page.locator(".key").inner_text().replace("-", "")
        page.fill("[name=code], [name=passcode]", TOTP(key=key).generate().token)

    return open_last_step


def open_recovery_code(site: Site, page: Page, base: str) -> None:
    set_up_factor(site)
    with site.app.app_context():
        util = site.app.extensions["security"].mf_recovery_codes_util
        [code, *_] = util.create_recovery_codes(find_account("alice"))
        db.session.commit()
    sign_in(page, base, "/mf-recovery")
    page.fill("[name=code]", code)


def open_new_address(site: Site, page: Page, base: str) -> None:
    NEW_ADDRESS(site, page, base)
    page.get_by_role("button", name="Send confirmation link").click()
    site.mailbox.wait_for(1)
    texts = "".join(text_of(mail) for mail in (site.mailbox.wait_for(2), site.mailbox.mails[0]))
    link = re.search(r"http\S+/change-email/\S+", texts)
    assert link
    page.goto(link[0])


def open_code_sign_in(site: Site, page: Page, base: str) -> None:
    secret = set_up_code_sign_in(site)
    page.goto(f"{base}/us-signin")
    page.fill("[name=identity]", "alice@example.com")
    page.fill("[name=passcode]", one_time_code(site, secret))


NEW = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
ONCE = {
    "change of password": Form(
        fill("/change", signed_in=True, **NEW), "Change your password", "You're signed in",
        holds=lambda site: site.password_works(NEW_PASSWORD),
    ),
    "second factor": Form(open_second_factor, "Continue", "You're signed in", RECOVERY_CODES),
    "recovery code": Form(open_recovery_code, "Continue", "You're signed in", RECOVERY_CODES),
    "set-up of a second factor": Form(open_set_up("/tf-setup"), "Continue", "Two-factor authentication", RECOVERY_CODES),
    "set-up of codes for sign-in": Form(open_set_up("/us-setup"), "Continue", "Sign-in codes", CODE_SIGN_IN),
    "new address": Form(
        open_new_address, "Confirm email address", "Sign in", {"SECURITY_CHANGE_EMAIL": True},
        lambda site: site.rows(User)[0]["email"] == "alice@new.example",
    ),
    "confirmation": Form(
        open_confirmation, "Confirm email address", "Sign in", CONFIRMATION,
        lambda site: site.rows(User)[0]["confirmed_at"],
    ),
    "code": Form(open_code_sign_in, "Sign in", "You're signed in", CODE_SIGN_IN),
}  # fmt: skip


@pytest.mark.parametrize("name", ONCE)
def test_two_clicks_on_a_button_that_works_once_are_one_request(
    make_site: Any, open_tab: Callable[..., Page], name: str
) -> None:
    form = ONCE[name]
    page = open_tab(javascript=True)
    with live(make_site, **form.settings) as site:
        confirm_addresses(site)
        form.fill(site, page, base_url(site))
        assert click_twice(page, form.button) == 1
        expect(page.get_by_role("heading", level=1)).to_have_text(form.heading)
        expect(page.locator(".message.error")).to_have_count(0)
        assert form.holds(site)


def test_change_of_password_sent_twice_without_a_script_changes_it_once(
    make_site: Any, open_tab: Callable[..., Page]
) -> None:
    """The cookie of the new session was in the answer that Chromium dropped, so the user signs in again.

    A second request that came while the first was hashed gets 409.
    """
    page = open_tab(javascript=False)
    with live(make_site) as site:
        fill("/change", signed_in=True, **NEW)(site, page, base_url(site))
        assert click_twice(page, "Change your password") == 2
        expect(page.get_by_role("heading", level=1)).to_have_text(
            re.compile("Sign in|The account has changed since you opened this page")
        )
        assert site.events().count("password_changed") == 1
        assert site.password_works(NEW_PASSWORD)


def test_form_can_be_sent_again_after_a_while_and_after_going_back(
    make_site: Any, open_tab: Callable[..., Page]
) -> None:
    page = open_tab(javascript=True)
    with live(make_site) as site:
        for password in ("wrong", OLD_PASSWORD):
            page.goto(f"{base_url(site)}/login")
            page.fill("[name=identity]", "alice")
            page.fill("[name=password]", password)
            page.get_by_role("button", name="Sign in", exact=True).click()
            page.wait_for_load_state()
            page.go_back()
        page.goto(base_url(site))
        expect(page.get_by_role("heading", level=1)).to_have_text("You're signed in")
        button = page.get_by_role("button", name="Sign out")
        button.evaluate("button => { button.form.target = '_blank'; }")  # so that this page stays
        with page.expect_popup():
            button.click()
        expect(button).to_be_disabled()
