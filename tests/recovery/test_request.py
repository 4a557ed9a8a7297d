"""Requests for a reset link: every requester gets the same answer, and none reveals or changes an account."""

import random
import re
import socket
import time
from datetime import datetime
from typing import Any

import dns.resolver
import pytest
from support.database import statements_of
from support.features import REGISTRATION
from support.recovery import code_of
from support.site import NEW_PASSWORD, NOBODYS, OLD_PASSWORD, Site, at_work

from app.accounts.identity_mappers import IDENTITY_LENGTH_MAX
from app.accounts.models import User


def form_answer(site: Site, identity: str) -> Any:
    answer = site.visitor().submit("/reset", identity=identity)
    assert answer.location == "/check-mail"
    cookies = [re.sub("=[^;]+", "=...", cookie, count=1) for cookie in answer.headers.getlist("Set-Cookie")]
    return answer.status_code, answer.text, sorted(answer.headers.keys()), cookies


def json_answer(site: Site, identity: str) -> Any:
    answer = site.ask(identity)
    return answer.status_code, answer.text, sorted(answer.headers.items())


@pytest.mark.requirement("R1", "R18", "R42")
def test_request_is_answered_alike_and_mailed_to_recoverable_accounts_only(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CONFIRMABLE=True, RECOVERY_PASSWORDLESS="silent")
    site.change(User, User.email != "bob@example.com", confirmed_at=datetime(2026, 1, 1))
    for answer_to in (form_answer, json_answer):
        known = answer_to(site, "alice@example.com")
        for case, identity in {**NOBODYS, "unconfirmed": "bob"}.items():
            assert answer_to(site, identity) == known, case
    site.work()
    assert {envelope[0] for envelope in site.mailbox.envelopes} == {"alice@example.com"}
    reasons = str([message["reason"] for message in site.messages()])
    for reason in ("the address is not confirmed", "the account has no password", "not active"):
        assert reason in reasons
    assert [row["email"] for row in site.rows(User) if row["password"] is None] == ["sso@example.com"]


@pytest.mark.requirement("R1", "R16")
def test_request_for_locked_account_is_answered_alike_and_not_mailed(site: Site, monkeypatch: Any) -> None:
    link = site.new_link()
    monkeypatch.setattr(User, "is_locked", lambda *_: True)
    for answer_to in (form_answer, json_answer):
        assert answer_to(site, "alice") == answer_to(site, "nobody")
    site.work()
    assert len(site.mailbox.mails) == 1  # the link from before
    assert site.visitor().open(link).status_code == 400
    assert code_of(site, link) == "account_unavailable"
    assert not site.password_works(OLD_PASSWORD)


@pytest.mark.requirement("R1", "R44")
def test_page_after_a_request_shows_what_was_typed_and_sends_it_again(make_site: Any) -> None:
    """To the browser that typed it alone. The page does not tell whether there is such an account."""
    site: Site = make_site(**REGISTRATION)
    for form, field, name in (("/reset", "identity", "alice"), ("/register", "email", "alice")):
        pages = []
        for typed in (f"{name}@example.com", "nobody@example.com"):
            visitor = site.visitor()
            after = visitor.submit(form, **{field: typed}).location
            page = visitor.open(after).text
            assert f"<bdi>{typed}</bdi>" in page
            assert f'<a href="{form}">Change it</a>' in page
            assert typed not in str(visitor.client.get_cookie("session"))
            assert visitor.submit(after, **{field: typed}).location == after
            pages.append(re.sub(r'(nonce|name="csrf_token" value)="[^"]*"', "", page.replace(typed, "...")))
        assert pages[0] == pages[1]
        elsewhere = site.visitor().open(after).text  # such as from a bookmark
        assert ("Change it" in elsewhere, "Request a new link" in elsewhere) == (
            False,
            after == "/check-mail",
        )


@pytest.mark.requirement("R2")
def test_request_runs_the_same_statements_for_every_identity(site: Site) -> None:
    def statements_for(identity: str) -> list[str]:
        with statements_of(site) as statements:
            site.ask(identity)
            site.visitor().submit("/reset", identity=identity)
        return statements

    known = statements_for("alice@example.com")
    assert known
    assert not any("user" in statement.split("(")[0] for statement in known)  # it reads no account
    for identity in NOBODYS.values():
        assert statements_for(identity) == known


@pytest.mark.requirement("R2")
def test_request_time_reveals_nothing_while_relay_is_slow(site: Site) -> None:
    """An attacker who guesses "known" for every answer slower than the median is right half of the time."""
    site.mailbox.delay["DATA"] = 1.0
    timings: list[tuple[float, bool]] = []
    visitor, turns = site.visitor(), [True, False] * 120
    random.shuffle(turns)
    with at_work(site):
        for known in turns:
            began = time.perf_counter()
            answer = visitor.post_json("/reset", json={"identity": "alice" if known else "nobody"})
            timings.append((time.perf_counter() - began, known))
            assert answer.status_code == 200
        site.mailbox.delay.clear()
    slower = sorted(timings)[len(timings) // 2 :]
    assert 0.37 < sum(known for _, known in slower) / len(slower) < 0.63  # four standard deviations


@pytest.mark.requirement("R4", "R18")
def test_request_reaches_the_stored_address_by_every_spelling_and_changes_no_account(site: Site) -> None:
    before = site.rows(User)
    spellings = ("alice@example.com", "ALICE@Example.Com", "alice", " Alice\t", "+1 415 555 0123")
    for spelling in spellings:
        site.new_link(spelling)
    site.visitor().submit("/reset", identity="alice")
    site.work()
    assert site.mailbox.envelopes == [["alice@example.com"]] * 6
    assert site.rows(User) == before


@pytest.mark.requirement("R7", "R20", "R68")
def test_request_is_refused_unless_it_holds_one_identity(site: Site) -> None:
    refused = (None, "", "   ", "alice@example.com\r\nBcc: evil@example.com", "alice\x00", "\ud800")
    too_long = "alice" + "\u200b" * (IDENTITY_LENGTH_MAX - 4)  # of which five characters count
    bodies = [{"identity": identity} for identity in (*refused, too_long)]
    for body in ({}, {"identity": "alice", "email": "evil@example.com"}, *bodies):
        answer = site.visitor().post_json("/reset", json=body)
        assert answer.status_code == 400, body
        assert answer.json["response"]["error_code"] == "invalid_request"
        assert answer.json["response"]["errors"]
    blank = site.visitor().submit("/reset", identity=" ")
    assert (blank.status_code, 'aria-invalid="true"' in blank.text) == (400, True)
    assert "Enter your email" in blank.text
    two = ["alice@example.com", "evil@example.com"]
    assert site.visitor().submit("/reset", identity=two).status_code == 400
    assert site.messages() == []


@pytest.mark.requirement("R5")
def test_request_needs_post_with_body(site: Site) -> None:
    visitor, url = site.visitor(), "/reset?identity=alice&email=alice&_method=POST"
    override = dict.fromkeys(("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"), "POST")
    body: dict[str, Any]
    for body in ({"data": {"identity": "alice"}}, {"json": {"identity": "alice"}}):
        for method in ("GET", "HEAD", "OPTIONS"):
            assert visitor.open(url, method=method, headers=override, **body).status_code == 200, method
        for method in ("TRACE", "PUT", "DELETE", "PATCH", "BREW"):
            answer = visitor.open(url, method=method, headers=override, **body)
            assert (answer.status_code, "POST" in answer.headers["Allow"]) == (405, True), method
    answers = [
        visitor.post_json(url, json={}),
        visitor.post_json(url, data={}),
        visitor.submit("/reset", url),
    ]
    assert [answer.status_code for answer in answers] == [400] * 3
    assert site.messages() == []


def test_no_view_queries_dns(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow resolver would delay every answer."""
    link, queries = site.new_link(), []

    def query(*question: Any, **_: Any) -> Any:
        queries.append(question)
        raise OSError("no resolver")

    monkeypatch.setattr(socket, "getaddrinfo", query)
    monkeypatch.setattr(socket, "gethostbyname", query)
    monkeypatch.setattr(dns.resolver.Resolver, "resolve", query)
    for identity in ("alice@example.com", "nobody@no-such-domain.example", "alice"):
        assert site.ask(identity).status_code == 200
        assert site.visitor().submit("/reset", identity=identity).location == "/check-mail"
        site.visitor().sign_in(identity)
    assert site.visitor().set_password(link, NEW_PASSWORD).location == "/reset-done"
    assert queries == []
