"""Facts that only a real browser shows: frames, history, its cache, referrers and how it reads a redirect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page
from support.live import base_url, live, mailed_link, serving
from support.servers import CHROMIUM
from support.site import NEW_PASSWORD, OLD_PASSWORD, PUBLIC_URL, Site, csrf_token
from support.urls import HOSTILE_URLS, browser_target
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HELP = "http://help.example/"


@pytest.fixture
def running(make_site: Any) -> Iterator[Site]:
    """A live site whose pages link to another site."""
    with live(make_site, RECOVERY_SUPPORT_CONTACT=HELP) as site:
        yield site


def fill_in(page: Page, **fields: str) -> None:
    for name, value in fields.items():
        page.locator(f"[name={name}]").fill(value)
    page.locator("main form [type=submit], main form button").click()


def go_back(page: Page) -> None:
    """Go back. While Chromium moves a page to another process, it may have no history for a moment."""
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


def history_of(page: Page) -> list[str]:
    session = page.context.new_cdp_session(page)
    return [entry["url"] for entry in session.send("Page.getNavigationHistory")["entries"]]


def record_requests(page: Page) -> list[tuple[str, str]]:
    """Record the URL and the referrer of every request, and answer those to the other site."""
    requests: list[tuple[str, str]] = []
    page.on(
        "request", lambda request: requests.append((request.url, request.all_headers().get("referer", "")))
    )
    page.route(f"{HELP}**", lambda route: route.fulfill(body="help"))
    return requests


@pytest.mark.requirement("R50")
def test_no_page_is_shown_in_a_frame(running: Site, page: Page) -> None:
    base, link = base_url(running), mailed_link(running)
    page.goto(f"{base}/login")
    fill_in(page, identity="bob", password=OLD_PASSWORD)
    page.goto(link)
    paths = ("/", "/login", "/reset", "/change", "/verify", "/check-mail", "/nowhere")
    urls = [*(f"{base}{path}" for path in paths), page.url, link]
    frames = "".join(f'<iframe src="{url}"></iframe>' for url in [*urls, "/framed"])
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))

    def other_site(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [(frames if environ["PATH_INFO"] == "/" else "framed").encode()]

    with serving(make_server("127.0.0.1", 0, other_site, threaded=True)) as port:
        page.goto(f"http://localhost:{port}/")
        *framed, allowed = (frame.url for frame in page.frames[1:])
        page.goto("about:blank")
    assert allowed == f"http://localhost:{port}/framed"  # or the loop would prove nothing
    assert framed == ["chrome-error://chromewebdata/"] * len(urls)
    assert len([text for text in messages if "frame-ancestors 'none'" in text]) == len(urls)


@pytest.mark.requirement("R49", "R50", "R51")
def test_token_is_in_no_later_url_referrer_history_or_cookie(running: Site, page: Page) -> None:
    requests, link = record_requests(page), mailed_link(running)
    token = link.rsplit("/", 1)[1]
    page.goto(link)
    page.get_by_role("link", name=HELP).click()
    go_back(page)
    fill_in(page, password="short", password_confirm="short")
    fill_in(page, password=NEW_PASSWORD, password_confirm=NEW_PASSWORD)
    assert page.get_by_role("heading").inner_text() == "Your password has been changed"
    page.get_by_role("link", name=HELP).click()
    assert [url for url, _ in requests if token in url] == [link]  # the click itself
    assert [referrer for _, referrer in requests if token in referrer] == []
    assert [referrer for url, referrer in requests if url.startswith(HELP) and referrer] == []
    assert {url for url, _ in requests if not url.startswith((base_url(running), HELP))} == set()
    assert [url for url in history_of(page) if token in url] == []
    cookies = "".join(f"{cookie['name']}={cookie['value']}" for cookie in page.context.cookies())
    assert token not in cookies


@pytest.mark.requirement("R49")
def test_token_of_a_bad_link_is_in_no_referrer(running: Site, page: Page) -> None:
    """The token of a link that does not work stays in the address bar."""
    requests = record_requests(page)
    page.goto(f"{base_url(running)}/reset/{'x' * 43}")
    page.get_by_role("link", name=HELP).click()
    go_back(page)
    page.get_by_role("link", name="Request a new link").click()
    assert len(requests) > 4
    assert [referrer for _, referrer in requests if "xxx" in referrer] == []


@pytest.mark.requirement("R51")
def test_back_after_a_reset_shows_no_form(running: Site, page: Page) -> None:
    page.goto(mailed_link(running))
    form = page.url
    fill_in(page, password=NEW_PASSWORD, password_confirm=NEW_PASSWORD)
    assert page.url.endswith("/reset-done")
    go_back(page)
    assert page.url == form
    assert page.get_by_role("heading").inner_text() == "This link has already been used"
    assert page.locator("input[type=password]").count() == 0
    page.go_forward()
    assert page.get_by_role("heading").inner_text() == "Sign in"  # /reset-done is shown once


@pytest.mark.requirement("R48")
def test_back_after_sign_out_shows_no_account(running: Site, page: Page) -> None:
    page.goto(f"{base_url(running)}/login")
    fill_in(page, identity="alice", password=OLD_PASSWORD)
    assert "alice@example.com" in page.inner_text("main")
    page.get_by_role("link", name="Change your password").click()
    go_back(page)
    page.get_by_role("button", name="Sign out").click()
    go_back(page)
    assert "alice@example.com" not in page.inner_text("main")


@pytest.mark.requirement("R48")
def test_back_forward_cache_shows_no_account_after_sign_out(running: Site, chromium: Browser) -> None:
    """Chromium may keep whole pages in memory, which Playwright turns off by default."""
    base, off = base_url(running), ["--disable-back-forward-cache"]
    options: dict[str, Any] = {"executable_path": CHROMIUM, "args": ["--no-sandbox"]}
    neutral = make_server("127.0.0.1", 0, plain_page, threaded=True)
    with (
        chromium.browser_type.launch(**options, ignore_default_args=off) as browser,
        serving(neutral) as port,
    ):
        page = browser.new_page()
        page.add_init_script("addEventListener('pageshow', (event) => { window.kept = event.persisted; })")

        def move(by: int) -> Any:
            """Go back or forward. Playwright waits for no load, because a kept page has none."""
            page.evaluate(f"setTimeout(() => history.go({by}))")
            page.wait_for_timeout(500)
            return page.evaluate("window.kept")

        page.goto(f"http://localhost:{port}/")
        page.goto(f"http://127.0.0.1:{port}/")
        assert move(-1), "the cache is off, so this would prove nothing"
        page.goto(f"{base}/login")
        page.fill("[name=identity]", "alice")
        page.fill("[name=password]", OLD_PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        assert "alice@example.com" in page.inner_text("main")
        page.goto(f"{base}/change")
        page.goto(f"{base}/")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_load_state()
        typed = "fields => fields.map((field) => field.value).join('')"
        for by in (-1, -1, -1, 1, 1):
            move(by)
            assert "alice" not in page.inner_text("body"), page.url
            assert page.locator("[name=identity], [name=password]").evaluate_all(typed) == "", page.url


def plain_page(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"<!doctype html><title>A page</title>"]


@pytest.mark.requirement("R52")
def test_browser_resolves_every_redirect_to_this_site(site: Site, page: Page) -> None:
    visitor = site.visitor()
    assert visitor.sign_in()
    fields = {"csrf_token": csrf_token(visitor.open("/")), "password": OLD_PASSWORD}
    locations = [
        visitor.post_json("/verify", data={**fields, "next": url}).location or "/"
        for url in HOSTILE_URLS[::4]
    ]

    def resolve(targets: list[str]) -> list[str]:
        script = "([targets, base]) => targets.map((target) => new URL(target, base).href)"
        resolved: list[str] = page.evaluate(script, [targets, f"{PUBLIC_URL}/login"])
        return resolved

    origins = {re.match(r"[a-z]+:(//[^/]+)?", url)[0] for url in resolve(locations)}  # type: ignore[index]
    assert origins == {PUBLIC_URL}
    # Other tests resolve with browser_target.
    some = HOSTILE_URLS[:14]
    hosts = [urlsplit(url).netloc for url in resolve(some)]
    assert hosts == [urlsplit(browser_target(url)).netloc for url in some]
