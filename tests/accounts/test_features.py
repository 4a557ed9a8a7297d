"""Flask-Security's own mails: each arrives, through the outbox, and rests nowhere in the clear."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import event
from support.mailbox import html_of, text_of
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.datastore import find_account
from app.accounts.models import User
from app.db.engine import db

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


def next_mail(site: Site, secret: str, kind: str = "flask_security") -> str:
    """The text of the mail that the last request has queued; `secret` finds what it must not spill."""
    waiting = site.messages()[-1]
    assert (waiting["kind"], waiting["state"]) == (kind, "waiting")
    site.work()
    mail = site.mailbox.mails[-1]
    found = re.search(secret, text_of(mail))
    assert found, text_of(mail)
    assert found[0] not in str(waiting)
    assert site.messages()[-1]["sealed"] is None
    for url in re.findall(r"https?://[^\s\"<>]+", text_of(mail) + html_of(mail)):
        assert url.startswith(PUBLIC), url
    return found[0]


@pytest.mark.requirement("R19")
def test_confirmation(full: Site) -> None:
    full.change(confirmed_at=None)
    full.visitor().submit("/confirm", "/confirm", identity="Alice@example.com")
    link = next_mail(full, rf"{PUBLIC}/confirm/\S+", "confirmation_instructions")
    full.visitor().open(link)
    assert full.rows(User)[0]["confirmed_at"]
    full.new_link()


@pytest.mark.requirement("R41")
def test_change_of_address(full: Site) -> None:
    alice = full.visitor()
    assert alice.sign_in()
    alice.submit("/change-email", "/change-email", email="alice@elsewhere.example.com")
    link = next_mail(full, rf"{PUBLIC}/change-email/\S+")
    assert full.mailbox.envelopes[-1] == ["alice@elsewhere.example.com"]
    alice.open(link)
    assert full.rows(User)[0]["email"] == "alice@elsewhere.example.com"


def test_username_recovery(full: Site) -> None:
    full.visitor().submit("/recover-username", "/recover-username", identity="alice@example.com")
    assert next_mail(full, r"\balice\b", "username_recovery") == "alice"


ASKED = {"/confirm": "confirmation_instructions", "/recover-username": "username_recovery"}


@pytest.mark.requirement("R1", "R2", "R55")
@pytest.mark.parametrize("path", ASKED)
def test_asking_for_another_mail_tells_nothing_either(
    full: Site, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same statements, the same answer, and as few mails as of any other kind."""
    if path == "/confirm":
        full.change(confirmed_at=None)
    with full.app.app_context():
        engine = db.engine
    seen: list[Any] = []
    for identity in ("alice@example.com", "nobody@example.com", "inactive@example.com", "alice@example.com"):
        statements: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any, to: list[str] = statements) -> None:
            to.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        form = full.visitor().submit(path, path, identity=identity)
        json = full.visitor().post_json("/auth" + path, json={"identity": identity})
        event.remove(engine, "before_cursor_execute", note)
        seen.append((form.status_code, form.location, json.status_code, json.text, statements))
    assert seen[1:] == seen[:1] * 3
    assert not any("FROM user" in statement or '"user"' in statement for statement in seen[0][-1])
    full.work()
    assert [mail["To"] for mail in full.mailbox.mails] == ["alice@example.com"]
    assert {message["kind"] for message in full.messages()[1:]} == {ASKED[path]}


@pytest.mark.requirement("R18")
def test_no_username_goes_to_an_address_that_nobody_has_confirmed(full: Site) -> None:
    full.change(confirmed_at=None)
    full.visitor().post_json("/auth/recover-username", json={"identity": "alice@example.com"})
    full.work()
    assert full.mailbox.mails == []
    assert full.messages()[-1]["reason"] == "the address is not confirmed"


@pytest.mark.requirement("R55")
@pytest.mark.parametrize("path", ASKED)
def test_nobodys_mailbox_is_flooded_with_other_mails(make_site: Any, path: str) -> None:
    site: Site = make_site(**{**FEATURES, "RECOVERY_MAIL_COOLDOWN": "5 minutes"})
    if path == "/recover-username":
        site.change(confirmed_at=datetime(2026, 1, 1))
    for identity in ("alice@example.com", "alice", "+14155550123") * 3:
        site.visitor().post_json("/auth" + path, json={"identity": identity})
        site.work()
    assert len(site.mailbox.mails) == 1
    assert "RECOVERY_MAIL_COOLDOWN" in site.messages()[-1]["reason"]


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


@pytest.mark.requirement("R37")
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
    next_mail(full, "was changed\\s+by\\s+somebody\\s+who\\s+was\\s+signed\\s+in")


@pytest.mark.requirement("R17")
def test_a_password_set_from_the_command_line_ends_the_link(full: Site) -> None:
    link = full.new_link()
    runner = full.app.test_cli_runner()
    changed = runner.invoke(args=["users", "change_password", "alice", "--password", NEW_PASSWORD])
    assert changed.exit_code == 0, changed.output
    assert full.password_works(NEW_PASSWORD)
    assert full.visitor().open(link).status_code == 400


def test_a_mail_of_a_request_that_fails_is_not_sent(full: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail and change are one transaction: neither without the other."""
    alice = full.visitor()
    alice.sign_in()
    monkeypatch.setattr("flask_security.change_email.do_flash", lambda *_: 1 / 0)
    answer = alice.submit("/change-email", "/change-email", email="alice@new.example.com")
    assert answer.status_code == 500
    assert full.messages() == []
