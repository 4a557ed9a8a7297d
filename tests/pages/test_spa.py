"""The single-page client's story, in real Chromium, on another site than Sparekey's."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from support.mailbox import link_in
from support.servers import free_port
from support.site import NEW_PASSWORD, OLD_PASSWORD, ROOT, Site, served

sys.path.insert(0, str(ROOT / "examples" / "spa"))

import serve

IDENTITY = "Email address, username or phone number"


class Story:
    def __init__(self, site: Site, page: Page, base: str) -> None:
        self.site, self.page, self.base = site, page, base

    def heading(self, text: str) -> None:
        self.page.get_by_role("heading", name=text).wait_for()

    def ask(self, identity: str = "alice") -> str:
        self.page.goto(f"{self.base}/sign-in")
        self.page.get_by_role("link", name="Forgot your password?").click()
        before = len(self.site.mailbox.mails)
        self.page.get_by_label(IDENTITY).fill(identity)
        self.page.get_by_role("button").click()
        self.heading("Check your mail")
        return link_in(self.site.mailbox.wait_for(before + 1))

    def sign_in(self, password: str) -> None:
        self.page.goto(f"{self.base}/sign-in")
        self.page.get_by_label(IDENTITY).fill("alice")
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button").click()


@pytest.fixture(params=["query", "fragment"])
def story(request: pytest.FixtureRequest, make_site: Any, chromium: Browser) -> Iterator[Story]:
    """Sparekey at 127.0.0.1, the app at localhost: two sites."""
    port, spa_port = free_port(), free_port()
    base, api = f"http://localhost:{spa_port}", f"http://127.0.0.1:{port}"
    client = {"reset_view": f"{base}/reset", "reset_error_view": f"{base}/problem", "origins": [base]}
    site: Site = make_site(
        RECOVERY_PUBLIC_URL=api, RECOVERY_CLIENTS={serve.CLIENT: {**client, "token_in": request.param}}
    )
    server = serve.make_server(spa_port, api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with served(site.app, port), chromium.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(15_000)
        yield Story(site, page, base)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.requirement("R49", "R51")
def test_forgot_mail_landing_new_password_signed_in(story: Story) -> None:
    page, seen = story.page, []
    page.on("request", lambda request: seen.append((request.url, request.all_headers().get("referer", ""))))
    link = story.ask("(415) 555-0123")
    token = link.rsplit("/", 1)[1]

    page.goto(link)
    story.heading("Choose a new password")
    assert page.url == f"{story.base}/reset"  # the token has left the address bar
    page.get_by_label("New password, at least 15 characters").fill("short")
    page.get_by_role("button").click()
    page.get_by_text("That password is too short.").wait_for()
    page.get_by_label("New password, at least 15 characters").fill(NEW_PASSWORD)
    page.get_by_role("button").click()
    story.heading("Your password is changed")
    assert not [referer for _, referer in seen if token in referer]

    story.sign_in(OLD_PASSWORD)
    page.get_by_text("That did not match.").wait_for()
    story.sign_in(NEW_PASSWORD)
    story.heading("You are signed in")

    page.goto(link)
    page.get_by_text("This link was already used.").wait_for()
    page.get_by_role("link", name="Ask for a new link").click()
    story.heading("Forgot your password?")


@pytest.mark.requirement("R53")
def test_text_in_the_url_is_not_shown(story: Story) -> None:
    story.page.goto(f"{story.base}/problem?error=Call+0900-evil&code=link_expired")
    story.page.get_by_text("This link has expired.").wait_for()
    assert "0900" not in story.page.inner_text("body")


def test_browser_users_and_the_app_are_served_side_by_side(story: Story, chromium: Browser) -> None:
    api = story.site.app.config["RECOVERY_PUBLIC_URL"]
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{api}/reset")
        page.get_by_label(IDENTITY).fill("bob")
        page.get_by_role("button").click()
        page.goto(link_in(story.site.mailbox.wait_for(1)))
        assert page.url.startswith(f"{api}/reset/~")
    link = story.ask("alice")
    story.page.goto(link)
    story.heading("Choose a new password")
    assert story.page.url.startswith(story.base)


@pytest.mark.requirement("R53")
def test_every_documented_code_has_its_words() -> None:
    words = (ROOT / "examples" / "spa" / "codes.js").read_text()
    listed = next(
        line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| codes |")
    )
    for code in listed.split("`")[1::2]:
        assert f"  {code}: " in words, code
