"""The headers of every answer, and what is asked over http where https is promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.site import NEW_PASSWORD, OLD_PASSWORD, PUBLIC_URL, SECRETS, Site
from werkzeug.test import TestResponse

from app import settings
from app.settings.problems import SettingsError

PUBLIC = "https://id.example.com"


def policy_of(answer: TestResponse) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in answer.headers["Content-Security-Policy"].split(";"))
    return {directive: sources for directive, _, sources in parts}


@pytest.mark.requirement("R50")
def test_a_page_allows_no_script_but_its_own(site: Site) -> None:
    visitor = site.visitor()
    for path in ("/", "/reset", "/nowhere", "/check-mail"):
        assert "script-src" not in policy_of(visitor.open(path)), path
    link = site.new_link()
    nonces = set()
    for _ in range(3):
        form = visitor.open(link, follow_redirects=True)
        nonce = policy_of(form)["script-src"]
        assert nonce.removeprefix("'nonce-").removesuffix("'") in form.text
        assert form.text.count("<script") == form.text.count(f'<script nonce="{nonce[7:-1]}"') == 1
        nonces.add(nonce)
    assert len(nonces) == 3
    assert all(len(nonce) == len("'nonce-'") + 22 for nonce in nonces)  # 128 bits


@pytest.mark.requirement("R50")
def test_every_policy_is_strict(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL=PUBLIC)
    visitor = site.visitor()
    answers = [
        visitor.open(path) for path in ("/", "/reset", "/nowhere", "/openapi.json", "/static/sparekey.css")
    ]
    answers += [site.ask(), visitor.open(site.new_link()) if site.work() else visitor.open("/")]
    for answer in answers:
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
@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")  # Flask-Security's own
def test_flask_securitys_own_pages_work_under_it(make_site: Any) -> None:
    site: Site = make_site(
        SECURITY_CHANGE_EMAIL=True,
        SECURITY_USERNAME_RECOVERY=True,
        SECURITY_CONFIRMABLE=False,
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
    assert policy_of(visitor.open("/tf-setup"))["img-src"] == "'self' data:"  # where a QR code is shown


@pytest.mark.requirement("R47")
def test_what_was_asked_over_http_is_not_served(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL=PUBLIC, RECOVERY_TRUSTED_PROXIES=1)
    link, plain = site.new_link(), {"X-Forwarded-Proto": "http"}
    for answer in (
        site.visitor().open(link, headers=plain),
        site.visitor().open("/login", headers=plain),
        site.visitor().post_json("/reset", json={"identity": "alice"}, headers=plain),
        site.visitor().post_json(link, json={"password": NEW_PASSWORD}, headers=plain),
        site.visitor().open(link, headers={"X-Forwarded-Proto": "https, http"}),
    ):
        assert answer.status_code == 400
        assert "https://id.example.com" in answer.text
        assert "<form" not in answer.text
    assert len(site.messages()) == 1
    assert site.password_works(OLD_PASSWORD)
    assert site.visitor().open("/healthz", headers=plain).status_code == 200
    assert site.visitor().open(link, headers={"X-Forwarded-Proto": "http, https"}).status_code == 303


@pytest.mark.requirement("R47", "R54")
def test_nobody_but_a_declared_proxy_says_how_it_was_asked(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL=PUBLIC)
    assert site.visitor().open("/login", headers={"X-Forwarded-Proto": "http"}).status_code == 200
    on_this_machine: Site = make_site(RECOVERY_TRUSTED_PROXIES=1)
    assert on_this_machine.visitor().open("/login", headers={"X-Forwarded-Proto": "http"}).status_code == 200


@pytest.mark.requirement("R70")
def test_the_operator_may_serve_a_security_txt(make_site: Any, tmp_path: Path) -> None:
    mine = tmp_path / "security.txt"
    mine.write_text("Contact: mailto:security@example.com\nExpires: 2027-12-31T23:00:00Z\n")
    with_one, without = make_site(RECOVERY_SECURITY_TXT=str(mine)), make_site()
    served = with_one.visitor().open("/.well-known/security.txt")
    assert (served.text, served.mimetype) == (mine.read_text(), "text/plain")
    for path in ("/.well-known/security.txt", "/.well-known/resource-that-should-not-exist"):
        assert without.visitor().open(path).status_code == 404
    with pytest.raises(SettingsError, match="RECOVERY_SECURITY_TXT"):
        make_site(RECOVERY_SECURITY_TXT="/nowhere")


@pytest.mark.requirement("R23", "R65", "R66")
@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"FLASK_DEBUG": "1"}, "FLASK_DEBUG"),
        ({"FLASK_TESTING": "true"}, "TESTING"),
        ({"FLASK_MAIL_SERVER": "smtp.example.com"}, "MAIL_USE_TLS"),
        ({"FLASK_SECURITY_SEND_PASSWORD_CHANGE_EMAIL": "false"}, "SECURITY_SEND_PASSWORD_CHANGE_EMAIL"),
        ({"FLASK_SECURITY_LOGOUT_METHODS": '["GET"]'}, "SECURITY_LOGOUT_METHODS"),
        ({"FLASK_SECURITY_AUTO_LOGIN_AFTER_CONFIRM": "true"}, "SECURITY_AUTO_LOGIN_AFTER_CONFIRM"),
        ({"FLASK_SECURITY_DATETIME_FACTORY": "x"}, "SECURITY_DATETIME_FACTORY"),
        ({"FLASK_SECURITY_FRESHNESS": "2 days"}, "SECURITY_FRESHNESS"),
        ({"FLASK_SECURITY_PASSWORD_SINGLE_HASH": '["argon2"]'}, "SECURITY_PASSWORD_SINGLE_HASH"),
        ({"FLASK_RECOVERY_PASSWORD_LENGTH_MAX": "4096"}, "MAX_CONTENT_LENGTH"),
    ],
)
def test_what_would_weaken_it_stops_the_start(environ: dict[str, str], name: str) -> None:
    given = {**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC, **environ}
    with pytest.raises(SettingsError) as caught:
        settings.load(given)
    assert [problem.name for problem in caught.value.problems] == [name]
    if name in ("FLASK_DEBUG", "TESTING"):
        settings.load({**given, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL})
    if name == "MAIL_USE_TLS":
        settings.load({**given, "FLASK_RECOVERY_MAIL_IN_CLEAR": "true"})
