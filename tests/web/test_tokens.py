"""Tokens in URLs: none begins with a dot, because web servers refuse paths that look like hidden files."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.factors import FACTORS, add_code_sign_in, add_passkey, add_recovery_codes, post
from support.features import ALL_FEATURES
from support.mailbox import html_of, text_of
from support.site import Site

from app.accounts.models import User

LINK = re.compile(r"https?://[^\s\"<]+")


@pytest.mark.requirement("R41")
def test_no_token_in_a_url_looks_like_a_hidden_file(make_site: Any) -> None:
    """Names that repeat compress well, and a compressed token would begin with a dot."""
    site: Site = make_site(**{**ALL_FEATURES, **FACTORS})
    alice = site.visitor()
    alice.post_json("/confirm", json={"identity": "alice@example.com"})
    alice.post_json("/register", json={"email": "new@example.com"})
    site.work()
    site.change(User, confirmed_at=User.create_datetime)
    alice.sign_in()
    for address in ("a@example.com", f"{'a' * 60}@{'example.' * 5}com"):
        post(alice, "/change-email", email=address)
    tokens = [post(alice, "/tf-setup", setup="authenticator")["tf_state_token"]]
    tokens += [post(alice, "/us-setup", chosen_method="authenticator")["state"]]
    tokens += [post(alice, "/wan-register", name="My phone", usage="secondary")["wan_state"]]
    add_recovery_codes(site, alice)
    add_code_sign_in(site, alice)
    for number in range(8):
        add_passkey(site, alice, f"My phone {number}")
    site.ask()
    site.work()
    parts = [part(mail) for mail in site.mailbox.mails for part in (text_of, html_of)]
    links = {link for part in parts for link in LINK.findall(part)}
    for kind in ("/confirm/", "/change-email/", "/reset/", "/not-me/"):
        assert any(kind in link for link in links), kind
    for link in links:
        assert site.visitor().open(link).status_code == 303 or "/not-me/" not in link, link
        tokens += urlsplit(link).path.split("/")
    assert [token for token in tokens if token.startswith(".")] == []
