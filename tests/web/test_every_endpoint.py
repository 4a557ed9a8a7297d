"""Rules that hold for every endpoint: CSRF, rate limits, password rules, cookies and caching."""

import re
from typing import Any

import gunicorn
import pytest
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User

EVIL = "https://evil.example"

FEATURES = {
    "RECOVERY_CODE": True,
    "SECURITY_CONFIRMABLE": True,
    "SECURITY_CHANGE_EMAIL": True,
    "SECURITY_USERNAME_RECOVERY": True,
    "SECURITY_REFRESH_TOKEN": True,
    "SECURITY_TWO_FACTOR": True,
    "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["email"],
    "SECURITY_TOTP_SECRETS": {"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"},
}
# Every POST that exists, with these features on. docs/security.md says what holds for each.
POSTS = {f"security.{name}" for name in ("forgot_password", "reset_password", "change_password", "verify")}
POSTS |= {"security.login", "security.logout", "pages.choose_language", "pages.settle_address"}
POSTS |= {"objections.land", "objections.not_me"}
FEATURE_VIEWS = [
    "change_email",
    "change_email_confirm",
    "confirm_email",
    "send_confirmation",
    "recover_username",
    "refresh_token",
]
FEATURE_VIEWS += [f"two_factor_{name}" for name in ("rescue", "setup", "setup_validate", "token_validation")]
POSTS_OF_FEATURES = {f"security.{name}" for name in (*FEATURE_VIEWS, "tf_select", "reset_code")}
# Signing out must always work. The others take no guess: a language is harmless, and a session settles an address.
UNLIMITED = {"security.logout", "pages.choose_language", "pages.settle_address"}


def posts(site: Site) -> dict[str, str]:
    """Return the endpoints that take a POST, each with a path."""
    rules = [rule for rule in site.app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    return {rule.endpoint: rule.rule.replace("<token>", "x" * 43) for rule in rules}


@pytest.mark.requirement("R8", "R57")
def test_every_post_is_listed_protected_and_limited(make_site: Any) -> None:
    assert posts(make_site()).keys() == POSTS
    site: Site = make_site(**FEATURES, RATELIMIT_ENABLED=True, RECOVERY_LIMIT_SOURCE="5 per minute")
    assert posts(site).keys() == POSTS | POSTS_OF_FEATURES
    for number, (endpoint, path) in enumerate(posts(site).items()):
        visitor, environ = site.visitor(), {"REMOTE_ADDR": f"192.0.2.{number}"}
        without_token = visitor.post_json(path, data={"identity": "alice"}, environ_overrides=environ)
        assert (without_token.status_code, "csrf_failed" in without_token.text) == (400, True), path
        foreign = visitor.post_json(path, json={}, headers={"Origin": EVIL}, environ_overrides=environ)
        assert foreign.status_code == 403, path
        answers = (visitor.post_json(path, json={}, environ_overrides=environ) for _ in range(6))
        assert any(answer.status_code == 429 for answer in answers) is (endpoint not in UNLIMITED), path


@pytest.mark.requirement("R8", "R26", "R27")
@pytest.mark.parametrize(("password", "message"), [("x1" * 7, "at least 15"), ("x1" * 65, "at most 128")])
def test_password_length_rule_is_the_same_everywhere(site: Site, password: str, message: str) -> None:
    link, alice = site.new_link(), site.visitor()
    alice.sign_in()
    new = {"password": OLD_PASSWORD, "new_password": password, "new_password_confirm": password}
    create = ["users", "create", "carol@example.com", "--password", password, "--active"]
    change = ["users", "change_password", "alice", "--password", password]
    runner = site.app.test_cli_runner()
    answers = {
        "reset, form": site.visitor().set_password(link, password).text,
        "reset, JSON": site.visitor().post_json(link, json={"password": password}).text,
        "change, form": alice.submit("/change", **new).text,
        "change, JSON": alice.post_json("/change", json=new).text,
        "users create": runner.invoke(args=create).output,
        "users change_password": runner.invoke(args=change).output,
    }
    assert [way for way, answer in answers.items() if message not in answer] == []
    assert len(site.rows(User)) == 4
    assert site.password_works(OLD_PASSWORD)


@pytest.mark.requirement("R44")
def test_every_cookie_is_bound_to_host_and_names_no_account(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com", RECOVERY_CODE=True)
    visitor = site.visitor()
    answers = [visitor.submit("/reset", identity="alice@example.com"), visitor.open(site.new_link())]
    answers += [visitor.set_password(site.last_link()), visitor.open("/reset-done")]
    login = {"identity": "alice@example.com", "password": NEW_PASSWORD, "remember": "y"}
    answers += [visitor.submit("/login", **login), visitor.open("/"), visitor.open("/change")]
    cookies = [cookie for answer in answers for cookie in answer.headers.getlist("Set-Cookie")]
    names = {cookie.split("=")[0].removeprefix("__Host-sparekey_") for cookie in cookies}
    [link_cookie] = [name for name in names if name.startswith("link~")]
    assert names == {"session", "known", "remember", "request", link_cookie}
    interface: Any = site.app.session_interface
    for cookie in cookies:
        attributes = {attribute.strip() for attribute in cookie.split(";")[1:]}
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= attributes
        assert "Domain" not in cookie
        name, _, content = cookie.split(";")[0].partition("=")
        if "session" in name and content:
            content = str(interface.get_signing_serializer(site.app).loads(content))
        assert not re.search(r"alice|example\.com|@|14155550123", content), content


@pytest.mark.requirement("R48")
def test_every_answer_is_no_store(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = make_site(RATELIMIT_ENABLED=True)
    visitor, accept_json = site.visitor(), {"Accept": "application/json"}
    link = site.new_link()
    answers = [visitor.open(path) for path in ("/", "/reset", "/check-mail", "/change", "/nowhere", link)]
    answers += [visitor.open(link, method="HEAD"), visitor.open(link, headers=accept_json)]
    answers += [visitor.open("/reset//" + "x" * 43), visitor.open("/reset/" + "x" * 43)]
    answers += [
        visitor.open("/reset", method="PUT"),
        visitor.open("/login", headers={"Host": "evil.example"}),
    ]
    answers += [visitor.submit("/reset", identity="alice"), visitor.submit("/reset", identity="")]
    answers += [visitor.post_json("/reset", data={}), visitor.post_json("/reset", json=[])]
    answers += [visitor.post_json("/reset", json={"identity": "x" * 100_000})]
    answers += [visitor.set_password(link, "short"), visitor.set_password(link), visitor.open("/reset-done")]
    answers += [visitor.post_json("/reset", json={}) for _ in range(31)]
    source = {"REMOTE_ADDR": "192.0.2.1"}
    monkeypatch.setattr("app.mail.outbox.enqueue", lambda *_, **__: 1 / 0)
    answers += [visitor.post_json("/reset", json={"identity": "alice"}, environ_overrides=source)]
    assert {200, 302, 303, 308, 400, 404, 405, 413, 429, 500} <= {answer.status_code for answer in answers}
    assert {str(answer.headers.getlist("Cache-Control")) for answer in answers} == {"['no-store']"}


@pytest.mark.requirement("R66")
def test_server_header_has_no_version() -> None:
    assert not re.search(r"\d", gunicorn.SERVER)
