"""What somebody sends who means harm: too much, twice, of another kind, in other letters, for another place."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import socket
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest
from sqlalchemy import text
from support.admin import Admin
from support.mailbox import html_of, text_of
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, Visitor, csrf_token
from support.urls import BAIT, HOSTILE_URLS, browser_target
from werkzeug.test import TestResponse

from app.accounts import identities
from app.accounts.models import User
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.settings.problems import SettingsError
from app.web import logging as web_logging

EVIL = "evil@evil.example"
ALICE = [["alice@example.com"]]
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

# What a program sends to each address, with what is right in it.
CHANGE = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
BODIES: dict[str, dict[str, Any]] = {
    "/login": {"identity": "alice", "password": OLD_PASSWORD, "next": "/", "remember": False},
    "/reset": {"identity": "alice", "client": "default"},
    "/reset/<token>": {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD},
    "/change": CHANGE,
    "/verify": {"password": OLD_PASSWORD, "next": "/"},
}


def a_program(site: Site, path: str) -> tuple[Visitor, str]:
    """Somebody who may do what is done at `path`, and its real address."""
    visitor = site.visitor()
    if path in ("/change", "/verify"):
        assert visitor.sign_in()
    return visitor, site.new_link() if path == "/reset/<token>" else path


def assert_refused_in_json(answer: TestResponse) -> None:
    assert answer.status_code == 400, answer.text
    assert answer.json is not None
    assert answer.json["response"]["error_code"]


def headers_in(raw: bytes) -> list[str]:
    """The names of a mail's headers, in the order of the alphabet, as a relay reads them that takes any line end for one."""
    head = re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0]
    return sorted(
        line.split(b":")[0].decode() for line in re.split(rb"[\r\n]+", head) if line[:1] not in (b" ", b"\t")
    )


OUR_HEADERS = sorted(
    ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
)


# --- fields of another type, and fields sent twice -----------------------------------------------------

NO_TEXTS = [True, 5, float("nan"), {"a": 1}, [[]], [5, "x"]]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/login", ["identity", "password", "next"]),
        ("/reset", ["identity", "client"]),
        ("/reset/<token>", ["password", "password_confirm"]),
        ("/change", ["new_password", "new_password_confirm"]),
        ("/change", ["password"]),
        ("/verify", ["password", "next"]),
    ],
)
@pytest.mark.requirement("R7")
def test_a_field_that_is_no_text_is_refused(site: Site, path: str, fields: list[str]) -> None:
    visitor, url = a_program(site, path)
    for field in fields:
        for value in NO_TEXTS:
            assert_refused_in_json(visitor.post_json(url, json={**BODIES[path], field: value}))
    assert site.password_works(OLD_PASSWORD)


@pytest.mark.parametrize("path", [*BODIES, "/logout"])
def test_a_field_that_nobody_reads_may_be_anything(site: Site, path: str) -> None:
    visitor, url = a_program(site, path)
    fields = (
        "submit",
        "csrf_token",
        "auth_token",
        "_method",
        "user_id",
        "active",
        "fs_uniquifier",
        "__proto__",
    )
    for value in (None, 5, [[]], {"a": 1}, "\ud800"):
        body = {**BODIES.get(path, {}), "password": "x", **dict.fromkeys(fields, value)}
        assert visitor.post_json(url, json=body).status_code < 500, value
    assert site.password_works(OLD_PASSWORD)


WHERE_PASSWORDS_GO = [
    ("/login", "password"),
    ("/verify", "password"),
    ("/change", "password"),
    ("/change", "new_password"),
    ("/reset/<token>", "password"),
]


@pytest.mark.parametrize(("path", "field"), WHERE_PASSWORDS_GO)
@pytest.mark.requirement("R7")
def test_a_list_of_passwords_is_no_password(site: Site, path: str, field: str) -> None:
    visitor, url = a_program(site, path)
    body = {**BODIES[path], field: [BODIES[path][field], "another password altogether"]}
    assert_refused_in_json(visitor.post_json(url, json=body))


@pytest.mark.parametrize(("path", "field"), WHERE_PASSWORDS_GO[::2])
@pytest.mark.requirement("R7")
def test_a_form_with_two_passwords_is_refused(site: Site, path: str, field: str) -> None:
    visitor, url = a_program(site, path)
    fields = {name: value for name, value in BODIES[path].items() if value}
    answer = visitor.submit(url, **{**fields, field: [fields[field], "another password altogether"]})
    assert answer.status_code in (200, 400)  # a form that is shown again, and no redirect to what comes next


@pytest.mark.requirement("R7")
def test_a_file_in_the_place_of_a_text_is_no_text(site: Site) -> None:
    for path, fields in BODIES.items():
        visitor, url = a_program(site, path)
        page = visitor.open(url, follow_redirects=True)
        for field in ("identity", "password", "password_confirm", "new_password", "next"):
            data = {"csrf_token": csrf_token(page), **fields, field: (io.BytesIO(b"x" * 20), "x.txt")}
            if field in ("identity", "password") and field in fields:
                answer = visitor.post_json(page.request.path, data=data, content_type="multipart/form-data")
                assert answer.status_code in (200, 400), (path, field)
    assert site.messages()[:1] == site.messages()  # the one mail that brought the link
    assert site.password_works(OLD_PASSWORD)


@pytest.mark.parametrize("spelling", ['{"identity": "alice", "identity": "bob"}', '{"identity": "bob"}'])
@pytest.mark.requirement("R7")
def test_of_a_name_that_json_holds_twice_only_the_last_counts(site: Site, spelling: str) -> None:
    """As every parser of Python's and of JavaScript's reads it: one identity, one mail."""
    site.visitor().post_json("/reset?identity=alice&email=alice", data=spelling, content_type=JSON)
    site.work()
    assert site.mailbox.envelopes == [["bob@example.com"]]


MISNAMED = [
    (FORM, '{"identity": "alice"}'),
    ("text/plain; application/json", '{"identity": "alice"}'),
    ("multipart/form-data; boundary=application/json", '{"identity": "alice"}'),
    (f"{FORM}, application/json", '{"identity": "alice"}'),
    (f"{JSON}, {FORM}", "identity=alice"),
    (JSON, "identity=alice"),
    (f"{JSON}; charset=\xff", "identity=alice"),
    ("", '{"identity": "alice"}'),
]


@pytest.mark.requirement("R6", "R7")
def test_a_body_that_is_not_what_its_type_says_asks_for_nothing(site: Site) -> None:
    for content_type, body in MISNAMED:
        answer = site.visitor().post_json("/reset", data=body, content_type=content_type)
        assert answer.status_code == 400, (content_type, body)
    assert site.messages() == []


@pytest.mark.requirement("R5")
def test_no_header_and_no_field_makes_a_post_of_a_get(site: Site) -> None:
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        answer = site.visitor().open(
            "/reset?_method=POST&identity=alice", json={"identity": "alice"}, headers={name: "POST"}
        )
        assert answer.status_code == 200
        put = site.visitor().open("/reset", method="PUT", json={"identity": "alice"}, headers={name: "POST"})
        assert put.status_code == 405
    assert site.messages() == []


# --- headers that somebody would like to add -----------------------------------------------------------

LINES = [f"{line_end}Bcc: {EVIL}{line_end}{line_end}" for line_end in ("\r\n", "\n", "\r", "\x85", "\u2028")]


@pytest.mark.requirement("R20")
def test_a_line_end_in_a_field_reaches_no_mail(site: Site) -> None:
    visitor = site.visitor()
    for line in LINES:
        for typed in (
            f"alice{line}x",
            f"alice@example.com{line}x",
            f'"a{line}"@example.com',
            f"+14155550123{line}x",
        ):
            assert visitor.post_json("/reset", json={"identity": typed}).status_code == 400
            assert visitor.submit("/reset", identity=typed).status_code == 400
            assert visitor.post_json("/login", json={"identity": typed, "password": "x"}).status_code == 400
        assert visitor.post_json("/reset", json={"identity": "alice", "client": line}).status_code == 400
        assert "Bcc" not in visitor.open(f"/login?next=/{quote(line)}").headers
    assert site.messages() == []


@pytest.mark.requirement("R20")
def test_a_line_end_in_the_user_agent_adds_no_header(site: Site) -> None:
    """No server lets one through; if one does, it is text."""
    for line in LINES:
        link = site.new_link()
        environ = {
            "HTTP_USER_AGENT": f"Evil{line}<b>x</b>",
            "HTTP_ACCEPT_LANGUAGE": line,
            "HTTP_X_MAILER": line,
        }
        options: Any = {"json": {"password": f"{NEW_PASSWORD}{line}"}, "environ_overrides": environ}
        assert site.visitor().post_json(link, **options).status_code == 200
        site.work()
    assert len(site.mailbox.raw) == 2 * len(LINES)
    assert {tuple(headers_in(raw)) for raw in site.mailbox.raw} == {tuple(OUR_HEADERS)}
    assert site.mailbox.envelopes == ALICE * 2 * len(LINES)


# Names that hold what a mail's header must not take apart.
NAMES = ['"Alice, Bob" <x@evil.example>', "To: x; y: (z)", "Schlüssel 🔑 " + "a" * 200]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.requirement("R20")
def test_a_site_may_be_called_anything_without_a_header_more(make_site: Any, name: str) -> None:
    sender = f"{name.replace(chr(92), '').replace(chr(34), '').partition('<')[0]!r} <no-reply@example.com>"
    site: Site = make_site(RECOVERY_SITE_NAME=name, MAIL_DEFAULT_SENDER=sender.replace("'", '"'))
    site.new_link()
    assert site.mailbox.mails[0]["Subject"] == f"Reset your {name} password"
    assert headers_in(site.mailbox.raw[0]) == OUR_HEADERS
    assert site.mailbox.envelopes == ALICE


HIDDEN_LINE = f"=?utf-8?q?x=0aBcc=3a_{EVIL.replace('@', '=40')}?="


@pytest.mark.parametrize(
    "named",
    [
        {"RECOVERY_SITE_NAME": HIDDEN_LINE},
        {"MAIL_DEFAULT_SENDER": f"{HIDDEN_LINE} <no-reply@example.com>"},
    ],
    ids=["site", "sender"],
)
@pytest.mark.requirement("R20")
def test_a_name_that_hides_a_line_end_adds_no_header(make_site: Any, named: dict[str, str]) -> None:
    try:
        site: Site = make_site(**named)
    except SettingsError:
        return  # refused: as good
    site.ask()
    site.work()
    for raw in site.mailbox.raw:
        assert headers_in(raw) == OUR_HEADERS


@pytest.mark.parametrize(
    "stored",
    [
        "=?utf-8?q?=61lice?=@example.com",  # a mailbox of its own; decoded, it is Alice's
        "=?utf-8?q?x=40evil.example=2c?=@example.com",
        "=?utf-8?q?x=40evil.example=3e?=@example.com",
    ],
)
@pytest.mark.requirement("R18", "R20")
def test_mail_goes_to_the_address_that_is_stored_and_not_to_what_it_decodes_to(
    site: Site, stored: str
) -> None:
    site.change(User, User.username == "bob", email=stored)
    site.ask("bob")
    site.work()
    assert [envelope for envelope in site.mailbox.envelopes if envelope != [stored]] == []
    assert [raw for raw in site.mailbox.raw if f"To: {stored}\r\n".encode() not in raw] == []


# --- text that would like to be a template, or markup -----------------------------------------------------

MARKUP = "{{7331*7331}}<b>x</b>${7331*7331}{% raw %}#{7331*7331}<%= 7331*7331 %>'\"&{{config}}"
ADDRESS = "{{7331*7331}}${7331*7331}'&|`x`@example.com"  # a mailbox may be called that


@pytest.mark.requirement("R21")
def test_text_of_others_stands_in_both_parts_of_a_mail_as_it_is(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME=MARKUP, RECOVERY_SUPPORT_CONTACT=MARKUP)
    link = site.new_link()
    answer = site.visitor().post_json(link, json={"password": NEW_PASSWORD}, headers={"User-Agent": MARKUP})
    assert answer.status_code == 200
    site.work()
    for mail in site.mailbox.mails:
        assert MARKUP in mail["Subject"]
        assert MARKUP in " ".join(text_of(mail).split())  # it may be wrapped
        assert MARKUP in " ".join(unescape(html_of(mail)).split())
        assert (
            "53743561"
            not in re.sub(r"https?://\S+", "", text_of(mail)).replace(f"{mail['Date']}", "").split("When:")[0]
        )
        assert "<b>" not in html_of(mail)
    assert f"Browser: {MARKUP}" in " ".join(text_of(site.mailbox.mails[1]).split())


@pytest.mark.requirement("R53")
def test_text_of_others_stands_on_every_page_as_it_is(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME=MARKUP)
    site.change(User, User.username == "bob", email=ADDRESS)
    bob = site.visitor()
    assert bob.sign_in("bob")
    assert "{{7331*7331}}${7331*7331}&#39;&amp;|`x`@example.com" in bob.open("/").text
    visitor = site.visitor()
    pages = [
        visitor.open(f"/login?next=/{quote(MARKUP)}"),
        visitor.submit("/login", identity=MARKUP, password=MARKUP, next=f"/{MARKUP}"),
        visitor.submit("/reset", identity=MARKUP * 9),
        visitor.open(f"/reset/{quote(MARKUP, safe='')}"),
        visitor.open(f"/nowhere/{quote(MARKUP)}"),
        visitor.open("/login", headers={"Host": "{{7331*7331}}.example"}),
        visitor.open(f"/reset?error={quote(MARKUP)}&code={quote(MARKUP)}&title={quote(MARKUP)}"),
    ]
    for page in pages:
        assert page.status_code in (200, 400, 404)
        assert "<b>" not in page.text
        assert "53743561" not in re.sub(r'value="[^"]+"', "", page.text)
    site.new_link("bob")
    assert site.mailbox.envelopes == [[ADDRESS]]
    assert "{•••@example.com" in bob.open(site.last_link(), follow_redirects=True).text


@pytest.mark.requirement("R66")
def test_json_repeats_nothing_of_what_was_sent(site: Site) -> None:
    for path, fields in BODIES.items():
        visitor, url = a_program(site, path)
        for field in fields:
            answer = visitor.post_json(url, json={**fields, field: MARKUP * 9})
            assert "7331*7331" not in answer.text, (path, field)


# --- letters that look like others ------------------------------------------------------------------------

# Two mailboxes each, whatever they look like. Whoever types one never reaches the other.
TWINS = [
    ("alice@example.com", "alıce@example.com"),
    ("alise@example.com", "aliſe@example.com"),
    ("alice@example.com", "ａlice@example.com"),
    ("alice@example.com", "аlice@example.com"),
    ("strasse@example.com", "straße@example.com"),
    ("fiona@example.com", "ﬁona@example.com"),
    ("alice@fass.example", "alice@faß.example"),
    ("alice@example.com", "alice@exаmple.com"),
    ("elise@example.com", "élise@example.com"),
]
# One mailbox each: what is typed on the right is another spelling of what is stored on the left.
SAME = [
    ("kate@example.com", "\u212aate@example.com"),
    ("élise@example.com", "e\u0301lise@example.com"),
    ("alice@bücher.example", "alice@XN--BCHER-KVA.example"),
    ("alice@example.com", "ALICE@ｅxample。com"),
]


def in_the_mail(address: str) -> str:
    local, _, domain = address.partition("@")
    return f"{local}@{domain.encode('idna').decode() if 'ß' not in domain else 'xn--fa-hia.example'}"


@BOTH
@pytest.mark.requirement("R40")
def test_two_who_look_alike_never_get_each_others_mail(site: Site) -> None:
    for one, other in TWINS:
        site.change(User, User.username == "alice", email=one)
        site.change(User, User.username == "bob", email=other)
        for typed in (one, other):
            site.new_link(typed)
            assert site.mailbox.envelopes[-1] == [in_the_mail(typed)]


@BOTH
@pytest.mark.requirement("R18")
def test_another_spelling_of_a_mailbox_reaches_the_address_that_is_stored(site: Site) -> None:
    for stored, typed in SAME:
        site.change(User, User.username == "alice", email=stored)
        site.new_link(typed)
        assert site.mailbox.envelopes[-1] == [in_the_mail(stored)]


@BOTH
@pytest.mark.requirement("R40")
def test_only_the_database_takes_a_capital_with_an_accent_for_the_small_one(site: Site) -> None:
    site.change(User, User.username == "alice", email="élise@example.com")
    for typed in ("ÉLISE@example.com", "E\u0301lise@example.com"):
        site.ask(typed)
    site.work()
    assert site.mailbox.envelopes == []


@BOTH
@pytest.mark.requirement("R40")
def test_marks_that_nobody_sees_reach_nobody_or_the_owner(site: Site) -> None:
    unseen = "\u200b\u200c\u200d\u2060\ufeff\u202e\u202c\u2066\u2069\u00ad\u061c\u180e\x00\x7f\ud800"
    typed = [f"al{mark}ice{rest}" for mark in unseen for rest in ("", "@example.com")]
    typed += [f"alice@exam{mark}ple.com" for mark in unseen] + [f"+1415{mark}5550123" for mark in unseen]
    for identity in typed:
        assert site.ask(identity).status_code == 400, identity
    several = [
        "alice@example.com,evil@evil.example",
        "Alice <alice@example.com>",
        "evil@evil.example?alice@example.com",
    ]
    several += [
        "alice@example.com evil@evil.example",
        "alice@evil.example@example.com",
        "alice%40example.com",
    ]
    for identity in [*several, "alice\u0301@example.com", "ali\u0307ce", "alice@example.com\u0338"]:
        assert site.ask(identity).status_code == 200, identity
    site.work()
    assert site.mailbox.envelopes == []


# --- where a request says it comes from --------------------------------------------------------------------


def flood(site: Site, headers: Any, source: str = "192.0.2.1") -> list[int]:
    def one(number: int) -> int:
        environ = {"REMOTE_ADDR": source.format(number)}
        body = {"identity": f"nobody{number}"}
        options: Any = {"headers": headers(number), "environ_overrides": environ}
        return site.visitor().post_json("/reset", json=body, **options).status_code

    return [one(number) for number in range(40)]


@pytest.mark.parametrize(("proxies", "known"), [(0, "192.0.2.1"), (1, "198.51.100.7")])
@pytest.mark.requirement("R54", "R56")
def test_no_header_makes_one_source_many(make_site: Any, proxies: int, known: str) -> None:
    """With one proxy, it adds the address that it sees to whatever it was told."""
    site: Site = make_site(RATELIMIT_ENABLED=True, RECOVERY_TRUSTED_PROXIES=proxies)

    def spoofed(number: int) -> dict[str, str]:
        names = (
            "X-Real-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "X-Client-IP",
            "X-Originating-IP",
            "Client-IP",
        )
        claimed = f"10.0.0.{number}"
        return {
            "X-Forwarded-For": f"{claimed}, 198.51.100.7",
            "Forwarded": f"for={claimed}",
            **dict.fromkeys(names, claimed),
        }

    statuses = flood(site, spoofed)
    assert statuses[0] == 200
    assert 429 in statuses
    assert {row["source"] for row in site.rows(RecoveryEvent)} == {known}


@pytest.mark.requirement("R56")
def test_one_network_of_ipv6_is_one_source(make_site: Any) -> None:
    site: Site = make_site(RATELIMIT_ENABLED=True)
    assert 429 in flood(site, lambda _: {}, source="2001:db8:1:2::{:x}")


@BOTH
@pytest.mark.requirement("R54")
def test_a_forwarded_address_with_a_tail_is_no_address(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_TRUSTED_PROXIES=1)
    headers = {"X-Forwarded-For": "fe80::1%" + " call 555 0199 now" * 4}
    assert site.visitor().post_json("/reset", json={"identity": "alice"}, headers=headers).status_code == 200
    assert site.rows(RecoveryEvent)[0]["source"] in ("", None, "fe80::1")


# --- where it would like to lead ------------------------------------------------------------------------


def assert_stays_here(answer: TestResponse, spelling: str) -> None:
    assert answer.status_code in (200, 302, 303, 400, 405), spelling
    read = urlsplit(browser_target(answer.location or "/"))
    assert (read.scheme, read.netloc) == ("http", "127.0.0.1:5000"), (spelling, answer.location)


@pytest.mark.requirement("R52")
def test_no_spelling_of_next_leads_away_after_a_password(site: Site) -> None:
    """`/verify` and `/login` go on to it; every other address takes no notice."""
    visitor = site.visitor()
    assert visitor.sign_in()
    token = csrf_token(visitor.open("/"))
    for spelling in HOSTILE_URLS:
        fields = {"csrf_token": token, "password": OLD_PASSWORD, "next": spelling}
        assert_stays_here(visitor.post_json("/verify", data=fields), spelling)
    went_on = visitor.post_json("/verify", data={**fields, "next": "/change"})
    assert went_on.location == "/change"  # or nothing above would prove anything


@pytest.mark.requirement("R52")
def test_no_spelling_of_next_leads_away_after_signing_in(site: Site) -> None:
    for spelling in HOSTILE_URLS[:24:3]:
        visitor = site.visitor()
        fields = {
            "csrf_token": csrf_token(visitor.open("/login")),
            "identity": "alice",
            "password": OLD_PASSWORD,
        }
        in_query: Any = {"query_string": {"next": spelling}, "data": fields}
        assert_stays_here(visitor.post_json("/login", **in_query), spelling)
        assert_stays_here(
            site.visitor().submit("/login", identity="alice", password=OLD_PASSWORD, next=spelling), spelling
        )
        body = {"identity": "alice", "password": OLD_PASSWORD, "next": spelling}
        assert BAIT not in site.visitor().post_json("/login", json=body).text


@pytest.mark.requirement("R52")
def test_no_page_is_led_away_by_its_query(site: Site) -> None:
    stranger, alice = site.visitor(), site.visitor()
    assert alice.sign_in()
    for spelling in HOSTILE_URLS:
        query = dict.fromkeys(("next", "url", "redirect", "return_to"), spelling)
        for visitor, path in (
            (alice, "/login"),
            (stranger, "/change"),
            (stranger, "/reset/x"),
            (stranger, "/reset"),
        ):
            assert_stays_here(visitor.open(path, query_string=query), spelling)
    for path in ("/", "/verify", "/logout", "/reset-done", "/check-mail", "/.well-known/change-password"):
        for spelling in HOSTILE_URLS[::5]:
            assert_stays_here(alice.open(path, query_string={"next": spelling}), spelling)
    fields = {"csrf_token": csrf_token(alice.open("/")), "next": f"//{BAIT}"}
    assert_stays_here(alice.post_json(f"/logout?next=//{BAIT}", data=fields), "logout")
    assert not alice.is_signed_in()


@pytest.mark.requirement("R52")
def test_next_never_leads_from_https_to_http(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com")
    answer = site.visitor().submit(
        "/login", identity="alice", password=OLD_PASSWORD, next="http://id.example.com/"
    )
    assert urlsplit(answer.location or "/").scheme in ("", "https")


# --- logs --------------------------------------------------------------------------------------------

TOKEN = "c29tZSB0b2tlbiB0aGF0IGlzIGxvbmcgZW5vdWdoIGl0"[:43]


@pytest.mark.parametrize("before", ["/reset/", "/reset%2F", "?token=", "#token=", "/auth/reset/"])
@pytest.mark.requirement("R61")
def test_a_token_stays_out_of_the_log_wherever_it_stands(before: str) -> None:
    for after in ("", "/", "?x=y", "%20", ".", '"', ">", "&a=b"):
        assert TOKEN not in web_logging.redact(f'"GET {before}{TOKEN}{after} HTTP/1.1"')


@pytest.mark.parametrize(
    "before", ["/reset/%20", "/reset%252F", "?next=%2Fspa%3Ftoken%3D", "?token%3d", "/reset/%E2%80%8B"]
)
@pytest.mark.requirement("R61")
def test_a_token_behind_an_encoded_mark_stays_out_of_the_log(before: str) -> None:
    assert TOKEN not in web_logging.redact(f'"GET {before}{TOKEN} HTTP/1.1"')


@pytest.mark.requirement("R62")
def test_nobody_writes_a_line_of_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with site.app.app_context():
        db.session.execute(text("DROP TABLE reset_link"))
        db.session.commit()
    answer = site.visitor().open("/reset/x%0d%0a2026-01-01%20INFO%20all%20is%20well%1b[2J")
    assert answer.status_code == 503
    said = [record.getMessage() for record in caplog.records]
    assert len(said) >= 1
    assert all(line.isprintable() for line in said)


@pytest.mark.parametrize(
    "line",
    [
        "a" * 300_000,
        "@" * 300_000,
        "a@" * 150_000,
        "a," * 150_000,
        " a" * 150_000,
        "a)" * 150_000,
        "%2f" * 100_000,
        f"{TOKEN}-" * 7_000,
        f"{TOKEN[1:]} " * 7_000,
        "<" * 300_000 + "@",
    ],
    ids=lambda line: line[:4],
)
@pytest.mark.requirement("R32")
def test_no_line_keeps_the_log_filter_busy(line: str) -> None:
    record = logging.LogRecord("app", logging.INFO, "", 0, line, None, None)
    began = time.perf_counter()
    web_logging.SecretsFilter().filter(record)
    assert time.perf_counter() - began < 1.5


# --- what costs much ---------------------------------------------------------------------------------

LONGEST = identities.IDENTITY_LENGTH_MAX
MARKS = [
    "<",
    "<a",
    "&#",
    "&lt;",
    "<!--",
    "<![CDATA[",
    "<a href='",
    '"',
    "a.",
    "@",
    "x@",
    "x@a-",
    "x@xn--",
    "x@é",
    "x@[1",
]
MARKS += ["1", "+", "(", "1-", "ext", ";ext=", ";phone-context=", "٣", "ﷺ", "\u0301", "a\u0301", "İ", "ΐ"]
COSTLY = [(mark * LONGEST)[:LONGEST] for mark in MARKS]
COSTLY += [f"x@{mark * 200}"[:LONGEST] for mark in ("ﷺ", "\u0344", "a.", "xn--a.")]


@pytest.mark.parametrize("column", ["email", "username", "us_phone_number"])
@pytest.mark.requirement("R32")
def test_no_identity_keeps_its_mapper_busy(site: Site, column: str) -> None:
    with site.app.app_context():
        began = time.perf_counter()
        for typed in COSTLY:
            identities.normalize_identity(column, typed)
        assert time.perf_counter() - began < 1.5


@pytest.mark.requirement("R7", "R32")
def test_what_is_typed_is_measured_before_it_is_looked_at(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    mappers = site.app.config["SECURITY_USER_IDENTITY_ATTRIBUTES"]
    for attribute in mappers:
        for details in attribute.values():
            monkeypatch.setitem(
                details, "mapper", lambda typed: pytest.fail(f"{len(typed)} letters were looked at")
            )
    for letters in (LONGEST + 1, 9_000):
        body = {"identity": "e" + "\u0301" * letters, "password": "x"}
        assert site.visitor().post_json("/reset", json=body).status_code == 400
        assert site.visitor().post_json("/login", json=body).status_code == 400


COSTLY_BODIES = [
    (FORM, "&" * 65_000),
    (FORM, "a&" * 32_000),
    (FORM, "%" * 65_000),
    (FORM, "identity=alice&" * 4_000),
    ("multipart/form-data; boundary=a", "--a\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n" * 1_200),
    (
        "multipart/form-data; boundary=a",
        "--a\r\nContent-Disposition: form-data; name=a\r\n\r\n" + "\r" * 65_000,
    ),
    ("multipart/form-data; boundary=a", "--a" + "\r\n" * 32_000),
    ("multipart/form-data; boundary=" + "a" * 5_000, "--a"),
    ("multipart/form-data", "--a"),
    (JSON, "[" * 65_000),
    (JSON, '{"a":' * 13_000),
    (JSON, '{"identity":' + "1" * 60_000 + "}"),
    (JSON, '{"identity": 1e999999999}'),
    (JSON, json.dumps({f"k{number}": number for number in range(4_000)})),
    (JSON, '{"identity": "' + "\\u0000" * 10_000 + '"}'),
]


@pytest.mark.requirement("R32")
def test_a_body_that_costs_much_is_refused_at_once(site: Site) -> None:
    for content_type, body in COSTLY_BODIES:
        for path in ("/login", "/reset", "/reset/x"):
            began = time.perf_counter()
            answer = site.visitor().post_json(path, data=body, content_type=content_type)
            assert time.perf_counter() - began < 1.5, (path, content_type, body[:20])
            assert answer.status_code in (400, 413), (path, content_type, body[:20])
    assert site.messages() == []


PATHS = ["/reset/%00", "/reset/%ff%fe", "/reset/~%ed%a0%80", "/reset/" + "~" * 4_000, "/reset/%2e%2e", "/%00"]
PATHS += ["/static/%00", "/static/..%2f..%2fREADME.md", "/static/" + "a/" * 1_500, "/reset/" + "%0a" * 1_000]


def test_a_path_that_leads_nowhere_is_answered(site: Site) -> None:
    for path in PATHS:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            answer = site.visitor().open(path, method=method)
            answer.close()
            assert answer.status_code in (
                (200, 308, 404, 400) if method == "OPTIONS" else (308, 400, 404, 405)
            ), path


HEADERS = [
    {"Authentication-Token": "\xff"},
    {"Authentication-Token": "WyJhIl0.Z.Z"},
    {"Authorization": "Basic \xff"},
    {"Authorization": "Basic YTpi"},
    {"Accept": "application/json;q=nan, \xff;q=x, " * 50},
    {"Accept-Language": "\xff;q=99999999999999"},
    {"Cookie": "sparekey_session=.eJx; sparekey_remember=1|2|3; XSRF-TOKEN=\x01"},
    {"Cookie": ";".join(["sparekey_session=" + "x" * 500] * 10)},
    {"Origin": "http://["},
    {"Referer": "http://["},
    {"X-CSRFToken": "\xff"},
    {"Content-Length": "-1"},
    {"Content-Length": "9" * 40},
    {"User-Agent": "\x00\xff" * 2_000},
    {"If-Modified-Since": "x", "Range": "bytes=9-1,-"},
]


def test_a_header_that_makes_no_sense_is_answered(site: Site) -> None:
    for headers in HEADERS:
        for path in (
            "/",
            "/login",
            "/reset",
            "/change",
            "/verify",
            "/logout",
            "/healthz",
            "/static/sparekey.css",
        ):
            for method in ("GET", "POST"):
                answer = site.visitor().open(path, method=method, headers=headers)
                answer.close()
                assert answer.status_code < 500, (path, method, headers)


# --- through a real server --------------------------------------------------------------------------

MEGABYTES_30 = 30 << 20
SOON = 5  # seconds: generous; a few milliseconds is what it takes


@pytest.fixture(scope="module")
def gunicorn(fresh_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    path = tmp_path_factory.mktemp("hostile") / "site.db"
    shutil.copy(fresh_sqlite, path)
    admin = Admin(f"sqlite:///{path}", mail_port=1)
    admin.serves()
    yield admin
    admin.stops()


def send(admin: Admin, request: bytes, *more: bytes) -> bytes:
    """What is answered to these very bytes, within SOON."""
    began, answer = time.perf_counter(), b""
    with socket.create_connection(("127.0.0.1", admin.port), timeout=SOON) as connection:
        try:
            for part in (request, *more):
                connection.sendall(part)
        except OSError:
            pass  # it has heard enough: its answer is there
        try:
            while part := connection.recv(65_536):
                answer += part
        except ConnectionResetError:
            pass
    assert time.perf_counter() - began < SOON
    return answer


def request_for(admin: Admin, line: str, *headers: str, body: bytes = b"", host: str | None = None) -> bytes:
    host = f"Host: {host or f'127.0.0.1:{admin.port}'}"
    lines = [line, host, "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


ASK = b'{"identity": "alice"}'
AS_JSON = f"Content-Type: {JSON}"
POISONED = [
    f"{name}: {value}"
    for value in (BAIT, f"{BAIT}:80", f'"{BAIT}"')
    for name in (
        "X-Forwarded-Host",
        "X-Host",
        "X-Original-Host",
        "X-Forwarded-Server",
        "X-HTTP-Host-Override",
    )
] + [
    f"Forwarded: host={BAIT};proto=http",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil",
]
POISONED += [
    f"X-Original-URL: //{BAIT}/",
    f"X-Rewrite-URL: //{BAIT}/",
    "X-Script-Name: /evil",
    "Script-Name: /evil",
]


@pytest.mark.requirement("R19")
def test_whatever_names_another_host_the_links_are_ours(make_site: Any, gunicorn: Admin) -> None:
    uri = gunicorn.environ["FLASK_SQLALCHEMY_DATABASE_URI"]
    site: Site = make_site(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_PUBLIC_URL=gunicorn.base)
    post, end = "POST /reset HTTP/1.1", "Connection: close\r\n\r\n"

    def ask(line: str, *headers: str, host: str | None = None) -> bytes:
        return request_for(gunicorn, line, AS_JSON, *headers, body=ASK, host=host)

    served = [
        ask(post, *POISONED),
        ask(f"POST http://{BAIT}/reset HTTP/1.1"),
        ask(post, host=f"{BAIT}@127.0.0.1"),
    ]
    refused = [
        ask(post, host=BAIT),
        ask(post, f"Host: {BAIT}"),
        ask(post, f"Host: 127.0.0.1:{gunicorn.port}", host=BAIT),
        ask(post, host=f"127.0.0.1\r\n {BAIT}"),
        ask(post, host=f"127.0.0.1:1@{BAIT}"),
        ask(post, "Transfer-Encoding: chunked"),
        ask(post, "User-Agent: \x1b[2J\x00"),
        f"POST http://127.0.0.1/reset HTTP/1.1\r\nHost: {BAIT}\r\n{end}".encode(),
        f"{post}\r\n{end}".encode(),
    ]
    for status, requests in ((200, served), (400, refused)):
        for request in requests:
            answer = send(gunicorn, request)
            assert answer.startswith(f"HTTP/1.1 {status} ".encode()), request
            assert BAIT.encode() not in answer, request
            assert site.work() == (1 if status == 200 else 0), request
    assert len(site.mailbox.raw) == len(served)
    for raw, mail in zip(site.mailbox.raw, site.mailbox.mails, strict=True):
        assert BAIT.encode() not in raw
        assert set(re.findall(r"https?://[^/\s\"<]+", text_of(mail) + html_of(mail))) == {gunicorn.base}


@pytest.mark.requirement("R19", "R52")
def test_whatever_names_another_host_redirects_are_ours(gunicorn: Admin) -> None:
    seen = 0
    for path in (
        "/change",
        "//reset",
        "/reset//x",
        "/.well-known/change-password",
        "/reset-done",
        f"//{BAIT}/reset",
    ):
        for target in (path, f"http://{BAIT}{path}", f"//{BAIT}{path}"):
            line = f"GET {target} HTTP/1.1"
            answer = send(gunicorn, request_for(gunicorn, line, *POISONED))
            named = send(gunicorn, request_for(gunicorn, line, *POISONED, host=BAIT))
            head = answer.partition(b"\r\n\r\n")[0].decode()
            assert head.split()[1] in ("200", "302", "303", "308", "404"), head
            for location in re.findall(r"(?im)^location: *(\S+)", head + named.decode()):
                seen += 1
                assert urljoin(gunicorn.base, location).startswith(f"{gunicorn.base}/"), location
                assert not location.startswith("//")
    assert seen >= 6


def test_a_header_with_an_underscore_is_no_error_of_the_server(gunicorn: Admin) -> None:
    answer = send(gunicorn, request_for(gunicorn, "GET /login HTTP/1.1", "SCRIPT_NAME: /evil"))
    assert not answer.startswith(b"HTTP/1.1 5")


@pytest.mark.parametrize("kind", [FORM, JSON, "multipart/form-data; boundary=a", "text/plain"])
@pytest.mark.requirement("R32")
def test_thirty_megabytes_are_refused_unread(gunicorn: Admin, kind: str) -> None:
    body = b"x" * MEGABYTES_30
    for line in (
        "POST /reset",
        "POST /login",
        "POST /reset/x",
        "POST /change",
        "POST /nowhere",
        "GET /reset",
    ):
        head = f"{line} HTTP/1.1\r\nHost: 127.0.0.1:{gunicorn.port}\r\nContent-Type: {kind}\r\n"
        whole = send(gunicorn, f"{head}Content-Length: {len(body)}\r\n\r\n".encode(), body)
        assert whole.split()[1] in (b"413", b"404", b"400", b"200"), line
        assert (whole.split()[1] == b"200") <= line.startswith("GET"), line
        chunks = (b"%x\r\n" % len(body), body, b"\r\n0\r\n\r\n")
        chunked = send(gunicorn, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), *chunks)
        assert chunked.split()[1] in (b"411", b"404"), line


@pytest.mark.requirement("R32")
def test_five_million_combining_marks_are_refused_unread(gunicorn: Admin) -> None:
    body = json.dumps({"identity": "e" + "\u0301" * 5_000_000}, ensure_ascii=False).encode()
    for path in ("/reset", "/login", "/reset/x"):
        answer = send(gunicorn, request_for(gunicorn, f"POST {path} HTTP/1.1", AS_JSON, body=body))
        assert answer.split()[1] == b"413"


def test_a_head_that_is_too_long_is_refused(gunicorn: Admin) -> None:
    for headers in (
        ["Cookie: " + "a=b;" * 250_000],
        ["X: " + "x" * 20_000],
        [f"X{n}: x" for n in range(500)],
    ):
        assert send(gunicorn, request_for(gunicorn, "GET /login HTTP/1.1", *headers)).split()[1] == b"431"
    assert send(gunicorn, request_for(gunicorn, f"GET /login?{'x' * 9_000} HTTP/1.1")).split()[1] == b"414"
    assert send(gunicorn, request_for(gunicorn, "GET /healthz HTTP/1.1")).split()[1] == b"200"
