"""Whose request it is: the account in JSON answers, and forward authentication at /auth."""

from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from support.commands import run
from support.features import (
    CONFIRMATION,
    RECOVERY_CODES,
    confirm_addresses,
    enter_password,
    one_time_code,
    set_up_factor,
)
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, Visitor
from support.urls import HOSTILE_URLS, browser_target
from werkzeug.test import TestResponse

from app.accounts.models import User
from app.db.engine import db

ACCEPT_JSON = {"Accept": "application/json"}
ASKED = ("/auth", "/auth/redirect")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")
SPOOFED = {"Remote-User": "1", "Remote-Email": "admin@example.com", "Remote-Groups": "admin"}


@pytest.fixture
def site(make_site: Any) -> Site:
    return make_site(RECOVERY_AUTH="id")


def give_roles(site: Site, *names: str) -> None:
    """Give alice roles."""
    with site.app.app_context():
        datastore = site.app.extensions["security"].datastore
        user = datastore.find_user(email="alice@example.com")
        for name in names:
            datastore.add_role_to_user(user, datastore.find_or_create_role(name))
        db.session.commit()


def signed_in(site: Site, identity: str = "alice", password: str = OLD_PASSWORD) -> Visitor:
    visitor = site.visitor()
    assert visitor.sign_in(identity, password)
    return visitor


def me(visitor: Visitor, **headers: str) -> Any:
    return visitor.open("/me", headers=headers).json["response"]["user"]


def token_of(visitor: Visitor, identity: str = "alice") -> dict[str, str]:
    login = {"identity": identity, "password": OLD_PASSWORD}
    answer = visitor.post_json("/login?include_auth_token", json=login)
    return {"Authentication-Token": answer.json["response"]["user"]["authentication_token"]}


def remote(answer: TestResponse) -> dict[str, str]:
    return {name: text for name, text in answer.headers.items() if name.startswith("Remote-")}


# --- JSON answers ---


@BOTH
def test_signed_in_answers_say_who_it_is(site: Site) -> None:
    give_roles(site, "editor", "printer")
    site.change(confirmed_at=datetime(2026, 1, 1))
    visitor, known = site.visitor(), {"email": "alice@example.com", "username": "alice", "confirmed": True}
    login = visitor.post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
    account = login.json["response"]["user"]
    assert account == {"id": account["id"], "roles": ["editor", "printer"], **known}
    new = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    for answer in (
        visitor.open("/login", headers=ACCEPT_JSON),
        visitor.open("/change", headers=ACCEPT_JSON),
        visitor.open("/me"),
        visitor.post_json("/verify", json={"password": OLD_PASSWORD}),
        visitor.post_json("/change", json=new),
        visitor.open("/me"),
    ):
        assert answer.json["response"]["user"] == account, answer.request


def test_token_is_a_sign_in_until_its_account_is_inactive(site: Site) -> None:
    token = token_of(site.visitor(), "bob")
    user = me(site.visitor(), **token)
    assert (user["username"], user["roles"], user["confirmed"]) == ("bob", [], False)
    assert remote(site.visitor().open("/auth", headers=token))["Remote-User"] == user["id"]
    site.change(User, User.username == "bob", active=False)
    for path in ("/me", "/auth"):
        assert site.visitor().open(path, headers=token).status_code == 401


@pytest.mark.parametrize("headers", [{}, ACCEPT_JSON, {"Accept": "text/html"}])
def test_me_refuses_in_json_while_signed_out(site: Site, headers: dict[str, str]) -> None:
    answer = site.visitor().open("/me", headers=headers)
    assert (answer.status_code, answer.json["response"]["error_code"]) == (401, "not_signed_in")
    assert answer.json["response"]["errors"] == ["Please sign in to continue."]


def test_account_id_is_random_and_survives_every_change(make_site: Any, tmp_path: Path) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True)
    alice, bob = (me(signed_in(site, name))["id"] for name in ("alice", "bob"))
    site.visitor().set_password(site.new_link())
    site.change(email="alice@elsewhere.example", username="alicia", us_phone_number=None)
    run(site, "users", "reset_access", "alicia")
    assert me(signed_in(site, "alicia", NEW_PASSWORD))["id"] == alice
    (tmp_path / "users.csv").write_text("email\ncarol@example.com\ndave@example.com\n")
    run(site, "users", "import", str(tmp_path / "users.csv"))
    run(site, "users", "create", "eve@example.com", "--password", NEW_PASSWORD, "--active")
    ids = {row["fs_webauthn_user_handle"] for row in site.rows(User)}
    assert {alice, bob} < ids
    assert len(ids) == len(site.rows(User)) == 7
    assert all(len(bytes.fromhex(account)) == 16 for account in ids)  # and no number that counts


@pytest.mark.requirement("R37")
@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")  # Flask-Security's own
def test_nobody_learns_of_an_account_before_its_second_factor(make_site: Any) -> None:
    """Flask-Security's own /tf-validate would say it."""
    site: Site = make_site(**RECOVERY_CODES, RECOVERY_AUTH="id")
    secret = set_up_factor(site)
    alice = enter_password(site)
    for path in ("/tf-validate", "/tf-rescue", "/mf-recovery", "/login", "/tf-select", "/me", *ASKED):
        answer = alice.open(path, headers=ACCEPT_JSON)
        assert ("alice" in answer.text, remote(answer)) == (False, {}), path
    alice = enter_password(site)
    answer = alice.post_json("/tf-validate", json={"code": one_time_code(site, secret)})
    assert answer.json["response"]["user"] == me(alice)
    assert me(alice)["username"] == "alice"


# --- Forward authentication ---


@BOTH
@pytest.mark.parametrize("path", ASKED)
def test_auth_tells_whose_request_it_is(site: Site, path: str) -> None:
    visitor = signed_in(site)
    give_roles(site, "editor", "printer")
    expected = {"Remote-User": me(visitor)["id"], "Remote-Email": "alice@example.com"}
    for headers in ({}, SPOOFED, {"Accept": "text/html"}, {"X-Forwarded-Method": "DELETE"}):
        answer = visitor.open(path, headers=headers)
        assert (answer.status_code, remote(answer)) == (200, {**expected, "Remote-Groups": "editor,printer"})
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in answer.headers
    visitor.submit("/", "/logout")
    assert visitor.open(path).status_code in (302, 401)


@pytest.mark.parametrize(
    ("attribute", "value", "status"), [(None, None, 404), ("email", "alice@example.com", 200), ("username", "alice", 403)]
)  # fmt: skip
def test_auth_names_the_account_as_the_setting_says(
    make_site: Any, attribute: str | None, value: str | None, status: int
) -> None:
    site: Site = make_site(RECOVERY_AUTH=attribute or "")
    visitor = signed_in(site)
    assert remote(visitor.open("/auth")).get("Remote-User") == value
    site.change(username=None)  # never an empty name
    assert [visitor.open(path).status_code for path in ASKED] == [status] * 2
    described = site.visitor().open("/openapi.json").json["paths"]
    assert [path in described for path in ASKED] == [bool(attribute)] * 2


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"confirmed_at": None}, 403, "no_access"),
        ({"active": False}, 401, "not_signed_in"),
        ({"fs_webauthn_user_handle": None}, 403, "no_access"),
    ],
)
def test_auth_refuses_an_account_that_may_not_sign_in(
    make_site: Any, change: dict[str, Any], status: int, code: str
) -> None:
    site = confirm_addresses(make_site(RECOVERY_AUTH="id", **CONFIRMATION))
    visitor = signed_in(site)
    assert visitor.open("/auth").status_code == 200
    site.change(**change)
    answer = visitor.open("/auth", headers=ACCEPT_JSON)
    assert (answer.status_code, answer.json["response"]["error_code"]) == (status, code)
    page = visitor.open("/auth/redirect", headers={"Accept": "text/html"})
    assert page.status_code == (302 if status == 401 else status)
    assert remote(answer) == remote(page) == {}


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("İsmail", "%C4%B0smail"),
        ("%C4%B0smail", "%25C4%25B0smail"),  # and not the same
        ("İ%", "%C4%B0%25"),
        ("two words", "two%20words"),
        ("admin,root", "admin%2Croot"),
        (" admin", "%20admin"),
        ("x\r\nRemote-User: 1", "x%0D%0ARemote-User:%201"),
        ("<b>&\"'", "<b>&\"'"),
        ("\ud7ff\U0001f600", "%ED%9F%BF%F0%9F%98%80"),
    ],
)
def test_auth_encodes_names_so_that_none_passes_for_another(make_site: Any, name: str, encoded: str) -> None:
    site: Site = make_site(RECOVERY_AUTH="username")
    visitor = signed_in(site)
    give_roles(site, name, "last")
    site.change(username=name, email=f"{name}@example.com")
    expected = {"Remote-User": encoded, "Remote-Email": f"{encoded}@example.com"}
    assert remote(visitor.open("/auth")) == {**expected, "Remote-Groups": f"{encoded},last"}


def test_auth_answers_401_to_nginx_and_redirects_for_others(site: Site) -> None:
    uri = {"X-Forwarded-Uri": "/notes?page=2&x=%26"}
    stranger = site.visitor()
    stranger.client.set_cookie("sparekey_session", "forged", domain="127.0.0.1")
    for headers in (uri, {**uri, **ACCEPT_JSON}, {**uri, **SPOOFED}):
        answers = [stranger.open(path, headers=headers) for path in ASKED]
        statuses = [401, 401 if "Accept" in headers else 302]
        assert [answer.status_code for answer in answers] == statuses
        assert [remote(answer) for answer in answers] == [{}, {}]
    # Whole, because Traefik would complete a path with the address at which it asked.
    login = urlsplit(answers[1].location or "")
    assert f"{login.scheme}://{login.netloc}{login.path}" == "http://127.0.0.1:5000/login"
    assert parse_qs(login.query) == {"next": ["http://127.0.0.1:5000/notes?page=2&x=%26"]}


@pytest.mark.parametrize("path", ASKED)
def test_auth_lets_no_method_of_a_stranger_in(site: Site, path: str) -> None:
    """A proxy may ask with the method of the request that it has, such as Traefik's preserveRequestMethod."""
    statuses = {method: site.visitor().open(path, method=method).status_code for method in METHODS}
    refusal = 401 if path == "/auth" else 302
    assert statuses == dict.fromkeys(METHODS, 405) | dict.fromkeys(("GET", "HEAD"), refusal)


URIS = ["/", "/notes?a=1&b=%2F%26&next=//x", "/a%20b/%C4%B0?q=%C4%B0", "/x;y=1/@:!$'()*+,=~-._"]
ELSEWHERE = [*HOSTILE_URLS[::2], "", "x", "?", "@evil.example", ".evil.example", ":80@evil.example", "/ü"]


@pytest.mark.requirement("R52")
def test_auth_redirect_leads_back_after_the_sign_in_and_nowhere_else(site: Site) -> None:
    for uri in (*URIS, *ELSEWHERE):
        visitor = site.visitor()
        raw = {"X-Forwarded-Uri": uri.encode().decode("latin-1").replace("\r", "").replace("\n", "")}
        login = visitor.open("/auth/redirect", headers=raw).location or ""
        assert login.startswith("http://127.0.0.1:5000/login"), uri
        back = visitor.submit(login, identity="alice", password=OLD_PASSWORD).location or "/"
        target = urlsplit(browser_target(back))
        assert (target.scheme, target.netloc) == ("http", "127.0.0.1:5000"), uri
        if uri in URIS:
            path, _, query = uri.partition("?")
            assert (unquote(urlsplit(back).path), urlsplit(back).query) == (unquote(path), query)


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.requirement("R54")
def test_auth_is_for_the_host_that_has_the_cookies(make_site: Any, path: str) -> None:
    settings = {"RECOVERY_PUBLIC_URL": "https://id.example.com/account", "RECOVERY_TRUSTED_PROXIES": 1}
    visitor = make_site(RECOVERY_AUTH="id", **settings).visitor()
    token = token_of(visitor)  # the test client sends cookies by the Host

    def ask(host: str, forwarded: str | None, scheme: str = "https") -> TestResponse:
        headers = {"Host": host, "X-Forwarded-Proto": scheme, **ACCEPT_JSON, **token}
        headers |= {"X-Forwarded-Host": forwarded} if forwarded else {}
        return visitor.open(f"/account{path}", headers=headers)

    traefik, own = "127.0.0.1:8000", "id.example.com"
    assert ask(traefik, f"{own}:443").status_code == 200
    assert ask(own, "x.example, ID.example.com").status_code == 200
    for host, forwarded in (("app.example.com", None), (traefik, "app.example.com"), (own, f"{own}, app.example.com")):  # fmt: skip
        answer = ask(host, forwarded)
        assert (answer.status_code, remote(answer)) == (403, {})
        [error] = answer.json["response"]["errors"]
        assert error == "Signing in at https://id.example.com/account doesn't give access to app.example.com."
    assert ask(traefik, "[evil").status_code == ask(traefik, None).status_code == 403
    assert ask(traefik, own, "http").status_code == 400
    # The other pages do not believe the header.
    forged = {"Host": "evil.example", "X-Forwarded-Host": own}
    assert visitor.open("/account/me", headers=forged).status_code == 400


@pytest.mark.parametrize("prefix", ["/auth", "/account"])
def test_auth_at_the_wrong_path_lets_nobody_in(make_site: Any, prefix: str) -> None:
    """A proxy takes 200 for a sign-in, and the home page has that status."""
    site: Site = make_site(RECOVERY_PUBLIC_URL=f"https://id.example.com{prefix}", RECOVERY_AUTH="id")
    for path in ("/auth", "/auth/", "/auth/redirect", "/auth/auth", "/auth/auth/redirect", prefix):
        answer = site.visitor().open(path)
        assert answer.status_code in (302, 308, 401, 404) or path == f"{prefix}/", path
    bare = site.visitor().open(prefix)
    assert (bare.status_code, bare.location) == (308, f"https://id.example.com{prefix}/")
    assert site.visitor().open(f"{prefix}/auth").status_code == 401


@pytest.mark.requirement("R54")
def test_auth_has_no_limit_that_users_behind_one_proxy_share(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_AUTH="id", RATELIMIT_ENABLED=True, RECOVERY_LIMIT_SOURCE="3 per hour")
    for client in (signed_in(site), site.visitor()):
        statuses = {client.open(path).status_code for path in (*ASKED, "/me") for _ in range(20)}
        assert not statuses & {403, 429}
