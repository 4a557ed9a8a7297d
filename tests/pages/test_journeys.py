"""Journeys by form and in JSON, with Flask-Security's settings at values other than their defaults.

A site for each group of settings here; `make journeys` adds one for each setting.
"""

import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from playwright.sync_api import Browser
from support.fst_settings import GROUPS, SPA_TOML, settings_of
from support.live import answering
from support.mailbox import html_of, text_of
from support.servers import free_port
from support.site import NEW_PASSWORD, Site, buffered
from werkzeug import Response

from app.accounts.models import User

ALICE, MOVED, CAROL = "alice@example.com", "alice@new.example.com", "carol@example.com"
THIRD_PASSWORD = "yet another password of alice"
APP = "https://app.example.com"
NEW = {"new_password": THIRD_PASSWORD, "new_password_confirm": THIRD_PASSWORD}
CASES: list[Any] = [(SPA_TOML,), *((group,) for group in GROUPS)]
if os.environ.get("JOURNEYS") == "each":
    CASES += [(group, name) for group, settings in GROUPS.items() for name in settings]


@pytest.fixture(autouse=True)
def _breaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every password was in two breaches, fewer than SECURITY_PASSWORD_BREACHED_COUNT."""
    monkeypatch.setattr("app.accounts.breaches.count_breaches", lambda _: 2)


def mailed(site: Site, kind: str) -> str:
    """Work, and return the last link of a kind."""
    site.work()
    texts = [text_of(mail) if mail.get_body(("plain",)) else html_of(mail) for mail in site.mailbox.mails]
    return re.findall(rf'https?://[^\s"<>]+/{kind}/[\w.-]+', "\n".join(texts))[-1]


def expect(answer: Any, *statuses: int) -> str:
    assert answer.status_code in statuses, answer.text
    return str(answer.location)


def is_here(site: Site, url: str) -> bool:
    return urlsplit(url).netloc in ("", urlsplit(site.app.config["RECOVERY_PUBLIC_URL"]).netloc)


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_journey_by_form_passes_with_settings_other_than_the_defaults(make_site: Any, case: Any) -> None:
    site: Site = make_site(**settings_of(*case))
    site.change(User, User.username != "alice", confirmed_at=User.create_datetime)
    browser, sender, is_elsewhere = site.visitor(), site.visitor(), case[0] == "elsewhere"
    expect(sender.submit("/register", email=CAROL, username="carol"), 302, 303)
    assert sender.set_password(mailed(site, "reset")).location.endswith("/reset-done")
    expect(sender.submit("/confirm", identity=ALICE), 303)
    assert is_here(site, expect(sender.submit(mailed(site, "confirm")), 302)) or is_elsewhere
    expect(sender.submit("/reset", identity=ALICE), 303)
    assert browser.set_password(mailed(site, "reset")).location.endswith("/reset-done")
    expect(browser.submit("/login", identity="alice", password=NEW_PASSWORD), 302)
    expect(browser.submit("/change", password=NEW_PASSWORD, **NEW), 302)
    assert browser.is_signed_in()
    expect(browser.submit("/change-email", "/change-email", email=MOVED), 200)
    assert is_here(site, expect(browser.submit(mailed(site, "change-email")), 302)) or is_elsewhere
    expect(browser.submit("/recover-username", identity=MOVED), 303)
    site.work()
    expect(browser.submit("/login", identity=MOVED, password=THIRD_PASSWORD), 302)
    assert browser.is_signed_in()
    expect(browser.submit("/change", url="/logout"), 302)
    assert not browser.is_signed_in()


def journey_in_json(
    site: Site, post: Callable[..., Any], land: Callable[[str], str], press: Callable[[str], str], group: str
) -> None:
    """`post` sends JSON and returns the response, `land` opens a link, `press` its button, too: where does it lead?"""
    has_views = bool(site.app.extensions["recovery_clients"]["default"].reset_view)

    def sign_in(identity: str) -> Any:
        answer = post("/login?include_auth_token", identity=identity, password=NEW_PASSWORD)
        return answer["user"]["authentication_token"]

    def lands_where_it_should(url: str) -> bool:
        return is_here(site, url) is not has_views or group == "elsewhere"

    post("/register", email=CAROL, username="carol")
    post(mailed(site, "reset"), password=NEW_PASSWORD)
    post("/confirm", identity=ALICE)
    assert lands_where_it_should(press(mailed(site, "confirm")))
    post("/reset", identity=ALICE)
    assert is_here(site, land(mailed(site, "reset"))) is not has_views
    post(mailed(site, "reset"), password=NEW_PASSWORD)
    post("/change-email", sign_in(ALICE), email=MOVED)
    assert lands_where_it_should(press(mailed(site, "change-email")))
    post("/recover-username", identity=MOVED)
    site.work()
    post("/change", sign_in(MOVED), password=NEW_PASSWORD, **NEW)
    post("/logout")
    post("/login", identity=MOVED, password=THIRD_PASSWORD)


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_journey_in_json_passes_with_settings_other_than_the_defaults(make_site: Any, case: Any) -> None:
    site: Site = make_site(**settings_of(*case))
    config, program = site.app.config, site.visitor()
    origin = {"Origin": APP} if site.app.extensions["recovery_clients"]["default"].reset_view else {}

    def post(path: str, token: str = "", **body: str) -> Any:
        header = {config["SECURITY_TOKEN_AUTHENTICATION_HEADER"]: token} if token else {}
        answer = program.post_json(path, json=body, headers={**origin, **header})
        expect(answer, 200)
        return (answer.json or {})["response"]

    def land(link: str) -> str:
        return expect(site.visitor().open(link), 302, 303)

    def press(link: str) -> str:
        return expect(site.visitor().submit(link), 302)

    journey_in_json(site, post, land, press, case[0])


FETCH = """async ([url, token, body]) => {
    const headers = { "Content-Type": "application/json", ...token };
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    return [answer.status, await answer.json()];
}"""


def test_journey_of_a_single_page_client_passes_in_chromium(make_site: Any, chromium: Browser) -> None:
    """The client is a page at another host, which stands in for app.example.com."""
    port = free_port()
    base, settings = f"http://127.0.0.1:{port}", settings_of(SPA_TOML)
    with (
        answering(Response("<link rel=icon href=data:,>", mimetype="text/html")) as app_port,
        chromium.new_context() as context,
    ):
        app = f"localhost:{app_port}"
        site: Site = make_site(**settings | {"SECURITY_REDIRECT_HOST": app, "RECOVERY_PUBLIC_URL": base})
        page = context.new_page()
        page.set_default_timeout(15_000)

        def post(path: str, token: str = "", **body: str) -> Any:
            page.goto(f"http://{app}")
            header = {"Authentication-Token": token} if token else {}
            status, answer = page.evaluate(FETCH, [urljoin(base, path), header, body])
            assert status == 200, answer
            return answer["response"]

        def land(link: str) -> str:
            page.goto(link)
            return page.url

        def press(link: str) -> str:
            page.goto(link)
            with page.expect_navigation():
                page.locator("main form [type=submit]").first.click()
            return page.url

        with answering(buffered(site.app), port):
            journey_in_json(site, post, land, press, SPA_TOML)
