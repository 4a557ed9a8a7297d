"""What an attacker tried, each with what it led to before. Named for the weakness."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import flask_security.changeable
import pytest
from sqlalchemy.exc import OperationalError
from support.admin import inherited
from support.site import BOTH, NEW_PASSWORD, NOBODYS, OLD_PASSWORD, PUBLIC_URL, ROOT, SECRETS, Site

from app import settings
from app.accounts import datastore, sign_in
from app.accounts.models import User
from app.db.engine import db
from app.mail import delivery, outbox, worker
from app.mail.outbox import OutboxMessage
from app.mail.smtp_failures import RelayMisconfigured
from app.recovery import link as links
from app.recovery.link import ResetLink
from app.settings.problems import SettingsError

THIEFS = "the thief's own password"


# --- two who write at once ------------------------------------------------------------------------


def in_another_thread(act: Any) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


@BOTH
@pytest.mark.requirement("R36")
def test_a_slow_change_never_undoes_a_reset(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thief with session and old password posts /change; the owner resets while it hashes."""
    thief = site.visitor()
    assert thief.sign_in()
    link = site.new_link()
    hash_password = flask_security.changeable.hash_password

    def hash_slowly(password: str) -> str:
        in_another_thread(lambda: site.visitor().set_password(link))
        return hash_password(password)

    monkeypatch.setattr(flask_security.changeable, "hash_password", hash_slowly)
    answer = thief.submit("/change", password=OLD_PASSWORD, new_password=THIEFS, new_password_confirm=THIEFS)
    assert answer.status_code == 409
    assert "changed meanwhile" in answer.text
    assert site.password_works(NEW_PASSWORD)
    assert not site.password_works(THIEFS)
    assert not thief.is_signed_in()


@BOTH
def test_a_slow_rehash_never_undoes_a_reset(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign-in with the old password upgrades an outdated hash while the owner resets."""
    link = site.new_link()
    hash_password = sign_in.hash_password
    monkeypatch.setattr("passlib.context.CryptContext.needs_update", lambda *_, **__: True)

    def hash_slowly(password: str) -> str:
        monkeypatch.undo()
        in_another_thread(lambda: site.visitor().set_password(link))
        return hash_password(password)

    monkeypatch.setattr(sign_in, "hash_password", hash_slowly)
    site.visitor().post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
    assert site.password_works(NEW_PASSWORD)
    assert not site.password_works(OLD_PASSWORD)


@BOTH
@pytest.mark.parametrize("change", ["expires_at", "superseded_at", "revoked_at"])
@pytest.mark.requirement("R12", "R14")
def test_a_link_that_ends_while_the_new_password_is_hashed_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    link, redeem = site.new_link(), links.redeem

    def redeem_later(*args: Any, **kwargs: Any) -> None:
        in_another_thread(lambda: site.change(ResetLink, **{change: datetime(2020, 1, 1)}))
        redeem(*args, **kwargs)

    monkeypatch.setattr(links, "redeem", redeem_later)
    body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    answer = site.visitor().post_json(link, json=body)
    assert answer.json is not None
    assert (
        answer.json["response"]["error_code"]
        == {
            "expires_at": "link_expired",
            "superseded_at": "link_superseded",
            "revoked_at": "link_revoked",
        }[change]
    )
    assert site.password_works(OLD_PASSWORD)
    assert site.events()[-1] == "refused"


# --- where mail goes ------------------------------------------------------------------------------


@pytest.mark.parametrize(("stored", "envelope"), [("alice@faß.de", "alice@xn--fa-hia.de")])
@pytest.mark.requirement("R18", "R40")
def test_an_internationalised_domain_is_not_taken_for_its_neighbour(
    site: Site, stored: str, envelope: str
) -> None:
    """IDNA 2003 makes fass.de of faß.de: another owner."""
    site.change(User, User.username == "alice", email=stored)
    site.new_link("alice")
    assert site.mailbox.envelopes == [[envelope]]


@BOTH
@pytest.mark.requirement("R40")
def test_what_only_the_database_takes_for_the_same_is_somebody_else(site: Site) -> None:
    """PostgreSQL's lower() folds É, ours does not: the row it finds is compared again."""
    site.change(User, User.username == "alice", email="élise@example.com")
    with site.app.app_context():
        assert datastore.find_account("élise@example.com") is not None
        assert datastore.find_account("Élise@example.com") is None


@pytest.mark.requirement("R16")
def test_a_locked_account_gets_no_mail(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    link = site.new_link()
    monkeypatch.setattr(User, "is_locked", lambda *_: True)
    site.ask()
    site.work()
    assert len(site.mailbox.mails) == 1
    assert site.visitor().open(link).status_code == 400
    assert not site.password_works(OLD_PASSWORD)


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "a..b"}, {"Host": "[::1"}, {"Host": "x" * 70}, {"Host": ""}],
)
@pytest.mark.requirement("R52", "R54")
def test_a_host_that_is_not_ours_reaches_no_url(site: Site, headers: dict[str, str]) -> None:
    for path in ("/change", "/reset//" + "x" * 43, "/login", "/nowhere"):
        answer = site.visitor().open(path, headers=headers)
        assert answer.status_code in (308, 400, 404)
        assert "evil" not in (answer.location or "") + answer.text


@pytest.mark.requirement("R52")
def test_after_sign_in_one_stays_on_the_public_address(make_site: Any) -> None:
    """A proxy that sends its own Host: what Flask-Security calls the request's URL is still ours."""
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com/auth")
    asked = site.visitor().open("/auth/change")
    assert asked.location in ("/auth/login?next=/auth/change", "/auth/login?next=%2Fauth%2Fchange")


# --- input that no view can read ------------------------------------------------------------------

DEEP = "[" * 100_000


@pytest.mark.parametrize("path", ["/login", "/reset", "/verify", "/change", "/reset/" + "x" * 43, "/logout"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "body",
    [
        "[1,2]",
        '"x"',
        "5",
        "true",
        "null",
        "{",
        DEEP[:60_000],
        '{"next": 5}',
        '{"next": {}}',
        '{"next": "http://["}',
    ],
)
@pytest.mark.requirement("R7")
def test_json_that_makes_no_sense_is_refused_everywhere(
    site: Site, path: str, method: str, body: str
) -> None:
    visitor = site.visitor()
    visitor.sign_in()
    answer = visitor.open(path, method=method, data=body, content_type="application/json")
    assert answer.status_code in (400, 405)
    assert answer.json is not None
    assert answer.json["response"]["error_code"]


@pytest.mark.parametrize("next_page", ["http://[", "//[evil", "https://[::1"])
@pytest.mark.requirement("R52")
def test_a_next_page_that_is_no_address_is_refused(site: Site, next_page: str) -> None:
    visitor = site.visitor()
    assert visitor.open("/login", query_string={"next": next_page}).status_code == 400
    assert (
        visitor.submit("/login", identity="alice", password=OLD_PASSWORD, next=next_page).status_code == 400
    )


@pytest.mark.parametrize("path", ["/login", "/reset"])
@pytest.mark.requirement("R7", "R32")
def test_a_body_of_unknown_length_is_refused(site: Site, path: str) -> None:
    answer = site.visitor().open(
        path,
        method="POST",
        headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"},
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert answer.status_code == 411


def test_a_cookie_of_other_letters_is_dropped(site: Site) -> None:
    answer = site.visitor().open("/", headers={"Cookie": "sparekey_remember=\xff|\xff"})
    assert answer.status_code == 200


@pytest.mark.parametrize("password", ["\ud800" * 600, "x" * 60_000, "\x00" * 20])
@pytest.mark.requirement("R7", "R32")
def test_a_password_that_is_none_is_refused(site: Site, password: str) -> None:
    visitor = site.visitor()
    answer = visitor.post_json("/login", json={"identity": "alice", "password": password[:9000]})
    assert answer.status_code == 400
    visitor.sign_in()
    for path, field in (("/verify", "password"), ("/change", "password")):
        assert visitor.post_json(path, json={field: password[:9000]}).status_code == 400


# --- sign-in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored", ["!", "*", "$argon2id$other", "$2b$12$", "$5$x", "plain text that is stored"]
)
@pytest.mark.requirement("R33")
def test_a_stored_mark_is_no_password_and_no_error(site: Site, stored: str) -> None:
    site.change(User, User.username == "alice", password=stored)
    for password in (stored, OLD_PASSWORD):
        answer = site.visitor().post_json("/login", json={"identity": "alice", "password": password})
        assert answer.status_code == 400


def test_every_sign_in_costs_one_verification(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    context = site.app.extensions["security"].pwd_context
    verify = context.verify
    monkeypatch.setattr(context, "verify", lambda *a, **k: (seen.append("verify"), verify(*a, **k))[1])
    for identity in ("alice", *NOBODYS.values()):
        seen.clear()
        site.visitor().post_json("/login", json={"identity": identity, "password": "not the password"})
        assert seen == ["verify"], identity


TWO_FACTOR = {
    "SECURITY_CHANGE_EMAIL": True,
    "SECURITY_TWO_FACTOR": True,
    "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["email"],
    "SECURITY_TOTP_SECRETS": {"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"},
    "SECURITY_TOTP_ISSUER": "Sparekey",
}


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")  # Flask-Security's own
@pytest.mark.parametrize(
    "path", ["/login", "/reset/" + "x" * 43, "/verify", "/change", "/tf-validate", "/change-email"]
)
@pytest.mark.requirement("R8", "R57")
def test_guesses_are_limited_on_every_page_that_takes_one(make_site: Any, path: str) -> None:
    site: Site = make_site(RATELIMIT_ENABLED=True, **TWO_FACTOR)
    visitor = site.visitor()
    visitor.sign_in()
    answers = {visitor.post_json(path, json={"password": "a guess"}).status_code for _ in range(31)}
    assert 429 in answers


# --- the worker -----------------------------------------------------------------------------------


def test_a_worker_that_lost_its_lease_writes_nothing_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask()
    attempt = worker.attempt

    def lose_the_lease(message: OutboxMessage, relay: Any, deadline: float) -> tuple[str, str]:
        monkeypatch.setattr(worker, "attempt", attempt)
        site.change(OutboxMessage, due_at=datetime(2020, 1, 1))
        in_another_thread(site.work)
        return "dropped", "too late"

    monkeypatch.setattr(worker, "attempt", lose_the_lease)
    site.work()
    assert site.events() == ["requested", "mail_sent"]
    assert site.messages()[0]["state"] == "sent"


def test_a_message_whose_key_is_gone_ends_with_its_reason(make_site: Any) -> None:
    """At last, and as a dead letter: the key may be found again."""
    site: Site = make_site()
    site.ask()
    with site.app.app_context():
        uri = str(db.engine.url)
    key = "a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5"
    other: Site = make_site(SQLALCHEMY_DATABASE_URI=uri, SECRET_KEY=key, RECOVERY_MAIL_ATTEMPTS=1)
    other.work()
    [message] = other.messages()
    assert (message["state"], "SECRET_KEY" in message["reason"]) == ("given_up", True)
    assert message["sealed"]


@pytest.mark.requirement("R61")
def test_an_address_never_stands_in_a_reason(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = "450 alice@example.com is busy"
    site.ask()
    site.work()
    assert "alice" not in site.messages()[0]["reason"]
    assert "450" in site.messages()[0]["reason"]


# --- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://id.example.com:443", "https://id.example.com"),
        ("https://ID.Example.com/", "https://id.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_our_own_origin_is_known_as_browsers_spell_it(make_site: Any, given: str, kept: str) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL=given)
    assert site.app.config["RECOVERY_PUBLIC_URL"] == kept
    answer = site.visitor().post_json("/reset", json={"identity": "alice"}, headers={"Origin": kept})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RECOVERY_PUBLIC_URL", "https://:pw@id.example.com"),
        ("RECOVERY_PUBLIC_URL", "https://id.example.com:abc"),
        ("RECOVERY_PUBLIC_URL", "https://id.exa mple.com"),
        ("RECOVERY_PUBLIC_URL", "https://id.example.com/a b"),
        ("RECOVERY_MAIL_COOLDOWN", "2500000 days"),
        ("RECOVERY_MAIL_COOLDOWN", "99999999999 days"),
        ("MAIL_DEFAULT_SENDER", "a@b.example, c@d.example"),
        ("MAIL_DEFAULT_SENDER", ""),
        ("PERMANENT_SESSION_LIFETIME", "3600"),
        ("TESTING", "perhaps"),
        ("SECURITY_PASSWORD_LENGTH_MIN", "200"),
        ("RECOVERY_WORKER_POLL", "0 seconds"),
        ("RECOVERY_SITE_NAME", " "),
        ("SECURITY_PHONE_REGION_DEFAULT", "UK"),
        ("SQLALCHEMY_ENGINE_OPTIONS", "junk"),
        ("SQLALCHEMY_DATABASE_URI", "postgresql+psycopg2://h/n"),
        ("RECOVERY_PUBLIC_URL", "https://h.example//evil.example"),
        ("RECOVERY_PUBLIC_URL", "https://h.example/über"),
        ("RECOVERY_SITE_NAME", "two\u2028lines"),
        ("RECOVERY_SITE_NAME", "\udcff"),
        ("RECOVERY_MAIL_CA", "/etc"),
        ("RECOVERY_MAIL_CA", "/etc/passwd"),
        ("RECOVERY_WORKER_POLL", "10 minutes"),
        ("MAIL_SERVER", "x" * 64 + ".example"),
        ("MAIL_DEFAULT_SENDER", "jürgen@example.com"),
        ("SECURITY_LOGIN_URL", "signin"),
        ("SECURITY_TWO_FACTOR", "true"),
        ("SECURITY_SUBDOMAIN", "x"),
    ],
)
@pytest.mark.requirement("R20", "R65")
def test_a_setting_that_would_break_later_is_refused_now(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        settings.load({**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL, f"FLASK_{name}": value})


@pytest.mark.requirement("R61", "R63")
def test_a_secret_in_the_place_of_its_file_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({"FLASK_SECRET_KEY_FILE": "the-secret-itself-0123456789"})
    assert "the-secret-itself" not in str(caught.value)


@pytest.mark.requirement("R13")
def test_who_loses_a_race_at_any_moment_hears_that_the_link_was_used(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The winner commits after the loser's link was looked at, and before its account is."""
    link = site.new_link()
    body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    resolve = links.resolve

    def resolve_before_the_winner(token: str) -> Any:
        found = resolve(token)
        monkeypatch.setattr(links, "resolve", resolve)
        in_another_thread(lambda: site.visitor().set_password(link, "the winner's new password"))
        return found

    monkeypatch.setattr(links, "resolve", resolve_before_the_winner)
    answer = site.visitor().post_json(link, json=body)
    assert answer.json is not None
    assert answer.json["response"]["error_code"] == "link_used"
    assert site.password_works("the winner's new password")


LEAKS = """
mail_password = "xyzzy"
MAIL_PASSWRD = "xyzzy"
RECOVERY_SITE_NAME = 2020-01-01
RECOVERY_PUBLIC_URL = "https://me:xyzzy@id.example.com"
SQLALCHEMY_DATABASE_URI = "postgresql:///db?password=xyzzy"
[SQLALCHEMY_ENGINE_OPTIONS.connect_args]
password = "xyzzy"
[mail]
password = "xyzzy"
"""


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.requirement("R61")
def test_config_show_hides_whatever_may_be_a_secret(tmp_path: Path, form: str) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(LEAKS)
    environ = {
        **inherited(),
        **SECRETS,
        "RECOVERY_CONFIG": str(mine),
        "FLASK_DATABASE_URL": "postgresql://u:xyzzy@h/n",
    }
    command = [sys.executable, "manage.py", "config", "show", "--format", form]
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "xyzzy" not in ended.stdout + ended.stderr


@pytest.mark.requirement("R61")
def test_a_login_that_python_can_not_send_is_held_without_its_text(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def can_not(*_: Any) -> None:
        raise UnicodeEncodeError("ascii", "the pässword", 5, 6, "ordinal not in range(128)")

    monkeypatch.setattr("smtplib.SMTP.login", can_not)
    site.app.config["MAIL_USERNAME"] = site.app.config["MAIL_PASSWORD"] = "x"
    delivery.mailman.init_app(site.app)
    site.ask()
    with pytest.raises(RelayMisconfigured, match="MAIL_PASSWORD"):
        site.work()
    assert "ässword" not in str(site.messages())


def test_a_login_that_was_forgotten_holds_mail(site: Site) -> None:
    site.mailbox.refuse["MAIL"] = "530 5.7.0 Authentication required"
    site.ask()
    with pytest.raises(RelayMisconfigured, match="MAIL_USERNAME"):
        site.work()


def test_a_sender_with_an_internationalised_domain_needs_no_smtputf8(make_site: Any) -> None:
    site: Site = make_site(MAIL_DEFAULT_SENDER="Bücher <no-reply@bücher.example>")
    site.new_link()
    assert site.mailbox.mails[0]["From"] == "Bücher <no-reply@xn--bcher-kva.example>"


@BOTH
@pytest.mark.requirement("R54")
def test_a_forwarded_address_that_is_none_is_dropped(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_TRUSTED_PROXIES=1)
    headers = {"X-Forwarded-For": "x" * 300}
    assert site.visitor().post_json("/reset", json={"identity": "alice"}, headers=headers).status_code == 200


@pytest.mark.requirement("R61")
def test_a_traceback_in_the_log_holds_no_address(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger(site.app.logger.name)
    try:
        raise ValueError("alice@example.com can not be stored")
    except ValueError:
        log.exception("it failed")
    assert "alice@" not in "".join(record.exc_text or "" for record in caplog.records)
    assert "[address]" in "".join(record.exc_text or "" for record in caplog.records)


def test_a_database_that_fails_after_the_relay_accepted_costs_no_second_mail(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, failures = outbox.release, [1, 2, 3]

    def fail_at_first(*how: Any) -> bool:
        if failures:
            failures.pop()
            raise OperationalError("UPDATE", {}, Exception("the server closed the connection"))
        return release(*how)

    monkeypatch.setattr(outbox, "release", fail_at_first)
    monkeypatch.setattr(worker, "WRITE_SECONDS", 0.05)
    site.ask()
    site.work()
    assert (site.messages()[0]["state"], site.messages()[0]["attempts"]) == ("sent", 1)
    assert site.work() == 0
    assert len(site.mailbox.mails) == 1
