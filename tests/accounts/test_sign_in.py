"""Signing in with a password."""

from typing import Any

import pytest
from support.site import NOBODYS, OLD_PASSWORD, Site

REFUSED = "We couldn't sign you in with those details. Check them and try again."


def test_sign_in_accepts_any_identity_in_forms_and_json(site: Site) -> None:
    for identity in ("alice", "ALICE@example.com", " +1 (415) 555-0123 "):
        assert site.visitor().sign_in(identity), identity
    client = site.visitor()
    answer = client.post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
    assert answer.status_code == 200
    assert client.is_signed_in()


def test_sign_in_refuses_every_mismatch_with_one_message(site: Site) -> None:
    attempts = [
        ("alice@example.com", "a wrong password"),
        *((name, OLD_PASSWORD) for name in NOBODYS.values()),
    ]
    for identity, password in attempts:
        page = site.visitor().submit("/login", identity=identity, password=password)
        assert "sign you in with those details" in page.text, identity
        for field in ("identity", "email"):
            answer = site.visitor().post_json("/login", json={field: identity, "password": password})
            assert answer.json is not None
            assert (answer.status_code, answer.json["response"]["errors"]) == (400, [REFUSED]), identity


def test_sign_in_refuses_malformed_json(site: Site) -> None:
    bodies: list[dict[str, Any]] = [
        {"identity": "alice"},
        {"password": "x"},
        {"identity": "alice", "password": ["x"] * 3},
        {"identity": "alice", "password": {"a": 1}},
        {"identity": "alice", "password": "x", "next": 5},
        {"identity": "alice", "password": "\ud800"},
    ]
    for body in bodies:
        answer = site.visitor().post_json("/login", json=body)
        assert answer.status_code == 400, body
        assert answer.json is not None, body


@pytest.mark.requirement("R52")
def test_sign_in_continues_at_the_next_page(site: Site) -> None:
    answer = site.visitor().submit("/login?next=/change", identity="alice", password=OLD_PASSWORD)
    assert answer.location == "/change"
    answer = site.visitor().submit(
        "/login?next=https://evil.example", identity="alice", password=OLD_PASSWORD
    )
    assert "evil" not in (answer.location or "")


def test_sign_in_refuses_an_unconfirmed_account(make_site: Any) -> None:
    assert not make_site(SECURITY_CONFIRMABLE=True).password_works(OLD_PASSWORD)
