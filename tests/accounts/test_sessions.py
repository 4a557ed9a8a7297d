"""The lifetime of sign-ins, signing out, and the rotation of the secret key."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import URL
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, SECRETS, Site, Visitor, csrf_token, load_settings

from app.accounts import sessions
from app.accounts.models import SignedOut
from app.db.engine import db
from app.settings.problems import SettingsError

DAY = 86_400


def sign_in_and_stay(site: Site) -> Visitor:
    visitor = site.visitor()
    visitor.submit("/login", identity="alice", password=OLD_PASSWORD, remember="y")
    assert visitor.is_signed_in()
    return visitor


def close_browser(visitor: Visitor) -> Visitor:
    """Drop the session cookie, so that the cookie of "stay signed in" remains."""
    visitor.client.delete_cookie("sparekey_session", domain="127.0.0.1")
    return visitor


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("reopen", [lambda visitor: visitor, close_browser])
def test_sign_in_ends_after_30_days_even_if_cookies_are_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch, reopen: Any
) -> None:
    visitor = sign_in_and_stay(site)
    for days, is_signed_in in (
        (29.9, True),
        (30.1, False),  # though it was in use
        (-1, False),  # made while the clock was a day ahead
    ):
        clock = SimpleNamespace(time=lambda days=days: time.time() + days * DAY)
        monkeypatch.setattr(sessions, "time", clock)
        assert reopen(visitor).is_signed_in() is is_signed_in


@pytest.mark.requirement("R46")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REMEMBER_COOKIE_DURATION", "31 days"),
        ("PERMANENT_SESSION_LIFETIME", "31 days"),
        ("SECURITY_REFRESH_TOKEN_MAX_AGE", "60 days"),
        ("SECURITY_TOKEN_MAX_AGE", "60 days"),
    ],
)
def test_session_lifetime_over_30_days_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings(**{name: value})


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("command", ["deactivate", "reset_access"])
def test_admin_command_ends_all_sessions_of_an_account(site: Site, command: str) -> None:
    visitor, other = sign_in_and_stay(site), site.visitor()
    other.sign_in("bob")
    assert site.app.test_cli_runner().invoke(args=["users", command, "alice"]).exit_code == 0
    assert not visitor.is_signed_in()
    assert not close_browser(visitor).is_signed_in()
    assert other.is_signed_in()


# --- signing out ------------------------------------------------------------------------------------


def copy_of(visitor: Visitor, site: Site) -> Visitor:
    """Return a thief's browser with the same cookies, at the same process or another."""
    copy = site.visitor()
    copy.client._cookies.update(visitor.client._cookies)
    return copy


def sign_out(visitor: Visitor) -> int:
    """Sign out with a valid CSRF token, signed in or not."""
    token = csrf_token(visitor.open("/reset"))
    return visitor.post_json("/logout", data={"csrf_token": token}).status_code


@BOTH
@pytest.mark.requirement("R46")
def test_sign_out_ends_copies_of_the_cookies_and_no_other_device(site: Site) -> None:
    visitor, phone = sign_in_and_stay(site), sign_in_and_stay(site)
    thief, remembered = copy_of(visitor, site), close_browser(copy_of(visitor, site))
    assert copy_of(thief, site).is_signed_in()
    assert copy_of(remembered, site).is_signed_in()
    assert sign_out(visitor) == 302
    assert not visitor.is_signed_in()
    assert not thief.is_signed_in()
    assert not remembered.is_signed_in()
    assert phone.is_signed_in()
    assert [sign_out(browser) for browser in (visitor, thief, remembered)] == [302] * 3
    for browser in (visitor, thief):
        assert browser.sign_in()
    assert sign_out(thief) == 302
    assert visitor.is_signed_in()  # a later sign-in is another
    assert phone.is_signed_in()


def test_sign_out_in_many_requests_at_once_ends_the_sign_in_once(site: Site) -> None:
    visitor = sign_in_and_stay(site)
    token = csrf_token(visitor.open("/reset"))
    copies = [copy_of(visitor, site) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda copy: copy.post_json("/logout", data={"csrf_token": token}), copies)
        assert {answer.status_code for answer in answers} == {302}
    assert len(site.rows(SignedOut)) == 1
    assert not visitor.is_signed_in()


def test_sign_out_after_the_session_has_expired_is_answered_as_usual(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = sign_in_and_stay(site)
    with monkeypatch.context() as later:
        later.setattr(sessions, "time", SimpleNamespace(time=lambda: time.time() + 31 * DAY))
        assert sign_out(visitor) == 302
    assert visitor.sign_in()


@pytest.mark.requirement("R46")
def test_sign_out_ends_the_remembered_sign_in_of_another_account(site: Site) -> None:
    """A reset in bob's browser may sign him out, and leave the cookie of "stay signed in"."""
    alice, bob = sign_in_and_stay(site), site.visitor()
    remembered = close_browser(copy_of(alice, site))
    assert bob.sign_in("bob")
    cookie = remembered.client.get_cookie("sparekey_remember", domain="127.0.0.1")
    bob.client.set_cookie("sparekey_remember", cookie.value, domain="127.0.0.1")
    sign_out(bob)
    assert not remembered.is_signed_in()


@pytest.mark.requirement("R45", "R46")
def test_redemption_ends_the_sign_in_of_the_account_that_was_signed_in(site: Site) -> None:
    bob, phone = site.visitor(), site.visitor()
    for browser in (bob, phone):
        assert browser.sign_in("bob")
    copy = copy_of(bob, site)
    bob.set_password(site.new_link("alice"))
    assert not bob.is_signed_in()
    assert not copy.is_signed_in()
    assert phone.is_signed_in()


@pytest.mark.requirement("R46")
def test_sign_out_ends_the_token_of_the_sign_in(site: Site) -> None:
    credentials = {"identity": "alice", "password": OLD_PASSWORD}

    def get_token(browser: Visitor) -> dict[str, str]:
        answer = browser.post_json("/login?include_auth_token", json=credentials)
        return {"Authentication-Token": answer.json["response"]["user"]["authentication_token"]}  # type: ignore[index]

    def works(token: dict[str, str]) -> bool:
        headers = {"Accept": "application/json", **token}
        return site.visitor().open("/change", headers=headers).status_code == 200

    app, other_app, browser = site.visitor(), site.visitor(), site.visitor()
    tokens = [get_token(client) for client in (app, other_app, browser)]
    assert [works(token) for token in tokens] == [True] * 3
    answer = site.visitor().post_json("/logout", json={}, headers={"Accept": "application/json", **tokens[0]})
    assert answer.status_code == 200
    sign_out(browser)
    assert [works(token) for token in tokens] == [False, True, False]
    assert not app.is_signed_in()


@pytest.mark.requirement("R46")
def test_sign_out_ends_the_refresh_token_of_the_browser(make_site: Any) -> None:
    site: Site = make_site(SECURITY_REFRESH_TOKEN=True)
    visitor, phone = site.visitor(), site.visitor()
    for browser in (visitor, phone):
        credentials = {"identity": "alice", "password": OLD_PASSWORD}
        assert browser.post_json("/login?include_auth_token", json=credentials).status_code == 200
    copies = [copy_of(visitor, site), copy_of(phone, site)]
    assert sign_out(visitor) == 302
    assert [copy.post_json("/refresh-token", json={}).status_code for copy in copies] == [400, 200]


def test_request_that_is_signed_in_looks_its_sign_in_up_in_one_statement(site: Site) -> None:
    visitor, statements = sign_in_and_stay(site), []
    with site.app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    assert "alice@example.com" in visitor.open("/").text
    [statement] = statements
    assert "signed_out" in statement
    assert "role.name" in statement  # which Flask-Security reads for every request


# --- rotation of SECRET_KEY -------------------------------------------------------------------------


@pytest.fixture
def rotation(make_site: Any) -> tuple[Site, Site, Site]:
    """One site before the rotation, during it, and after the old key is gone."""
    before: Site = make_site()
    with before.app.app_context():
        url: URL = db.engine.url
    new = {"SQLALCHEMY_DATABASE_URI": str(url), "SECRET_KEY": "Qm3vX8rT1wY6zA0bN5cK9dL2eJ7fH4gS"}
    during = make_site(**new, SECRET_KEY_FALLBACKS=[SECRETS["FLASK_SECRET_KEY"]])
    return before, during, make_site(**new)


@pytest.mark.requirement("R64")
def test_key_rotation_keeps_sessions_and_open_forms(rotation: tuple[Site, Site, Site]) -> None:
    before, during, after = rotation
    visitor = before.visitor()
    token = csrf_token(visitor.open("/reset"))
    for site, status in ((during, 303), (after, 400)):
        form = {"identity": "alice", "csrf_token": token}
        assert copy_of(visitor, site).post_json("/reset", data=form).status_code == status
    visitor = sign_in_and_stay(before)
    assert copy_of(visitor, during).is_signed_in()
    renewed = close_browser(copy_of(visitor, during))
    assert renewed.is_signed_in()  # by the cookie of "stay signed in", which is renewed
    assert close_browser(copy_of(renewed, after)).is_signed_in()
    assert not copy_of(visitor, after).is_signed_in()


@pytest.mark.requirement("R46", "R64")
def test_key_rotation_revives_no_sign_in_that_was_signed_out(rotation: tuple[Site, Site, Site]) -> None:
    before, during, _ = rotation
    visitor, other = sign_in_and_stay(before), sign_in_and_stay(before)
    assert sign_out(copy_of(visitor, before)) == 302
    renewed = close_browser(copy_of(other, during))
    assert renewed.is_signed_in()  # with cookies that the new key signs
    assert sign_out(renewed) == 302
    for browser in (visitor, other, renewed):
        assert not copy_of(browser, during).is_signed_in()
        assert not close_browser(copy_of(browser, during)).is_signed_in()


@pytest.mark.requirement("R64")
def test_key_rotation_keeps_links_mail_and_tokens(rotation: tuple[Site, Site, Site]) -> None:
    before, during, after = rotation
    old_link = before.new_link()
    before.ask("bob")
    during.work()
    assert during.mailbox.envelopes[-1] == ["bob@example.com"]
    new_link = during.last_link()
    assert after.visitor().open(old_link).status_code == 400
    assert after.visitor().open(new_link).status_code == 303
    assert during.visitor().post_json(old_link, json={"password": NEW_PASSWORD}).status_code == 200
    security = during.app.extensions["security"]
    names = {name for name, value in vars(security).items() if hasattr(value, "dumps")}
    assert {"remember_token_serializer", "confirm_serializer", "change_email_serializer"} <= names
    for name in names:
        old, both, new = (getattr(site.app.extensions["security"], name) for site in rotation)
        assert both.loads(old.dumps(["x"])) == ["x"]
        assert new.loads(both.dumps(["x"])) == ["x"]
        assert len(both.dumps(["x"]).rsplit(".", 1)[1]) == 43  # SHA-256
