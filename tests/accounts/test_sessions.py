"""The lifetime of sign-ins, and the rotation of the secret key."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.engine import URL
from support.site import NEW_PASSWORD, OLD_PASSWORD, SECRETS, Site, Visitor, csrf_token, load_settings

from app.accounts import sessions
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


def move(visitor: Visitor, site: Site) -> Visitor:
    """Return the same browser at another process."""
    moved = site.visitor()
    moved.client._cookies.update(visitor.client._cookies)
    return moved


@pytest.mark.requirement("R64")
def test_key_rotation_keeps_sessions_and_open_forms(rotation: tuple[Site, Site, Site]) -> None:
    before, during, after = rotation
    visitor = before.visitor()
    token = csrf_token(visitor.open("/reset"))
    for site, status in ((during, 303), (after, 400)):
        form = {"identity": "alice", "csrf_token": token}
        assert move(visitor, site).post_json("/reset", data=form).status_code == status
    visitor = sign_in_and_stay(before)
    assert move(visitor, during).is_signed_in()
    renewed = close_browser(move(visitor, during))
    assert renewed.is_signed_in()  # by the cookie of "stay signed in", which is renewed
    assert close_browser(move(renewed, after)).is_signed_in()
    assert not move(visitor, after).is_signed_in()


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
