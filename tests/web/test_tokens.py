"""Tokens in URLs: none begins with a dot, because web servers refuse paths that look like hidden files."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from itsdangerous import URLSafeTimedSerializer
from support.factors import FACTORS, add_passkey, add_recovery_codes, post, stolen_session
from support.features import ALL_FEATURES
from support.mailbox import html_of, text_of
from support.site import Site, Visitor

from app.accounts.models import User

LINK = re.compile(r"https?://[^\s\"<]+")


@pytest.fixture
def site(make_site: Any) -> Site:
    built: Site = make_site(
        **{**ALL_FEATURES, **FACTORS, "SECURITY_CONFIRMABLE": False, "SECURITY_REGISTERABLE": False}
    )
    return built


def segments(url: str) -> list[str]:
    return urlsplit(url).path.split("/")


@pytest.mark.requirement("R41")
def test_no_mailed_link_looks_like_a_hidden_file(make_site: Any) -> None:
    site: Site = make_site(**{**ALL_FEATURES, **FACTORS})
    alice: Visitor = site.visitor()
    site.visitor().post_json("/confirm", json={"identity": "alice@example.com"})
    site.visitor().post_json("/register", json={"email": "new@example.com"})
    site.work()
    site.change(User, confirmed_at=User.create_datetime)
    alice.sign_in()
    for address in ("a@example.com", f"{'a' * 60}@{'example.' * 5}com"):
        post(alice, "/change-email", email=address)
    site.ask()
    site.work()
    links = {
        link
        for mail in site.mailbox.mails
        for part in (text_of(mail), html_of(mail))
        for link in LINK.findall(part)
    }
    for kind in ("/confirm/", "/change-email/", "/reset/", "/not-me/"):
        assert any(kind in link for link in links), kind
    assert [link for link in links if any(segment.startswith(".") for segment in segments(link))] == []


def test_no_token_of_a_set_up_begins_with_a_dot(site: Site) -> None:
    alice = stolen_session(site)
    tokens = [post(alice, "/tf-setup", setup="authenticator")["tf_state_token"]]
    tokens += [post(alice, "/us-setup", chosen_method="authenticator")["state"]]
    tokens += [post(alice, "/wan-register", name="My phone", usage="secondary")["wan_state"]]
    assert [token for token in tokens if token.startswith(".")] == []


def test_objection_to_many_factors_begins_with_no_dot(site: Site) -> None:
    """Names that repeat compress well."""
    with site.app.app_context():
        from app.recovery import not_me

        for count in range(1, 9):
            changes = [("added", f"passkey:My phone {n}", "webauthn", f"My phone {n}") for n in range(count)]
            message: Any = type(
                "Message", (), {"message_id": f"<{'0' * 32}@x>", "content": {"changes": changes}}
            )
            assert not not_me.token_for(message).startswith(".")


def test_token_of_an_earlier_version_stays_valid(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True)
    with site.app.app_context():
        security = site.app.extensions["security"]
        ours = security.change_email_serializer
        compressed = URLSafeTimedSerializer(
            ours.secret_keys, salt=ours.salt, signer_kwargs=ours.signer_kwargs
        )
        token = compressed.dumps({"data": ["a" * 32, "b" * 128, "a@example.com"], "client": "default"})
        assert token.startswith(".")
        assert ours.loads(token) == ["a" * 32, "b" * 128, "a@example.com"]


def test_several_factors_at_once_can_be_objected_to(site: Site) -> None:
    alice = stolen_session(site)
    add_recovery_codes(site, alice)
    add_passkey(site, alice)
    site.work()
    for mail in site.mailbox.mails:
        [link] = {link for link in LINK.findall(text_of(mail)) if "/not-me/" in link}
        assert site.visitor().open(link).status_code == 303
