"""Facts that only a real browser shows: history, its caches, referrers and how it reads a redirect."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page
from support.live import answering, base_url, live, mailed_link
from support.servers import CHROMIUM
from support.site import NEW_PASSWORD, OLD_PASSWORD, PUBLIC_URL, Site, csrf_token
from support.urls import HOSTILE_URLS, browser_target
from werkzeug import Response

HELP = "http://help.example/"


def fill_in(page: Page, **fields: str) -> None:
    for name, value in fields.items():
        page.locator(f"[name={name}]").fill(value)
    page.locator("main form [type=submit]").click()


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


@pytest.mark.requirement("R49", "R50", "R51")
def test_token_is_in_no_later_url_referrer_history_or_cookie(make_site: Any, page: Page) -> None:
    requests: list[tuple[str, str]] = []
    page.on("request", lambda it: requests.append((it.url, it.all_headers().get("referer", ""))))
    page.route(f"{HELP}**", lambda route: route.fulfill(body="help"))
    with live(make_site, RECOVERY_SUPPORT_CONTACT=HELP) as site:
        base, link = base_url(site), mailed_link(site)
        token = link.rsplit("/", 1)[1]
        page.goto(link)
        form, heading = page.url, page.get_by_role("heading")
        page.get_by_role("link", name=HELP).click()
        go_back(page)
        fill_in(page, password="short", password_confirm="short")
        page.goto(form)
        fill_in(page, password=NEW_PASSWORD, password_confirm=NEW_PASSWORD)
        assert heading.inner_text() == "Your password has been changed"
        go_back(page)
        assert (page.url, heading.inner_text()) == (form, "This link has already been used")
        assert page.locator("input[type=password]").count() == 0
        page.go_forward()
        assert heading.inner_text() == "Sign in"  # /reset-done is shown once
        page.get_by_role("link", name=HELP).click()
    assert [url for url, _ in requests if token in url] == [link]  # the click itself
    assert [referrer for url, referrer in requests if token in referrer or (url.startswith(HELP) and referrer)] == []  # fmt: skip
    assert {url for url, _ in requests if not url.startswith((base, HELP))} == set()
    history = page.context.new_cdp_session(page).send("Page.getNavigationHistory")["entries"]
    assert [entry["url"] for entry in history if token in entry["url"]] == []
    assert token not in str(page.context.cookies())


@pytest.mark.requirement("R48")
def test_back_forward_cache_shows_no_account_after_sign_out(make_site: Any, chromium: Browser) -> None:
    """Chromium may keep whole pages in memory, which Playwright turns off by default."""
    options: dict[str, Any] = {"executable_path": CHROMIUM, "args": ["--no-sandbox"]}
    off = ["--disable-back-forward-cache"]
    with (
        live(make_site) as site,
        answering(Response("<title>A page</title>", mimetype="text/html")) as port,
        chromium.browser_type.launch(**options, ignore_default_args=off) as browser,
    ):
        page, base = browser.new_page(), base_url(site)
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
        fill_in(page, identity="alice", password=OLD_PASSWORD)
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


@pytest.mark.requirement("R52")
def test_browser_resolves_every_redirect_to_this_site(site: Site, page: Page) -> None:
    visitor = site.visitor()
    assert visitor.sign_in()
    fields = {"csrf_token": csrf_token(visitor.open("/")), "password": OLD_PASSWORD}
    answers = [visitor.post_json("/verify", data={**fields, "next": url}) for url in HOSTILE_URLS[::4]]

    def origins(targets: list[str]) -> list[str]:
        script = "([targets, base]) => targets.map((target) => new URL(target, base).href)"
        resolved = page.evaluate(script, [targets, f"{PUBLIC_URL}/login"])
        return [re.match(r"[a-z]+:(//[^/]+)?", url)[0] for url in resolved]  # type: ignore[index]

    assert set(origins([answer.location or "/" for answer in answers])) == {PUBLIC_URL}
    # Other tests resolve with browser_target.
    ours = [urlsplit(browser_target(url)) for url in HOSTILE_URLS[:14]]
    assert origins(HOSTILE_URLS[:14]) == [f"{url.scheme}://{url.netloc}" for url in ours]
