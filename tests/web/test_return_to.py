"""Back to the client's page from which a user came, in the browser that asked and in no other."""

import time
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page
from support.features import CODE_SIGN_IN, SECOND_FACTOR, one_time_code, set_up_factor
from support.live import base_url, live
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site
from support.urls import BAIT, HOSTILE_URLS

SHOP, QUIET = "https://shop.example.com", "https://quiet.example.com"
CLIENTS = {
    "shop": {"post_reset_view": f"{SHOP}/welcome", "origins": ["https://other.example.com"]},
    "quiet": {"origins": [QUIET]},
    "app": {"reset_view": "myapp://reset", "reset_error_view": "myapp://problem"},
}
CART = {"client": "shop", "return_to": "/cart?item=1&x=ü#top"}
SIGN_IN = {"identity": "alice", "password": OLD_PASSWORD}


@pytest.fixture
def site(make_site: Any) -> Site:
    built: Site = make_site(RECOVERY_CLIENTS=CLIENTS, **CODE_SIGN_IN)
    return built


def ask(site: Site, visitor: Any, **query: str) -> str:
    """Request a link on the page with this query, and return the link."""
    visitor.open("/reset", query_string=query)
    assert visitor.submit("/reset", identity="alice").location == "/check-mail"
    site.work()
    return site.last_link()


def way_on(visitor: Any, link: str, password: str = NEW_PASSWORD) -> str:
    """Reset the password by the link, and return where the button of the last page leads."""
    form = visitor.open(link).location
    assert visitor.set_password(form, password).location == "/reset-done"
    page = visitor.open("/reset-done").text
    return str(page.partition('class="button" href="')[2].partition('"')[0].replace("&amp;", "&"))


@pytest.mark.requirement("R52")
def test_browser_that_asked_is_led_back_and_another_where_its_client_says(site: Site) -> None:
    visitor = site.visitor()
    link = ask(site, visitor, **CART)
    assert site.links()[0]["client"] == "shop"
    assert way_on(visitor, link) == f"{SHOP}/cart?item=1&x=ü#top"
    link = ask(site, visitor, **CART)
    assert way_on(site.visitor(), link, f"another {NEW_PASSWORD}") == f"{SHOP}/welcome"


@pytest.mark.requirement("R52")
def test_stranger_who_asks_for_an_owner_does_not_steer_her(site: Site) -> None:
    """The owner came from elsewhere, so a link of another client ignores her path."""
    owner, link, link_of_bob = site.visitor(), ask(site, site.visitor(), **CART), site.new_link("bob")
    owner.open("/reset", query_string={"client": "quiet", "return_to": "/mine"})
    assert way_on(owner, link) == f"{SHOP}/welcome"
    assert way_on(owner, link_of_bob) == "/login"


def test_sign_in_leads_back_once_and_a_newer_next_wins(site: Site) -> None:
    visitor = site.visitor()
    visitor.open("/login", query_string={"client": "quiet", "return_to": "/start"})
    assert QUIET in visitor.open("/login").headers["Content-Security-Policy"]
    assert visitor.submit("/login", identity="alice", password="wrong").status_code == 200
    assert visitor.submit("/login", **SIGN_IN).location == f"{QUIET}/start"
    assert QUIET not in visitor.open("/change").headers["Content-Security-Policy"]
    assert visitor.open("/login").location == "/"
    again = visitor.open("/login", query_string=CART)  # she is signed in
    assert again.location == f"{SHOP}/cart?item=1&x=%C3%BC#top"
    for path, field, target in (
        ("/us-signin", "passcode", f"{SHOP}/cart"),  # with a code, too
        ("/login?next=/change", "password", "/change"),
    ):
        visitor = site.visitor()
        visitor.open("/login", query_string={"client": "shop", "return_to": "/cart"})
        assert visitor.submit(path, path, identity="alice", **{field: OLD_PASSWORD}).location == target


def test_sign_in_with_a_second_factor_leads_back_after_it(make_site: Any) -> None:
    site = make_site(RECOVERY_CLIENTS=CLIENTS, **SECOND_FACTOR)
    secret, visitor = set_up_factor(site), site.visitor()
    visitor.open("/login", query_string={"client": "shop", "return_to": "/cart"})
    halfway = visitor.submit("/login", **SIGN_IN).location
    assert urlsplit(halfway).netloc == ""
    code = one_time_code(site, secret)
    assert visitor.submit("/tf-validate", code=code).location == f"{SHOP}/cart"


def test_way_back_is_forgotten_with_time_and_with_its_client(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitors = {client: site.visitor() for client in ("shop", "quiet")}
    for client, visitor in visitors.items():
        visitor.open("/login", query_string={"client": client, "return_to": "/x"})
    del site.app.extensions["recovery_clients"]["shop"]
    assert visitors["shop"].submit("/login", **SIGN_IN).location == "/"
    late = time.time() + site.app.config["SECURITY_RESET_PASSWORD_WITHIN"].total_seconds()
    monkeypatch.setattr("app.web.return_to.time", Mock(**{"time.return_value": late}))
    assert visitors["quiet"].submit("/login", **SIGN_IN).location == "/"


@pytest.mark.requirement("R19", "R52")
def test_only_a_path_of_a_client_with_an_origin_is_taken(site: Site) -> None:
    visitor = site.visitor()
    refused = [{"client": "nobody"}, {"client": "shop\r\nx: y"}, {"return_to": "/cart"}, {"client": ""}]
    refused += [{"client": name, "return_to": "/x"} for name in ("app", "browser", "default")]
    for path in ("cart", "/a b", "/a\tb", "/\\x", "/" * 1001):
        refused.append({"client": "shop", "return_to": path})
    for page in ("/reset", "/login"):
        for query in refused:
            answer = visitor.open(page, query_string=query)
            assert (answer.status_code, answer.headers.get("Set-Cookie")) == (400, None), query
    for url in HOSTILE_URLS:
        query = {"client": "shop", "return_to": url}
        answer = visitor.open("/reset", query_string=query)
        assert answer.status_code in (200, 400), url
        if answer.status_code == 200:  # it is a path
            owner = site.visitor()
            owner.open("/login", query_string=query)
            assert urlsplit(owner.submit("/login", **SIGN_IN).location).netloc == "shop.example.com", url
    assert BAIT not in visitor.open("/reset").headers["Content-Security-Policy"]


def test_user_comes_back_from_a_sign_in_in_a_browser(make_site: Any, page: Page) -> None:
    """Chromium refuses a redirect after a form to an origin that form-action does not name."""
    page.route(f"{SHOP}/**", lambda route: route.fulfill(body=f"shop: {route.request.url}"))
    with live(make_site, RECOVERY_CLIENTS=CLIENTS) as site:
        page.goto(f"{base_url(site)}/login?client=shop&return_to=/cart")
        page.get_by_role("textbox").first.fill("alice")
        page.get_by_label("Password").fill(OLD_PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{SHOP}/cart")
        assert f"shop: {SHOP}/cart" in page.content()
