"""The landing of a reset link: the token leaves the address bar, and the form names its account."""

import re
from typing import Any

import pytest
from support.site import OLD_PASSWORD, Site

from app.accounts.models import User


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
def test_landing_handle_works_in_its_browser_for_the_last_eight_links(site: Site) -> None:
    """Proxies refuse a Cookie header of more than 8 KiB."""
    browser = site.visitor()
    handles = [browser.open(site.new_link()).location for _ in range(9)]
    assert browser.open(handles[0]).status_code == 400
    assert all(browser.open(handle).status_code == 200 for handle in handles[1:])
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
    handles = {
        visitor.open(link).location for visitor in (browser, browser, site.visitor()) for _ in range(6)
    }
    assert len(handles) == 1
    [handle] = handles
    assert re.fullmatch("/reset/~[0-9a-f]{20}", handle)
    assert site.visitor().open(handle).status_code == 400
    browser.client.set_cookie("sparekey_link" + handle.removeprefix("/reset/"), "forged", domain="127.0.0.1")
    assert browser.open(handle).status_code == 400


@pytest.mark.requirement("R10")
def test_landing_keeps_two_tabs_of_two_accounts_apart(site: Site) -> None:
    browser = site.visitor()
    handles = {name: browser.open(site.new_link(name)).location for name in ("alice", "bob")}
    for name, handle in handles.items():
        assert f"{name[0]}•••@example.com" in browser.open(handle).text
        browser.set_password(handle, f"the tab of {name} and no other")
    for name in handles:
        assert site.password_works(f"the tab of {name} and no other", name)


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


@pytest.mark.requirement("R67")
@pytest.mark.parametrize(
    ("kinds", "saved"), [(["username", "email"], "alice"), (["us_phone_number"], "+14155550123")]
)
def test_form_gives_password_managers_the_identity_that_signs_in(
    make_site: Any, kinds: list[str], saved: str
) -> None:
    site: Site = make_site(SECURITY_USER_IDENTITY_ATTRIBUTES=kinds)
    visitor = site.visitor()
    assert visitor.sign_in(saved)
    for page in (visitor.open("/change"), visitor.open(site.new_link(saved), follow_redirects=True)):
        assert re.search(rf'name="username" value="{re.escape(saved)}" autocomplete="username"', page.text)
