"""Requests for a reset link: every requester gets the same answer, and malformed input a clear one."""

import re
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import event
from support.features import REGISTRATION
from support.site import NOBODYS, Site

from app.accounts.identity_mappers import IDENTITY_LENGTH_MAX
from app.accounts.models import User
from app.db.engine import db


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
    assert "the address is not confirmed" in {message["reason"] for message in site.messages()}
    assert [row["email"] for row in site.rows(User) if row["password"] is None] == ["sso@example.com"]


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
        assert "Change it" not in site.visitor().open(after).text


@pytest.mark.requirement("R2")
def test_request_runs_the_same_statements_for_every_identity(site: Site) -> None:
    def statements_for(identity: str) -> list[str]:
        statements: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            statements.append(statement)

        with site.app.app_context():
            engine = db.engine
        event.listen(engine, "before_cursor_execute", note)
        site.ask(identity)
        site.visitor().submit("/reset", identity=identity)
        event.remove(engine, "before_cursor_execute", note)
        return statements

    known = statements_for("alice@example.com")
    assert known
    assert not any("user" in statement.split("(")[0] for statement in known)  # it reads no account
    for identity in NOBODYS.values():
        assert statements_for(identity) == known


@pytest.mark.requirement("R18")
def test_request_reaches_the_stored_address_by_every_spelling(site: Site) -> None:
    spellings = ("alice@example.com", "ALICE@Example.Com", "alice", " Alice\t", "+1 415 555 0123")
    for spelling in spellings:
        site.new_link(spelling)
    assert site.mailbox.envelopes == [["alice@example.com"]] * len(spellings)


REFUSED = (None, "", "   ", "alice@example.com\r\nBcc: evil@example.com", "alice\x00", "\ud800")
TOO_LONG = "a" * (IDENTITY_LENGTH_MAX + 1)


@pytest.mark.requirement("R7", "R20")
def test_request_in_json_is_refused_unless_it_holds_one_identity(site: Site) -> None:
    two = {"identity": "alice", "email": "evil@example.com"}
    for body in ({}, two, *({"identity": identity} for identity in (*REFUSED, TOO_LONG))):
        answer = site.visitor().post_json("/reset", json=body)
        assert answer.status_code == 400, body
        assert answer.json["response"]["error_code"] == "invalid_request"
        assert answer.json["response"]["errors"]
    answer = site.visitor().open("/reset", method="PUT", json={"identity": "alice"})
    assert (answer.status_code, "POST" in answer.headers["Allow"]) == (405, True)
    assert site.messages() == []


@pytest.mark.requirement("R7", "R68")
def test_request_form_is_refused_unless_it_holds_one_identity(site: Site) -> None:
    blank = site.visitor().submit("/reset", identity=" ")
    assert blank.status_code == 400
    assert 'aria-invalid="true"' in blank.text
    assert "Enter your email" in blank.text
    two = site.visitor().submit("/reset", identity=["alice@example.com", "evil@example.com"])
    assert two.status_code == 400
    assert site.messages() == []
