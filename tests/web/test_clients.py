"""Front ends: where their links land, and the settings that describe them."""

import re
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import pytest
from support.features import confirm_addresses
from support.mailbox import text_of
from support.site import NEW_PASSWORD, PUBLIC_URL, Site, load_settings

from app.recovery.link import ResetLink
from app.settings.problems import SettingsError
from app.web.clients import configured_clients

WEB, SPA, EVIL = "https://app.example.com", "https://spa.example.com", "https://evil.example"
CLIENTS = {
    "web": {
        "reset_view": f"{WEB}/reset?theme=dark",
        "reset_error_view": f"{WEB}/problem",
        "post_confirm_view": f"{WEB}/confirmed?theme=dark",
        "confirm_error_view": f"{WEB}/unconfirmed",
    },
    "app": {"reset_view": "myapp://reset", "reset_error_view": "myapp://problem"},
    "quiet": {"reset_view": f"{WEB}/r", "reset_error_view": f"{WEB}/p", "token_in": "fragment"},
    "hash": {
        "reset_view": f"{WEB}/?v=1#/reset",
        "reset_error_view": f"{WEB}/#/problem?x=1",
        "post_change_email_view": f"{WEB}/#/changed?x=1",
        "change_email_error_view": f"{WEB}/#/unchanged",
    },
    "shop": {"post_reset_view": "https://shop.example.com/welcome"},
}
FST = {
    "SECURITY_REDIRECT_BEHAVIOR": "spa",
    "SECURITY_REDIRECT_HOST": "spa.example.com",
    "SECURITY_RESET_VIEW": "/reset-password",
    "SECURITY_RESET_ERROR_VIEW": "/reset-problem",
}
FST_ADDRESS = {
    **FST,
    "SECURITY_POST_CONFIRM_VIEW": "/#/confirmed",
    "SECURITY_CONFIRM_ERROR_VIEW": "/#/problem",
    "SECURITY_POST_CHANGE_EMAIL_VIEW": f"{SPA}/changed",
    "SECURITY_CHANGE_EMAIL_ERROR_VIEW": "/problem?of=change",
}
ADDRESS_FEATURES = {
    "SECURITY_CONFIRMABLE": True,
    "SECURITY_CHANGE_EMAIL": True,
    "RECOVERY_CLIENTS": CLIENTS,
}
NEW_ADDRESS = "alice@new.example.com"


def link_for(site: Site, client: str | None) -> str:
    body = {"identity": "alice"} if client is None else {"identity": "alice", "client": client}
    assert site.visitor().post_json("/reset", json=body).status_code == 200
    site.work()
    return site.last_link()


def landing_of(site: Site, link: str, **options: Any) -> str:
    answer = site.visitor().open(link, **options)
    assert answer.status_code == 302, answer.text
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    return str(answer.location)


def address_link(site: Site, kind: str, client: str | None) -> str:
    """Request a link that confirms or changes alice's address, as a client or by a form (browser)."""
    visitor = site.visitor()
    site.change(confirmed_at=None if kind == "confirm" else datetime(2026, 2, 28))
    if kind == "change-email":
        assert visitor.sign_in()
    field = {"email": NEW_ADDRESS} if kind == "change-email" else {"identity": "alice"}
    if client == "browser":
        answer = visitor.submit(f"/{kind}", f"/{kind}", **field)
    else:
        answer = visitor.post_json(f"/{kind}", json=field if client is None else {**field, "client": client})
    assert answer.status_code in (200, 303), answer.text
    site.work()
    links = [re.search(rf"https?://\S+/{kind}/\S+", text_of(mail)) for mail in site.mailbox.mails]
    return [link[0] for link in links if link][-1]


# --- links of a reset ---


@pytest.mark.parametrize(
    ("client", "landing", "problem"),
    [
        ("web", f"{WEB}/reset?theme=dark&token=", f"{WEB}/problem?"),
        ("app", "myapp://reset?token=", "myapp://problem?"),
        ("quiet", f"{WEB}/r#token=", f"{WEB}/p?"),
        ("hash", f"{WEB}/?v=1#/reset?token=", f"{WEB}/#/problem?x=1&"),
    ],
)
@pytest.mark.requirement("R25", "R49", "R52")
def test_client_that_requested_a_link_gets_its_landing(
    make_site: Any, client: str, landing: str, problem: str
) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    link = link_for(site, client)
    for method in ("GET", "HEAD", "GET"):
        assert landing_of(site, link, method=method) == landing + link.rsplit("/", 1)[1]
    assert site.visitor().post_json(link, json={"password": NEW_PASSWORD}).status_code == 200
    refused = landing_of(site, link)
    assert refused.startswith(problem)
    query = parse_qs(refused.rpartition("?")[2])
    assert query["code"] == ["link_used"]
    assert "works only once" in query["error"][0]


@pytest.mark.requirement("R52", "R53")
def test_default_client_is_described_by_flask_securitys_settings(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com/auth", **FST)
    link = link_for(site, None)
    assert landing_of(site, link) == f"{SPA}/reset-password?token={link.rsplit('/', 1)[1]}"
    site.change(ResetLink, revoked_at=site.links()[0]["issued_at"])
    assert landing_of(site, link).startswith(f"{SPA}/reset-problem?error=")
    assert landing_of(site, link).endswith("&code=link_revoked")
    assert landing_of(site, "/reset/" + "x" * 43).endswith("&code=link_invalid")
    on_this_machine = load_settings(**{**FST, "SECURITY_REDIRECT_HOST": "localhost:5173"})
    view = configured_clients(on_this_machine)["default"].reset_view
    assert view == "http://localhost:5173/reset-password"


def test_link_of_a_browser_user_or_of_a_client_without_views_leads_to_the_built_in_pages(
    make_site: Any,
) -> None:
    site: Site = make_site(**FST, RECOVERY_CLIENTS=CLIENTS)
    visitor, link = site.visitor(), link_for(site, "shop")
    for client in ("no longer configured", "browser"):
        site.change(ResetLink, client=client)
        assert site.visitor().open(link).location.startswith("/reset/~")
    site.change(ResetLink, client="shop")
    done = visitor.set_password(link)
    assert 'href="https://shop.example.com/welcome">Continue' in visitor.open(done.location).text
    visitor.submit("/reset", identity="bob")
    site.work()
    landing = visitor.open(site.last_link())
    assert landing.location.startswith("/reset/~")
    assert visitor.set_password(landing.location).location == "/reset-done"
    for used in (visitor.open(landing.location), site.visitor().open(site.last_link())):
        assert used.status_code == 400  # our page, not the client's


@pytest.mark.requirement("R52")
def test_client_redirect_takes_nothing_from_the_request(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    link = link_for(site, "web")
    expected = f"{WEB}/reset?theme=dark&token={link.rsplit('/', 1)[1]}"
    for query in (f"?next={EVIL}", "?client=app", f"?reset_view={EVIL}&token=x&code=y"):
        assert landing_of(site, link + query) == expected
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "Origin": EVIL}
    for more in ({"Forwarded": "host=evil.example"}, {"Referer": f"{EVIL}/"}):
        assert landing_of(site, link, headers={**headers, **more}) == expected


def test_client_can_ask_for_the_policy_and_whether_a_link_works(site: Site) -> None:
    client, link = partial(site.visitor().open, headers={"Accept": "application/json"}), site.new_link()
    assert client("/reset").json["response"] == {
        "identity_attributes": ["email", "username", "us_phone_number"], "identity_label": "Email, username, or phone number",
        "password_length_min": 15, "password_length_max": 128, "password_blocklist": True, "sends_mail": True, "support_contact": "",
    }  # fmt: skip
    assert client(link).json["response"]["expires_at"].startswith("20")
    bad = client(link + "x")
    assert (bad.status_code, bad.json["response"]["error_code"]) == (400, "link_invalid")


# --- links that confirm or change an address ---


@pytest.mark.parametrize(
    ("kind", "client", "view", "error_view"),
    [
        ("confirm", "web", f"{WEB}/confirmed?theme=dark&", f"{WEB}/unconfirmed?"),
        ("change-email", "hash", f"{WEB}/#/changed?x=1&", f"{WEB}/#/unchanged?"),
        ("confirm", None, f"{SPA}/#/confirmed?", f"{SPA}/#/problem?"),
        ("change-email", None, f"{SPA}/changed?", f"{SPA}/problem?of=change&"),
    ],
)
@pytest.mark.requirement("R52")
def test_link_of_an_address_lands_on_the_views_of_the_client_that_asked(
    make_site: Any, kind: str, client: str | None, view: str, error_view: str
) -> None:
    site: Site = make_site(**ADDRESS_FEATURES, **FST_ADDRESS)
    link, browser = address_link(site, kind, client), site.visitor()
    done = browser.submit(link).location
    assert done.startswith(view)
    values = dict(parse_qsl(done.rpartition("?")[2]))
    assert values["email"] == (NEW_ADDRESS if kind == "change-email" else "alice@example.com")
    assert "address" in values["success"]
    refused = browser.submit(link).location  # a link works once
    assert refused.startswith(error_view)
    assert dict(parse_qsl(refused.rpartition("?")[2])).keys() & {"error", "info"}


@pytest.mark.parametrize(
    ("kind", "client", "settings", "end"),
    [
        ("confirm", "browser", FST_ADDRESS, "/login"),
        ("change-email", "browser", FST_ADDRESS, "/"),
        ("confirm", "shop", {}, "/login"),
        ("change-email", "browser", {"SECURITY_POST_LOGIN_VIEW": "/reset"}, "/reset"),
        ("change-email", "browser", {"SECURITY_POST_CHANGE_EMAIL_VIEW": "/login?x=1"}, "/login?x=1"),
    ],
)
def test_link_of_an_address_that_a_form_asked_for_ends_on_the_built_in_pages(
    make_site: Any, kind: str, client: str, settings: dict[str, str], end: str
) -> None:
    site: Site = make_site(**ADDRESS_FEATURES, **settings)
    link, browser = address_link(site, kind, client), site.visitor()
    assert browser.submit(link).location == end
    assert "Your email address has been" in browser.open("/login").text  # the message; "/" leads there
    assert browser.submit(link).location == f"/{kind}"


@pytest.mark.requirement("R52")
def test_redirect_after_a_link_of_an_address_takes_nothing_from_the_request(make_site: Any) -> None:
    site: Site = make_site(**ADDRESS_FEATURES, **FST_ADDRESS)
    link = address_link(site, "confirm", "web")
    for unknown in ("x", "x.y.z", "..x", link.rsplit("/", 1)[1][1:], link.rsplit("/", 1)[1] + "x"):
        answer = site.visitor().post_json(f"/confirm/{unknown}?client=web", json={})
        assert answer.location.startswith(f"{SPA}/#/problem?error=")
    query = f"?client=app&next={EVIL}&success=x&post_confirm_view={EVIL}"
    headers = {"X-Forwarded-Host": "evil.example", "Origin": PUBLIC_URL, "Referer": f"{EVIL}/"}
    for lifetime, view in ((-1, "unconfirmed?error="), (60, "confirmed?theme=dark&success=")):
        site.app.config["SECURITY_CONFIRM_EMAIL_WITHIN"] = timedelta(seconds=lifetime)
        answer = site.visitor().post_json(link + query, json={"client": "app", "next": "/x"}, headers=headers)
        assert answer.location.startswith(f"{WEB}/{view}"), lifetime


# --- refusals ---


def test_client_that_is_unknown_is_refused(make_site: Any) -> None:
    site = confirm_addresses(make_site(**ADDRESS_FEATURES))
    visitor = site.visitor()
    assert visitor.sign_in()
    for path, field in (("/reset", "identity"), ("/confirm", "identity"), ("/change-email", "email")):
        for client in ("nobody", "", 5, ["web"], {"a": 1}, None, EVIL):
            answer = visitor.post_json(path, json={field: NEW_ADDRESS, "client": client})
            assert answer.status_code == 400, (path, client)
            assert list(answer.json["response"]["field_errors"]) == ["client"]
    assert site.messages() == []


def test_policy_lets_forms_end_at_the_configured_views_only(make_site: Any) -> None:
    """Chromium checks the redirects after a form, too."""
    elsewhere = {
        "SECURITY_POST_LOGIN_VIEW": "https://home.example.com/start",
        "SECURITY_REDIRECT_BASE_DOMAIN": "example.com",
        "SECURITY_REDIRECT_ALLOWED_SUBDOMAINS": ["home"],
    }
    browser = make_site(**ADDRESS_FEATURES, **elsewhere).visitor()
    policy = browser.open("/login").headers["Content-Security-Policy"]
    assert "form-action 'self' https://home.example.com;" in policy
    policy = browser.open("/confirm/x", follow_redirects=True).headers["Content-Security-Policy"]
    targets = f"form-action 'self' {WEB} https://home.example.com https://shop.example.com myapp:;"
    assert targets in policy


def views(reset_view: str, **more: Any) -> dict[str, Any]:
    return {"web": {"reset_view": reset_view, "reset_error_view": f"{WEB}/p", **more}}


@pytest.mark.parametrize(
    ("clients", "name", "remedy"),
    [
        ({"web": {"reset_view": f"{WEB}/r"}}, ".web", "both of reset_view and reset_error_view"),
        (views("/r"), ".web.reset_view", "https"),
        (views(f"{WEB}/#/r", token_in="fragment"), ".web", 'leave token_in = "fragment" out'),
        (views("https://app.example.com\\r"), ".web.reset_view", "backslashes"),
        ({"web": {"post_confirm_view": WEB}}, ".web", "both of post_confirm_view and confirm_error_view"),
        (views(f"{WEB}/r", origins=[f"{WEB}/path"]), ".web.origins.0", "scheme, host and port"),
        (views(f"{WEB}/r", orgins=[]), ".web.orgins", "unknown setting"),
        (views(f"{WEB}/r", token_in="body"), ".web.token_in", "fragment"),
        ({"Web Client": CLIENTS["web"]}, ".Web Client", "lower-case"),
        ({"browser": CLIENTS["web"]}, "", "taken"),
    ],
)  # fmt: skip
def test_client_with_invalid_settings_stops_the_start(clients: Any, name: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(RECOVERY_CLIENTS=clients)
    [problem] = caught.value.problems
    assert problem.name == f"RECOVERY_CLIENTS{name}"
    assert remedy in problem.message


def test_default_client_without_views_stops_the_start() -> None:
    for missing in ("SECURITY_RESET_VIEW", "SECURITY_RESET_ERROR_VIEW"):
        with pytest.raises(SettingsError, match=missing):
            load_settings(**{**FST, missing: ""})
