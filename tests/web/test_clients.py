"""Front ends: where their links land, and the settings that describe them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.mailbox import link_in
from support.site import NEW_PASSWORD, Site, load_settings

from app.recovery.link import ResetLink
from app.settings.problems import SettingsError
from app.web.clients import configured_clients

WEB = "https://app.example.com"
CLIENTS = {
    "web": {"reset_view": f"{WEB}/reset?theme=dark", "reset_error_view": f"{WEB}/problem"},
    "app": {"reset_view": "myapp://reset", "reset_error_view": "myapp://problem"},
    "quiet": {"reset_view": f"{WEB}/r", "reset_error_view": f"{WEB}/p", "token_in": "fragment"},
    "shop": {"post_reset_view": "https://shop.example.com/welcome"},
}
FST = {
    "SECURITY_REDIRECT_BEHAVIOR": "spa",
    "SECURITY_REDIRECT_HOST": "spa.example.com",
    "SECURITY_RESET_VIEW": "/reset-password",
    "SECURITY_RESET_ERROR_VIEW": "/reset-problem",
}


def link_for(site: Site, client: str | None) -> str:
    body = {"identity": "alice"} if client is None else {"identity": "alice", "client": client}
    assert site.visitor().post_json("/reset", json=body).status_code == 200
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
def test_client_that_requested_a_link_gets_its_landing(
    make_site: Any, client: str, landing: str, problem: str
) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    link = link_for(site, client)
    for method in ("GET", "HEAD", "GET"):
        assert landing_of(site, link, method=method) == landing.format(token=link.rsplit("/", 1)[1])
    assert site.visitor().post_json(link, json={"password": NEW_PASSWORD}).status_code == 200
    refused = landing_of(site, link)
    assert refused.startswith(problem)
    query = parse_qs(urlsplit(refused).query)
    assert query["code"] == ["link_used"]
    assert "works once" in query["error"][0]


@pytest.mark.requirement("R52", "R53")
def test_default_client_is_described_by_flask_securitys_settings(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com/auth", **FST)
    link = link_for(site, None)
    token = link.rsplit("/", 1)[1]
    assert landing_of(site, link) == f"https://spa.example.com/reset-password?token={token}"
    site.change(ResetLink, revoked_at=site.links()[0]["issued_at"])
    assert landing_of(site, link).startswith("https://spa.example.com/reset-problem?error=")
    assert landing_of(site, link).endswith("&code=link_revoked")
    assert landing_of(site, "/reset/" + "x" * 43).endswith("&code=link_invalid")


@pytest.mark.requirement("R52")
def test_default_client_has_absolute_views() -> None:
    for view, host, absolute in [
        ("/r", "127.0.0.1:5000", "http://127.0.0.1:5000/r"),
        ("https://x.example/r?a=b", "x.example", "https://x.example/r?a=b"),
        ("/r", "localhost:5173", "http://localhost:5173/r"),
        ("/r", "app.example.com", "https://app.example.com/r"),
    ]:
        settings = {**FST, "SECURITY_RESET_VIEW": view, "SECURITY_REDIRECT_HOST": host}
        assert configured_clients(load_settings(**settings))["default"].reset_view == absolute


def test_default_client_gets_no_link_of_a_browser_user(make_site: Any) -> None:
    site: Site = make_site(**FST)
    visitor = site.visitor()
    visitor.submit("/reset", identity="alice")
    site.work()
    landing = visitor.open(site.last_link())
    assert landing.location.startswith("/reset/~")
    assert visitor.set_password(landing.location).location == "/reset-done"
    assert visitor.open(landing.location).status_code == 400  # our page, not the client's
    assert site.visitor().open(site.last_link()).status_code == 400


def test_client_that_is_unknown_is_refused(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    for client in ("nobody", "", 5, ["web"], {"a": 1}, None, "https://evil.example"):
        answer = site.visitor().post_json("/reset", json={"identity": "alice", "client": client})
        assert answer.status_code == 400, client
        assert list(answer.json["response"]["field_errors"]) == ["client"]
    assert site.messages() == []


def test_client_without_views_or_configuration_uses_the_built_in_pages(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    visitor, link = site.visitor(), link_for(site, "shop")
    site.change(ResetLink, client="no longer configured")
    assert site.visitor().open(link).location.startswith("/reset/~")
    site.change(ResetLink, client="shop")
    done = visitor.set_password(link)
    assert 'href="https://shop.example.com/welcome">Continue' in visitor.open(done.location).text


@pytest.mark.requirement("R52")
def test_client_redirect_takes_nothing_from_the_request(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    link, evil = link_for(site, "web"), "https://evil.example"
    expected = f"{WEB}/reset?theme=dark&token={link.rsplit('/', 1)[1]}"
    for query in (f"?next={evil}", "?client=app", f"?reset_view={evil}&token=x&code=y"):
        assert landing_of(site, link + query) == expected
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "Origin": evil}
    for more in ({"Forwarded": "host=evil.example"}, {"Referer": f"{evil}/"}):
        assert landing_of(site, link, headers={**headers, **more}) == expected


def test_client_can_ask_for_the_policy_and_whether_a_link_works(site: Site) -> None:
    json = {"Accept": "application/json"}
    policy = site.visitor().open("/reset", headers=json)
    assert policy.json["response"] == {
        "identity_attributes": ["email", "username", "us_phone_number"],
        "identity_label": "Email, username, or phone number",
        "password_length_min": 15,
        "password_length_max": 128,
        "password_blocklist": True,
        "sends_mail": True,
        "support_contact": "",
    }
    link = site.new_link()
    good, bad = (site.visitor().open(url, headers=json) for url in (link, link + "x"))
    assert good.json["response"]["expires_at"].startswith("20")
    assert (bad.status_code, bad.json["response"]["error_code"]) == (400, "link_invalid")


def views(reset_view: str, **more: Any) -> dict[str, Any]:
    return {"web": {"reset_view": reset_view, "reset_error_view": f"{WEB}/p", **more}}


@pytest.mark.parametrize(
    ("clients", "name", "remedy"),
    [
        ({"web": {"reset_view": f"{WEB}/r"}}, ".web", "both of reset_view and reset_error_view"),
        (views("/r"), ".web.reset_view", "https"),
        (views("javascript:alert(1)"), ".web.reset_view", "https"),
        (views("http://app.example.com/r"), ".web.reset_view", "https"),
        (views(f"{WEB}/r#x"), ".web.reset_view", "without #"),
        (views(f"{WEB}/r", origins=[f"{WEB}/path"]), ".web.origins.0", "scheme, host and port"),
        (views(f"{WEB}/r", orgins=[]), ".web.orgins", "unknown setting"),
        (views(f"{WEB}/r", token_in="body"), ".web.token_in", "fragment"),
        ({"Web Client": CLIENTS["web"]}, ".Web Client", "lower-case"),
        ({"browser": CLIENTS["web"]}, "", "taken"),
    ],
)
def test_client_with_invalid_settings_stops_the_start(clients: Any, name: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(RECOVERY_CLIENTS=clients)
    [problem] = caught.value.problems
    assert problem.name == f"RECOVERY_CLIENTS{name}"
    assert remedy in problem.message


@pytest.mark.parametrize("missing", ["SECURITY_RESET_VIEW", "SECURITY_RESET_ERROR_VIEW"])
def test_default_client_without_views_stops_the_start(missing: str) -> None:
    with pytest.raises(SettingsError, match=missing):
        load_settings(**{name: value for name, value in FST.items() if name != missing})
