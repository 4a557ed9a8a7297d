"""Asking for a link: everybody gets the same answer, and bad input gets a clear one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import event
from support.site import NOBODYS, Site

from app.accounts.identities import IDENTITY_LENGTH_MAX
from app.db.engine import db


def seen_by_form(site: Site, identity: str) -> Any:
    answer = site.visitor().submit("/reset", identity=identity)
    assert answer.location == "/check-mail"
    cookies = [re.sub("=[^;]+", "=...", cookie, count=1) for cookie in answer.headers.getlist("Set-Cookie")]
    return answer.status_code, answer.text, sorted(answer.headers.keys()), cookies


def seen_by_json(site: Site, identity: str) -> Any:
    answer = site.ask(identity)
    return answer.status_code, answer.text, sorted(answer.headers.items())


@pytest.mark.parametrize("who", NOBODYS)
@pytest.mark.requirement("R1", "R18", "R42")
def test_whoever_has_no_account_gets_the_same_answer_and_no_mail(site: Site, who: str) -> None:
    for seen in (seen_by_form, seen_by_json):
        assert seen(site, NOBODYS[who]) == seen(site, "alice@example.com"), who
    site.work()
    assert {envelope[0] for envelope in site.mailbox.envelopes} == {"alice@example.com"}


@pytest.mark.requirement("R1", "R18")
def test_an_unconfirmed_address_gets_the_same_answer_and_no_mail(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CONFIRMABLE=True)  # and nobody has confirmed
    assert seen_by_json(site, "alice") == seen_by_json(site, "nobody")
    assert seen_by_form(site, "alice") == seen_by_form(site, "nobody")
    site.work()
    assert site.mailbox.mails == []
    assert {message["reason"] for message in site.messages() if message["user_id"]} == {
        "the address is not confirmed"
    }


@pytest.mark.requirement("R2")
def test_a_known_and_an_unknown_identity_run_the_same_statements(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def statements_of(identity: str) -> list[str]:
        seen: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        with site.app.app_context():
            engine = db.engine
        event.listen(engine, "before_cursor_execute", note)
        site.ask(identity)
        site.visitor().submit("/reset", identity=identity)
        event.remove(engine, "before_cursor_execute", note)
        return seen

    known = statements_of("alice@example.com")
    assert known
    assert not any("user" in statement.split("(")[0] for statement in known)  # it reads no account
    for identity in NOBODYS.values():
        assert statements_of(identity) == known


@pytest.mark.parametrize(
    "identity", ["alice@example.com", "ALICE@Example.Com", "alice", " Alice\t", "+1 415 555 0123"]
)
@pytest.mark.requirement("R18")
def test_every_spelling_of_an_identity_reaches_the_stored_address(site: Site, identity: str) -> None:
    site.new_link(identity)
    assert site.mailbox.envelopes == [["alice@example.com"]]


@pytest.mark.parametrize(
    "body",
    [
        [1, 2],
        "x",
        7,
        {},
        {"identity": ""},
        {"identity": "   "},
        {"identity": None},
        {"identity": {}},
        {"identity": ["alice@example.com", "evil@example.com"]},
        {"identity": "alice", "email": "evil@example.com"},
        {"identity": "a" * (IDENTITY_LENGTH_MAX + 1)},
        {"identity": "alice@example.com\r\nBcc: evil@example.com"},
        {"identity": "alice\x00"},
        {"identity": "\ud800"},
    ],
)
@pytest.mark.requirement("R7", "R20")
def test_json_that_is_not_one_identity_is_refused_in_json(site: Site, body: Any) -> None:
    answer = site.visitor().post_json("/reset", json=body)
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["response"]["error_code"] == "invalid_request"
    assert answer.json["response"]["errors"]
    assert site.messages() == []


@pytest.mark.requirement("R7")
def test_broken_json_is_refused_in_json(site: Site) -> None:
    for body in ("{", "null", "\xff", ""):
        answer = site.visitor().post_json("/reset", data=body, content_type="application/json")
        assert answer.status_code == 400, body
        assert answer.json is not None


@pytest.mark.requirement("R7", "R68")
def test_a_form_without_identity_says_so_at_the_field(site: Site) -> None:
    answer = site.visitor().submit("/reset", identity=" ")
    assert answer.status_code == 400
    assert 'aria-invalid="true"' in answer.text
    assert "Type your email address" in answer.text


@pytest.mark.requirement("R7")
def test_a_form_with_two_identities_is_refused(site: Site) -> None:
    answer = site.visitor().submit("/reset", identity=["alice@example.com", "evil@example.com"])
    assert answer.status_code == 400
    assert site.messages() == []


@pytest.mark.requirement("R5")
def test_only_a_post_with_a_body_asks(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.open("/reset?identity=alice&email=alice").status_code == 200
    assert visitor.open("/reset?identity=alice", method="HEAD").status_code == 200
    assert visitor.submit("/reset", "/reset?identity=alice").status_code == 400
    assert visitor.post_json("/healthz", data={"a": "b"}).status_code == 405
    for method in ("put", "delete", "patch"):
        answer = visitor.open("/reset", method=method, json={"identity": "alice"})
        assert answer.status_code == 405
        assert "POST" in answer.headers["Allow"]
    assert site.messages() == []


@pytest.mark.requirement("R6")
def test_a_form_needs_its_token(site: Site) -> None:
    stranger = site.visitor()
    for token in ("", "made up"):
        answer = stranger.submit("/reset", identity="alice", csrf_token=token)
        assert answer.status_code == 400
        assert 'data-code="csrf_failed"' in answer.text
    another_sessions_token = site.visitor().open("/reset").text.split('value="')[1].split('"')[0]
    answer = stranger.submit("/reset", identity="alice", csrf_token=another_sessions_token)
    assert answer.status_code == 400
    json_answer = stranger.post_json(
        "/reset", data={"identity": "alice"}, headers={"Accept": "application/json"}
    )
    assert (json_answer.status_code, json_answer.json["response"]["error_code"]) == (400, "csrf_failed")  # type: ignore[index]
    assert site.messages() == []


@pytest.mark.requirement("R6")
def test_json_as_another_content_type_is_a_form_without_token(site: Site) -> None:
    answer = site.visitor().post_json("/reset", data='{"identity": "alice"}', content_type="text/plain")
    assert answer.status_code == 400
    assert site.messages() == []


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:5001"])
@pytest.mark.requirement("R6")
def test_json_from_a_foreign_origin_is_refused(site: Site, origin: str) -> None:
    answer = site.visitor().post_json("/reset", json={"identity": "alice"}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert answer.json["response"]["error_code"] == "origin_not_allowed"  # type: ignore[index]
    assert site.messages() == []


@pytest.mark.requirement("R6")
def test_json_from_our_own_origin_is_served(site: Site) -> None:
    answer = site.visitor().post_json(
        "/reset", json={"identity": "alice"}, headers={"Origin": "http://127.0.0.1:5000"}
    )
    assert answer.status_code == 200
    assert answer.json == {"meta": {"code": 200}, "response": {}}
    assert "Set-Cookie" not in answer.headers


@pytest.mark.requirement("R32")
def test_a_huge_body_is_refused_unread(site: Site) -> None:
    answer = site.visitor().post_json("/reset", json={"identity": "a" * 1_000_000})
    assert answer.status_code == 413


@pytest.mark.requirement("R4")
def test_a_hundred_requests_change_nothing_for_the_account(site: Site) -> None:
    alice = site.visitor()
    assert alice.sign_in()
    for _ in range(100):
        site.ask()
    assert alice.is_signed_in()
    assert site.password_works("the old password of alice")


@pytest.mark.requirement("R55", "R56")
def test_a_flood_from_one_source_is_refused_with_a_time_to_wait(make_site: Any) -> None:
    site: Site = make_site(RATELIMIT_ENABLED=True)
    for identity in ("alice", "nobody"):
        visitor = site.visitor()
        environ = {"REMOTE_ADDR": f"192.0.2.{len(identity)}"}
        answers = [
            visitor.post_json("/reset", json={"identity": identity}, environ_overrides=environ)
            for _ in range(31)
        ]
        assert [answer.status_code for answer in answers] == [200] * 20 + [429] * 11
        assert answers[-1].json["response"]["error_code"] == "rate_limited"  # type: ignore[index]
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 61
