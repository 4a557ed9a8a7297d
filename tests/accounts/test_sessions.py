"""Signing in, the lifetime of sign-ins, signing out, and the rotation of the secret key."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import flask_migrate
import pytest
from sqlalchemy import func, select
from support.commands import run
from support.database import database_uri
from support.features import confirm_addresses
from support.site import BOTH, NOBODYS, OLD_PASSWORD, SECRETS, Site, Visitor, csrf_token, load_settings

from app import create_app
from app.accounts import sessions
from app.accounts.models import SignedOut, User
from app.db.engine import db

REFUSED = "We couldn't sign you in with those details. Check them and try again."
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


@pytest.mark.requirement("R43")
def test_fresh_installation_has_no_account_and_no_role(tmp_path: Any) -> None:
    with create_app(load_settings(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/fresh.db")).app_context():
        flask_migrate.upgrade()
        for table in db.metadata.sorted_tables:
            assert db.session.scalar(select(func.count()).select_from(table)) == 0, table.name
        db.engine.dispose()


@pytest.mark.requirement("R52")
def test_sign_in_accepts_any_identity_and_continues_at_the_next_page_of_this_site(site: Site) -> None:
    for identity in ("alice", "ALICE@example.com", " +1 (415) 555-0123 "):
        assert site.visitor().sign_in(identity), identity
    client, fields = site.visitor(), {"identity": "alice", "password": OLD_PASSWORD}
    assert client.post_json("/login", json=fields).status_code == 200
    assert client.is_signed_in()
    assert site.visitor().submit("/login?next=/change", **fields).location == "/change"
    answer = site.visitor().submit("/login?next=https://evil.example", **fields)
    assert "evil" not in (answer.location or "")


def test_sign_in_refuses_every_mismatch_with_one_message(make_site: Any) -> None:
    site = confirm_addresses(make_site(SECURITY_CONFIRMABLE=True))
    site.change(User, User.username == "bob", confirmed_at=None)
    wrong = [("alice", "a wrong password"), *((name, OLD_PASSWORD) for name in ("bob", *NOBODYS.values()))]
    for identity, password in wrong:
        page = site.visitor().submit("/login", identity=identity, password=password)
        assert "sign you in with those details" in page.text, identity
        for field in ("identity", "email"):
            answer: Any = site.visitor().post_json("/login", json={field: identity, "password": password})
            assert (answer.status_code, answer.json["response"]["errors"]) == (400, [REFUSED]), identity


# --- The lifetime of a sign-in ---


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("reopen", [lambda visitor: visitor, close_browser])
def test_sign_in_ends_after_30_days_even_if_cookies_are_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch, reopen: Any
) -> None:
    visitor = sign_in_and_stay(site)
    # Though it was in use; and one that was made while the clock was a day ahead.
    for days, is_signed_in in ((29.9, True), (30.1, False), (-1, False)):
        clock = SimpleNamespace(time=lambda days=days: time.time() + days * DAY)
        monkeypatch.setattr(sessions, "time", clock)
        assert reopen(visitor).is_signed_in() is is_signed_in


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("command", ["deactivate", "reset_access"])
def test_admin_command_ends_all_sessions_of_an_account_for_good(make_site: Any, command: str) -> None:
    site: Site = make_site(SECURITY_REFRESH_TOKEN=True)
    visitor, other, program = sign_in_and_stay(site), site.visitor(), site.visitor()
    other.sign_in("bob")
    sign_in_by_json(program)
    run(site, "users", command, "alice")
    for _ in range(2):
        assert not visitor.is_signed_in()
        assert are_signed_in(close_browser(visitor), other) == [False, True]
        assert program.post_json("/refresh-token", json={}).status_code == 400
        run(site, "users", "activate", "alice")


# --- Signing out ---


def copy_of(visitor: Visitor, site: Site) -> Visitor:
    """Return a thief's browser with the same cookies, at the same process or another."""
    copy = site.visitor()
    copy.client._cookies.update(visitor.client._cookies)
    return copy


def sign_out(visitor: Visitor) -> int:
    """Sign out with a valid CSRF token, signed in or not."""
    token = csrf_token(visitor.open("/reset"))
    return visitor.post_json("/logout", data={"csrf_token": token}).status_code


def are_signed_in(*browsers: Visitor) -> list[bool]:
    return [browser.is_signed_in() for browser in browsers]


@BOTH
@pytest.mark.requirement("R46")
def test_sign_out_ends_copies_of_the_cookies_and_no_other_device(site: Site) -> None:
    visitor, phone = sign_in_and_stay(site), sign_in_and_stay(site)
    thief, remembered = copy_of(visitor, site), close_browser(copy_of(visitor, site))
    assert are_signed_in(copy_of(thief, site), copy_of(remembered, site)) == [True, True]
    assert sign_out(visitor) == 302
    assert are_signed_in(visitor, thief, remembered, phone) == [False, False, False, True]
    assert [sign_out(browser) for browser in (visitor, thief, remembered)] == [302] * 3
    for browser in (visitor, thief):
        assert browser.sign_in()
    assert sign_out(thief) == 302
    assert are_signed_in(visitor, phone) == [True, True]  # a later sign-in is another


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
    assert are_signed_in(bob, copy, phone) == [False, False, True]


def sign_in_by_json(browser: Visitor) -> dict[str, str]:
    """Return the header with the token of the sign-in."""
    credentials = {"identity": "alice", "password": OLD_PASSWORD}
    answer: Any = browser.post_json("/login?include_auth_token", json=credentials).json
    return {"Authentication-Token": answer["response"]["user"]["authentication_token"]}


@pytest.mark.requirement("R46")
def test_sign_out_ends_the_tokens_of_the_sign_in(make_site: Any) -> None:
    site: Site = make_site(SECURITY_REFRESH_TOKEN=True)
    accept = {"Accept": "application/json"}
    app, phone, browser = (site.visitor() for _ in range(3))
    tokens = [sign_in_by_json(client) for client in (app, phone, browser)]
    copies = [copy_of(browser, site), copy_of(phone, site)]

    def statuses() -> list[int]:
        return [site.visitor().open("/change", headers={**accept, **token}).status_code for token in tokens]

    assert statuses() == [200, 200, 200]
    assert site.visitor().post_json("/logout", json={}, headers={**accept, **tokens[0]}).status_code == 200
    assert sign_out(browser) == 302
    assert statuses() == [401, 200, 401]
    assert not app.is_signed_in()
    assert [copy.post_json("/refresh-token", json={}).status_code for copy in copies] == [400, 200]


# --- Rotation of SECRET_KEY ---


@pytest.mark.requirement("R46", "R64")
def test_key_rotation_keeps_sessions_forms_and_tokens_and_revives_no_sign_in(make_site: Any) -> None:
    before: Site = make_site()
    new = {"SQLALCHEMY_DATABASE_URI": database_uri(before), "SECRET_KEY": "Qm3vX8rT1wY6zA0bN5cK9dL2eJ7fH4gS"}
    during: Site = make_site(**new, SECRET_KEY_FALLBACKS=[SECRETS["FLASK_SECRET_KEY"]])
    after: Site = make_site(**new)
    visitor = before.visitor()
    form = {"identity": "alice", "csrf_token": csrf_token(visitor.open("/reset"))}
    for site, status in ((during, 303), (after, 400)):
        assert copy_of(visitor, site).post_json("/reset", data=form).status_code == status
    visitor, other = sign_in_and_stay(before), sign_in_and_stay(before)
    assert copy_of(visitor, during).is_signed_in()
    renewed = close_browser(copy_of(visitor, during))
    assert renewed.is_signed_in()  # by the cookie of "stay signed in", which the new key signs now
    assert close_browser(copy_of(renewed, after)).is_signed_in()
    assert not copy_of(visitor, after).is_signed_in()
    assert sign_out(copy_of(other, before)) == 302
    assert sign_out(renewed) == 302
    for browser in (visitor, other, renewed):
        assert not copy_of(browser, during).is_signed_in()
        assert not close_browser(copy_of(browser, during)).is_signed_in()
    old, both, alone = (vars(site.app.extensions["security"]) for site in (before, during, after))
    names = {name for name, value in old.items() if hasattr(value, "dumps")}
    assert {"remember_token_serializer", "confirm_serializer", "change_email_serializer"} <= names
    for name in names:
        assert both[name].loads(old[name].dumps(["x"])) == ["x"]
        assert alone[name].loads(both[name].dumps(["x"])) == ["x"]
        assert len(both[name].dumps(["x"]).rsplit(".", 1)[1]) == 43  # SHA-256
