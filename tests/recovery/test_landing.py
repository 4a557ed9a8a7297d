"""The landing of a reset link: the token leaves the address bar, the form names its account, and every tab works."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from support.features import MAIL_FEATURES, confirm_addresses
from support.recovery import code_of, link_of, objection_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, csrf_token
from werkzeug.test import TestResponse

from app.accounts.models import User

FIELDS = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}


@pytest.mark.requirement("R25")
def test_landing_consumes_nothing(site: Site) -> None:
    link = site.new_link()
    assert site.visitor().open(link, method="HEAD").status_code == 200
    assert (site.links()[0]["opened_at"], site.events()) == (None, ["requested", "mail_sent"])
    site.visitor().open(link)  # the audit trail records the first opening
    assert site.events()[-1] == "opened"
    before = site.links(), site.messages(), site.events()
    for _ in range(20):
        head = site.visitor().open(link, method="HEAD")
        assert (head.status_code, "Set-Cookie" in head.headers) == (200, False)
        assert site.visitor().open(link).status_code == 303
    assert (site.links(), site.messages(), site.events()) == before
    assert site.visitor().set_password(link).status_code == 302


@pytest.mark.requirement("R51")
def test_landing_handle_works_in_its_browser_for_the_last_eight_links(make_site: Any) -> None:
    """Proxies refuse a Cookie header of more than 8 KiB."""
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com")
    browser = site.visitor()
    landings = [browser.open(site.new_link()) for _ in range(9)]
    cookies = [landing.headers.getlist("Set-Cookie")[-1].partition(";")[0] for landing in landings]
    assert all(re.fullmatch(r"__Host-sparekey_link~[0-9a-f]{20}=[\w=-]+", cookie) for cookie in cookies)
    assert 8 * max(map(len, cookies)) < 2048
    handles = [landing.location for landing in landings]
    assert [browser.open(handle).status_code for handle in handles] == [400] + [200] * 8
    elsewhere = site.visitor().open(handles[4])
    assert elsewhere.status_code == 400
    assert "Open the link in the email again, and make sure cookies are allowed" in elsewhere.text
    assert elsewhere.text.count('href="/reset"') == 1
    german = site.visitor().open(handles[4], headers={"Accept-Language": "de"})
    assert "Öffnen Sie den Link in der E-Mail noch einmal" in german.text


@pytest.mark.requirement("R51")
def test_landing_gives_a_link_one_handle_which_does_not_reveal_its_token(site: Site) -> None:
    """Tabs that open one link share the handle. Logs may contain it."""
    browser, link = site.visitor(), site.new_link()
    visitors = (browser, browser, site.visitor())
    [handle] = {visitor.open(link).location for visitor in visitors for _ in range(6)}
    assert re.fullmatch("/reset/~[0-9a-f]{20}", handle)
    assert site.visitor().open(handle).status_code == 400
    browser.client.set_cookie("sparekey_link" + handle.removeprefix("/reset/"), "forged", domain="127.0.0.1")
    assert browser.open(handle).status_code == 400


@pytest.mark.requirement("R37", "R45")
def test_landing_names_another_account_that_is_signed_in(site: Site) -> None:
    link, mallory, alice = site.new_link(), site.visitor(), site.visitor()
    mallory.submit("/login", identity="bob", password=OLD_PASSWORD, remember="y")
    form = mallory.open(link, follow_redirects=True)
    assert "for <strong><bdi>a•••@example.com</bdi></strong>" in form.text
    assert "This browser is signed in as <strong><bdi>b•••@example.com</bdi></strong>" in form.text
    site.change(User, User.username == "bob", email="adam@example.com")  # masked as alice's
    assert "is signed in as" in mallory.open(link, follow_redirects=True).text
    alice.sign_in()
    assert "is signed in as" not in alice.open(link, follow_redirects=True).text
    assert mallory.set_password(link).location == "/reset-done"
    assert not mallory.is_signed_in()
    assert not alice.is_signed_in()
    assert mallory.open("/").location == "/login"


@pytest.mark.requirement("R67")
def test_landing_form_helps_password_managers(site: Site) -> None:
    """They save the whole address, which only they read: others see a•••@example.com."""
    page = site.visitor().open(site.new_link(), follow_redirects=True).text
    fields = re.findall(r"<input[^>]*>", page)
    [username] = [field for field in fields if 'autocomplete="username"' in field]
    for attribute in ('value="alice@example.com"', 'class="hidden"', 'aria-hidden="true"', "readonly"):
        assert attribute in username
    assert "alice@example.com" not in page.replace(username, "")
    boxes = [field for field in fields if 'autocomplete="new-password"' in field]
    assert len(boxes) == 2
    assert not re.search("maxlength|onpaste", "".join(boxes))


class ColdBrowser:
    """A browser that sends requests before the answers to the others have come, and then takes all cookies."""

    def __init__(self, site: Site) -> None:
        self.visitor, self.app = site.visitor(), site.app

    def open_at_once(self, *urls: str) -> list[TestResponse]:
        jar = {cookie.key: cookie.value for cookie in self.visitor.client._cookies.values()}
        header = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())} if jar else {}
        program = self.app.test_client(use_cookies=False)
        answers = [program.get(url, base_url=self.visitor.base, headers=header) for url in urls]
        for answer in answers:
            for cookie in answer.headers.getlist("Set-Cookie"):
                name, value = cookie.partition(";")[0].split("=", 1)
                self.visitor.client.set_cookie(name, value, domain="127.0.0.1")
        return answers


@pytest.mark.requirement("R6", "R10")
def test_landing_keeps_two_tabs_of_two_accounts_apart(site: Site) -> None:
    browser = site.visitor()
    handles = {name: browser.open(site.new_link(name)).location for name in ("alice", "bob")}
    token = csrf_token(browser.open(handles["bob"]))  # an attacker has a link of their own
    assert browser.post_json(handles["alice"], data={**FIELDS, "csrf_token": token}).status_code == 400
    for name, handle in handles.items():
        assert f"{name[0]}•••@example.com" in browser.open(handle).text
        browser.set_password(handle, f"the tab of {name} and no other")
    for name in handles:
        assert site.password_works(f"the tab of {name} and no other", name)


@BOTH
@pytest.mark.requirement("R6", "R13")
def test_every_tab_of_a_link_that_was_opened_at_once_can_set_the_password(site: Site) -> None:
    for number in range(3):
        browser, link = ColdBrowser(site), site.new_link()
        handles = [answer.location for answer in browser.open_at_once(link, link, link)]
        # Pages that are opened at the same time have sessions of their own.
        forms = browser.open_at_once(*handles, "/login", "/reset")[:3]
        [token] = {csrf_token(form) for form in forms}
        if number == 2:
            browser.visitor.client.delete_cookie("sparekey_session", domain="127.0.0.1")
        for _ in range(2):  # two clicks are one in each
            done = browser.visitor.post_json(handles[number], data={**FIELDS, "csrf_token": token})
            assert done.location == "/reset-done", done.text
        assert site.events().count("redeemed") == number + 1
        site.work()  # the notice


# --- Links as people pass them on: with punctuation, a slash or an invisible character behind ---

BEHIND = [*".,>)\"\u200b/'];:!…»。\u00a0*|", "&gt;", ").", ">,", "%20"]


@pytest.mark.requirement("R69")
def test_link_with_a_character_behind_it_opens_its_form(site: Site) -> None:
    link = site.new_link()
    for text in BEHIND:
        for behind in (text, quote(text)):
            form = site.visitor().open(link + behind, follow_redirects=True)
            assert form.status_code == 200, behind
            assert "Choose a new password" in form.text
        assert code_of(site, link + quote(text, safe="/"), "short") == "password_too_short"
    assert code_of(site, f"{link}.") == "redeemed"


def test_every_other_mailed_link_is_trimmed(make_site: Any) -> None:
    settings = {name: value for name, value in MAIL_FEATURES.items() if name != "RECOVERY_PUBLIC_URL"}
    site: Site = confirm_addresses(make_site(**settings))
    site.new_link()
    objection = objection_in(site.mailbox.mails[-1])
    site.change(confirmed_at=None)
    site.visitor().post_json("/confirm", json={"identity": "alice"})
    confirmation = link_of(site, "confirm")
    confirm_addresses(site)
    alice = site.visitor()
    alice.sign_in()
    alice.submit("/change-email", email="alice@new.example")
    address = link_of(site, "change-email")
    confirm = "Confirm email address"
    for link, button in ((objection, "Cancel the link"), (confirmation, confirm), (address, confirm)):
        for behind in (".", ")", "/", "%3E", "%E2%80%8B"):
            page = site.visitor().open(link + behind, follow_redirects=True)
            assert (page.status_code, button in page.text) == (200, True), link + behind


def test_page_is_found_with_a_slash_behind_it(site: Site) -> None:
    for path in ("/reset", "/login", "/change", "/check-mail", "/confirm-address", "/logout"):
        with_slash, without = (site.visitor().open(url, follow_redirects=True) for url in (f"{path}/", path))
        assert with_slash.status_code == without.status_code
        assert with_slash.request.path.rstrip("/") == without.request.path.rstrip("/")
    assert site.visitor().submit("/reset/", identity="alice").location == "/check-mail"
    assert site.visitor().post_json("/reset/", json={"identity": "alice"}).status_code == 200


@pytest.mark.requirement("R69")
@pytest.mark.parametrize("prefix", ["", "/auth"])
def test_every_wrong_address_below_reset_offers_a_new_link(make_site: Any, prefix: str) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL=f"http://127.0.0.1:5000{prefix}")
    for path in ("/a", "/a/b", "/%7Ea/b", "/%7E", "/a%2Fb", f"/{'x' * 43}/login"):
        page = site.visitor().open(f"{prefix}/reset{path}")
        assert page.status_code in (400, 404), path
        assert f'class="button" href="{prefix}/reset"' in page.text
    nowhere = site.visitor().open(f"{prefix}/nowhere")
    assert f'href="{prefix}/reset"' not in nowhere.text


@pytest.mark.requirement("R67")
@pytest.mark.parametrize(
    ("kinds", "saved"), [(["username", "email"], "alice"), (["us_phone_number"], "+14155550123")]
)
def test_form_gives_password_managers_the_identity_that_signs_in(
    make_site: Any, kinds: Any, saved: str
) -> None:
    site: Site = make_site(SECURITY_USER_IDENTITY_ATTRIBUTES=kinds)
    visitor = site.visitor()
    assert visitor.sign_in(saved)
    for page in (visitor.open("/change"), visitor.open(site.new_link(saved), follow_redirects=True)):
        assert re.search(rf'name="username" value="{re.escape(saved)}" autocomplete="username"', page.text)
