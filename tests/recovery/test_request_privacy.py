"""A request for a reset link reveals nothing about the account and changes nothing on it."""

import random
import socket
import time
from typing import Any

import dns.resolver
import pytest
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, at_work

from app.accounts.models import User


@pytest.mark.requirement("R1", "R16")
def test_request_for_locked_account_is_answered_alike_and_not_mailed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = site.new_link()
    monkeypatch.setattr(User, "is_locked", lambda *_: True)
    for request in (lambda name: site.visitor().submit("/reset", identity=name), site.ask):
        known, unknown = request("alice"), request("nobody")
        assert (known.status_code, known.text, known.location) == (
            unknown.status_code,
            unknown.text,
            unknown.location,
        )
        assert [*known.headers.keys()] == [*unknown.headers.keys()]
    site.work()
    assert len(site.mailbox.mails) == 1  # the link from before
    assert site.visitor().open(link).status_code == 400
    refused = site.visitor().post_json(link, json={"password": NEW_PASSWORD})
    assert "account_unavailable" in refused.text
    assert not site.password_works(OLD_PASSWORD)


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


@pytest.mark.requirement("R4")
def test_request_leaves_account_unchanged(site: Site) -> None:
    before = site.rows(User)
    for _ in range(3):
        site.visitor().submit("/reset", identity="alice")
        site.work()
        site.ask("alice")
        site.work()
    assert len(site.mailbox.mails) == 6
    assert site.rows(User) == before


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
    for answer in (
        visitor.post_json(url, json={}),
        visitor.post_json(url, data={}),
        visitor.submit("/reset", url),
    ):
        assert answer.status_code == 400
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
