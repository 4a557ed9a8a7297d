"""Forms whose session ended while they were open: the same form again, with the text that was typed."""

import re
from html import unescape
from typing import Any

import pytest
from looks.elements import elements_of
from playwright.sync_api import Page, expect
from support.database import dump
from support.features import ALL_FEATURES, CODE_SIGN_IN, REGISTRATION, confirm_addresses, set_up_factor
from support.live import base_url, live
from support.mailbox import text_of
from support.recovery import objection_in
from support.site import NEW_PASSWORD, OLD_PASSWORD, PUBLIC_URL, Site, Visitor, csrf_token
from werkzeug.test import TestResponse

pytestmark = pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")  # Flask-Security's

SENTENCE = "The page expired, or your browser is blocking cookies. Please submit the form again."
ORIGIN = {"Origin": PUBLIC_URL}  # as browsers send it


@pytest.fixture
def site(make_site: Any) -> Site:
    settings = {**REGISTRATION, **CODE_SIGN_IN, "SECURITY_USERNAME_RECOVERY": True}
    return confirm_addresses(make_site(**settings))


def heading_of(page: TestResponse) -> str:
    return unescape(re.search("<h1>(.+?)</h1>", page.text)[1])  # type: ignore[index]


def values_of(page: TestResponse) -> dict[str, str]:
    """Return what a browser sends of a page's fields as they stand."""
    inputs = [element.attributes for element in elements_of(page.text) if element.tag == "input"]
    sent = [it for it in inputs if it["type"] not in ("checkbox", "submit") or "checked" in it]
    return {it["name"]: it.get("value", "") for it in sent}


def shown(visitor: Visitor, answer: TestResponse) -> TestResponse:
    """Return the page that an answer shows or leads to."""
    return visitor.open(answer.location, follow_redirects=True) if answer.location else answer


def send(visitor: Visitor, page: TestResponse, url: str | None = None, **fields: str) -> TestResponse:
    """Fill in and send the form of a page that is open."""
    action = unescape(re.search(r'<form method="post" action="([^"]+)"', page.text)[1])  # type: ignore[index]
    headers = {**ORIGIN, "Referer": f"{PUBLIC_URL}{page.request.path}"}
    return visitor.post_json(url or action, data={**values_of(page), **fields}, headers=headers)


def lose_cookies(visitor: Visitor) -> None:
    (visitor.client._cookies or {}).clear()


@pytest.mark.requirement("R6")
@pytest.mark.parametrize(
    ("path", "url", "fields", "next_heading"),
    [
        ("/reset", None, {"identity": "alice"}, "Check your email"),
        ("/confirm", None, {"identity": "alice"}, "Sign in"),
        ("/recover-username", None, {"identity": "alice@example.com"}, "Sign in"),
        ("/register", None, {"email": "carol@example.com", "username": "carol"}, "Check your email"),
        ("/us-signin", "/us-signin/send-code", {"identity": "alice"}, "Sign in with a code"),
    ],
)  # fmt: skip
def test_form_is_shown_again_after_the_session_cookie_was_lost(
    site: Site, path: str, url: str | None, fields: dict[str, str], next_heading: str
) -> None:
    visitor = site.visitor()
    page = visitor.open(path)
    lose_cookies(visitor)
    again = send(visitor, page, url, **fields)
    assert (again.status_code, heading_of(again), site.messages()) == (400, heading_of(page), [])
    assert f'role="alert">{SENTENCE}<' in again.text
    assert fields.items() <= values_of(again).items()
    assert heading_of(shown(visitor, send(visitor, again, url))) == next_heading
    assert len(site.messages()) == 1


@pytest.mark.requirement("R6")
@pytest.mark.parametrize(("path", "field"), [("/login", "password"), ("/us-signin", "passcode")])
def test_sign_in_is_shown_again_without_the_password(site: Site, path: str, field: str) -> None:
    visitor = site.visitor()
    page = visitor.open(f"{path}?next=/change")
    for typed in ({"identity": "alice", "remember": "y"}, {}):
        lose_cookies(visitor)
        page = send(visitor, page, **typed, **{field: OLD_PASSWORD})
        shown = values_of(page)
        assert (shown["identity"], shown[field], "remember" in shown) == ("alice", "", True)
        assert OLD_PASSWORD not in page.text
    assert send(visitor, page, **{field: OLD_PASSWORD}).location == "/change"


@pytest.mark.requirement("R6")
def test_form_is_shown_again_after_a_sign_out_in_another_tab(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.sign_in()
    tabs = {path: visitor.open(path) for path in ("/change", "/reset", "/", "/verify", "/logout")}
    visitor.submit("/", "/logout")
    again = send(visitor, tabs["/reset"], identity="alice")
    assert SENTENCE in again.text
    assert values_of(again)["identity"] == "alice"
    for path, url in (("/change", None), ("/verify", None), ("/", "/logout"), ("/logout", "/logout")):
        page = shown(visitor, send(visitor, tabs[path], url, password=OLD_PASSWORD))
        assert heading_of(page) == "Sign in", path
        assert ("Please sign in to continue." in page.text) is (url is None), path


@pytest.mark.requirement("R6")
def test_buttons_of_mailed_links_are_shown_again(site: Site) -> None:
    site.change(confirmed_at=None)
    site.visitor().post_json("/confirm", json={"identity": "alice"})
    site.work()
    [confirmation] = re.findall(r"http\S+/confirm/\S+", text_of(site.mailbox.mails[0]))
    site.new_link("bob")
    for link, done in ((confirmation, "Sign in"), (objection_in(site.mailbox.mails[1]), "The link has been canceled")):  # fmt: skip
        visitor = site.visitor()
        page = visitor.open(link, follow_redirects=True)
        lose_cookies(visitor)
        again = shown(visitor, send(visitor, page))
        assert heading_of(again) == heading_of(page)
        assert heading_of(shown(visitor, send(visitor, again))) == done


@pytest.mark.requirement("R6")
def test_browser_shows_and_sends_the_form_again(make_site: Any, page: Page) -> None:
    with live(make_site) as site:
        page.goto(f"{base_url(site)}/reset")
        page.fill("[name=identity]", "alice")
        page.context.clear_cookies()
        page.locator("main [type=submit]").click()
        expect(page.get_by_role("alert")).to_have_text(SENTENCE)
        page.locator("main [type=submit]").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Check your email")


@pytest.mark.requirement("R6")
def test_json_gets_csrf_failed(site: Site) -> None:
    for path in ("/reset", "/login", "/change", "/reset/x"):
        answer = site.visitor().post_json(path, data={"a": "b"}, headers={**ORIGIN, "Accept": "application/json"})  # fmt: skip
        assert (answer.status_code, answer.json["response"]["error_code"]) == (400, "csrf_failed"), path


@pytest.mark.requirement("R6")
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:5001", None])
def test_form_of_another_site_is_not_shown_again(site: Site, origin: str | None) -> None:
    """Another site must not fill in a form that the user then sends."""
    headers = {"Origin": origin} if origin else {}
    answer = site.visitor().post_json("/reset", data={"identity": "the thief's choice"}, headers=headers)
    assert answer.status_code == 400
    assert 'data-code="csrf_failed"' in answer.text
    assert not re.search(f"choice|<form|{SENTENCE}", answer.text)


def every_post(site: Site) -> dict[str, str]:
    rules = [rule for rule in site.app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    return {rule.endpoint: re.sub("<[^>]+>", "x" * 43, rule.rule) for rule in rules}


@pytest.mark.requirement("R6", "R25")
@pytest.mark.parametrize("who", ["stranger", "alice", "alice before her second factor"])
def test_no_form_without_its_token_changes_anything(make_site: Any, who: str) -> None:
    """The form is shown again by the view of its page, which must not act."""
    site: Site = confirm_addresses(make_site(**ALL_FEATURES, RECOVERY_PUBLIC_URL="http://localhost:5000"))
    link, visitor = site.new_link(), site.visitor()
    headers = {"Origin": "http://localhost:5000"}
    if who != "stranger":
        if who != "alice":
            set_up_factor(site)
        visitor.submit("/login", identity="alice", password=OLD_PASSWORD)
    handle = visitor.open(link).location
    fields = {
        "identity": "alice", "email": "new@example.com", "username": "new", "password": OLD_PASSWORD,
        "password_confirm": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD,
        "passcode": OLD_PASSWORD, "code": "123456", "language": "de", "keep": "old", "setup": "email", "name": "key",
        "chosen_method": "email", "phone": "+14155550100", "delete_method": "email", "generate_new_codes": "1",
        "csrf_token": csrf_token(site.visitor().open("/reset")), "submit": "1", "help_setup": "help",
    }  # fmt: skip
    before = dump(site)
    for endpoint, path in {**every_post(site), "the form of a link": handle}.items():
        answer = visitor.post_json(path, data=fields, headers=headers)
        assert answer.status_code in (302, 303, 400, 401, 403, 404), (endpoint, answer.status_code)
        assert not re.search(f"{OLD_PASSWORD}|{NEW_PASSWORD}", answer.text), endpoint
        assert dump(site) == before, endpoint
    assert visitor.is_signed_in() is (who == "alice")


def test_page_of_an_extension_is_not_called_for_a_form_without_its_token(site: Site) -> None:
    """It may act on a GET that has a form."""
    called: list[str] = []
    site.app.add_url_rule("/own", "own", lambda: called.append("own") or "", methods=["GET", "POST"])
    answer = site.visitor().post_json("/own", data={"a": "b"}, headers=ORIGIN)
    assert (answer.status_code, called) == (400, [])


@pytest.mark.requirement("R1")
def test_page_that_a_proxy_hides_is_not_shown_for_a_form_without_its_token(site: Site) -> None:
    for path in ("/readyz", "/healthz", "/metrics"):
        headers = {**ORIGIN, "Referer": f"{PUBLIC_URL}{path}"}
        answer = site.visitor().post_json("/language", data={"language": "de"}, headers=headers)
        assert answer.status_code == 400, path
        assert 'data-code="csrf_failed"' in answer.text, path


@pytest.mark.parametrize("who", ["stranger", "alice"])
def test_no_page_fails_for_a_form_that_names_it_in_its_referrer(make_site: Any, who: str) -> None:
    """A view may read which page it is."""
    site: Site = confirm_addresses(make_site(**ALL_FEATURES, RECOVERY_PUBLIC_URL="http://localhost:5000"))
    visitor, link = site.visitor(), site.new_link()
    if who == "alice":
        visitor.submit("/login", identity="alice", password=OLD_PASSWORD)
    rules = [rule for rule in site.app.url_map.iter_rules() if "GET" in (rule.methods or ())]
    for path in [*(re.sub("<[^>]+>", "x" * 43, rule.rule) for rule in rules), link]:
        own = "http://localhost:5000"
        headers = {"Origin": own, "Referer": f"{own}{path.removeprefix(own)}"}
        answer = visitor.post_json("/language", data={"language": "de"}, headers=headers)
        assert answer.status_code in (302, 303, 400, 401, 404), (path, answer.status_code)
