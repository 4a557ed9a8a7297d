"""Single-page clients and apps: where links land, who may ask, and what nobody can steer."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm.exc import StaleDataError
from support.mailbox import link_in
from support.site import NEW_PASSWORD, PUBLIC_URL, SECRETS, Site, load_settings
from werkzeug.test import TestResponse

from app import settings
from app.accounts.models import User
from app.pages import openapi
from app.recovery.link import ResetLink
from app.settings.problems import SettingsError

WEB = "https://app.example.com"
CLIENTS = {
    "web": {
        "reset_view": f"{WEB}/reset?theme=dark",
        "reset_error_view": f"{WEB}/problem",
        "origins": [WEB, "http://localhost:5173"],
    },
    "app": {"reset_view": "myapp://reset", "reset_error_view": "myapp://problem"},
    "quiet": {"reset_view": f"{WEB}/r", "reset_error_view": f"{WEB}/p", "token_in": "fragment"},
}
FST = {
    "SECURITY_REDIRECT_BEHAVIOR": "spa",
    "SECURITY_REDIRECT_HOST": "spa.example.com",
    "SECURITY_RESET_VIEW": "/reset-password",
    "SECURITY_RESET_ERROR_VIEW": "/reset-problem",
}


def ask_as(site: Site, client: str | None, **headers: str) -> TestResponse:
    body = {"identity": "alice"} if client is None else {"identity": "alice", "client": client}
    return site.visitor().post_json("/reset", json=body, headers=headers)


def link_for(site: Site, client: str | None) -> str:
    assert ask_as(site, client).status_code == 200
    site.work()
    return link_in(site.mailbox.mails[-1])


def landing_of(site: Site, link: str, **options: Any) -> str:
    answer = site.visitor().open(link, **options)
    assert answer.status_code == 302, answer.text
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    return str(answer.location)


@pytest.mark.parametrize(
    ("client", "landing", "problem"),
    [
        ("web", f"{WEB}/reset?theme=dark&token={{token}}", f"{WEB}/problem?"),
        ("app", "myapp://reset?token={token}", "myapp://problem?"),
        ("quiet", f"{WEB}/r#token={{token}}", f"{WEB}/p?"),
    ],
)
@pytest.mark.requirement("R25", "R49", "R52")
def test_a_link_lands_on_the_client_that_asked(
    make_site: Any, client: str, landing: str, problem: str
) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    link = link_for(site, client)
    token = link.rsplit("/", 1)[1]
    for method in ("GET", "HEAD", "GET"):
        assert landing_of(site, link, method=method) == landing.format(token=token)
    body = {"password": NEW_PASSWORD}
    assert site.visitor().post_json(link, json=body).json == {"meta": {"code": 200}, "response": {}}
    bad = landing_of(site, link)
    assert bad.startswith(problem)
    told = parse_qs(urlsplit(bad).query)
    assert told["code"] == ["link_used"]
    assert "works once" in told["error"][0]


@pytest.mark.requirement("R52", "R53")
def test_flask_securitys_own_settings_describe_the_default_client(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com/auth", **FST)
    link = link_for(site, None)
    token = link.rsplit("/", 1)[1]
    assert landing_of(site, link) == f"https://spa.example.com/reset-password?token={token}"
    site.change(ResetLink, revoked_at=site.links()[0]["issued_at"])
    assert landing_of(site, link).startswith("https://spa.example.com/reset-problem?error=")
    assert landing_of(site, link).endswith("&code=link_revoked")
    assert landing_of(site, "/reset/" + "x" * 43).endswith("&code=link_invalid")


def test_a_browser_users_token_never_goes_to_the_spa(make_site: Any) -> None:
    site: Site = make_site(**FST)
    visitor = site.visitor()
    visitor.submit("/reset", identity="alice")
    site.work()
    landing = visitor.open(site.last_link())
    assert landing.location.startswith("/reset/~")
    assert visitor.set_password(landing.location).location == "/reset-done"
    assert visitor.open(landing.location).status_code == 400  # our own page, not the SPA's
    assert site.visitor().open(site.last_link()).status_code == 400


@pytest.mark.parametrize(
    ("given", "absolute"),
    [
        ({"SECURITY_RESET_VIEW": "/r"}, "http://127.0.0.1:5000/r?token="),
        ({"SECURITY_RESET_VIEW": "https://x.example/r?a=b"}, "https://x.example/r?a=b&token="),
        (
            {"SECURITY_RESET_VIEW": "/r", "SECURITY_REDIRECT_HOST": "localhost:5173"},
            "http://localhost:5173/r?token=",
        ),
        ({"SECURITY_RESET_VIEW": "//x.example/r"}, "https://x.example/r?token="),
        ({"SECURITY_RESET_VIEW": "http://x.example/r"}, "https://x.example/r?token="),
    ],
)
@pytest.mark.requirement("R52")
def test_its_redirects_are_made_absolute(make_site: Any, given: dict[str, str], absolute: str) -> None:
    site: Site = make_site(SECURITY_REDIRECT_BEHAVIOR="spa", SECURITY_RESET_ERROR_VIEW="/p", **given)
    assert landing_of(site, link_for(site, None)).startswith(absolute)


@pytest.mark.parametrize("client", ["nobody", "", 5, ["web"], {"a": 1}, None, "https://evil.example"])
def test_an_unknown_client_is_refused_before_anything_is_sent(make_site: Any, client: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    answer = site.visitor().post_json("/reset", json={"identity": "alice", "client": client})
    assert answer.status_code == 400
    assert answer.json is not None
    assert list(answer.json["response"]["field_errors"]) == ["client"]
    assert site.messages() == []


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?next=https://evil.example", {}),
        ("?client=app", {}),
        ("?reset_view=https://evil.example&token=x&code=y", {}),
        ("", {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}),
        ("", {"Forwarded": "host=evil.example"}),
        ("", {"Origin": "https://evil.example", "Referer": "https://evil.example/"}),
    ],
)
@pytest.mark.requirement("R52")
def test_nothing_in_a_request_steers_the_redirect(
    make_site: Any, query: str, headers: dict[str, str]
) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    link = link_for(site, "web")
    expected = f"{WEB}/reset?theme=dark&token={link.rsplit('/', 1)[1]}"
    assert landing_of(site, link + query, headers=headers) == expected


def test_a_client_that_is_configured_no_more_lands_on_our_pages(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    link = link_for(site, "web")
    site.change(ResetLink, client="gone")
    assert site.visitor().open(link).location.startswith("/reset/~")


def test_a_client_without_views_uses_our_pages_and_gets_its_users_back(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS={"shop": {"post_reset_view": "https://shop.example.com/welcome"}})
    visitor = site.visitor()
    done = visitor.set_password(link_for(site, "shop"))
    assert 'href="https://shop.example.com/welcome">Continue' in visitor.open(done.location).text


# --- who may ask -------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [WEB, "http://localhost:5173"])
@pytest.mark.requirement("R53")
def test_a_configured_origin_is_served_and_told_so(make_site: Any, origin: str) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    answer = ask_as(site, "web", Origin=origin)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in answer.headers["Vary"]
    preflight = site.visitor().open(
        "/reset", method="OPTIONS", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 200
    assert "Content-Type" in preflight.headers["Access-Control-Allow-Headers"]
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]


def test_a_client_may_ask_from_where_its_view_is(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS={name: CLIENTS[name] for name in ("quiet", "app")})
    answer = ask_as(site, "quiet", Origin=WEB)  # it names no origins
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == WEB
    assert ask_as(site, "app", Origin="myapp://reset").status_code == 403


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        WEB + ".evil.example",
        WEB + ":444",
        WEB.upper(),
        "http://app.example.com",
        "*",
    ],
)
@pytest.mark.requirement("R6", "R53")
def test_any_other_origin_is_refused_without_a_word_of_cors(make_site: Any, origin: str) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    answer = ask_as(site, "web", Origin=origin)
    assert answer.status_code == 403
    assert answer.json is not None
    assert answer.json["response"]["error_code"] == "origin_not_allowed"
    preflight = site.visitor().open(
        "/reset", method="OPTIONS", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )
    for told in (answer, preflight):
        assert "Access-Control" not in str(told.headers)
    assert site.messages() == []


@pytest.mark.requirement("R6")
def test_a_form_from_another_site_is_refused_whatever_its_origin(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    for origin in (WEB, "https://evil.example", "null"):
        answer = site.visitor().post_json("/reset", data={"identity": "alice"}, headers={"Origin": origin})
        assert answer.status_code == 400
        assert 'data-code="csrf_failed"' in answer.text
    assert site.messages() == []


def test_a_form_with_its_token_is_served_though_its_origin_is_null(site: Site) -> None:
    visitor = site.visitor()
    token = visitor.open("/reset").text.split('name="csrf_token"')[1].split('value="')[1].split('"')[0]
    answer = visitor.post_json(
        "/reset", data={"identity": "alice", "csrf_token": token}, headers={"Origin": "null"}
    )
    assert answer.location == "/check-mail"


# --- what a program is told --------------------------------------------------------------------


def test_a_client_learns_what_may_be_typed(site: Site) -> None:
    answer = site.visitor().open("/reset", headers={"Accept": "application/json"})
    assert answer.json is not None
    assert answer.json["response"] == {
        "identity_attributes": ["email", "username", "us_phone_number"],
        "password_length_min": 15,
        "password_length_max": 128,
        "password_blocklist": True,
        "sends_mail": True,
        "support_contact": "",
    }


def test_a_client_learns_whether_a_link_is_good(site: Site) -> None:
    link = site.new_link()
    answer = site.visitor().open(link, headers={"Accept": "application/json"})
    assert answer.json is not None
    assert answer.json["response"]["expires_at"].startswith("20")
    bad = site.visitor().open(link + "x", headers={"Accept": "application/json"})
    assert bad.json is not None
    assert (bad.status_code, bad.json["response"]["error_code"]) == (400, "link_invalid")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"password": "short"}, "password_too_short"),
        ({"password": "x" * 129}, "password_too_long"),
        ({"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD + "?"}, "password_mismatch"),
        ({}, "invalid_request"),
        ({"password": 5}, "invalid_request"),
    ],
)
@pytest.mark.requirement("R26", "R27")
def test_a_refused_password_has_its_code(site: Site, body: dict[str, Any], code: str) -> None:
    answer = site.visitor().post_json(site.new_link(), json=body)
    assert answer.json is not None
    assert (answer.status_code, answer.json["response"]["error_code"]) == (400, code)


def test_signing_in_has_codes_too(site: Site) -> None:
    wrong = site.visitor().post_json("/login", json={"identity": "alice", "password": "wrong"})
    outside = site.visitor().open("/change", headers={"Accept": "application/json"})
    assert [a.json["response"]["error_code"] for a in (wrong, outside)] == ["sign_in_failed", "not_signed_in"]  # type: ignore[index]


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clients", "named", "remedy"),
    [
        (
            {"web": {"reset_view": f"{WEB}/r"}},
            "RECOVERY_CLIENTS.web",
            "both of reset_view and reset_error_view",
        ),
        (
            {"web": {"reset_view": "/r", "reset_error_view": f"{WEB}/p"}},
            "RECOVERY_CLIENTS.web.reset_view",
            "https",
        ),
        (
            {"web": {"reset_view": "javascript:alert(1)", "reset_error_view": f"{WEB}/p"}},
            "RECOVERY_CLIENTS.web.reset_view",
            "https",
        ),
        (
            {"web": {"reset_view": "http://app.example.com/r", "reset_error_view": f"{WEB}/p"}},
            "RECOVERY_CLIENTS.web.reset_view",
            "https",
        ),
        (
            {"web": {"reset_view": f"{WEB}/r#x", "reset_error_view": f"{WEB}/p"}},
            "RECOVERY_CLIENTS.web.reset_view",
            "without #",
        ),
        (
            {"web": {**CLIENTS["web"], "origins": [f"{WEB}/path"]}},
            "RECOVERY_CLIENTS.web.origins.0",
            "scheme, host and port",
        ),
        ({"web": {**CLIENTS["web"], "orgins": []}}, "RECOVERY_CLIENTS.web.orgins", "unknown setting"),
        ({"web": {**CLIENTS["web"], "token_in": "body"}}, "RECOVERY_CLIENTS.web.token_in", "fragment"),
        ({"Web Client": CLIENTS["web"]}, "RECOVERY_CLIENTS.Web Client", "lower-case"),
        ({"browser": CLIENTS["web"]}, "RECOVERY_CLIENTS", "taken"),
    ],
)
def test_a_client_that_can_not_work_is_named(clients: Any, named: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}, RECOVERY_CLIENTS=clients)
    [problem] = caught.value.problems
    assert problem.name == named
    assert remedy in problem.message


@pytest.mark.parametrize("missing", ["SECURITY_RESET_VIEW", "SECURITY_RESET_ERROR_VIEW"])
def test_a_spa_without_views_is_refused(missing: str) -> None:
    given = {name: value for name, value in FST.items() if name != missing}
    with pytest.raises(SettingsError, match=missing):
        settings.load({**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}, **given)


# --- every code, once ------------------------------------------------------------------------------


@pytest.mark.requirement("R53")
def test_every_documented_code_is_reached(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = make_site(
        RATELIMIT_ENABLED=True, RECOVERY_CLIENTS=CLIENTS, SECURITY_PASSWORD_CHECK_BREACHED="strict"
    )
    monkeypatch.setattr("app.accounts.breaches.count_breaches", lambda password: "breach" in password)
    heard: list[str] = []

    def hear(answer: TestResponse) -> None:
        assert answer.json is not None
        heard.append(answer.json["response"].get("error_code", "well"))

    def post(url: str, body: Any = None, source: str = "192.0.2.1", **options: Any) -> None:
        options.setdefault("json", body)
        hear(site.visitor().post_json(url, environ_overrides={"REMOTE_ADDR": source}, **options))

    good = {"password": NEW_PASSWORD}
    post("/reset", {})
    post("/reset", data={"identity": "alice"}, json=None, headers={"Accept": "application/json"})
    post("/reset", {"identity": "alice"}, headers={"Origin": "https://evil.example"})
    for _ in range(31):
        post("/reset", {"identity": "nobody"}, source="192.0.2.2")
    post("/reset/" + "x" * 43, good)
    first, second = site.new_link(), site.new_link()
    post(first, good)
    post(second, good)
    for column in ("revoked_at", "expires_at"):
        site.work()  # the notices go first
        link, long_ago = site.new_link(), datetime(2020, 1, 1)
        site.change(ResetLink, ResetLink.id == len(site.links()), **{column: long_ago})
        post(link, good)
    site.work()
    link = site.new_link()
    post(link, {"password": "short"})
    post(link, {"password": "x" * 129})
    post(link, {**good, "password_confirm": "another one"})
    post(link, {"password": "passwordpassword"})
    post(link, {"password": "this was in a breach"})
    site.change(withdrawn_password=site.rows(User)[0]["password"])
    post(link, good)
    good = {"password": "a newer password for alice"}
    site.change(active=False)
    post(link, good)
    site.change(active=True)
    post(link, good)
    post(link, good)
    post("/login", {"identity": "alice", "password": "wrong"})
    post("/change", {})
    post("/nowhere", {})
    monkeypatch.setattr("app.mail.outbox.enqueue", lambda *_, **__: 1 / 0)
    post("/reset", {"identity": "alice"})
    monkeypatch.setattr("app.mail.outbox.enqueue", stale)
    post("/reset", {"identity": "alice"})
    monkeypatch.setattr("app.mail.outbox.enqueue", away)
    post("/reset", {"identity": "alice"})
    mailless: Site = make_site(MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT="help@example.com")
    hear(mailless.visitor().post_json("/reset", json={"identity": "alice"}))
    codes = openapi.document(load_settings())["components"]["schemas"]["ErrorCode"]
    assert set(heard) - {"well"} == set(codes["enum"])


def away(*_: Any, **__: Any) -> None:
    raise OperationalError("INSERT", {}, Exception("the server closed the connection"))


def stale(*_: Any, **__: Any) -> None:
    raise StaleDataError("somebody else was faster")
