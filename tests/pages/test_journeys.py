"""Journeys by form and by JSON, with Flask-Security's settings at values other than their defaults.

Over HTTP here, a site for each group of settings. `make journeys` repeats them in Chromium, one setting at a time.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page
from support.fst_settings import ELSEWHERE, FEATURES, GROUPS, REFUSED, SPA_TOML, named, settings_of
from support.live import serving
from support.servers import free_port
from support.site import NEW_PASSWORD, PUBLIC_URL, Site, Visitor, load_settings, served, wait_for
from werkzeug.serving import make_server

from app.accounts.models import User
from app.settings.problems import SettingsError

ALICE, MOVED, CAROL = "alice@example.com", "alice@new.example.com", "carol@example.com"
THIRD_PASSWORD = "yet another password of alice"
APP = "app.example.com"
CHROMIUMS: list[Any] = [SPA_TOML]
if os.environ.get("JOURNEYS") == "each":
    CHROMIUMS += [(group, name) for group, settings in GROUPS.items() for name in settings]


@pytest.fixture(autouse=True)
def _breaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every password was in two breaches, fewer than SECURITY_PASSWORD_BREACHED_COUNT."""
    monkeypatch.setattr("app.accounts.breaches.count_breaches", lambda _: 2)


def prepare(site: Site) -> Site:
    """Confirm every address but alice's."""
    site.change(User, User.username != "alice", confirmed_at=User.create_datetime)
    return site


def links_in(mails: list[EmailMessage], kind: str) -> list[str]:
    bodies = [mail.get_body(("plain", "html")) for mail in mails]
    texts = [str(body.get_content()) for body in bodies if body]
    links = [re.search(rf'https?://[^\s"<>]+/{kind}/[\w.-]+', text) for text in texts]
    return [link[0] for link in links if link]


def mailed(site: Site, kind: str) -> str:
    site.work()
    return links_in(site.mailbox.mails, kind)[-1]


def expect(answer: Any, *statuses: int) -> str:
    assert answer.status_code in statuses, answer.text
    return str(answer.location)


def by_form(site: Site, group: str) -> None:
    browser, sender = site.visitor(), site.visitor()
    expect(sender.submit("/register", email=CAROL, username="carol"), 302, 303)
    assert sender.set_password(mailed(site, "reset")).location.endswith("/reset-done")
    expect(sender.submit("/confirm", identity=ALICE), 303)
    assert is_here(expect(sender.submit(mailed(site, "confirm")), 302)) or group == "elsewhere"
    expect(sender.submit("/reset", identity=ALICE), 303)
    assert browser.set_password(mailed(site, "reset")).location.endswith("/reset-done")
    expect(browser.submit("/login", identity="alice", password=NEW_PASSWORD), 302)
    again = {"new_password": THIRD_PASSWORD, "new_password_confirm": THIRD_PASSWORD}
    expect(browser.submit("/change", password=NEW_PASSWORD, **again), 302)
    assert browser.is_signed_in()
    expect(browser.submit("/change-email", "/change-email", email=MOVED), 200)
    assert is_here(expect(browser.submit(mailed(site, "change-email")), 302)) or group == "elsewhere"
    expect(browser.submit("/recover-username", identity=MOVED), 303)
    site.work()
    expect(browser.submit("/login", identity=MOVED, password=THIRD_PASSWORD), 302)
    assert browser.is_signed_in()
    expect(browser.submit("/change", url="/logout"), 302)
    assert not browser.is_signed_in()


def by_json(site: Site, group: str) -> None:
    config, program = site.app.config, site.visitor()
    lands_elsewhere = group in ("clients", SPA_TOML)
    origin = {"Origin": f"https://{APP}"} if lands_elsewhere else {}

    def send(path: str, token: str = "", **body: str) -> Any:
        header = {config["SECURITY_TOKEN_AUTHENTICATION_HEADER"]: token} if token else {}
        answer = program.post_json(path, json=body, headers={**origin, **header})
        expect(answer, 200)
        return (answer.json or {})["response"]

    send("/register", email=CAROL, username="carol")
    send(mailed(site, "reset"), password=NEW_PASSWORD)
    send("/confirm", identity=ALICE)
    assert (
        lands_elsewhere is not is_here(press(site.visitor(), mailed(site, "confirm"))) or group == "elsewhere"
    )
    send("/reset", identity=ALICE)
    link = mailed(site, "reset")
    assert is_here(expect(site.visitor().open(link), 302, 303)) is not lands_elsewhere
    send(link, password=NEW_PASSWORD)
    token = send("/login?include_auth_token", identity=ALICE, password=NEW_PASSWORD)["user"][
        "authentication_token"
    ]
    send("/change-email", token, email=MOVED)
    assert (
        lands_elsewhere is not is_here(press(site.visitor(), mailed(site, "change-email")))
        or group == "elsewhere"
    )
    send("/recover-username", identity=MOVED)
    site.work()
    token = send("/login?include_auth_token", identity=MOVED, password=NEW_PASSWORD)["user"][
        "authentication_token"
    ]
    send(
        "/change",
        token,
        password=NEW_PASSWORD,
        new_password=THIRD_PASSWORD,
        new_password_confirm=THIRD_PASSWORD,
    )
    send("/logout")
    send("/login", identity=MOVED, password=THIRD_PASSWORD)


def press(browser: Visitor, link: str) -> str:
    """Open a link and press the button of its page. Return where that leads."""
    return expect(browser.submit(link), 302)


def is_here(location: str) -> bool:
    return urlsplit(location).netloc in ("", urlsplit(PUBLIC_URL).netloc, "id.example.com")


@pytest.mark.parametrize("group", [SPA_TOML, *GROUPS])
@pytest.mark.parametrize("journey", [by_form, by_json])
def test_journey_passes_with_settings_other_than_the_defaults(
    make_site: Any, journey: Any, group: str
) -> None:
    journey(prepare(make_site(**settings_of(group))), group)


@pytest.mark.parametrize("name", REFUSED)
def test_setting_other_than_its_default_is_refused_by_name(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**FEATURES, **named({name: REFUSED[name]}))
    [problem] = caught.value.problems
    assert problem.name == f"SECURITY_{name}"
    assert problem.message.startswith("cannot be set: ")


# --- In Chromium ---


def plain_page(_environ: Any, start_response: Any) -> list[bytes]:
    """A single-page client, whose requests the test makes."""
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"<!doctype html><title>App</title><link rel=icon href=data:,>"]


@contextmanager
def in_chromium(make_site: Any, chromium: Browser, case: Any) -> Iterator[tuple[Site, Page, str, str]]:
    """Serve a site and the client, whose host stands in for app.example.com. Yield the base URLs, too."""
    settings = settings_of(case) if case == SPA_TOML else settings_of(*case)
    port = free_port()
    with serving(make_server("127.0.0.1", 0, plain_page, threaded=True)) as app_port:
        host = f"localhost:{app_port}"
        if ELSEWHERE.items() <= settings.items():
            settings |= {"SECURITY_REDIRECT_BASE_DOMAIN": host, "SECURITY_REDIRECT_ALLOWED_SUBDOMAINS": ["."]}
        for name, value in settings.items():
            if isinstance(value, str):
                settings[name] = value.replace(f"https://{APP}", f"http://{host}").replace(APP, host)
        settings["RECOVERY_PUBLIC_URL"] = f"http://127.0.0.1:{port}"
        site = prepare(make_site(**settings))
        with served(site.app, port), chromium.new_context() as context:
            page = context.new_page()
            page.set_default_timeout(15_000)
            yield site, page, f"http://127.0.0.1:{port}", f"http://{host}"


def await_link(site: Site, kind: str, count: int = 1) -> str:
    """Wait until the worker has sent so many mails with a link of a kind, and return the last link."""
    wait_for(lambda: len(links_in(site.mailbox.mails, kind)) >= count)
    return links_in(site.mailbox.mails, kind)[-1]


def fill_in(page: Page, url: str, **fields: str) -> str:
    """Fill in the form of a page and send it. Return where that leads."""
    page.goto(url)
    for name, value in fields.items():
        page.locator(f"main [name={name}]").fill(value)
    with page.expect_navigation():
        page.locator("main form [type=submit]").first.click()
    return page.url


def is_signed_in(page: Page, base: str) -> bool:
    page.goto(f"{base}/change")
    return page.url == f"{base}/change"


FETCH = """async ([url, token, body]) => {
    const headers = { "Content-Type": "application/json", ...token };
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    return [answer.status, await answer.json()];
}"""


@pytest.mark.parametrize("case", CHROMIUMS, ids=str)
def test_journey_passes_in_chromium(make_site: Any, chromium: Browser, case: Any) -> None:
    with in_chromium(make_site, chromium, case) as (site, page, base, app):
        failures: list[str] = []
        page.on("response", lambda answer: failures.append(answer.url) if answer.status >= 500 else None)
        form_journey(site, page, base)
        site.change(User, User.username == "bob", confirmed_at=None)
        client_journey(site, page, base, app)
        assert failures == []


def form_journey(site: Site, page: Page, base: str) -> None:
    fill_in(page, f"{base}/confirm", identity=ALICE)
    fill_in(page, await_link(site, "confirm"))
    fill_in(page, f"{base}/reset", identity=ALICE)
    url = fill_in(page, await_link(site, "reset"), password=NEW_PASSWORD, password_confirm=NEW_PASSWORD)
    assert url == f"{base}/reset-done"
    fill_in(page, f"{base}/login", identity="alice", password=NEW_PASSWORD)
    assert is_signed_in(page, base)
    again = {"new_password": THIRD_PASSWORD, "new_password_confirm": THIRD_PASSWORD}
    fill_in(page, f"{base}/change", password=NEW_PASSWORD, **again)
    assert is_signed_in(page, base)
    fill_in(page, f"{base}/change-email", email=MOVED)
    fill_in(page, await_link(site, "change-email"))
    assert site.rows(User)[0]["email"] == MOVED
    fill_in(page, f"{base}/login", identity=MOVED, password=THIRD_PASSWORD)
    assert is_signed_in(page, base)
    page.goto(base)
    with page.expect_navigation():
        page.get_by_role("button", name="Sign out").click()
    assert not is_signed_in(page, base)


def client_journey(site: Site, page: Page, base: str, app: str) -> None:
    bob, header = "bob@example.com", site.app.config["SECURITY_TOKEN_AUTHENTICATION_HEADER"]
    own = site.app.extensions["recovery_clients"]["default"]
    page.goto(app)
    if not own.reset_view:
        return  # without views there is no client, and its requests would be refused

    def send(path: str, token: str = "", **body: str) -> Any:
        page.goto(app)
        status, answer = page.evaluate(FETCH, [f"{base}{path}", {header: token} if token else {}, body])
        assert status == 200, answer
        return answer["response"]

    send("/confirm", identity=bob)
    assert fill_in(page, await_link(site, "confirm", 2)).startswith(f"{app}/#/confirmed?")
    send("/reset", identity=bob)
    page.goto(await_link(site, "reset", 2))
    token = page.url.removeprefix(f"{app}/reset-password?token=")
    send(f"/reset/{token}", password=NEW_PASSWORD)
    token = send("/login?include_auth_token", identity=bob, password=NEW_PASSWORD)["user"][
        "authentication_token"
    ]
    send("/change-email", token, email="bob@new.example.com")
    assert fill_in(page, await_link(site, "change-email", 2)).startswith(f"{app}/?v=1#/changed?")
    assert fill_in(page, await_link(site, "change-email", 2)).startswith(f"{app}/problem?of=change&")
