"""What only a real browser can show: frames, history, the cache, referrers, and where it takes a redirect to lead."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Error, Page
from support.mailbox import link_in
from support.servers import free_port
from support.site import NEW_PASSWORD, OLD_PASSWORD, PUBLIC_URL, Site, Visitor, csrf_token, served
from support.urls import HOSTILE_URLS, browser_target
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HELP = "http://help.example/"


@pytest.fixture
def running(make_site: Any) -> Iterator[Site]:
    """A site on a real socket with a worker beside it, whose pages link to another site."""
    port = free_port()
    site: Site = make_site(RECOVERY_PUBLIC_URL=f"http://localhost:{port}", RECOVERY_SUPPORT_CONTACT=HELP)
    with served(site.app, port):
        yield site


def base_of(site: Site) -> str:
    return str(site.app.config["RECOVERY_PUBLIC_URL"])


def link_for_alice(site: Site) -> str:
    site.ask()
    return link_in(site.mailbox.wait_for(1))


def history_of(page: Page) -> list[str]:
    """Every address that the Back button knows."""
    session = page.context.new_cdp_session(page)
    return [entry["url"] for entry in session.send("Page.getNavigationHistory")["entries"]]


def fill_in(page: Page, **fields: str) -> None:
    for name, value in fields.items():
        page.locator(f"[name={name}]").fill(value)
    page.locator("main form [type=submit], main form button").click()


def go_back(page: Page) -> None:
    """While it changes a page's process, Chromium may say for a moment that there is no history (seen)."""
    for _ in range(20):
        try:
            page.go_back()
        except Error as error:
            if "Not attached" not in str(error):
                raise
            page.wait_for_timeout(100)
        else:
            return
    pytest.fail("Chromium has no history")


@contextmanager
def site_of_others(page_of: str) -> Iterator[int]:
    """Another origin on this machine: its start page is given, any other may be framed."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [(page_of if environ["PATH_INFO"] == "/" else "framed").encode()]

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.requirement("R50")
def test_no_page_of_ours_is_shown_in_a_frame(running: Site, page: Page) -> None:
    base, link = base_of(running), link_for_alice(running)
    page.goto(f"{base}/login")
    fill_in(page, identity="bob", password=OLD_PASSWORD)
    page.goto(link)
    ours = [
        f"{base}{path}" for path in ("/", "/login", "/reset", "/change", "/verify", "/check-mail", "/nowhere")
    ]
    ours += [page.url, link]
    frames = "".join(f'<iframe src="{url}"></iframe>' for url in [*ours, "/framed"])
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    with site_of_others(frames) as port:
        page.goto(f"http://localhost:{port}/")
        *shown, theirs = (frame.url for frame in page.frames[1:])
        page.goto("about:blank")
    assert theirs == f"http://localhost:{port}/framed"  # a frame that is not refused is shown
    assert shown == ["chrome-error://chromewebdata/"] * len(ours)
    assert len([text for text in refused if "frame-ancestors 'none'" in text]) == len(ours)


@pytest.mark.requirement("R49", "R51")
def test_the_token_is_in_no_address_and_no_referer_from_the_click_to_the_end(
    running: Site, page: Page
) -> None:
    link = link_for_alice(running)
    token = link.rsplit("/", 1)[1]
    seen: list[tuple[str, str]] = []
    page.on("request", lambda request: seen.append((request.url, request.all_headers().get("referer", ""))))
    page.route(f"{HELP}**", lambda route: route.fulfill(body="help"))
    page.goto(link)
    page.get_by_role("link", name=HELP).click()  # to another site, from the form
    go_back(page)
    fill_in(page, password="short", password_confirm="short")
    fill_in(page, password=NEW_PASSWORD, password_confirm=NEW_PASSWORD)
    assert page.get_by_role("heading").inner_text() == "Your password is changed"
    page.get_by_role("link", name=HELP).click()
    assert [url for url, _ in seen if token in url] == [link]  # the click itself
    assert [referer for _, referer in seen if token in referer] == []
    assert [referer for url, referer in seen if url.startswith(HELP) and referer] == []
    assert [url for url in history_of(page) if token in url] == []
    kept = "".join(f"{cookie['name']}={cookie['value']}" for cookie in page.context.cookies())
    assert token not in kept


@pytest.mark.requirement("R49")
def test_a_link_that_does_not_work_tells_its_token_to_nobody_else(running: Site, page: Page) -> None:
    """Here the token stays in the address bar: the page that is shown must not pass it on."""
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.all_headers().get("referer", "")))
    page.route(f"{HELP}**", lambda route: route.fulfill(body="help"))
    page.goto(f"{base_of(running)}/reset/{'x' * 43}")
    page.get_by_role("link", name=HELP).click()
    go_back(page)
    page.get_by_role("link", name="Ask for a new link").click()
    assert len(seen) > 4
    assert [referer for referer in seen if "xxx" in referer] == []


@pytest.mark.requirement("R51")
def test_back_after_success_shows_no_form(running: Site, page: Page) -> None:
    page.goto(link_for_alice(running))
    form = page.url
    fill_in(page, password=NEW_PASSWORD, password_confirm=NEW_PASSWORD)
    assert page.url.endswith("/reset-done")
    go_back(page)
    assert page.url == form
    assert page.get_by_role("heading").inner_text() == "This link was already used"
    assert page.locator("input[type=password]").count() == 0
    page.go_forward()
    assert page.get_by_role("heading").inner_text() == "Welcome"  # the end of a reset is seen once


@pytest.mark.requirement("R48")
def test_back_after_signing_out_shows_nobodys_page(running: Site, page: Page) -> None:
    page.goto(f"{base_of(running)}/login")
    fill_in(page, identity="alice", password=OLD_PASSWORD)
    assert "alice@example.com" in page.inner_text("main")
    page.get_by_role("link", name="Change your password").click()
    go_back(page)
    page.get_by_role("button", name="Sign out").click()
    go_back(page)
    assert "alice@example.com" not in page.inner_text("main")


@pytest.mark.requirement("R52")
def test_a_browser_reads_every_redirect_as_we_do(site: Site, page: Page) -> None:
    visitor: Visitor = site.visitor()
    assert visitor.sign_in()
    token, read = csrf_token(visitor.open("/")), "([to, base]) => new URL(to, base).href"
    origins = set()
    for spelling in HOSTILE_URLS[::2]:
        fields = {"csrf_token": token, "password": OLD_PASSWORD, "next": spelling}
        location = visitor.post_json("/verify", data=fields).location or "/"
        leads_to = page.evaluate(read, [location, f"{PUBLIC_URL}/verify"])
        origins.add(re.match(r"[a-z]+:(//[^/]+)?", leads_to)[0])  # type: ignore[index]
    assert origins == {PUBLIC_URL}
    for spelling in HOSTILE_URLS[:14]:  # and what we judge it by in the other tests is true
        leads_to = page.evaluate(read, [spelling, f"{PUBLIC_URL}/login"])
        assert urlsplit(leads_to).netloc == urlsplit(browser_target(spelling)).netloc, spelling
