"""Recovery in every language, without JavaScript, by keyboard alone, and with a screen reader."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from babel import Locale
from playwright.sync_api import Page, expect
from support.features import REGISTRATION, confirm_addresses
from support.live import base_url, live, mailed_link
from support.mailbox import html_of, link_in
from support.site import NEW_PASSWORD, Site
from support.translations import SHIPPED

MISMATCH = "The passwords don't match."


@pytest.fixture
def running(make_site: Any) -> Iterator[Site]:
    with live(make_site, RECOVERY_SUPPORT_CONTACT="help@example.com") as site:
        yield site


@pytest.fixture
def page(open_tab: Callable[..., Page]) -> Iterator[Page]:
    """A tab with JavaScript. A message on its console fails the test."""
    messages: list[str] = []
    tab = open_tab(javascript=True)
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    yield tab
    assert [text for text in messages if "the server responded with a status of 400" not in text] == []


def focused(page: Page) -> str:
    """Return the name, role or text of the element that has the focus."""
    read = "e => e.name || e.getAttribute('role') || e.innerText || e.tagName"
    return str(page.evaluate(f"({read})(document.activeElement)"))


def tab_to(page: Page, target: str) -> None:
    """Press Tab until the target has the focus."""
    stops = [focused(page)]
    while stops[-1] != target:
        page.keyboard.press("Tab")
        stops.append(focused(page))
        assert len(stops) < 40, stops


def submit(page: Page, **fields: str) -> None:
    for name, value in fields.items():
        page.locator(f"[name={name}]").fill(value)
    page.locator("main [type=submit]").click()


@pytest.mark.parametrize("language", ["en", *SHIPPED])
def test_reset_in_every_language_without_javascript(site: Site, language: str) -> None:
    opening = f'<html lang="{language}" dir="{Locale.parse(language).text_direction}"'
    visitor = site.visitor()
    assert f'href="?language={language}" hreflang="{language}"' in visitor.open("/login").text
    assert opening in visitor.open(f"/login?language={language}").text
    visitor.submit("/reset", identity="alice")
    site.work()
    landing = visitor.open(site.last_link()).location
    pages = [visitor.set_password(landing, "short")]
    visitor.set_password(landing)
    site.work()
    pages += map(visitor.open, ("/reset", "/check-mail", "/reset-done"))
    visitor.submit("/login", identity="alice", password=NEW_PASSWORD)
    pages.append(visitor.open("/"))
    assert "alice@example.com" in pages[-1].text
    assert [page.request.path for page in pages if opening not in page.text] == []
    assert [opening in html_of(mail) for mail in site.mailbox.mails] == [True, True]


@pytest.mark.requirement("R67")
def test_reset_by_keyboard_alone(running: Site, page: Page) -> None:
    keys = page.keyboard
    page.goto(base_url(running))
    assert focused(page) == "identity"
    page.locator("body").focus()
    page.evaluate("document.activeElement.blur()")
    page.get_by_text("Skip to content").focus()
    keys.press("Enter")
    keys.press("Tab")
    assert focused(page) == "identity"
    tab_to(page, "Forgot your password?")
    keys.press("Enter")
    page.wait_for_url("**/reset")
    assert focused(page) == "identity"
    keys.type("alice")
    keys.press("Enter")
    page.wait_for_url("**/check-mail")
    page.goto(link_in(running.mailbox.wait_for(1)))
    assert focused(page) == "password"
    keys.type(NEW_PASSWORD)
    tab_to(page, "Show")
    keys.press("Space")
    assert page.locator("[name=password]").get_attribute("type") == "text"
    assert page.get_by_role("button", name="Hide: New password").count() == 1
    page.evaluate("document.forms[0].addEventListener('submit', e => name = e.target.password.type)")
    tab_to(page, "password_confirm")
    keys.type(NEW_PASSWORD)
    keys.press("Enter")
    page.wait_for_url("**/reset-done")
    assert page.evaluate("name") == "password"  # sent hidden; the window's name outlives its page
    tab_to(page, "Sign in")
    keys.press("Enter")
    page.wait_for_url("**/login")
    assert focused(page) == "identity"
    keys.type("alice")
    tab_to(page, "password")
    keys.type(NEW_PASSWORD)
    keys.press("Enter")
    page.get_by_role("heading", name="You're signed in").wait_for()


@pytest.mark.requirement("R68")
def test_error_has_the_focus_and_several_have_a_summary(
    make_site: Any, open_tab: Callable[..., Page]
) -> None:
    with live(make_site, **REGISTRATION) as site:
        confirm_addresses(site)
        link = mailed_link(site)
        for has_javascript in (True, False):
            page = open_tab(javascript=has_javascript)
            page.goto(link)
            submit(page, password=NEW_PASSWORD, password_confirm="another one than before")
            expect(page).to_have_title("Error: Choose a new password · Sparekey")
            assert page.inner_text("main").count(MISMATCH) == 1
            assert focused(page) == "password_confirm"
            field = page.locator("[name=password_confirm]")
            assert field.get_attribute("aria-invalid") == "true"
            assert page.locator(f"#{field.get_attribute('aria-describedby')}").inner_text() == MISMATCH
            assert page.locator("[name=password]").get_attribute("aria-invalid") is None

            page.goto(f"{base_url(site)}/register")
            submit(page, email="alice", username="1")
            summary = page.locator("[role=alert]")
            assert summary.inner_text().split("\n")[0] == "There's a problem"
            assert focused(page) == "alert"
            summary.get_by_role("link", name="Use at least one letter and no unsupported characters.").focus()
            page.keyboard.press("Enter")
            assert focused(page) == "username"


def test_password_length_is_announced_and_read_in_order(running: Site, page: Page) -> None:
    page.goto(mailed_link(running))
    password = page.locator("[name=password]")
    advice, announcement = page.locator(".advice > span").first, page.locator("[role=status]")
    for text, expected in {
        "é" * 9: "9 of 15 characters",
        "e\u0301" * 9: "9 of 15 characters",  # as the server counts
        "correct horse battery": "Long enough.",
        "1" * 20: "Long enough. Numbers alone are easy to guess. Add a few words.",
        "ababababababababab": "Long enough. Repetition is easy to guess. Add a few words.",
        "x" * 129: "Use at most 128 characters.",
        "": "",
    }.items():
        password.fill(text)
        assert advice.inner_text() == expected
        assert page.locator(".advice progress").is_visible() is bool(text)
    password.fill("tw")
    assert announcement.inner_text() != "2 of 15 characters"  # not at every key
    expect(announcement).to_have_text("2 of 15 characters")
    submit(page, password="tw", password_confirm="tw")  # the script does not stop it; the server does
    page.locator("[aria-invalid]").wait_for()
    assert "Use at least 15 characters" in page.inner_text("main")
    read = page.locator("body").aria_snapshot()
    elements = re.findall(r"^\s*- '?(\w+)(?: \"([^\"]+)\")?", read, re.MULTILINE)
    in_order = iter(f"{role} {' '.join(name.split()[:3])}".strip() for role, name in elements)
    for expected in (
        "link Skip to content", "banner", "main", "heading Choose a new",
        "textbox New password", "button Show: New password",
        "textbox Confirm new password", "button Show: Confirm new", "button Set new password", "contentinfo",
    ):  # fmt: skip
        assert expected in in_order, expected  # continues where the last one was found


def test_pages_do_not_shift_while_they_load(running: Site, page: Page) -> None:
    shifts = """new Promise(done => new PerformanceObserver(list =>
        done(list.getEntries().map(e => e.value))).observe({type: 'layout-shift', buffered: true})
        || setTimeout(() => done([]), 300))"""
    base = base_url(running)
    for url in (base, f"{base}/login", f"{base}/reset", mailed_link(running)):
        page.goto(url)
        assert page.evaluate(shifts) == [], url
