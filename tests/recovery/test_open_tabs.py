"""One reset link in several tabs of a browser, opened at the same time and one after the other."""

import functools
import re
import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from support.live import base_url, live, mailed_link
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, csrf_token
from werkzeug.test import TestResponse


def set_password(tab: Page, password: str = NEW_PASSWORD) -> None:
    for name in ("password", "password_confirm"):
        tab.fill(f"[name={name}]", password)
    tab.get_by_role("button", name="Set new password").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("Your password has been changed")


@pytest.mark.requirement("R13", "R51")
@pytest.mark.parametrize("number", [0, 1], ids=["first tab", "second tab"])
def test_double_click_in_a_mail_program_opens_two_tabs_that_work(
    make_site: Any, page: Page, number: int
) -> None:
    """A browser that was never here: both requests go without cookies, and each answer sets some."""
    with live(make_site) as site:
        link = mailed_link(site)
        landing = site.app.view_functions["security.reset_password"]

        @functools.wraps(landing)
        def land_slowly(**values: str) -> Any:
            answer = landing(**values)
            time.sleep(0.3)  # until the other request has come
            return answer

        site.app.view_functions["security.reset_password"] = land_slowly
        mail = f'<a target="_blank" href="{link}">1</a> <a target="_blank" href="{link}">2</a>'
        page.route("http://mail.example/", lambda route: route.fulfill(body=mail, content_type="text/html"))
        page.goto("http://mail.example/")
        for name in "12":
            page.get_by_role("link", name=name).click(no_wait_after=True)
        while len(page.context.pages) < 3:
            page.wait_for_timeout(20)
        tabs = page.context.pages[1:]
        for tab in tabs:
            expect(tab.get_by_role("heading", level=1)).to_have_text("Choose a new password")
        assert len({tab.url for tab in tabs}) == 1
        set_password(tabs[number])
        assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R51")
def test_six_openings_leave_the_first_tab_working(make_site: Any, page: Page) -> None:
    with live(make_site) as site:
        link = mailed_link(site)
        tabs = [page, *(page.context.new_page() for _ in range(5))]
        for tab in tabs:
            tab.goto(link)
        assert len(page.context.cookies()) <= 2
        set_password(tabs[0])


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


@BOTH
@pytest.mark.requirement("R6", "R13")
@pytest.mark.parametrize("number", range(3))
def test_every_tab_of_a_link_that_was_opened_at_once_can_set_the_password(site: Site, number: int) -> None:
    browser, link = ColdBrowser(site), site.new_link()
    handles = [answer.location for answer in browser.open_at_once(link, link, link)]
    forms = browser.open_at_once(*handles)
    tokens = {csrf_token(form) for form in forms}
    assert len(tokens) == 1
    fields = {
        "password": NEW_PASSWORD,
        "password_confirm": NEW_PASSWORD,
        "csrf_token": csrf_token(forms[number]),
    }
    for _ in range(2):  # two clicks are one in each
        done = browser.visitor.post_json(handles[number], data=fields)
        assert done.location == "/reset-done", done.text
    assert site.events().count("redeemed") == 1


@pytest.mark.requirement("R6")
def test_form_token_of_another_link_is_refused(site: Site) -> None:
    """An attacker has a link of their own, and with it the token of its form."""
    alice, mallory = site.visitor(), site.visitor()
    handle = alice.open(site.new_link()).location
    own = mallory.open(site.new_link("bob"), follow_redirects=True)
    fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD, "csrf_token": csrf_token(own)}
    assert alice.post_json(handle, data=fields).status_code == 400
    assert site.password_works(OLD_PASSWORD)


def test_first_answer_of_another_tab_does_not_replace_the_token_of_a_form(site: Site) -> None:
    """A sign-in page that was opened at the same time has a session of its own."""
    browser, link = ColdBrowser(site), site.new_link()
    handle = browser.visitor.open(link).location
    form, *_ = browser.open_at_once(handle, "/login", "/reset")
    fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD, "csrf_token": csrf_token(form)}
    assert browser.visitor.post_json(handle, data=fields).location == "/reset-done"


def test_reset_form_works_after_its_session_was_lost(make_site: Any, page: Page) -> None:
    with live(make_site) as site:
        page.goto(mailed_link(site))
        page.context.clear_cookies(name="sparekey_session")
        set_password(page)


def test_link_cookies_fit_a_proxys_header(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com")
    visitor = site.visitor()
    cookies = [visitor.open(site.new_link()).headers["Set-Cookie"].partition(";")[0] for _ in range(3)]
    assert all(re.fullmatch(r"__Host-sparekey_link~[0-9a-f]{20}=[\w=-]+", cookie) for cookie in cookies)
    assert 8 * max(map(len, cookies)) < 2048


def test_page_of_a_handle_that_is_open_elsewhere_leads_on(make_site: Any, page: Page) -> None:
    with live(make_site) as site:
        handle = site.visitor().open(mailed_link(site)).location
        page.goto(base_url(site) + handle)
        page.get_by_role("link", name="Request a new link").click()
        assert page.url == f"{base_url(site)}/reset"
