"""Forms whose session ended while they were open: the same form again, with the text that was typed."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from support.database import dump
from support.features import (
    ALL_FEATURES,
    CODE_SIGN_IN,
    CONFIRMATION,
    REGISTRATION,
    confirm_addresses,
    set_up_factor,
)
from support.live import base_url, live, mailed_link
from support.mailbox import text_of
from support.recovery import objection_in
from support.site import NEW_PASSWORD, OLD_PASSWORD, PUBLIC_URL, Site, Visitor, csrf_token

pytestmark = pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")  # Flask-Security's

SENTENCE = "The page expired, or your browser is blocking cookies. Please submit the form again."
ORIGIN = {"Origin": PUBLIC_URL}  # as browsers send it


@pytest.fixture
def running(make_site: Any) -> Iterator[Site]:
    with live(make_site, **REGISTRATION, **CODE_SIGN_IN, SECURITY_USERNAME_RECOVERY=True) as site:
        yield confirm_addresses(site)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def expect_again(page: Page, **fields: str) -> None:
    """Expect the form, its text, no password, and one sentence."""
    expect(page.get_by_role("alert")).to_have_text(SENTENCE)
    for name, value in fields.items():
        assert page.input_value(f"[name={name}]") == value
    for box in page.locator("input[type=password]").all():
        assert box.input_value() == ""


@pytest.mark.requirement("R6")
@pytest.mark.parametrize(
    ("path", "fields", "button", "next_heading"),
    [
        ("/reset", {"identity": "alice"}, "Email me a link", "Check your email"),
        ("/confirm", {"identity": "alice"}, "Email me a link", "Sign in"),
        ("/recover-username", {"identity": "alice@example.com"}, "Email me my username", "Sign in"),
        ("/register", {"email": "carol@example.com", "username": "carol"}, "Sign up", "Check your email"),
        ("/us-signin", {"identity": "alice"}, "Email me a code", "Sign in with a code"),
    ],
)
def test_form_is_shown_again_after_the_session_cookie_was_lost(
    running: Site, page: Page, path: str, fields: dict[str, str], button: str, next_heading: str
) -> None:
    page.goto(base_url(running) + path)
    heading = page.get_by_role("heading", level=1).inner_text()
    for name, value in fields.items():
        page.fill(f"[name={name}]", value)
    page.context.clear_cookies()
    with page.expect_response(lambda response: response.request.method == "POST") as posted:
        press(page, button)
    assert posted.value.status == 400
    assert running.messages() == []
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    expect_again(page, **fields)
    press(page, button)
    expect(page.get_by_role("heading", level=1)).to_have_text(next_heading)
    assert len(running.messages()) == 1


@pytest.mark.requirement("R6")
@pytest.mark.parametrize("path", ["/login", "/us-signin"])
def test_sign_in_is_shown_again_without_the_password(running: Site, page: Page, path: str) -> None:
    page.goto(f"{base_url(running)}{path}?next=/change")
    for _ in range(2):
        page.fill("[name=identity]", "alice")
        page.fill("input[type=password]", OLD_PASSWORD)
        page.check("[name=remember]")
        page.context.clear_cookies()
        press(page, "Sign in")
        expect_again(page, identity="alice")
        assert page.is_checked("[name=remember]")
        assert OLD_PASSWORD not in page.content()
    page.fill("input[type=password]", OLD_PASSWORD)
    press(page, "Sign in")
    expect(page.get_by_role("heading", level=1)).to_have_text("Change your password")


@pytest.mark.requirement("R6")
def test_form_is_shown_again_after_a_sign_out_in_another_tab(running: Site, page: Page) -> None:
    base = base_url(running)
    page.goto(f"{base}/login")
    page.fill("[name=identity]", "alice")
    page.fill("[name=password]", OLD_PASSWORD)
    press(page, "Sign in")
    tabs = {path: page.context.new_page() for path in ("/change", "/reset", "/", "/verify", "/logout")}
    for path, tab in tabs.items():
        tab.goto(base + path)
    press(page, "Sign out")
    tabs["/reset"].fill("[name=identity]", "alice")
    press(tabs["/reset"], "Email me a link")
    expect_again(tabs["/reset"], identity="alice")
    for path in ("/change", "/verify"):
        for box in tabs[path].locator("input[type=password]").all():
            box.fill(OLD_PASSWORD)
        tabs[path].locator("main form [type=submit]").click()
        expect(tabs[path].get_by_role("heading", level=1)).to_have_text("Sign in")
        expect(tabs[path].locator(".message")).to_have_text("Please sign in to continue.")
    for path in ("/logout", "/"):
        press(tabs[path], "Sign out")
        expect(tabs[path].get_by_role("heading", level=1)).to_have_text("Sign in")


@pytest.mark.requirement("R6")
def test_buttons_of_mailed_links_are_shown_again(running: Site, page: Page) -> None:
    running.change(confirmed_at=None)
    running.visitor().post_json("/confirm", json={"identity": "alice"})
    [confirmation] = re.findall(r"http\S+/confirm/\S+", text_of(running.mailbox.wait_for(1)))
    mailed_link(running, "bob")
    objection = objection_in(running.mailbox.wait_for(2))
    for link, button, done in (
        (confirmation, "Confirm email address", "Sign in"),
        (objection, "Cancel the link", "The link has been canceled"),
    ):
        page.goto(link)
        page.context.clear_cookies()
        press(page, button)
        expect(page.get_by_role("button", name=button)).to_be_visible()
        press(page, button)
        expect(page.get_by_role("heading", level=1)).to_have_text(done)


@pytest.mark.requirement("R6")
def test_json_gets_csrf_failed(site: Site) -> None:
    for path in ("/reset", "/login", "/change", "/reset/x"):
        answer = site.visitor().post_json(
            path, data={"identity": "alice"}, headers={**ORIGIN, "Accept": "application/json"}
        )
        assert (answer.status_code, answer.json["response"]["error_code"]) == (400, "csrf_failed"), path


@pytest.mark.requirement("R6")
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:5001", None])
def test_form_of_another_site_is_not_shown_again(site: Site, origin: str | None) -> None:
    """Another site must not fill in a form that the user then sends."""
    headers = {"Origin": origin} if origin else {}
    answer = site.visitor().post_json("/reset", data={"identity": "the thief's choice"}, headers=headers)
    assert answer.status_code == 400
    assert 'data-code="csrf_failed"' in answer.text
    assert "choice" not in answer.text
    assert "<form" not in answer.text


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
        assert OLD_PASSWORD not in answer.text, endpoint
        assert NEW_PASSWORD not in answer.text, endpoint
        assert dump(site) == before, endpoint
    if who == "alice":
        assert visitor.is_signed_in()


def test_page_of_an_extension_is_not_called_for_a_form_without_its_token(site: Site) -> None:
    """It may act on a GET that has a form."""
    called: list[str] = []
    site.app.add_url_rule("/own", "own", lambda: called.append("own") or "", methods=["GET", "POST"])
    answer = site.visitor().post_json("/own", data={"a": "b"}, headers=ORIGIN)
    assert (answer.status_code, called) == (400, [])


def test_sentence_stands_on_no_other_page(make_site: Any) -> None:
    site: Site = make_site(**CONFIRMATION)
    visitor: Visitor = site.visitor()
    pages = [
        visitor.open("/reset"),
        visitor.submit("/reset", identity=""),
        visitor.submit("/login", identity="alice"),
    ]
    pages.append(visitor.post_json("/reset", data={"identity": "alice"}))
    pages.append(visitor.post_json("/not-me/x", data={"identity": "alice"}, headers=ORIGIN))
    for page in pages:
        assert SENTENCE not in page.text
    again = visitor.post_json("/reset", data={"identity": "alice"}, headers=ORIGIN)
    assert again.text.count(SENTENCE) == 1
