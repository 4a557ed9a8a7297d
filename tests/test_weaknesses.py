"""Weaknesses measured on the stock stack that no other test is named after; docs/security.md lists them all."""

from __future__ import annotations

import base64
import hmac
import socket
import time
from typing import Any

import dns.resolver
import flask_security.changeable
import pytest
from support.site import NEW_PASSWORD, OLD_PASSWORD, SECRETS, Site, load_settings

from app.accounts.models import User


def test_no_request_asks_dns(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slow resolver each would wait for it."""
    link, asked = site.new_link(), []

    def ask(*question: Any, **_: Any) -> Any:
        asked.append(question)
        raise OSError("no resolver")

    for place, name in (
        (socket, "getaddrinfo"),
        (socket, "gethostbyname"),
        (dns.resolver.Resolver, "resolve"),
    ):
        monkeypatch.setattr(place, name, ask)
    for identity in ("alice@example.com", "nobody@no-such-domain.example", "alice"):
        assert site.ask(identity).status_code == 200
        assert site.visitor().submit("/reset", identity=identity).location == "/check-mail"
        site.visitor().sign_in(identity)
    assert site.visitor().set_password(link).location == "/reset-done"
    assert asked == []


@pytest.mark.parametrize(
    "password", ["p4ssw0rd or h4x0r " * 5 + "!?", "1337 h4x0r $p34k " * 7, "a" * 73 + "b" * 40]
)
@pytest.mark.requirement("R32")
def test_a_long_password_is_measured_and_not_weighed(site: Site, password: str) -> None:
    """Whatever estimates a strength may fail above 72 characters, or take seconds."""
    link, began = site.new_link(), time.monotonic()
    assert site.visitor().post_json(link, json={"password": password}).status_code == 200
    assert time.monotonic() - began < 2
    assert site.password_works(password)


@pytest.mark.requirement("R64")
def test_a_new_token_is_made_with_the_new_key(make_site: Any) -> None:
    new = "a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5"
    site: Site = make_site(SECRET_KEY=new, SECRET_KEY_FALLBACKS=[SECRETS["FLASK_SECRET_KEY"]])
    token = site.new_link().rsplit("/", 1)[1]
    [key] = load_settings(SECRET_KEY=new).derive_keys("reset link")
    nonce = site.messages()[0]["nonce"]
    assert base64.urlsafe_b64decode(token + "=") == hmac.digest(key, nonce, "sha256")


@pytest.mark.parametrize("by", ["form", "json"])
@pytest.mark.requirement("R66")
def test_a_change_that_fails_at_its_end_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Flask-Security commits after the request whatever the session holds, on error answers too."""
    alice, before = site.visitor(), site.rows(User)
    alice.sign_in()
    new = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    with monkeypatch.context() as broken:
        broken.setattr(flask_security.changeable.password_changed, "send", lambda *_, **__: 1 / 0)
        answer = alice.submit("/change", **new) if by == "form" else alice.post_json("/change", json=new)
    assert answer.status_code == 500
    assert site.rows(User) == before
    assert site.messages() == []
