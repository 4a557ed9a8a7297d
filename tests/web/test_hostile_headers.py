"""Malformed headers, hosts, cookies, forwarded addresses and paths are answered, never with a server error."""

from typing import Any

import pytest
from support.mailbox import html_of, text_of
from support.site import BOTH, NEW_PASSWORD, Site

from app.db.audit import RecoveryEvent
from app.web.user_agents import describe

MALFORMED = [
    {"Authentication-Token": "\xff"}, {"Authentication-Token": "WyJhIl0.Z.Z"}, {"Authorization": "Basic \xff"},
    {"Authorization": "Basic YTpi"}, {"Accept": "application/json;q=nan, \xff;q=x, " * 50}, {"X-CSRFToken": "\xff"},
    {"Accept-Language": "\xff;q=99999999999999"}, {"Accept-Language": "de" * 3000 + ",de;q=1e400,de;q=nan,de;q=-1" + ",xx" * 3000},
    {"Cookie": "sparekey_session=.eJx; sparekey_remember=1|2|3; XSRF-TOKEN=\x01"}, {"Cookie": "sparekey_remember=\xff|\xff"},
    {"Cookie": ";".join(["sparekey_session=" + "x" * 500] * 10)}, {"Origin": "http://["}, {"Referer": "http://["},
    {"Content-Length": "-1"}, {"Content-Length": "9" * 40}, {"User-Agent": "\x00\xff" * 2_000},
    {"If-Modified-Since": "x", "Range": "bytes=9-1,-"},
]  # fmt: skip
PATHS = ["/reset/%00", "/reset/%ff%fe", "/reset/~%ed%a0%80", "/reset/" + "~" * 4_000, "/reset/%2e%2e", "/%00"]
PATHS += ["/static/%00", "/static/..%2f..%2fREADME.md", "/static/" + "a/" * 1_500, "/reset/" + "%0a" * 1_000]


def test_malformed_header_is_answered(site: Site) -> None:
    for headers in MALFORMED:
        for path in ("/", "/login", "/reset", "/change", "/healthz", "/static/sparekey.css"):
            for method in ("GET", "POST"):
                answer = site.visitor().open(path, method=method, headers=headers)
                answer.close()
                assert answer.status_code < 500, (path, method, headers)


def test_malformed_path_is_answered(site: Site) -> None:
    for path in PATHS:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            answer = site.visitor().open(path, method=method)
            answer.close()
            refused = (308, 400, 404, 200 if method == "OPTIONS" else 405)
            assert answer.status_code in refused, (path, method)


@pytest.mark.requirement("R44")
def test_odd_character_in_a_cookie_name_makes_no_other_cookie(site: Site) -> None:
    """A pair that is not well-formed is dropped whole."""
    visitor, program = site.visitor(), site.app.test_client(use_cookies=False)
    assert visitor.sign_in()
    name = site.app.config["SESSION_COOKIE_NAME"]
    value = visitor.client.get_cookie(name, domain="127.0.0.1").value

    def status(header: str) -> int:
        return program.get("/change", base_url=visitor.base, headers={"Cookie": header}).status_code

    for odd in ("\xe9", "\x85", "\xa0", "\x0b", "\x1f", "\x00", '"', "(", "a\xe9"):
        assert status(f"{odd}{name}={value}") == 302, f"signed in by a cookie of another name: {odd!r}"
    assert status(f"x\xe9=1; {name}={value}; y=\xe9") == 200


@pytest.mark.requirement("R52", "R54")
def test_foreign_host_reaches_no_url(site: Site) -> None:
    for host in ("evil.example", "a..b", "[::1", "x" * 70, ""):
        for path in ("/change", "/reset//" + "x" * 43, "/login", "/nowhere"):
            answer = site.visitor().open(path, headers={"Host": host})
            assert answer.status_code in (308, 400, 404)
            assert "evil" not in (answer.location or "") + answer.text


@BOTH
@pytest.mark.requirement("R54")
def test_malformed_forwarded_address_is_dropped(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_TRUSTED_PROXIES=1)
    for address in ("x" * 300, "fe80::1%" + " call 555 0199 now" * 4):
        headers = {"X-Forwarded-For": address}
        answer = site.visitor().post_json("/reset", json={"identity": "alice"}, headers=headers)
        assert answer.status_code == 200
    assert {row["source"] for row in site.rows(RecoveryEvent)} <= {"", None, "fe80::1"}


WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"
EVIL = "planned maintenance, sign in at https://evil.example"
BROWSERS = {
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0": "Firefox, Linux",
    WINDOWS: "Chrome, Windows",
    f"{WINDOWS} Edg/142.0": "Edge, Windows",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Version/18.6 Mobile/15E148 Safari/604.1": "Safari, iPhone",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.6 Safari/605.1.15": "Safari, macOS",
    "Mozilla/5.0 (Linux; Android 15) SamsungBrowser/28.0 Chrome/130.0 Mobile Safari/537.36": "Samsung Internet, Android",
    EVIL: "",
    "": "",
}


@pytest.mark.requirement("R21")
def test_notice_names_browser_and_system_and_repeats_nothing_of_the_header(site: Site) -> None:
    assert {header: describe(header) for header in BROWSERS} == BROWSERS
    for header, words in ((f"{WINDOWS} {EVIL}", "Chrome, Windows"), (EVIL, "unknown")):
        link, body = site.new_link(), {"password": f"{NEW_PASSWORD}: {words}"}
        answer = site.visitor().post_json(link, json=body, headers={"User-Agent": header})
        assert answer.status_code == 200
        site.work()
        text, html = text_of(site.mailbox.mails[-1]), html_of(site.mailbox.mails[-1])
        assert f"Browser: {words}" in " ".join(text.split())
        assert words in html
        assert "evil.example" not in text + html
