"""Rules that hold for every endpoint: CSRF, rate limits, password rules, cookies and caching."""

import re
from typing import Any

import pytest
from support.features import CONFIRMATION, SECOND_FACTOR
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User

FEATURES = {
    **CONFIRMATION,
    **SECOND_FACTOR,
    "RECOVERY_CODE": True,
    "SECURITY_CHANGE_EMAIL": True,
    "SECURITY_USERNAME_RECOVERY": True,
    "SECURITY_REFRESH_TOKEN": True,
}
# Every POST that exists, without these features and with them. docs/security.md says what holds for each.
POSTS = {
    "security.forgot_password", "security.reset_password", "security.change_password", "security.verify", "security.login",
    "security.logout", "pages.choose_language", "pages.settle_address", "objections.land", "objections.not_me",
}  # fmt: skip
FEATURE_VIEWS = [
    "change_email", "change_email_confirm", "confirm_email", "send_confirmation", "recover_username", "refresh_token", "reset_code",
    "two_factor_rescue", "two_factor_setup", "two_factor_setup_validate", "two_factor_token_validation", "tf_select",
]  # fmt: skip
POSTS_OF_FEATURES = {f"security.{name}" for name in FEATURE_VIEWS}
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
        visitor, source = site.visitor(), {"environ_overrides": {"REMOTE_ADDR": f"192.0.2.{number}"}}
        without_token = visitor.post_json(path, data={"identity": "alice"}, **source)
        assert (without_token.status_code, "csrf_failed" in without_token.text) == (400, True), path
        foreign = visitor.post_json(path, json={}, headers={"Origin": "https://evil.example"}, **source)
        assert foreign.status_code == 403, path
        answers = (visitor.post_json(path, json={}, **source) for _ in range(6))
        assert any(answer.status_code == 429 for answer in answers) is (endpoint not in UNLIMITED), path


@pytest.mark.requirement("R8", "R26", "R27")
@pytest.mark.parametrize(("password", "message"), [("x1" * 7, "at least 15"), ("x1" * 65, "at most 128")])
def test_password_length_rule_is_the_same_everywhere(site: Site, password: str, message: str) -> None:
    link, alice, run = site.new_link(), site.visitor(), site.app.test_cli_runner().invoke
    alice.sign_in()
    new = {"password": OLD_PASSWORD, "new_password": password, "new_password_confirm": password}
    answers = {
        "reset, form": site.visitor().set_password(link, password).text,
        "reset, JSON": site.visitor().post_json(link, json={"password": password}).text,
        "change, form": alice.submit("/change", **new).text,
        "change, JSON": alice.post_json("/change", json=new).text,
        "create": run(args=["users", "create", "carol@example.com", "--password", password]).output,
        "change": run(args=["users", "change_password", "alice", "--password", password]).output,
    }
    assert [way for way, answer in answers.items() if message not in answer] == []
    assert len(site.rows(User)) == 4
    assert site.password_works(OLD_PASSWORD)


@pytest.mark.requirement("R44")
def test_every_cookie_is_bound_to_host_and_names_no_account(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com", RECOVERY_CODE=True)
    visitor, link = site.visitor(), site.new_link()
    login = {"identity": "alice@example.com", "password": NEW_PASSWORD, "remember": "y"}
    answers = [visitor.open("/login?language=de"), visitor.submit("/reset", identity="alice@example.com")]
    answers += [visitor.open(link), visitor.set_password(link), visitor.open("/reset-done")]
    answers += [visitor.submit("/login", **login), visitor.open("/"), visitor.open("/change")]
    cookies = [cookie for answer in answers for cookie in answer.headers.getlist("Set-Cookie")]
    names = {cookie.split("=")[0].removeprefix("__Host-sparekey_") for cookie in cookies}
    [link_cookie] = [name for name in names if name.startswith("link~")]
    assert names == {"session", "known", "remember", "request", "language", link_cookie}
    interface: Any = site.app.session_interface
    for cookie in cookies:
        attributes = {attribute.strip() for attribute in cookie.split(";")[1:]}
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= attributes
        assert "Domain" not in cookie
        name, _, content = cookie.split(";")[0].partition("=")
        if "session" in name and content:
            content = str(interface.get_signing_serializer(site.app).loads(content))
        assert not re.search(r"alice|example\.com|@|14155550123", content), content
        assert "language" not in name or content == "de"


@pytest.mark.requirement("R48")
def test_every_answer_is_no_store(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = make_site(RATELIMIT_ENABLED=True)
    visitor, link = site.visitor(), site.new_link()
    answers = [visitor.open(path) for path in ("/", "/reset", "/check-mail", "/change", "/nowhere", link)]
    answers += [visitor.open("/reset//" + "x" * 43), visitor.open("/reset/" + "x" * 43)]
    answers += [visitor.open(link, method=method) for method in ("HEAD", "PUT")]
    answers += [visitor.open(link, headers={"Accept": "application/json"})]
    answers += [visitor.open("/login", headers={"Host": "evil.example"})]
    answers += [visitor.submit("/reset", identity=identity) for identity in ("alice", "")]
    answers += [visitor.post_json("/reset", json=body) for body in ([], {"identity": "x" * 100_000})]
    answers += [visitor.set_password(link, "short"), visitor.set_password(link), visitor.open("/reset-done")]
    answers += [visitor.post_json("/reset", json={}) for _ in range(31)]
    monkeypatch.setattr("app.mail.outbox.enqueue", lambda *_, **__: 1 / 0)
    source: Any = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.1"}}
    answers += [visitor.post_json("/reset", json={"identity": "alice"}, **source)]
    assert {200, 302, 303, 308, 400, 404, 405, 413, 429, 500} <= {answer.status_code for answer in answers}
    assert {str(answer.headers.getlist("Cache-Control")) for answer in answers} == {"['no-store']"}
