"""What the standards ask of password recovery (docs/security.md), where no story of the other files tells it."""

from __future__ import annotations

import email
import json
import logging
import random
import re
import secrets
import socket
import sqlite3
import string
import time
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import flask_migrate
import gunicorn
import httpx
import pytest
from flask_security import change_email, confirmable, passwordless
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from support.features import MAIL_FEATURES
from support.mailbox import Mailbox, html_of, text_of
from support.outbox import HOUR, shift
from support.redemption import redeem
from support.servers import free_port
from support.site import (
    BOTH,
    NEW_PASSWORD,
    OLD_PASSWORD,
    PUBLIC_URL,
    ROOT,
    SECRETS,
    Site,
    at_work,
    csrf_token,
    load_settings,
    served,
    wait_for,
)
from werkzeug.test import TestResponse

from app import create_app, settings
from app.accounts.datastore import find_account
from app.accounts.identities import IdentityError
from app.accounts.models import User
from app.db.clock import utcnow
from app.db.engine import db
from app.mail import delivery, outbox
from app.mail.outbox import OutboxMessage
from app.recovery import instructions
from app.recovery import link as links
from app.recovery.link import ResetLink
from app.settings.problems import SettingsError

FORM_AND_JSON = pytest.mark.parametrize("by", ["form", "json"])
LONG_AGO = datetime(2020, 1, 1)
EVIL = "https://evil.example"


def ask(site: Site, by: str, identity: str) -> TestResponse:
    return site.visitor().submit("/reset", identity=identity) if by == "form" else site.ask(identity)


def token_in(link: str) -> str:
    return link.rsplit("/", 1)[1]


def uri_of(site: Site) -> str:
    with site.app.app_context():
        return db.engine.url.render_as_string(hide_password=False)


def dump(site: Site) -> str:
    """All that rests in the database (SQLite)."""
    with closing(sqlite3.connect(uri_of(site).removeprefix("sqlite:///"))) as connection:
        return "\n".join(connection.iterdump())


def confirmed(site: Site) -> Site:
    with site.app.app_context():
        db.session.query(User).update({User.confirmed_at: datetime(2026, 1, 1)})
        db.session.commit()
    return site


# --- A. Request ---------------------------------------------------------------------------------------


@FORM_AND_JSON
@pytest.mark.requirement("R1", "R16")
def test_a_locked_account_gets_the_same_answer_and_no_mail(
    site: Site, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(User, "is_locked", lambda *_: True)
    seen = [ask(site, by, identity) for identity in ("alice", "nobody")]
    assert len({(answer.status_code, answer.text, answer.location) for answer in seen}) == 1
    assert [*seen[0].headers.keys()] == [*seen[1].headers.keys()]
    site.work()
    assert site.mailbox.mails == []


@pytest.mark.requirement("R2")
def test_time_tells_nothing_while_the_relay_is_slow(site: Site) -> None:
    """Whoever guesses "known" for every answer that is slower than the median is right half of the time."""
    site.mailbox.delay["DATA"] = 1.0
    seen: list[tuple[float, bool]] = []
    visitor, turns = site.visitor(), [True, False] * 250
    random.shuffle(turns)
    with at_work(site):
        for known in turns:
            began = time.perf_counter()
            answer = visitor.post_json("/reset", json={"identity": "alice" if known else "nobody"})
            seen.append((time.perf_counter() - began, known))
            assert answer.status_code == 200
        site.mailbox.delay.clear()
    slower = sorted(seen)[len(seen) // 2 :]
    right = sum(known for _, known in slower) / len(slower)
    assert 0.4 < right < 0.6


@pytest.mark.requirement("R4")
def test_asking_and_mailing_leave_the_account_as_it_was(site: Site) -> None:
    before = site.rows(User)
    for by in ("form", "json"):
        for _ in range(5):
            ask(site, by, "alice")
            site.work()
    assert len(site.mailbox.mails) == 10
    assert site.rows(User) == before


@pytest.mark.requirement("R5")
def test_nothing_but_a_post_with_a_body_asks(site: Site) -> None:
    visitor = site.visitor()
    for method in ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "BREW"):
        asked = visitor.open("/reset?identity=alice&email=alice", method=method, data={"identity": "alice"})
        assert asked.status_code == (200 if method in ("GET", "HEAD", "OPTIONS") else 405), method
    for body in ({"json": {}}, {"data": {}}):
        assert visitor.post_json("/reset?identity=alice&email=alice", **body).status_code == 400
    assert site.messages() == []


@pytest.mark.requirement("R6")
def test_a_new_password_sent_by_another_site_changes_nothing(site: Site) -> None:
    link, visitor = site.new_link(), site.visitor()
    handle = visitor.open(link).location
    fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    anothers = csrf_token(site.visitor().open("/reset"))
    attempts: list[dict[str, Any]] = [
        {"data": fields},
        {"data": {**fields, "csrf_token": anothers}},
        {"data": json.dumps(fields), "content_type": "text/plain"},
        {"json": fields, "headers": {"Origin": EVIL}},
        {"json": fields, "headers": {"Origin": "null"}},
    ]
    for url in (handle, link):
        for attempt in attempts:
            assert visitor.post_json(url, **attempt).status_code in (400, 403), attempt
    assert site.password_works(OLD_PASSWORD)
    assert redeem(site, "form", link)


# Every POST that exists, whatever is switched on. docs/security.md says what holds for each.
POSTS = {
    "security.forgot_password",
    "security.reset_password",
    "security.login",
    "security.logout",
    "security.verify",
    "security.change_password",
    "objections.land",
    "objections.not_me",
    "pages.choose_language",
}
POSTS_OF_FEATURES = {
    "security.change_email",
    "security.confirm_email",
    "security.recover_username",
    "security.refresh_token",
    "security.send_confirmation",
    "security.two_factor_rescue",
    "security.two_factor_setup",
    "security.two_factor_setup_validate",
    "security.two_factor_token_validation",
    "security.tf_select",
}
UNLIMITED = {
    "security.logout",
    "pages.choose_language",
}  # whoever wants out gets out; or is in, and changes a word


def posts(site: Site) -> dict[str, str]:
    """The endpoints that take a POST, each with a path."""
    rules = [rule for rule in site.app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    return {rule.endpoint: rule.rule.replace("<token>", "x" * 43) for rule in rules}


@pytest.mark.requirement("R8")
@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")  # Flask-Security's own
def test_every_post_is_listed_checked_and_limited(make_site: Any) -> None:
    assert posts(make_site()).keys() == POSTS
    site: Site = make_site(**MAIL_FEATURES, RATELIMIT_ENABLED=True, SECURITY_REFRESH_TOKEN=True)
    assert posts(site).keys() == POSTS | POSTS_OF_FEATURES
    for number, (endpoint, path) in enumerate(posts(site).items()):
        path, visitor = "/auth" + path, site.visitor()
        environ = {"REMOTE_ADDR": f"192.0.2.{number}"}
        without_token = visitor.post_json(path, data={"identity": "alice"}, environ_overrides=environ)
        assert (without_token.status_code, "csrf_failed" in without_token.text) == (400, True), path
        foreign = visitor.post_json(path, json={}, headers={"Origin": EVIL}, environ_overrides=environ)
        assert foreign.status_code == 403, path
        answers = (visitor.post_json(path, json={}, environ_overrides=environ) for _ in range(60))
        assert any(answer.status_code == 429 for answer in answers) is (endpoint not in UNLIMITED), path


@pytest.mark.requirement("R8", "R26", "R27")
@pytest.mark.parametrize(("password", "said"), [("x1" * 7, "at least 15"), ("x1" * 65, "at most 128")])
def test_every_way_in_refuses_the_same_password(site: Site, password: str, said: str) -> None:
    link, alice = site.new_link(), site.visitor()
    alice.sign_in()
    new = {"password": OLD_PASSWORD, "new_password": password, "new_password_confirm": password}
    create = ["users", "create", "carol@example.com", "--password", password, "--active"]
    runner = site.app.test_cli_runner()
    answers = {
        "reset, form": site.visitor().set_password(link, password).text,
        "reset, JSON": site.visitor().post_json(link, json={"password": password}).text,
        "change, form": alice.submit("/change", **new).text,
        "change, JSON": alice.post_json("/change", json=new).text,
        "users create": runner.invoke(args=create).output,
        "users change_password": runner.invoke(
            args=["users", "change_password", "alice", "--password", password]
        ).output,
    }
    assert {way: answer for way, answer in answers.items() if said not in answer} == {}
    assert len(site.rows(User)) == 4
    assert site.password_works(OLD_PASSWORD)


# --- B. Token -----------------------------------------------------------------------------------------


@pytest.mark.requirement("R9")
def test_a_thousand_tokens_do_not_repeat(site: Site) -> None:
    with site.app.app_context():
        for number in range(1000):
            outbox.enqueue("reset_instructions", identity=f"nobody{number}")
        messages = db.session.scalars(select(OutboxMessage)).all()
        tokens = {instructions.link_token(message) for message in messages}
        db.session.rollback()
    assert len(tokens) == 1000
    assert {len(token) for token in tokens} == {43}  # 256 bits


@pytest.mark.requirement("R9")
def test_a_token_with_any_character_changed_is_refused(site: Site) -> None:
    link = site.new_link()
    before, token = link[:-43], token_in(link)
    for place in range(43):
        for other in {"A", "_"} - {token[place]}:
            changed = token[:place] + other + token[place + 1 :]
            assert not redeem(site, "json", before + changed)
    assert redeem(site, "json", link)


@FORM_AND_JSON
@pytest.mark.requirement("R10")
def test_a_token_for_something_else_is_no_reset_link(make_site: Any, by: str) -> None:
    site = confirmed(make_site(**MAIL_FEATURES))
    with site.app.test_request_context(base_url=site.visitor().base):
        alice = find_account("alice")
        assert alice is not None
        stock = URLSafeTimedSerializer(site.app.secret_key or "", salt="reset-salt")  # as Flask-Security's
        tokens = {
            "confirm": confirmable.generate_confirmation_token(alice),
            "change-email": change_email._generate_token(alice, "thief@example.com"),
            "login": passwordless.generate_login_token(alice),
            "sign-in": alice.get_auth_token(),
            "stock reset": stock.dumps([alice.fs_uniquifier, "a hash"]),
        }
    for purpose, token in tokens.items():
        assert not redeem(site, by, f"/auth/reset/{token}"), purpose
    assert site.password_works(OLD_PASSWORD)
    assert token_in(site.new_link()) not in tokens.values()


@pytest.mark.requirement("R10")
def test_nothing_in_json_leads_to_another_account(site: Site) -> None:
    others = {"email": "bob@example.com", "identity": "bob", "user_id": 2, "id": 2, "active": False}
    before = site.rows(User)
    link = site.new_link() + "?email=bob@example.com&user_id=2"
    assert site.visitor().post_json(link, json={"password": NEW_PASSWORD, **others}).status_code == 200
    after = site.rows(User)
    assert after[1:] == before[1:]
    assert {key for key in before[0] if before[0][key] != after[0][key]} <= {
        "password",
        "fs_uniquifier",
        "update_datetime",
    }


@pytest.mark.requirement("R11", "R61")
def test_no_live_token_rests_in_the_database(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask("alice")
    site.work()
    waiting = dump(site)  # its link is issued, and the mail with the token waits
    site.mailbox.refuse.clear()
    site.change(OutboxMessage, OutboxMessage.state == "waiting", due_at=LONG_AGO)
    site.work()
    token = token_in(site.last_link())
    for rests in (waiting, dump(site)):
        assert "reset_instructions" in rests
        assert token not in rests


@FORM_AND_JSON
@pytest.mark.requirement("R12")
def test_a_link_works_to_its_end_and_not_a_second_longer(site: Site, by: str) -> None:
    link = site.new_link()
    [row] = site.links()
    assert row["expires_at"] - row["issued_at"] == timedelta(hours=1)
    visitor = site.visitor()
    form = visitor.open(link, follow_redirects=True)
    handle = form.request.path
    site.change(ResetLink, expires_at=utcnow(-1))
    fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD, "csrf_token": csrf_token(form)}
    body: dict[str, Any] = {"data": fields} if by == "form" else {"json": fields}
    assert "link_expired" in visitor.post_json(handle, **body).text
    assert visitor.open(link).status_code == visitor.open(handle).status_code == 400
    assert not redeem(site, by, link)
    assert site.password_works(OLD_PASSWORD)
    site.change(ResetLink, expires_at=utcnow(5))
    assert redeem(site, by, link)


@FORM_AND_JSON
@pytest.mark.requirement("R15", "R41")
def test_a_confirmed_change_of_address_ends_the_link_at_the_old_one(make_site: Any, by: str) -> None:
    site = confirmed(make_site(**MAIL_FEATURES))
    alice, link = site.visitor(), site.new_link()
    alice.sign_in()
    alice.submit("/auth/change-email", "/auth/change-email", email="alice@elsewhere.example.com")
    site.work()
    assert site.visitor().open(link).status_code == 303  # nothing has changed yet
    found = re.search(r"https://\S+/change-email/\S+", text_of(site.mailbox.mails[-1]))
    assert found
    alice.open(found[0])
    assert site.rows(User)[0]["email"] == "alice@elsewhere.example.com"
    assert site.visitor().open(link).status_code == 400
    assert not redeem(site, by, link)
    assert site.password_works(OLD_PASSWORD)
    site.work()
    assert site.mailbox.envelopes[-1] == ["alice@example.com"]  # the old address hears of it
    site.new_link("alice")
    assert site.mailbox.envelopes[-1] == ["alice@elsewhere.example.com"]


@FORM_AND_JSON
@pytest.mark.requirement("R16")
@pytest.mark.parametrize("state", ["deactivated", "locked"])
def test_a_form_that_is_open_already_resets_no_account_that_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch, by: str, state: str
) -> None:
    link, visitor = site.new_link(), site.visitor()
    form = visitor.open(link, follow_redirects=True)
    if state == "locked":
        monkeypatch.setattr(User, "is_locked", lambda *_: True)
    else:
        assert site.app.test_cli_runner().invoke(args=["users", "deactivate", "alice"]).exit_code == 0
    before = site.rows(User)
    body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    if by == "form":
        body["csrf_token"] = csrf_token(form)
        answer = visitor.post_json(form.request.path, data=body)
    else:
        answer = visitor.post_json(link, json=body)
    assert answer.status_code == 400
    assert "account_unavailable" in answer.text
    assert site.rows(User) == before
    if state == "deactivated":
        site.app.test_cli_runner().invoke(args=["users", "activate", "alice"])
        assert site.password_works(OLD_PASSWORD)


# --- C. Mail ------------------------------------------------------------------------------------------


REQUEST_LINES = [  # with what follows them; HTTP libraries send no such thing
    ("POST http://evil.example/reset HTTP/1.1", "Host: {host}"),
    ("POST /reset HTTP/1.1", "Host: {host}\r\nHost: evil.example"),
    ("POST /reset HTTP/1.1", "Host: evil.example\r\nHost: {host}"),
    ("POST /reset HTTP/1.1", "Host: {host}\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: evil.example"),
    ("POST //evil.example/reset HTTP/1.1", "Host: {host}"),
    ("POST /reset HTTP/1.0", "X-Host: evil.example\r\nX-Original-URL: http://evil.example/"),
]


@pytest.mark.requirement("R19", "R54")
def test_no_request_line_reaches_a_link(make_site: Any) -> None:
    port = free_port()
    host, body = f"127.0.0.1:{port}", b'{"identity": "alice"}'
    site: Site = make_site(RECOVERY_PUBLIC_URL=f"http://{host}", RECOVERY_WORKER_POLL="0.05 seconds")
    with served(site.app, port):
        for count, (line, headers) in enumerate(REQUEST_LINES, start=1):
            head = f"{line}\r\n{headers.format(host=host)}\r\nContent-Type: application/json\r\n"
            with socket.create_connection(("127.0.0.1", port)) as wire:
                wire.sendall(
                    f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
                )
                answer = b"".join(iter(lambda: wire.recv(4096), b""))  # called at once
            assert b"evil" not in answer
            if b" 200 " not in answer.split(b"\r\n")[0]:
                site.ask("alice")
            sent = site.mailbox.wait_for(count)
            assert "evil" not in sent.as_string()
            assert site.last_link().startswith(f"http://{host}/reset/")


TRICKS = [
    "alice@example.com\r\nBcc: x@evil.example",
    "alice%0d%0aBcc: x@evil.example",
    '"a\nb"@example.com',
    "alice@example.com,x@evil.example",
    "alice@example.com;x@evil.example",
    "Alice <alice@example.com>",
    "alice@example.com\x00",
    "alice@example.com\u2028Bcc: x@evil.example",
]


@FORM_AND_JSON
@pytest.mark.requirement("R20")
def test_nothing_typed_reaches_a_mails_head_or_envelope(site: Site, by: str) -> None:
    for typed in TRICKS:
        ask(site, by, typed)
    site.ask("alice")
    site.work()
    assert site.mailbox.envelopes == [["alice@example.com"]]
    head = email.message_from_bytes(site.mailbox.raw[0])
    assert (head.get_all("To"), head.get_all("Bcc"), head.get_all("Cc")) == (
        ["alice@example.com"],
        None,
        None,
    )
    assert len(head.get_all("Subject") or []) == len(head.get_all("From") or []) == 1


@pytest.mark.requirement("R21")
def test_both_parts_of_the_mail_say_the_same(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME="<b>x</b>{{7*7}}")
    site.new_link()
    [sent] = site.mailbox.mails
    assert [part.get_content_type() for part in sent.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]
    words, markup = text_of(sent), html_of(sent)
    found = [set(re.findall(r"http[^\s\"<]+/reset/[\w-]+", part)) for part in (words, markup)]
    assert found == [{site.last_link()}] * 2
    assert "<b>x</b>{{7*7}}" in words
    assert "&lt;b&gt;x&lt;/b&gt;{{7*7}}" in markup
    assert "<b>x" not in markup
    assert OLD_PASSWORD not in words + markup
    assert sent["Auto-Submitted"] == "auto-generated"


@pytest.mark.requirement("R22")
def test_every_url_in_both_mails_is_ours(site: Site) -> None:
    site.visitor().set_password(site.new_link())
    site.work()
    assert len(site.mailbox.mails) == 2
    for sent in site.mailbox.mails:
        found = re.findall(r"\w+://[^\s\"'<>)]+", text_of(sent) + html_of(sent))
        found += re.findall(r"(?:src|href|background|action)=[\"']?([^\"'\s>]+)", html_of(sent))
        assert found
        assert [url for url in found if not url.startswith(f"{PUBLIC_URL}") or "?" in url] == []


# --- D. Reset -----------------------------------------------------------------------------------------


@FORM_AND_JSON
@pytest.mark.requirement("R25")
def test_a_mail_scanner_at_twenty_addresses_uses_nothing_up(make_site: Any, by: str) -> None:
    site: Site = make_site(RATELIMIT_ENABLED=True)
    link = site.new_link()
    site.visitor().open(link)  # that it was opened is an event, once
    before = dump(site)
    scanner = {"User-Agent": "Mozilla/4.0 (compatible; ms-office; MSOffice 16)"}
    for number in range(20):
        for method in ("HEAD", "GET", "GET", "OPTIONS"):
            answer = site.visitor().open(
                link,
                method=method,
                headers=scanner,
                environ_overrides={"REMOTE_ADDR": f"203.0.113.{number}"},
            )
            assert answer.status_code < 400
    assert dump(site) == before
    assert redeem(site, by, link)


@FORM_AND_JSON
@pytest.mark.requirement("R27")
def test_nothing_of_a_password_is_cut_trimmed_or_folded(site: Site, by: str) -> None:
    spaced = " correct Horse Battery staple, and a Few More Words after That! "
    longest = "élève " * 21 + "éZ"
    accents = "déjà-vu à l'école, où chacun écrit élégamment ce qu'il a appris: été"
    others = {
        spaced: [spaced.strip(), spaced.lower(), spaced[:-1] + "?"],
        longest: [longest[:-1] + "z", longest[:-1]],
        accents: [accents[:-1], accents.replace("é", "e")],
    }
    for password, near in others.items():
        assert redeem(site, by, site.new_link(), password)
        site.work()
        assert site.password_works(password)
        assert not any(site.password_works(other) for other in near)


@pytest.mark.requirement("R28")
def test_one_normal_form_at_change_too(site: Site) -> None:
    alice, new = site.visitor(), "!\"#$%&'()*+,-./ ~ 🗝 decomposed e\u0301"
    alice.sign_in()
    alice.submit("/change", password=OLD_PASSWORD, new_password=new, new_password_confirm=new)
    assert site.password_works(new.replace("e\u0301", "é"))


@pytest.mark.requirement("R29")
def test_a_password_needs_no_kinds_of_letters_and_has_no_age(site: Site) -> None:
    password = "".join(secrets.choice(string.ascii_lowercase) for _ in range(15))
    assert redeem(site, "form", site.new_link(), password)
    site.change(create_datetime=datetime(2024, 1, 1), update_datetime=datetime(2024, 1, 1))
    alice = site.visitor()
    signed_in = alice.submit("/login", identity="alice", password=password)
    assert signed_in.location == "/"
    fields = set()
    site.work()
    for path in ("/reset", "/login", "/change", site.new_link("bob")):
        fields |= set(re.findall(r'<input[^>]*name="(\w+)"', alice.open(path, follow_redirects=True).text))
    new = {"password", "password_confirm", "new_password", "new_password_confirm"}
    assert fields <= {"identity", "username", "csrf_token", "remember", "next", "submit", *new}
    with pytest.raises(SettingsError, match="no composition rules"):
        load_settings(SECURITY_PASSWORD_COMPLEXITY_CHECKER="zxcvbn")


@pytest.mark.requirement("R33")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("SECURITY_PASSWORD_HASH", scheme) for scheme in ("plaintext", "des_crypt", "sha256_crypt")),
        ("SECURITY_PASSWORD_SCHEMES", ["argon2", "plaintext"]),
        ("SECURITY_PASSWORD_SCHEMES", ["argon2", "des_crypt"]),
    ],
)
def test_no_weaker_hash_can_be_chosen(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings(**{name: value})


@FORM_AND_JSON
@pytest.mark.requirement("R34", "R35")
def test_a_reset_succeeds_while_the_relay_is_down_and_is_told_later(site: Site, by: str) -> None:
    link, port = site.new_link(), site.app.config["MAIL_PORT"]
    site.app.config["MAIL_PORT"] = free_port()
    delivery.mailman.init_app(site.app)
    assert redeem(site, by, link)
    assert site.password_works(NEW_PASSWORD)
    assert (site.messages()[-1]["kind"], site.messages()[-1]["state"]) == ("reset_notice", "waiting")
    site.app.config["MAIL_PORT"] = port
    delivery.mailman.init_app(site.app)
    site.work()
    assert "was changed" in site.mailbox.mails[-1]["Subject"]


# --- E. After a reset -----------------------------------------------------------------------------------


@pytest.mark.requirement("R21", "R35")
def test_the_notice_names_whom_to_ask_and_shows_what_a_visitor_sent_as_text(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SUPPORT_CONTACT="help@lagoon.example")
    agent = {"User-Agent": "{{7*7}} <script>alert(1)</script> ${7*7} {% raw %}"}
    site.visitor().post_json(site.new_link(), json={"password": NEW_PASSWORD}, headers=agent)
    site.work()
    words, markup = (part(site.mailbox.mails[-1]) for part in (text_of, html_of))
    for part in (words, markup):
        assert "help@lagoon.example" in part
        assert "{{7*7}}" in part
        assert "UTC" in part
        assert f"{PUBLIC_URL}/not-me/" in part
    assert agent["User-Agent"] in words
    assert "<script" not in markup


@FORM_AND_JSON
@pytest.mark.requirement("R36")
def test_a_reset_ends_every_session_cookie_and_token(make_site: Any, by: str) -> None:
    site: Site = make_site(SECURITY_REFRESH_TOKEN=True, SECURITY_TOKEN_MAX_AGE="1 day")
    link, login = site.new_link(), {"identity": "alice", "password": OLD_PASSWORD, "remember": True}
    session, remembered, program = (site.visitor() for _ in range(3))
    for visitor in (session, remembered):
        visitor.post_json("/login", json=login)
    answer = program.post_json("/login?include_auth_token", json=login)
    token = {"Authentication-Token": answer.json["response"]["user"]["authentication_token"]}  # type: ignore[index]
    for visitor, cookie in ((session, "remember"), (remembered, "session"), (program, "session")):
        visitor.client.delete_cookie(f"sparekey_{cookie}", domain="127.0.0.1")
    program.client.delete_cookie("sparekey_remember", domain="127.0.0.1")

    def states() -> list[int]:
        json = {"Accept": "application/json"}
        seen = [visitor.open("/change", headers=json) for visitor in (session, remembered)]
        seen.append(program.open("/change", headers={**json, **token}))
        seen.append(program.post_json("/refresh-token", json={}))
        return [each.status_code for each in seen]

    assert states() == [200] * 4
    assert redeem(site, by, link)
    assert states() == [401, 401, 401, 400]


@FORM_AND_JSON
@pytest.mark.requirement("R37")
def test_nobody_is_signed_in_by_a_reset(site: Site, by: str) -> None:
    visitor, link = site.visitor(), site.new_link()
    if by == "form":
        url = visitor.open(link).location
        more = {"remember": "y", "next": "/change"}
        visitor.submit(url, url, password=NEW_PASSWORD, password_confirm=NEW_PASSWORD, **more)
    else:
        body = {"password": NEW_PASSWORD, "remember": True, "next": "/change"}
        answer = visitor.post_json(f"{link}?include_auth_token=1", json=body)
        assert answer.json == {"meta": {"code": 200}, "response": {}}
    assert visitor.client.get_cookie("sparekey_remember", domain="127.0.0.1") is None
    assert not visitor.is_signed_in()
    assert site.password_works(NEW_PASSWORD)


# --- F. Accounts ----------------------------------------------------------------------------------------


@BOTH
@pytest.mark.requirement("R39")
def test_twins_are_refused_whatever_writes_them(site: Site) -> None:
    with site.app.app_context(), pytest.raises(IdentityError, match="another account"):
        site.app.extensions["security"].datastore.create_user(email="ALICE@Example.com", password=None)
    create = ["users", "create", "Alice@example.com", "--password", NEW_PASSWORD]
    assert site.app.test_cli_runner().invoke(args=create).exit_code != 0
    with pytest.raises(IntegrityError):
        site.change(User, User.username == "bob", email="ALICE@example.com")
    assert len(site.rows(User)) == 4


# Letters that some rule takes for the same, and ours does not.
OTHERS = [
    ("i@example.com", "ı@example.com"),
    ("i@example.com", "İ@example.com"),
    ("s@example.com", "ſ@example.com"),
    ("ss@example.com", "ß@example.com"),
    ("fi@example.com", "ﬁ@example.com"),
    ("alice@example.com", "ａlice@example.com"),
    ("é@example.com", "É@example.com"),
    ("e@example.com", "é@example.com"),
    ("alice@fass.de", "alice@faß.de"),
    ("alice@example.com", "alice@еxample.com"),  # a Cyrillic е
]
# One mailbox by the rules of Unicode (NFC) and of domain names.
SAME = [
    ("é@example.com", "e\u0301@example.com"),
    ("k@example.com", "\N{KELVIN SIGN}@example.com"),
    ("alice@example.com", "alice@ｅｘａｍｐｌｅ.com"),
    ("alice@xn--bcher-kva.example.com", "alice@BÜCHER.example.com"),
]


@BOTH
@pytest.mark.requirement("R18", "R40")
def test_no_look_alike_gets_anothers_mail(site: Site) -> None:
    for pair in OTHERS:
        for stored, typed in (pair, pair[::-1]):
            site.change(User, User.username == "alice", email=stored)
            site.ask(typed)
            site.work()
            assert site.mailbox.mails == [], (stored, typed)
    for stored, typed in SAME:
        canonical = stored if "xn--" not in stored else "alice@bücher.example.com"
        site.change(User, User.username == "alice", email=canonical)
        site.ask(typed)
        site.work()
        assert site.mailbox.envelopes.pop() == [stored]


@FORM_AND_JSON
@pytest.mark.requirement("R42")
def test_an_account_without_a_password_gets_none_by_a_reset(site: Site, by: str) -> None:
    ask(site, by, "sso@example.com")
    site.work()
    assert (site.mailbox.mails, site.links()) == ([], [])
    assert "signs in another way" in site.messages()[0]["reason"]
    assert site.rows(User)[3]["password"] is None


@pytest.mark.requirement("R43")
def test_a_fresh_installation_has_no_account_and_no_role(tmp_path: Any) -> None:
    app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/fresh.db"))
    with app.app_context():
        flask_migrate.upgrade()
        for table in db.metadata.sorted_tables:
            assert db.session.scalar(select(func.count()).select_from(table)) == 0, table.name
        db.engine.dispose()


@pytest.mark.requirement("R43")
def test_no_command_repeats_a_password(site: Site) -> None:
    runner = site.app.test_cli_runner()
    for words in (["create", "carol@example.com", "--active"], ["change_password", "alice"]):
        done = runner.invoke(args=["users", *words, "--password", NEW_PASSWORD])
        assert done.exit_code == 0, done.output
        assert NEW_PASSWORD not in done.output


# --- G. Sessions ----------------------------------------------------------------------------------------


@pytest.mark.requirement("R44")
def test_every_cookie_is_bound_to_this_host_and_names_nobody(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com")
    visitor, answers = site.visitor(), []
    answers += [visitor.submit("/reset", identity="alice@example.com"), visitor.open(site.new_link())]
    answers += [visitor.set_password(site.last_link()), visitor.open("/reset-done")]
    login = {"identity": "alice@example.com", "password": NEW_PASSWORD, "remember": "y"}
    answers += [visitor.submit("/login", **login), visitor.open("/"), visitor.open("/change")]
    cookies = [cookie for answer in answers for cookie in answer.headers.getlist("Set-Cookie")]
    assert {cookie.split("=")[0] for cookie in cookies} == {
        "__Host-sparekey_session",
        "__Host-sparekey_known",
        "__Host-sparekey_remember",
    }
    reads: Any = site.app.session_interface
    for cookie in cookies:
        flags = {flag.strip() for flag in cookie.split(";")[1:]}
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= flags
        assert "Domain" not in cookie
        value = cookie.split("=", 1)[1].split(";")[0]
        held = value
        if "session" in cookie.split("=")[0] and value:
            held = str(reads.get_signing_serializer(site.app).loads(value))
        assert not re.search(r"alice|example\.com|@|14155550123", held), held


# --- H. Headers -----------------------------------------------------------------------------------------


@pytest.mark.requirement("R48")
def test_every_answer_is_no_store(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = make_site(RATELIMIT_ENABLED=True)
    visitor, json = site.visitor(), {"Accept": "application/json"}
    link = site.new_link()
    answers = [visitor.open(path) for path in ("/", "/reset", "/check-mail", "/change", "/nowhere", link)]
    answers += [visitor.open(link, method="HEAD"), visitor.open(link, headers=json)]
    answers += [visitor.open("/reset//" + "x" * 43), visitor.open("/reset/" + "x" * 43)]
    answers += [
        visitor.open("/reset", method="PUT"),
        visitor.open("/login", headers={"Host": "evil.example"}),
    ]
    answers += [visitor.submit("/reset", identity="alice"), visitor.submit("/reset", identity="")]
    answers += [visitor.post_json("/reset", data={}), visitor.post_json("/reset", json=[])]
    answers += [visitor.post_json("/reset", json={"identity": "x" * 100_000})]
    answers += [visitor.set_password(link, "short"), visitor.set_password(link), visitor.open("/reset-done")]
    answers += [visitor.post_json("/reset", json={}) for _ in range(31)]
    source = {"REMOTE_ADDR": "192.0.2.1"}
    monkeypatch.setattr("app.mail.outbox.enqueue", lambda *_, **__: 1 / 0)
    answers += [visitor.post_json("/reset", json={"identity": "alice"}, environ_overrides=source)]
    assert {200, 302, 303, 308, 400, 404, 405, 413, 429, 500} <= {answer.status_code for answer in answers}
    assert {str(answer.headers.getlist("Cache-Control")) for answer in answers} == {"['no-store']"}


@FORM_AND_JSON
@pytest.mark.requirement("R49", "R51")
def test_after_the_landing_the_token_is_on_no_page(site: Site, by: str) -> None:
    visitor, link = site.visitor(), site.new_link()
    landing = visitor.open(link)
    assert landing.headers["Referrer-Policy"] == "no-referrer"
    form = visitor.open(landing.location)
    refused = visitor.set_password(landing.location, "short")
    if by == "json":
        visitor.post_json(link, json={"password": NEW_PASSWORD})
        done = visitor.open("/")
    else:
        done = visitor.set_password(landing.location)
    later = [form, refused, done, visitor.open("/reset-done"), visitor.open("/reset")]
    back = visitor.open(landing.location)
    for page in (landing, *later, back):
        assert token_in(link) not in page.text + str(page.headers.get("Location"))
    assert back.status_code == 400
    assert "<input" not in back.text


AWAY = [EVIL, "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "///evil.example"]


@pytest.mark.requirement("R52")
def test_no_next_page_leads_away(site: Site) -> None:
    for target in AWAY:
        visitor, steer = site.visitor(), {"next": target}
        site.work()
        landing = visitor.open(site.new_link(), query_string=steer)
        short = {"password": "short", "password_confirm": "short"}
        answers = [
            landing,
            visitor.submit("/reset", identity="nobody", **steer),
            visitor.submit("/login", "/login", identity="alice", password=OLD_PASSWORD, **steer),
            visitor.open("/login", query_string=steer),
            visitor.submit("/", "/logout", **steer),
            visitor.submit(landing.location, landing.location, **short, **steer),
            visitor.open("/.well-known/change-password", query_string=steer),
            visitor.open("/change", query_string=steer),
            visitor.open(f"/{target}"),
        ]
        for answer in answers:
            as_browsers_read_it = re.sub(r"[\t\r\n]", "", answer.location or "").replace("\\", "/")
            assert urlsplit(urljoin(PUBLIC_URL, as_browsers_read_it)).netloc == "127.0.0.1:5000", target
    assert visitor.set_password(landing.location).location == "/reset-done"


# --- I. Abuse -------------------------------------------------------------------------------------------


@pytest.mark.requirement("R58")
@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_whoever_is_refused_for_a_flood_stops_nobody_else(make_site: Any) -> None:
    site: Site = make_site(RATELIMIT_ENABLED=True)
    link, thief = site.new_link(), {"REMOTE_ADDR": "192.0.2.66"}
    for url in ("/reset", "/login", "/reset/" + "x" * 43):
        body = {"identity": "alice", "password": "a guess"}
        answers = [
            site.visitor().post_json(url, json=body, environ_overrides=thief).status_code for _ in range(31)
        ]
        assert answers[-1] == 429
    assert site.password_works(OLD_PASSWORD)
    assert redeem(site, "form", link)


@pytest.mark.requirement("R59")
def test_an_outage_longer_than_a_link_lives_sends_no_dead_link(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site(MAIL_PORT=free_port(), RECOVERY_MAIL_COOLDOWN="5 minutes")
    names = ("alice", "bob", "alice@example.com", "bob@example.com", "nobody")

    def flood(times: int) -> None:
        visitor = site.visitor()
        for number in range(times):
            visitor.post_json("/reset", json={"identity": names[number % len(names)]})

    with at_work(site):
        flood(300)
        wait_for(lambda: "mail_held" in site.visitor().open("/readyz").json["problems"])
    shift(site, by=-(HOUR + timedelta(seconds=5)))
    site.ask("bob")  # he still wants one
    site.app.config["MAIL_PORT"] = mailbox.port
    delivery.mailman.init_app(site.app)
    site.work()
    assert mailbox.envelopes == [["bob@example.com"]]
    assert redeem(site, "json", site.last_link())
    flood(100)
    site.work()
    assert mailbox.envelopes.count(["alice@example.com"]) == 1  # and bob's notice beside it
    assert len(site.messages()) <= 3 * len(names)


# --- J. Logs --------------------------------------------------------------------------------------------


@pytest.mark.requirement("R61")
def test_no_secret_is_written_to_a_log_or_to_the_database(
    make_site: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    site: Site = make_site(
        RECOVERY_PUBLIC_URL=f"http://127.0.0.1:{port}", RECOVERY_WORKER_POLL="0.05 seconds"
    )
    with served(site.app, port):
        site.ask("alice@example.com")
        site.mailbox.wait_for(1)
        link = site.last_link()
        with monkeypatch.context() as broken:
            broken.setattr(links, "resolve", lambda token: {}[f"no {token}"])
            assert httpx.get(link).status_code == 500
            assert httpx.post(link, json={"password": NEW_PASSWORD}).status_code == 500
        assert httpx.get(link).status_code == 303
        assert httpx.post(link, json={"password": "short"}).status_code == 400
        assert redeem(site, "form", link)
        site.mailbox.wait_for(2)
        assert httpx.post(link, json={"password": NEW_PASSWORD}).status_code == 400
        cookie = site.visitor()
        cookie.sign_in(password=NEW_PASSWORD)
    assert "Traceback" in caplog.text
    assert "/reset/[token]" in caplog.text
    session = cookie.client.get_cookie("sparekey_session", domain="127.0.0.1")
    assert session is not None
    for secret in (token_in(link), NEW_PASSWORD, OLD_PASSWORD, session.value, "alice@example.com"):
        assert secret not in caplog.text
    for secret in (token_in(link), NEW_PASSWORD, OLD_PASSWORD, session.value):
        assert secret not in dump(site)


# --- K. Configuration -----------------------------------------------------------------------------------


@pytest.mark.requirement("R63")
def test_no_secret_of_the_docs_would_be_taken() -> None:
    pages = [ROOT / "README.md", ROOT / "Makefile", *ROOT.glob("docs/**/*.*"), *ROOT.glob("config/*.toml")]
    pages += [*ROOT.glob("app/**/*.py"), *ROOT.glob("doctor/**/*.py"), *ROOT.glob("examples/**/*.*")]
    found = 0
    for page in (page for page in pages if page.suffix not in (".png", ".pyc")):
        for name, value in re.findall(
            r"(SECRET_KEY|PASSWORD_SALT)\s*=\s*[\"']?([^\s\"'#]*)", page.read_text()
        ):
            found += 1
            with pytest.raises(SettingsError, match=name):
                settings.load({**SECRETS, f"FLASK_{'SECURITY_' * (name[0] == 'P')}{name}": value})
    assert found > 1


@pytest.mark.requirement("R65")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECURITY_RETURN_GENERIC_RESPONSES", "false"),
        ("SECURITY_AUTO_LOGIN_AFTER_RESET", "true"),
        ("WTF_CSRF_ENABLED", "false"),
        ("WTF_CSRF_CHECK_DEFAULT", "true"),
        ("SECURITY_CSRF_PROTECT_MECHANISMS", "[]"),
        ("SECURITY_CSRF_IGNORE_UNAUTH_ENDPOINTS", "true"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "3650 days"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "-1 days"),
        ("SECURITY_RESET_PASSWORD_WITHIN", "5"),
        ("SECURITY_RESET_PASSWORD_WITHN", "1 hour"),
        ("SECURITY_PASSWORD_CHECK_BREACHED", "stirct"),
        ("SECURITY_API_ENABLED_METHODS", '["basic"]'),
        ("SESSION_COOKIE_SECURE", "false"),
        ("RECOVERY_MAIL_COOLDOWN", "soon"),
    ],
)
def test_an_unsafe_or_misspelt_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL, f"FLASK_{name}": value})
    assert [problem.name for problem in caught.value.problems] == [name]


@pytest.mark.requirement("R66")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_an_error_that_nobody_foresaw_says_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, method: str, accept: str
) -> None:
    link = site.new_link()
    visitor = site.visitor()
    body: dict[str, Any] = {}
    if method == "POST":
        fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
        form = {**fields, "csrf_token": csrf_token(visitor.open("/reset"))}
        body = {"json": fields} if "json" in accept else {"data": form}
    before = dump(site)
    with monkeypatch.context() as broken:
        broken.setattr(links, "resolve", lambda token: {}[f"/srv/secret.py knows no {token}"])
        answer = visitor.open(link, method=method, headers={"Accept": accept}, **body)
    assert answer.status_code == 500
    assert answer.mimetype == accept
    for told in (token_in(link), "/srv", "KeyError", "Traceback", "Werkzeug", "Flask", "Python", "SECRET"):
        assert told not in answer.text + str(answer.headers)
    assert dump(site) == before
    assert redeem(site, "json", link)
    assert not re.search(r"\d", gunicorn.SERVER)  # what it puts into its Server header


# --- L. For everybody -----------------------------------------------------------------------------------


@pytest.mark.requirement("R68")
def test_two_passwords_that_differ_are_told_at_the_field(site: Site) -> None:
    page = site.visitor().set_password(site.new_link(), again=NEW_PASSWORD + "?").text
    [field] = re.findall(r'<input[^>]*name="password_confirm"[^>]*>', page)
    assert 'aria-invalid="true"' in field
    described = re.search(r'aria-describedby="([\w -]+)"', field)
    assert described
    error = described[1].split()[-1]
    assert f'id="{error}">The two passwords are not the same.' in page
    summary = page[page.index('role="alert"') :]
    assert '<a href="#password_confirm">The two passwords are not the same.</a>' in summary
    assert '<html lang="en" dir="ltr">' in page
    assert re.search(r"<title>Problem: Choose a new password · \w+</title>", page)
    for name in ("password", "password_confirm"):
        assert f'<label for="{name}">' in page


@pytest.mark.requirement("R69")
def test_each_kind_of_bad_link_says_what_it_is_and_sends_nothing(make_site: Any) -> None:
    view = {"reset_view": "https://app.example.com/r", "reset_error_view": "https://app.example.com/p"}
    site: Site = make_site(RECOVERY_CLIENTS={"web": view})
    link, visitor = site.new_link(), site.visitor()
    told: dict[str, tuple[str, str]] = {}
    for column in ("expires_at", "redeemed_at", "superseded_at", "revoked_at"):
        before = site.links()[0][column]
        site.change(ResetLink, **{column: LONG_AGO})
        told[column] = told_at(site, link)
        site.change(ResetLink, **{column: before})
    told["broken"] = told_at(site, link[:-1])
    assert len({words for words, _ in told.values()}) == len({code for _, code in told.values()}) == 5
    site.change(ResetLink, expires_at=LONG_AGO)
    before = dump(site)
    for _ in range(100):
        assert visitor.open(link).status_code == 400
    assert site.work() == 0
    assert dump(site) == before
    assert len(site.mailbox.mails) == 1


def told_at(site: Site, link: str) -> tuple[str, str]:
    """The words on the page of a bad link, which leads to a new one, and the code for a client."""
    page = site.visitor().open(link)
    assert page.status_code == 400
    assert '<a class="button" href="/reset">' in page.text
    found = re.search(r"<h1>(.+)</h1>", page.text)
    assert found
    site.change(ResetLink, client="web")
    landing = site.visitor().open(link)
    site.change(ResetLink, client="default")
    code = re.search(r"code[=\"]+(\w+)", landing.location or landing.text)
    assert code
    return found[1], code[1]
