"""Home, the end of a reset, problems and well-known URLs, and the headers of pages."""

import re
from typing import Any

import pytest
from support.site import PUBLIC_URL, Site

NO_TOKEN = "/reset/" + "x" * 43


def test_home_shows_the_account_and_sign_out_is_a_button(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.open("/").location == "/login"
    assert "<h1>Sign in</h1>" in visitor.open("/logout", follow_redirects=True).text
    assert visitor.sign_in()
    assert "alice@example.com" in visitor.open("/").text
    pages = [visitor.open("/logout", method=method) for method in ("HEAD", "GET")]  # neither signs out
    assert [page.status_code for page in pages] == [200, 200]
    assert '<form method="post" action="/logout">' in pages[1].text
    assert visitor.is_signed_in()
    assert visitor.submit("/logout", "/logout").location == "/"
    assert not visitor.is_signed_in()
    assert visitor.open("/").location == "/login"


def test_logout_follows_its_settings(make_site: Any) -> None:
    site: Site = make_site(SECURITY_LOGOUT_URL="/sign-out", SECURITY_URL_PREFIX="/account")
    assert site.visitor().open("/account/sign-out").location == "/"


def test_reset_done_is_shown_once_and_only_after_a_reset(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.open("/reset-done").location == "/"
    visitor.set_password(site.new_link())
    done = visitor.open("/reset-done")
    assert "Your password has been changed" in done.text
    assert 'href="/login"' in done.text
    assert visitor.open("/reset-done").location == "/"


@pytest.mark.requirement("R70")
def test_well_known_change_password_redirects_to_the_page(make_site: Any, site: Site) -> None:
    assert site.visitor().open("/.well-known/change-password").location == "/change"
    without_change = make_site(SECURITY_CHANGEABLE=False)
    assert without_change.visitor().open("/.well-known/change-password").location == "/reset"
    unknown = "/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200"
    assert site.visitor().open(unknown).status_code == 404


@pytest.mark.requirement("R66")
def test_problem_has_the_format_of_the_request(site: Site) -> None:
    visitor = site.visitor()
    for method, path, status in (("GET", "/nowhere", 404), ("PUT", "/", 405)):
        answer = visitor.open(path, method=method, json={})
        assert (answer.status_code, answer.json["meta"]["code"]) == (status, status)
        assert answer.json["response"]["error_code"]
    page = visitor.open("/nowhere")
    assert (page.status_code, "<h1>Page not found</h1>" in page.text) == (404, True)


@pytest.mark.requirement("R52")
def test_double_slash_redirects_within_this_site(site: Site) -> None:
    answer = site.visitor().open(NO_TOKEN.replace("/reset/", "/reset//"))
    assert (answer.status_code, answer.location) == (308, f"{PUBLIC_URL}{NO_TOKEN}")


@pytest.mark.requirement("R49")
def test_page_whose_url_holds_a_token_is_no_referrer(site: Site) -> None:
    for path in ("/", "/login", "/reset", "/nowhere", NO_TOKEN):
        expected = "no-referrer" if path == NO_TOKEN else "same-origin"
        assert site.visitor().open(path).headers["Referrer-Policy"] == expected, path


@pytest.mark.requirement("R50", "R68")
def test_pages_have_no_inline_style_or_script(site: Site) -> None:
    visitor = site.visitor()
    for path in ("/", "/login", "/reset", "/nowhere", site.new_link()):
        page = visitor.open(path, follow_redirects=True).text
        assert not re.search("<style|style=", page), path
        assert page.count("<script") == page.count('<script nonce="'), path
        assert ('src="/static/forms.js"' in page) is ("<form" in page), path
        assert '<html lang="en" dir="ltr">' in page, path
    visitor.sign_in()
    assert "Change your password" in visitor.open("/change").text
