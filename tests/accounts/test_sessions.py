"""Who is signed in stays so for a month at most, whatever was kept; keys change without anybody noticing."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from accounts.test_features import FEATURES
from sqlalchemy.engine import URL
from support.mailbox import text_of
from support.site import NEW_PASSWORD, OLD_PASSWORD, SECRETS, Site, Visitor, load_settings

from app.accounts import sessions
from app.accounts.models import User
from app.db.engine import db
from app.settings.problems import SettingsError

NEW_KEY = "Qm3vX8rT1wY6zA0bN5cK9dL2eJ7fH4gS"
DAY = 86_400


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """The time of sign-ins moves; no cookie ends by itself, as if a thief had kept them all."""
    monkeypatch.setattr(sessions, "time", SimpleNamespace(time=lambda: time.time() + days * DAY))


def signed_in_for_good(site: Site) -> Visitor:
    visitor = site.visitor()
    visitor.submit("/login", identity="alice", password=OLD_PASSWORD, remember="y")
    assert visitor.is_signed_in()
    return visitor


def without_session(visitor: Visitor) -> Visitor:
    """The browser was closed: what remains is "stay signed in"."""
    visitor.client.delete_cookie("sparekey_session", domain="127.0.0.1")
    return visitor


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("keep", [lambda visitor: visitor, without_session])
def test_a_sign_in_lasts_a_month_whatever_was_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch, keep: Any
) -> None:
    visitor = signed_in_for_good(site)
    later(monkeypatch, 29.9)
    assert keep(visitor).is_signed_in()
    later(monkeypatch, 30.1)  # though it was in use all the time
    assert not keep(visitor).is_signed_in()
    later(monkeypatch, -1)  # made while the clock was a day ahead
    assert not keep(visitor).is_signed_in()


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("name", ["REMEMBER_COOKIE_DURATION", "PERMANENT_SESSION_LIFETIME"])
def test_longer_than_a_month_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings(**{name: "31 days"})
    with pytest.raises(SettingsError, match="SECURITY_REFRESH_TOKEN_MAX_AGE"):
        load_settings(SECURITY_REFRESH_TOKEN_MAX_AGE="60 days")
    with pytest.raises(SettingsError, match="SECURITY_TOKEN_MAX_AGE"):
        load_settings(SECURITY_TOKEN_MAX_AGE="60 days")


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("command", ["deactivate", "reset_access"])
def test_an_admin_ends_every_session_of_an_account(site: Site, command: str) -> None:
    visitor, other = signed_in_for_good(site), site.visitor()
    other.sign_in("bob")
    assert site.app.test_cli_runner().invoke(args=["users", command, "alice"]).exit_code == 0
    assert not visitor.is_signed_in()
    assert not without_session(visitor).is_signed_in()
    assert other.is_signed_in()


# --- keys -------------------------------------------------------------------------------------------


@pytest.fixture
def rotated(make_site: Any) -> Any:
    """A site, the same one while its key is being changed, and after the old one is gone."""

    def make(**overrides: Any) -> tuple[Site, Site, Site]:
        before: Site = make_site(**overrides)
        with before.app.app_context():
            url: URL = db.engine.url
        same = {**overrides, "SQLALCHEMY_DATABASE_URI": str(url), "SECRET_KEY": NEW_KEY}
        during = make_site(**same, SECRET_KEY_FALLBACKS=[SECRETS["FLASK_SECRET_KEY"]])
        return before, during, make_site(**same)

    return make


def moved(visitor: Visitor, site: Site) -> Visitor:
    """The same browser, served by another process."""
    there = site.visitor()
    there.client._cookies.update(visitor.client._cookies)
    return there


@pytest.mark.requirement("R64")
def test_a_new_key_signs_nobody_out(rotated: Any) -> None:
    before, during, after = rotated()
    visitor = signed_in_for_good(before)
    assert moved(visitor, during).is_signed_in()
    there = without_session(moved(visitor, during))
    assert there.is_signed_in()  # by "stay signed in", and that is renewed
    assert without_session(moved(there, after)).is_signed_in()
    assert not moved(visitor, after).is_signed_in()


@pytest.mark.requirement("R64")
def test_a_new_key_loses_no_link_and_no_mail_and_the_old_one_takes_its_links_along(rotated: Any) -> None:
    before, during, after = rotated()
    old = before.new_link()
    before.ask("bob")
    during.work()
    assert during.mailbox.envelopes[-1] == ["bob@example.com"]
    made_with_new = during.last_link()
    assert after.visitor().open(old).status_code == 400
    assert after.visitor().open(made_with_new).status_code == 303
    assert during.visitor().post_json(old, json={"password": NEW_PASSWORD}).status_code == 200


@pytest.mark.requirement("R64")
def test_a_form_that_is_open_survives_a_new_key(rotated: Any) -> None:
    before, during, after = rotated()
    visitor = before.visitor()
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', visitor.open("/reset").text)
    assert token
    for site, status in ((during, 303), (after, 400)):
        form = {"identity": "alice", "csrf_token": token[1]}
        assert moved(visitor, site).post_json("/reset", data=form).status_code == status


@pytest.mark.requirement("R64")
def test_whatever_is_signed_is_signed_with_the_new_key_alone(rotated: Any) -> None:
    before, during, after = rotated(**FEATURES)
    serializers = {
        name for name, value in vars(during.app.extensions["security"]).items() if hasattr(value, "dumps")
    }
    assert {"remember_token_serializer", "confirm_serializer", "change_email_serializer"} <= serializers
    for name in serializers:
        one, two, three = (getattr(site.app.extensions["security"], name) for site in (before, during, after))
        assert two.loads(one.dumps(["x"])) == ["x"]
        assert three.loads(two.dumps(["x"])) == ["x"]
        assert len(two.dumps(["x"]).rsplit(".", 1)[1]) == 43  # SHA-256


# --- changing the address ---------------------------------------------------------------------------


@pytest.mark.requirement("R41")
def test_changing_the_address_asks_for_the_password_again(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True)
    alice = site.visitor()
    alice.sign_in()
    with alice.client.session_transaction(base_url=alice.base) as session:
        session["fs_paa"] -= 16 * 60  # she typed it 16 minutes ago
    refused = alice.post_json("/change-email", json={"email": "thief@example.com"})
    assert refused.status_code == 401
    assert site.work() == 0
    assert alice.post_json("/verify", json={"password": OLD_PASSWORD}).status_code == 200
    assert alice.post_json("/change-email", json={"email": "alice@new.example.com"}).status_code == 200


@pytest.mark.requirement("R41")
def test_the_old_address_hears_of_a_new_one(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True, RECOVERY_SUPPORT_CONTACT="help@example.com")
    alice = site.visitor()
    alice.sign_in()
    alice.post_json("/change-email", json={"email": "alice@new.example.com"})
    site.work()
    assert site.mailbox.envelopes == [["alice@new.example.com"]]
    site.new_link("alice")
    assert site.mailbox.envelopes[-1] == ["alice@example.com"]  # nothing has changed yet
    link = re.search(r"http://\S+/change-email/\S+", text_of(site.mailbox.mails[0]))
    assert link
    alice.open(link[0])
    site.work()
    assert site.rows(User)[0]["email"] == "alice@new.example.com"
    assert site.mailbox.envelopes[-1] == ["alice@example.com"]
    notice = text_of(site.mailbox.mails[-1])
    for said in ("a•••@new.example.com", "UTC", "help@example.com", "That was not you?"):
        assert said in notice
    assert site.events()[-2:] == ["address_changed", "mail_sent"]
