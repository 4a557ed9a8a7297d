"""Headers of every response, security.txt, and plain HTTP where the public URL promises https."""

from pathlib import Path
from typing import Any

import pytest
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site
from werkzeug.test import TestResponse

PUBLIC = "https://id.example.com"
PLAIN = {"X-Forwarded-Proto": "http"}


def policy_of(answer: TestResponse) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in answer.headers["Content-Security-Policy"].split(";"))
    return {directive: sources for directive, _, sources in parts}


@pytest.mark.requirement("R50")
def test_policy_allows_no_script_but_the_pages_own_by_nonce(site: Site) -> None:
    visitor, link, nonces = site.visitor(), site.new_link(), set()
    for path in ("/", "/nowhere"):
        assert "script-src" not in policy_of(visitor.open(path)), path
    for _ in range(3):
        form = visitor.open(link, follow_redirects=True)
        nonce = policy_of(form)["script-src"].removeprefix("'nonce-").removesuffix("'")
        assert form.text.count("<script") == form.text.count(f'<script nonce="{nonce}"') == 2
        nonces.add(nonce)
    assert len(nonces) == 3
    assert {len(nonce) for nonce in nonces} == {22}  # 128 bits


@pytest.mark.requirement("R47", "R50")
def test_headers_are_strict_on_every_answer(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL=PUBLIC)
    paths = ("/", "/reset", "/nowhere", "/openapi.json", "/static/sparekey.css", site.new_link())
    for answer in [*map(site.visitor().open, paths), site.ask()]:
        policy, headers = policy_of(answer), answer.headers
        assert (policy["default-src"], policy["base-uri"], policy["frame-ancestors"]) == ("'none'",) * 3
        assert (policy["form-action"], policy["style-src"], policy["img-src"]) == ("'self'",) * 3
        assert not {"unsafe-inline", "unsafe-eval", "*", "data:", "https:"} & set(str(policy).split())
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "camera=()" in headers["Permissions-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
        assert not {"Server", "X-Powered-By"} & set(headers.keys())
        answer.close()


@pytest.mark.requirement("R70")
def test_security_txt_is_served_if_configured(make_site: Any, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "security.txt"
    file.write_text("Contact: mailto:security@example.com\nExpires: 2027-12-31T23:00:00Z\n")
    answer = make_site(RECOVERY_SECURITY_TXT=str(file)).visitor().open("/.well-known/security.txt")
    assert (answer.text, answer.mimetype) == (file.read_text(), "text/plain")
    assert site.visitor().open("/.well-known/security.txt").status_code == 404


@pytest.mark.requirement("R47", "R54")
def test_public_url_with_https_refuses_plain_http(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL=PUBLIC, RECOVERY_TRUSTED_PROXIES=1)
    link, visitor = site.new_link(), site.visitor()
    for answer in (
        visitor.open(link, headers=PLAIN),
        visitor.open("/login", headers=PLAIN),
        visitor.post_json("/reset", json={"identity": "alice"}, headers=PLAIN),
        visitor.post_json(link, json={"password": NEW_PASSWORD}, headers=PLAIN),
        visitor.open(link, headers={"X-Forwarded-Proto": "https, http"}),
    ):
        assert answer.status_code == 400
        assert PUBLIC in answer.text
        assert "<form" not in answer.text
    assert len(site.messages()) == 1
    assert site.password_works(OLD_PASSWORD)
    assert visitor.open("/healthz", headers=PLAIN).status_code == 200
    assert visitor.open(link, headers={"X-Forwarded-Proto": "http, https"}).status_code == 303
    # Without a declared proxy, the header is the visitor's own.
    assert make_site(RECOVERY_PUBLIC_URL=PUBLIC).visitor().open("/login", headers=PLAIN).status_code == 200
    assert make_site(RECOVERY_TRUSTED_PROXIES=1).visitor().open("/login", headers=PLAIN).status_code == 200
