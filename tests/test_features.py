"""Flask-Security's own mails: each arrives, through the outbox, and rests nowhere in the clear."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest import NEW_PASSWORD, OLD_PASSWORD, Site, html_of, text_of

from app.db import db
from app.identities import find_account
from app.models import User

PUBLIC = "https://id.example.com/auth"

FEATURES = {
    "RECOVERY_PUBLIC_URL": PUBLIC,
    "SECURITY_CONFIRMABLE": True,
    "SECURITY_CHANGE_EMAIL": True,
    "SECURITY_USERNAME_RECOVERY": True,
    "SECURITY_TWO_FACTOR": True,
    "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["email"],
    "SECURITY_TOTP_SECRETS": {"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"},
    "SECURITY_TOTP_ISSUER": "Sparekey",
}


@pytest.fixture
def full(make_site: Any) -> Site:
    """A site with the features on, whose accounts have confirmed their addresses."""
    site: Site = make_site(**FEATURES)
    with site.app.app_context():
        now = site.app.extensions["security"].datetime_factory()
        db.session.query(User).update({User.confirmed_at: now})
        db.session.commit()
    return site


def next_mail(site: Site, secret: str) -> str:
    """The text of the mail that the last request has queued; `secret` finds what it must not spill."""
    waiting = site.messages()[-1]
    assert (waiting["kind"], waiting["state"]) == ("flask_security", "waiting")
    site.work()
    mail = site.mailbox.mails[-1]
    found = re.search(secret, text_of(mail))
    assert found, text_of(mail)
    assert found[0] not in str(waiting)
    assert site.messages()[-1]["sealed"] is None
    for url in re.findall(r"https?://[^\s\"<>]+", text_of(mail) + html_of(mail)):
        assert url.startswith(PUBLIC), url
    return found[0]


def test_confirmation(full: Site) -> None:
    full.change(confirmed_at=None)
    full.visitor().submit("/confirm", "/confirm", email="Alice@example.com")
    link = next_mail(full, rf"{PUBLIC}/confirm/\S+")
    full.visitor().open(link)
    assert full.rows(User)[0]["confirmed_at"]
    full.new_link()


def test_change_of_address(full: Site) -> None:
    alice = full.visitor()
    assert alice.sign_in()
    alice.submit("/change-email", "/change-email", email="alice@elsewhere.example.com")
    link = next_mail(full, rf"{PUBLIC}/change-email/\S+")
    assert full.mailbox.envelopes[-1] == ["alice@elsewhere.example.com"]
    alice.open(link)
    assert full.rows(User)[0]["email"] == "alice@elsewhere.example.com"


def test_username_recovery(full: Site) -> None:
    full.visitor().submit("/recover-username", "/recover-username", email="alice@example.com")
    assert next_mail(full, r"\balice\b") == "alice"


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")  # Flask-Security's own
def test_a_two_factor_code(full: Site) -> None:
    with full.app.app_context():
        security = full.app.extensions["security"]
        secret = security.totp_factory.generate_totp_secret()
        security.datastore.tf_set(find_account("alice"), "email", totp_secret=secret)
        db.session.commit()
    alice = full.visitor()
    alice.submit("/login", identity="alice", password=OLD_PASSWORD)
    assert not alice.is_signed_in()
    code = next_mail(full, r"\b\d{6}\b")
    alice.submit("/tf-validate", "/tf-validate", code=code)
    assert alice.is_signed_in()


def test_a_reset_does_not_get_around_two_factor(full: Site) -> None:
    with full.app.app_context():
        security = full.app.extensions["security"]
        secret = security.totp_factory.generate_totp_secret()
        security.datastore.tf_set(find_account("alice"), "email", totp_secret=secret)
        db.session.commit()
    full.visitor().set_password(full.new_link())
    alice = full.visitor()
    alice.submit("/login", identity="alice", password=NEW_PASSWORD)
    assert not alice.is_signed_in()


def test_a_changed_password_is_told(full: Site) -> None:
    alice = full.visitor()
    alice.sign_in()
    alice.submit(
        "/change", password=OLD_PASSWORD, new_password=NEW_PASSWORD, new_password_confirm=NEW_PASSWORD
    )
    next_mail(full, "was changed\\s+by somebody who was signed in")


def test_a_password_set_from_the_command_line_ends_the_link(full: Site) -> None:
    link = full.new_link()
    runner = full.app.test_cli_runner()
    changed = runner.invoke(args=["users", "change_password", "alice", "--password", NEW_PASSWORD])
    assert changed.exit_code == 0, changed.output
    assert full.password_works(NEW_PASSWORD)
    assert full.visitor().open(link).status_code == 400


def test_a_mail_of_a_request_that_fails_is_not_sent(full: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail and change are one transaction: neither without the other."""
    monkeypatch.setattr("flask_security.views.do_flash", lambda *_: 1 / 0)
    answer = full.visitor().submit("/recover-username", "/recover-username", email="alice@example.com")
    assert answer.status_code == 500
    assert full.messages() == []
