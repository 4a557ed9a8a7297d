"""Recovery for whoever has no mouse, no JavaScript, no good eyes, or no English: in real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from babel import Locale
from playwright.sync_api import Browser, Page, expect
from support.mailbox import link_in
from support.servers import free_port
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, served
from support.translations import SHIPPED

PAUSE_MS = 600  # of password.js
SAID = "The two passwords are not the same."


@pytest.fixture
def running(make_site: Any) -> Iterator[Site]:
    """A site on a real socket with a worker beside it."""
    port = free_port()
    site: Site = make_site(
        RECOVERY_PUBLIC_URL=f"http://localhost:{port}", RECOVERY_SUPPORT_CONTACT="help@example.com"
    )
    with served(site.app, port):
        yield site


@pytest.fixture
def scripted(chromium: Browser) -> Iterator[Page]:
    """A tab of a browser that was never here, with JavaScript; what it complains of fails the test."""
    complaints: list[str] = []
    with chromium.new_context() as context:
        tab = context.new_page()
        tab.set_default_timeout(15_000)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        yield tab
    assert [text for text in complaints if "the server responded with a status of 400" not in text] == []


def base_of(site: Site) -> str:
    return str(site.app.config["RECOVERY_PUBLIC_URL"])


def link_for_alice(site: Site) -> str:
    site.ask()
    return link_in(site.mailbox.wait_for(1))


def focused(page: Page) -> str:
    """What has the focus: the name of a field, or else what it says."""
    read = "e => e.name || e.getAttribute('role') || e.innerText || e.tagName"
    return str(page.evaluate(f"({read})(document.activeElement)"))


def tab_to(page: Page, what: str) -> None:
    """Press the tabulator until it has the focus; fails where it is never reached."""
    seen = [focused(page)]
    while seen[-1] != what:
        page.keyboard.press("Tab")
        seen.append(focused(page))
        assert len(seen) < 40, seen


@pytest.mark.parametrize("language", ["en", *SHIPPED])
def test_the_whole_journey_in_every_language_without_javascript(
    running: Site, page: Page, language: str
) -> None:
    """Found by its fields and buttons alone, since the words differ; nothing on the way is in another language."""
    base, locale = base_of(running), Locale.parse(language)

    def look(path: str) -> None:
        assert page.locator("html").get_attribute("lang") == language
        assert page.locator("html").get_attribute("dir") == locale.text_direction
        assert re.fullmatch(re.escape(base) + path, page.url)

    page.goto(f"{base}/login")
    page.locator(f".languages [hreflang={language}]").click()
    look(r"/login\?language=\w+")
    page.locator("main a[href='/reset']").click()
    page.locator("[name=identity]").fill("alice")
    page.locator("main [type=submit]").click()
    look("/check-mail")
    page.goto(link_in(running.mailbox.wait_for(1)))
    look(r"/reset/~[\w-]+")
    for password in ("short", NEW_PASSWORD):
        page.locator("[name=password]").fill(password)
        page.locator("[name=password_confirm]").fill(password)
        page.locator("main [type=submit]").click()
    look("/reset-done")
    page.locator("main a.button").click()
    look("/login")
    page.locator("[name=identity]").fill("alice")
    page.locator("[name=password]").fill(NEW_PASSWORD)
    page.locator("main [type=submit]").click()
    look("/")
    assert "alice@example.com" in page.inner_text("main")
    for mail in (running.mailbox.wait_for(1), running.mailbox.wait_for(2)):
        html = mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
        assert f'<html lang="{language}" dir="{locale.text_direction}"' in html


def test_the_whole_journey_by_keyboard_alone(running: Site, scripted: Page) -> None:
    page, keys = scripted, scripted.keyboard
    page.goto(base_of(running))
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
    tab_to(page, "password_confirm")
    keys.type(NEW_PASSWORD)
    keys.press("Enter")
    page.wait_for_url("**/reset-done")
    tab_to(page, "Sign in")
    keys.press("Enter")
    page.wait_for_url("**/login")
    assert focused(page) == "identity"
    keys.type("alice")
    tab_to(page, "password")
    keys.type(NEW_PASSWORD)
    keys.press("Enter")
    page.get_by_role("heading", name="You are signed in").wait_for()


def test_the_first_stop_leads_past_what_is_on_every_page(running: Site, scripted: Page) -> None:
    scripted.goto(base_of(running))
    scripted.keyboard.press("Tab")
    assert focused(scripted) == "To the content"
    scripted.keyboard.press("Enter")
    scripted.keyboard.press("Tab")
    assert focused(scripted) == "Sign in"


@pytest.mark.parametrize("with_javascript", [True, False])
@pytest.mark.requirement("R68")
def test_what_is_wrong_has_the_focus_and_leads_to_its_field(
    running: Site, chromium: Browser, with_javascript: bool
) -> None:
    link = link_for_alice(running)
    with chromium.new_context(java_script_enabled=with_javascript) as context:
        page = context.new_page()
        page.goto(link)
        page.locator("[name=password]").fill(NEW_PASSWORD)
        page.locator("[name=password_confirm]").fill("another one than before")
        page.locator("main [type=submit]").click()
        expect(page).to_have_title("Problem: Choose a new password · Sparekey")
        summary = page.locator("[role=alert]")
        assert summary.inner_text().split("\n") == ["Please look at this again:", "", SAID]
        assert focused(page) == "alert"
        summary.get_by_role("link").focus()
        page.keyboard.press("Enter")
        assert focused(page) == "password_confirm"
        field = page.locator("[name=password_confirm]")
        assert field.get_attribute("aria-invalid") == "true"
        assert page.locator(f"#{field.get_attribute('aria-describedby')}").inner_text() == SAID
        assert page.locator("[name=password]").get_attribute("aria-invalid") is None


def test_a_new_password_is_counted_aloud_and_nothing_is_blocked(running: Site, scripted: Page) -> None:
    page = scripted
    page.goto(link_for_alice(running))
    box, seen, heard = (
        page.locator("[name=password]"),
        page.locator(".advice > span").first,
        page.locator("[role=status]"),
    )
    expected = {
        "é" * 9: "9 of 15 characters",
        "e\u0301" * 9: "9 of 15 characters",  # as the server counts
        "correct horse battery": "Long enough.",
        "1" * 20: "Long enough. Digits alone are easy to guess: add a few words.",
        "ababababababababab": "Long enough. Repetitions are easy to guess: add a few words.",
        "x" * 129: "Use at most 128 characters.",
        "": "",
    }
    for password, advice in expected.items():
        box.fill(password)
        assert seen.inner_text() == advice
    box.fill("tw")
    assert heard.inner_text() != "2 of 15 characters"  # not at every key
    page.wait_for_timeout(PAUSE_MS + 200)
    assert heard.inner_text() == "2 of 15 characters"
    page.locator("[name=password_confirm]").fill("tw")
    page.locator("main [type=submit]").click()
    assert "Use at least 15 characters" in page.inner_text("main")  # it was sent, and the server has said so


@pytest.mark.requirement("R67")
def test_a_password_can_be_shown_and_goes_out_hidden(running: Site, scripted: Page) -> None:
    page = scripted
    page.goto(f"{base_of(running)}/login")
    box, button = page.locator("[name=password]"), page.get_by_role("button", name="Show: Password")
    box.fill(OLD_PASSWORD)
    button.click()
    assert box.get_attribute("type") == "text"
    assert page.get_by_role("button", name="Hide: Password").count() == 1
    sent_as: list[str] = []
    page.expose_function("note", lambda kind: sent_as.append(kind))
    page.evaluate("document.forms[0].addEventListener('submit', e => note(e.target.password.type))")
    page.locator("[name=identity]").fill("alice")
    page.locator("main [type=submit]").click()
    page.get_by_role("heading", name="You are signed in").wait_for()
    assert sent_as == ["password"]


def test_a_page_does_not_move_while_it_loads(running: Site, scripted: Page) -> None:
    page = scripted
    moved = """new Promise(done => new PerformanceObserver(list =>
        done(list.getEntries().map(e => e.value))).observe({type: 'layout-shift', buffered: true})
        || setTimeout(() => done([]), 300))"""
    link = link_for_alice(running)
    for url in (f"{base_of(running)}/", f"{base_of(running)}/login", f"{base_of(running)}/reset", link):
        page.goto(url)
        page.wait_for_load_state("networkidle")
        assert page.evaluate(moved) == []


def test_a_screen_reader_meets_things_in_the_order_in_which_they_are_needed(
    running: Site, scripted: Page
) -> None:
    page = scripted
    page.goto(link_for_alice(running))
    page.locator("[name=password]").fill("short")
    page.locator("[name=password_confirm]").fill("short")
    page.locator("main [type=submit]").click()
    page.get_by_role("alert").wait_for()
    met = re.findall(r"^\s*- '?(\w+)(?: \"([^\"]+)\")?", page.locator("body").aria_snapshot(), re.MULTILINE)
    first_words = [f"{role} {' '.join(name.split()[:3])}".strip() for role, name in met]
    expected = [
        "link To the content",
        "banner",
        "main",
        "heading Choose a new",
        "alert",
        "link Use at least",
        "textbox New password",
        "button Show: New password",
        "textbox New password again",
        "button Show: New password",
        "button Set new password",
        "contentinfo",
    ]
    places = []
    for one in expected:
        places.append(first_words.index(one, places[-1] + 1 if places else 0))
    assert places == sorted(places)
