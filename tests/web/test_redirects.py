"""Redirects stay on the public address, whatever a request names as the next page."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, csrf_token
from support.urls import BAIT, HOSTILE_URLS, browser_target
from werkzeug.test import TestResponse

LOGIN = {"identity": "alice", "password": OLD_PASSWORD}


def assert_stays_here(answer: TestResponse, case: object) -> None:
    assert answer.status_code in (200, 302, 303, 308, 400, 404, 405), case
    target = urlsplit(browser_target(answer.location or "/"))
    assert (target.scheme, target.netloc) == ("http", "127.0.0.1:5000"), (case, answer.location)


@pytest.mark.requirement("R52")
def test_next_leads_to_this_site_only(site: Site) -> None:
    alice = site.visitor()
    assert alice.sign_in()
    fields = {"csrf_token": csrf_token(alice.open("/")), "password": OLD_PASSWORD}
    for url in HOSTILE_URLS:
        assert_stays_here(alice.post_json("/verify", data={**fields, "next": url}), url)
    followed = alice.post_json("/verify", data={**fields, "next": "/change"})
    assert followed.location == "/change"  # or the loop would prove nothing
    for url in HOSTILE_URLS[:24:6]:
        assert_stays_here(site.visitor().submit("/login", **LOGIN, next=url), url)
        fields = {"csrf_token": csrf_token((visitor := site.visitor()).open("/login")), **LOGIN}
        in_query: Any = {"query_string": {"next": url}, "data": fields}
        assert_stays_here(visitor.post_json("/login", **in_query), url)
        assert BAIT not in site.visitor().post_json("/login", json={**LOGIN, "next": url}).text
    for malformed in ("http://[", "//[evil", "https://[::1"):
        assert site.visitor().open("/login", query_string={"next": malformed}).status_code == 400
        assert site.visitor().submit("/login", **LOGIN, next=malformed).status_code == 400


@pytest.mark.requirement("R52")
def test_no_page_redirects_where_its_query_says(site: Site) -> None:
    stranger, alice, link = site.visitor(), site.visitor(), site.new_link()
    assert alice.sign_in()
    for number, url in enumerate(HOSTILE_URLS):
        query = dict.fromkeys(("next", "url", "redirect", "return_to"), url)
        assert_stays_here(alice.open("/login", query_string=query), url)
        for path in ("/change", "/reset/x", "/reset", link):
            assert_stays_here(stranger.open(path, query_string=query), url)
        paths = ("/", "/verify", "/logout", "/reset-done", "/check-mail", "/.well-known/change-password")
        assert_stays_here(alice.open(paths[number % 6], query_string={"next": url}), url)
    for visitor, path in ((alice, "/logout"), (stranger, "/reset")):
        fields = {"csrf_token": csrf_token(visitor.open(path)), "identity": "nobody", "next": f"//{BAIT}"}
        assert_stays_here(visitor.post_json(f"{path}?next=//{BAIT}", data=fields), path)
    assert not alice.is_signed_in()
    form = stranger.open(link, query_string={"next": f"//{BAIT}"}).location
    for password in ("short", NEW_PASSWORD):
        fields = {"password": password, "password_confirm": password, "next": f"//{BAIT}"}
        done = stranger.submit(form, form, **fields)
        assert_stays_here(done, password)
    assert done.location == "/reset-done"
