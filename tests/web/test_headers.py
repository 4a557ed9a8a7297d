"""Security headers of every response, and security.txt."""

from pathlib import Path
from typing import Any

import pytest
from support.site import Site
from werkzeug.test import TestResponse


def policy_of(answer: TestResponse) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in answer.headers["Content-Security-Policy"].split(";"))
    return {directive: sources for directive, _, sources in parts}


@pytest.mark.requirement("R50")
def test_policy_allows_no_script_but_the_pages_own_by_nonce(site: Site) -> None:
    visitor = site.visitor()
    for path in ("/", "/nowhere"):
        assert "script-src" not in policy_of(visitor.open(path)), path
    link, nonces = site.new_link(), set()
    for _ in range(3):
        form = visitor.open(link, follow_redirects=True)
        nonce = policy_of(form)["script-src"].removeprefix("'nonce-").removesuffix("'")
        assert form.text.count("<script") == form.text.count(f'<script nonce="{nonce}"') == 2
        nonces.add(nonce)
    assert len(nonces) == 3
    assert {len(nonce) for nonce in nonces} == {22}  # 128 bits


@pytest.mark.requirement("R47", "R50")
def test_headers_are_strict_on_every_answer(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com")
    visitor, link = site.visitor(), site.new_link()
    paths = ("/", "/reset", "/nowhere", "/openapi.json", "/static/sparekey.css", link)
    for answer in [*map(visitor.open, paths), site.ask()]:
        policy = policy_of(answer)
        assert (policy["default-src"], policy["base-uri"], policy["frame-ancestors"]) == ("'none'",) * 3
        assert (policy["form-action"], policy["style-src"], policy["img-src"]) == ("'self'",) * 3
        assert not {"unsafe-inline", "unsafe-eval", "*", "data:", "https:"} & set(str(policy).split())
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "camera=()" in answer.headers["Permissions-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
        assert not {"Server", "X-Powered-By"} & set(answer.headers.keys())
        answer.close()


@pytest.mark.requirement("R50")
def test_policy_holds_on_flask_securitys_own_pages(make_site: Any) -> None:
    site: Site = make_site(
        SECURITY_CHANGE_EMAIL=True,
        SECURITY_USERNAME_RECOVERY=True,
        SECURITY_TWO_FACTOR=True,
        SECURITY_TWO_FACTOR_ENABLED_METHODS=["email"],
        SECURITY_TOTP_SECRETS={"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"},
        SECURITY_TOTP_ISSUER="Sparekey",
    )
    visitor = site.visitor()
    visitor.sign_in()
    for path in ("/verify", "/change-email", "/tf-setup", "/recover-username"):
        page = visitor.open(path, follow_redirects=True)
        assert page.status_code == 200, path
        assert "<style" not in page.text, path
        assert " style=" not in page.text, path
        assert "/style.css?v=" in page.text, path
    assert policy_of(visitor.open("/tf-setup"))["img-src"] == "'self' data:"  # for its QR code


@pytest.mark.requirement("R70")
def test_security_txt_is_served_if_configured(make_site: Any, tmp_path: Path) -> None:
    file = tmp_path / "security.txt"
    file.write_text("Contact: mailto:security@example.com\nExpires: 2027-12-31T23:00:00Z\n")
    answer = make_site(RECOVERY_SECURITY_TXT=str(file)).visitor().open("/.well-known/security.txt")
    assert (answer.text, answer.mimetype) == (file.read_text(), "text/plain")
    without = make_site().visitor()
    for path in ("/.well-known/security.txt", "/.well-known/resource-that-should-not-exist"):
        assert without.open(path).status_code == 404
