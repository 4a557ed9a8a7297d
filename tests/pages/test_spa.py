"""The sample single-page app in Chromium, on another site than Sparekey's."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from support.commands import run
from support.live import serving
from support.mailbox import code_in, link_in
from support.servers import free_port
from support.site import NEW_PASSWORD, OLD_PASSWORD, ROOT, Site, served

from app.recovery.reset_code import CodeRequest

sys.path.insert(0, str(ROOT / "examples" / "spa"))

import serve

IDENTITY = "Email, username, or phone number"
NEW = "New password, at least 15 characters"


@contextmanager
def sample_app(
    make_site: Any, chromium: Browser, token_in: str = "query", **settings: Any
) -> Iterator[tuple[Site, Page, str]]:
    """Sparekey at 127.0.0.1 and the app at localhost, which are two sites. Yields the app's base URL, too."""
    port, app_port = free_port(), free_port()
    base, api = f"http://localhost:{app_port}", f"http://127.0.0.1:{port}"
    views = {"reset_view": f"{base}/reset", "reset_error_view": f"{base}/problem"}
    client = {**views, "origins": [base], "token_in": token_in}
    site: Site = make_site(RECOVERY_PUBLIC_URL=api, RECOVERY_CLIENTS={serve.CLIENT: client}, **settings)
    with serving(serve.make_server(app_port, api)), served(site.app, port), chromium.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(15_000)
        yield site, page, base


def sign_in(page: Page, base: str, password: str, name: str = "alice") -> None:
    page.goto(f"{base}/sign-in")
    page.get_by_label(IDENTITY).fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button").click()


def set_password(page: Page, password: str) -> None:
    page.get_by_label(NEW).fill(password)
    page.get_by_role("button").click()


def see_heading(page: Page, text: str) -> None:
    page.get_by_role("heading", name=text).wait_for()


@pytest.mark.requirement("R49", "R51")
def test_spa_resets_a_password(make_site: Any, chromium: Browser) -> None:
    with sample_app(make_site, chromium) as (site, page, base):
        referrers: list[str] = []
        page.on("request", lambda request: referrers.append(request.all_headers().get("referer", "")))
        page.goto(f"{base}/sign-in")
        page.get_by_role("link", name="Forgot your password?").click()
        see_heading(page, "Forgot your password?")  # the form before it has such a field, too
        page.get_by_label(IDENTITY).fill("(415) 555-0123")
        page.get_by_role("button").click()
        see_heading(page, "Check your email")
        link = link_in(site.mailbox.wait_for(1))
        page.goto(link)
        see_heading(page, "Choose a new password")
        assert page.url == f"{base}/reset"  # the token has left the address bar
        set_password(page, "short")
        page.get_by_text("That password is too short.").wait_for()
        set_password(page, NEW_PASSWORD)
        see_heading(page, "Your password has been changed")
        assert [referrer for referrer in referrers if link.rsplit("/", 1)[1] in referrer] == []
        sign_in(page, base, OLD_PASSWORD)
        page.get_by_text("We couldn't sign you in with those details.").wait_for()
        sign_in(page, base, NEW_PASSWORD)
        see_heading(page, "You're signed in")
        page.goto(link)
        page.get_by_text("This link has already been used.").wait_for()
        page.get_by_role("link", name="Request a new link").click()
        see_heading(page, "Forgot your password?")


@pytest.mark.requirement("R53")
def test_spa_welcomes_an_invited_user_and_shows_no_text_from_the_url(
    make_site: Any, chromium: Browser
) -> None:
    with sample_app(make_site, chromium, "fragment") as (site, page, base):
        run(site, "users", "invite", "email:carol@example.com", "username:carol", "--client", serve.CLIENT)
        page.goto(link_in(site.mailbox.wait_for(1)))
        see_heading(page, "Welcome")
        assert page.url == f"{base}/reset"  # the token has left the address bar
        set_password(page, NEW_PASSWORD)
        see_heading(page, "Your password has been changed")
        sign_in(page, base, NEW_PASSWORD, "carol")
        see_heading(page, "You're signed in")
        page.goto(f"{base}/problem?error=Call+0900-evil&code=link_expired")
        page.get_by_text("This link has expired.").wait_for()
        assert "0900" not in page.inner_text("body")


@pytest.mark.requirement("R13")
def test_spa_resets_a_password_with_the_code(make_site: Any, chromium: Browser) -> None:
    with sample_app(make_site, chromium, RECOVERY_CODE=True) as (site, page, base):
        for number in (1, 2):  # asking again keeps the request id
            page.goto(f"{base}/forgot") if number == 1 else page.go_back()
            page.get_by_label(IDENTITY).fill("alice")
            page.get_by_role("button").click()
            see_heading(page, "Check your email")
            code = code_in(site.mailbox.wait_for(number))
        box = page.get_by_label("Or enter the code in the email")
        box.fill(f"{(int(code) + 1) % 10**8:08}")
        page.get_by_role("button").click()
        page.get_by_text("That code does not work here.").wait_for()
        box.fill(code)
        page.get_by_role("button").click()
        see_heading(page, "Choose a new password")
        set_password(page, NEW_PASSWORD)
        see_heading(page, "Your password has been changed")
        assert site.password_works(NEW_PASSWORD)
        assert len({row["requester"] for row in site.rows(CodeRequest)}) == 1


@pytest.mark.requirement("R53")
def test_spa_has_a_message_for_every_documented_code() -> None:
    messages = (ROOT / "examples" / "spa" / "codes.js").read_text()
    lines = (ROOT / "README.md").read_text().splitlines()
    documented = next(line for line in lines if line.startswith("| codes |"))
    for code in documented.split("`")[1::2]:
        assert f"  {code}: " in messages, code
