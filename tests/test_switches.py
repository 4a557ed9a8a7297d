"""Flask-Security's features, each by its settings alone, and all at once: the journey goes on, no reset gets
around a second factor, and nothing tells who has an account.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import NEW_PASSWORD, OLD_PASSWORD, Site, Visitor, free_port, link_in, served, text_of
from flask.testing import FlaskCliRunner
from flask_security import SmsSenderBaseClass
from playwright.sync_api import Page
from sqlalchemy import event

import manage
from app import codes, health
from app.db import db
from app.errors import SettingsError
from app.identities import find_account
from app.models import User

SEALED = {"SECURITY_TOTP_SECRETS": {"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"}}
CONFIRMED = {"SECURITY_CONFIRMABLE": True}
FACTORS = {
    **SEALED,
    "SECURITY_TWO_FACTOR": True,
    "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["authenticator", "email", "sms"],
    "SECURITY_SMS_SERVICE": "file",
}
RECOVERY_CODES = {
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES": True,
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS": ["cmVjb3ZlcnkgY29kZXMga2V5IHRoYXQgaXMgMzIgYiE="],
}
UNIFIED = {**SEALED, "SECURITY_UNIFIED_SIGNIN": True}
SIGN_UP = {**CONFIRMED, "SECURITY_REGISTERABLE": True, "SECURITY_USERNAME_ENABLE": True}
FEATURES: dict[str, dict[str, Any]] = {
    "registration": {**CONFIRMED, "SECURITY_REGISTERABLE": True},
    "confirmation": CONFIRMED,
    "change of password": {"SECURITY_CHANGEABLE": True},
    "change of address": {"SECURITY_CHANGE_EMAIL": True},
    "username recovery": {"SECURITY_USERNAME_RECOVERY": True},
    "usernames": {"SECURITY_USERNAME_ENABLE": True},
    "tracking": {"SECURITY_TRACKABLE": True},
    "second factor": FACTORS,
    "recovery codes": {**FACTORS, **RECOVERY_CODES},
    "unified sign-in": UNIFIED,
    "passkeys": {"SECURITY_WEBAUTHN": True},
}
ALL = {name: value for feature in FEATURES.values() for name, value in feature.items()}
EACH = {"nothing else": {"SECURITY_CHANGEABLE": False}, **FEATURES, "all at once": ALL}


def confirmed(site: Site) -> Site:
    """Everybody's address is."""
    site.change(User, User.id > 0, confirmed_at=datetime.now(UTC).replace(tzinfo=None))
    return site


@pytest.fixture
def made(make_site: Any) -> Any:
    return lambda **given: confirmed(make_site(**given))


# --- The journey -------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("feature", EACH)
def test_the_journey_in_the_browser(made: Any, page: Page, feature: str) -> None:
    port = free_port()
    base = f"http://localhost:{port}"
    site: Site = made(**EACH[feature], RECOVERY_PUBLIC_URL=base)
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    with served(site.app, port):
        page.goto(f"{base}/login")
        page.get_by_role("link", name="Forgot your password?").click()
        page.get_by_label("Email address, username or phone number").fill("alice")
        page.get_by_role("button", name="Send me a link").click()
        assert page.get_by_role("heading", level=1).inner_text() == "Check your mail"
        page.goto(link_in(site.mailbox.wait_for(1)))
        page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
        page.get_by_label("New password again").fill(NEW_PASSWORD)
        page.get_by_role("button", name="Set new password").click()
        assert page.get_by_role("heading", level=1).inner_text() == "Your password is changed"
        page.goto(f"{base}/login")
        page.get_by_label("Email address, username or phone number").fill("alice@example.com")
        page.get_by_label("Password").fill(NEW_PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        assert page.get_by_role("heading", level=1).inner_text() == "You are signed in"
    assert problems == []


# --- Nothing tells -----------------------------------------------------------------------------

WHO = ("alice@example.com", "nobody@example.com", "inactive@example.com", "sso@example.com")
OPEN = {
    "/reset": {"identity": "{who}"},
    "/login": {"identity": "{who}", "password": "not the right one"},
    "/confirm": {"identity": "{who}"},
    "/recover-username": {"identity": "{who}"},
    "/register": {"email": "{who}", "password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD},
    "/us-signin": {"identity": "{who}", "passcode": "123456"},
    "/us-signin/send-code": {"identity": "{who}", "chosen_method": "email"},
    "/wan-signin": {"identity": "{who}"},
}


@pytest.mark.requirement("R1", "R2")
@pytest.mark.parametrize("path", OPEN)
def test_the_same_statements_and_the_same_answer_for_everybody(
    made: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site: Site = made(**ALL, RECOVERY_PUBLIC_URL="http://localhost:5000")
    monkeypatch.setattr(health, "COUNT_SECONDS", 3600)
    site.ask("nobody at all")  # counts what waits, which each process does now and then
    set_up_codes(site, "alice")
    with site.app.app_context():
        engine = db.engine
    seen: list[Any] = []
    for who in (*WHO, WHO[0]):
        statements: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any, to: list[str] = statements) -> None:
            to.append(statement)

        body = {name: value.format(who=who) for name, value in OPEN[path].items()}
        event.listen(engine, "before_cursor_execute", note)
        json = site.visitor().post_json(path, json=body)
        form = site.visitor().submit("/login", path, **body)
        event.remove(engine, "before_cursor_execute", note)
        told = [without_chance(answer.text.replace(who, "-")) for answer in (form, json)]
        seen.append((form.status_code, form.location, json.status_code, told, statements))
    assert seen[1:] == seen[:1] * len(WHO)
    if path not in ("/login", "/us-signin"):
        assert not any("FROM user" in text or '"user"' in text for text in seen[0][-1])


def without_chance(text: str) -> str:
    """Challenges, tokens and nonces are drawn anew for everybody."""
    return re.sub(r"[\w.\-]{20,}", "-", text)


# --- Signing up --------------------------------------------------------------------------------


def sign_up(site: Site, email: str = "dora@example.com", password: str = NEW_PASSWORD, **more: str) -> Any:
    body = {"email": email, "password": password, "password_confirm": password, **more}
    return site.visitor().submit("/register", "/register", **body)


def link_to_confirm(site: Site) -> str:
    [link] = re.findall(r"http\S+/confirm/\S+", text_of(site.mailbox.mails[-1]))
    return str(link)


def test_signing_up(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    answer = sign_up(site, "Dora@Example.com", username="Dora")
    assert answer.location.endswith("/check-mail?to=confirm")
    assert find(site, "dora@example.com") is None
    assert NEW_PASSWORD not in str(site.messages())
    site.work()
    assert not site.password_works(NEW_PASSWORD, "dora@example.com")
    site.visitor().open(link_to_confirm(site))
    for identity in ("dora@example.com", "dora"):
        assert site.password_works(NEW_PASSWORD, identity)
    assert "registered" in site.events()
    site.new_link("dora")


@pytest.mark.requirement("R1")
def test_signing_up_with_an_address_that_has_an_account_changes_nothing(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    before = site.rows(User)
    answer = sign_up(site, "alice@example.com", username="dora")
    assert answer.location.endswith("/check-mail?to=confirm")
    site.work()
    assert "has an account there already" in text_of(site.mailbox.mails[-1])
    assert "/confirm/" not in text_of(site.mailbox.mails[-1])
    assert site.rows(User) == before


def test_a_username_that_somebody_has_is_told_by_mail_alone(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    assert sign_up(site, username="alice").location == sign_up(site, username="dora").location
    sign_up(site, username="Alice")
    site.work()
    assert "The username alice belongs to somebody else" in text_of(site.mailbox.mails[-1])
    site.visitor().open(link_to_confirm(site))
    assert site.password_works(NEW_PASSWORD, "dora@example.com")
    assert site.password_works(OLD_PASSWORD, "alice")


@pytest.mark.requirement("R14")
def test_of_two_who_sign_up_the_same_address_only_the_newest_mails_link_works(made: Any) -> None:
    """Or whoever signs up an address before its owner would have the password of the account they confirm."""
    site: Site = made(**SIGN_UP)
    sign_up(site, password="of whoever was first here")
    site.work()
    first = link_to_confirm(site)
    sign_up(site)
    site.work()
    site.visitor().open(first)
    assert not site.password_works("of whoever was first here", "dora@example.com")
    site.visitor().open(link_to_confirm(site))
    assert not site.password_works("of whoever was first here", "dora@example.com")
    assert site.password_works(NEW_PASSWORD, "dora@example.com")


@pytest.mark.requirement("R55")
def test_nobodys_mailbox_is_flooded_by_signing_up(made: Any) -> None:
    site: Site = made(**SIGN_UP, RECOVERY_MAIL_COOLDOWN="5 minutes")
    for email in ("alice@example.com", "dora@example.com") * 3:
        sign_up(site, email)
        site.work()
    assert sorted(mail["To"] for mail in site.mailbox.mails) == ["alice@example.com", "dora@example.com"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"email": "no address"}, "Type your email address."),
        ({"email": ""}, "Type your email address."),
        ({"password": "short"}, "at least 15 characters"),
        ({"password": "dora@example.com"}, "too close to your name"),
        ({"password_confirm": "another password"}, "not the same"),
        ({"username": "d d"}, "Take another username."),
    ],
)
def test_what_can_not_be_is_said_at_its_field_and_nothing_is_lost(
    made: Any, typed: dict[str, str], said: str
) -> None:
    site: Site = made(**SIGN_UP)
    body = {"email": "dora@example.com", "password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD, **typed}
    if "password" in typed:
        body["password_confirm"] = typed["password"]
    page = site.visitor().submit("/register", "/register", **body)
    assert page.status_code == 400
    assert said in page.text
    assert body["email"] in page.text
    json = site.visitor().post_json("/register", json=body)
    assert json.status_code == 400
    assert said in str(json.json["response"]["field_errors"])
    assert site.messages() == []


@pytest.mark.parametrize("value", [7, None, ["a"], {"a": 1}])
@pytest.mark.parametrize("field", ["email", "password", "username", "password_confirm"])
def test_nonsense_is_refused(made: Any, field: str, value: Any) -> None:
    site: Site = made(**SIGN_UP)
    body = {"email": "dora@example.com", "password": NEW_PASSWORD, "username": "dora", field: value}
    assert site.visitor().post_json("/register", json=body).status_code in (200, 400)


def test_a_program_signs_up(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    known = site.visitor().open("/register", headers={"Accept": "application/json"}).json["response"]
    assert known["password_length_min"] == 15
    answer = site.visitor().post_json(
        "/register", json={"email": "dora@example.com", "password": NEW_PASSWORD}
    )
    assert (answer.status_code, answer.json["response"]) == (200, {})
    site.work()
    site.visitor().open(link_to_confirm(site))
    assert site.password_works(NEW_PASSWORD, "dora@example.com")


def test_what_a_program_may_send_is_described(made: Any) -> None:
    assert "/register" in made(**SIGN_UP).visitor().open("/openapi.json").json["paths"]
    assert "/register" not in made().visitor().open("/openapi.json").json["paths"]


def test_somebody_who_is_in_does_not_sign_up(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    alice = site.visitor()
    alice.sign_in()
    assert alice.open("/register").status_code == 302


# --- Codes, and second factors ---------------------------------------------------------------------


def find(site: Site, identity: str) -> User | None:
    with site.app.app_context():
        return find_account(identity)


def set_up_codes(site: Site, identity: str = "alice") -> str:
    """For unified sign-in, by mail. Returns what the codes are made from."""
    with site.app.app_context():
        security = site.app.extensions["security"]
        secret = str(security.totp_factory.generate_totp_secret())
        security.datastore.us_set(find_account(identity), "email", secret)
        db.session.commit()
    return secret


def set_up_factor(site: Site, method: str, phone: str | None = None) -> str:
    with site.app.app_context():
        security = site.app.extensions["security"]
        secret = str(security.totp_factory.generate_totp_secret())
        security.datastore.tf_set(find_account("alice"), method, totp_secret=secret, phone=phone)
        db.session.commit()
    return secret


def code_of(site: Site, secret: str) -> str:
    with site.app.app_context():
        return str(site.app.extensions["security"].totp_factory.generate_totp_password(secret))


def half_in(site: Site, password: str = OLD_PASSWORD) -> Visitor:
    """Alice, with her password typed and the second factor still to come."""
    alice = site.visitor()
    alice.submit("/login", identity="alice", password=password)
    assert not alice.is_signed_in()
    return alice


def code_sent(site: Site, method: str, secret: str) -> str:
    if method == "authenticator":
        return code_of(site, secret)
    if method == "email":
        site.work()
        said = text_of(site.mailbox.mails[-1])
    else:
        said = Path(site.app.instance_path, "sms.txt").read_text().splitlines()[-1]
        assert " +14155550123 " in said
    return re.findall(r"\b\d{6}\b", said)[-1]


@pytest.fixture
def instance(made: Any, tmp_path: Path) -> Any:
    """Sites whose instance folder is empty."""

    def make(**given: Any) -> Site:
        site: Site = made(**given)
        site.app.instance_path = str(tmp_path)
        return site

    return make


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("method", ["authenticator", "email", "sms"])
@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")  # Flask-Security's own
def test_no_reset_gets_around_a_second_factor(instance: Any, method: str) -> None:
    site: Site = instance(**FACTORS)
    secret = set_up_factor(site, method, phone="+14155550123")
    alice = site.visitor()
    alice.set_password(site.new_link())
    assert not alice.is_signed_in()
    alice = half_in(site, NEW_PASSWORD)
    alice.submit("/tf-validate", "/tf-validate", code="000000")
    assert not alice.is_signed_in()
    alice.submit("/tf-validate", "/tf-validate", code=code_sent(site, method, secret))
    assert alice.is_signed_in()


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_a_code_works_once(made: Any) -> None:
    site: Site = made(**FACTORS, RATELIMIT_ENABLED=True)
    code = code_of(site, set_up_factor(site, "authenticator"))
    for typed, comes_in in ((code, True), (code, False), (f"{code[:3]} {code[3:]}", False)):
        alice = half_in(site)
        alice.submit("/tf-validate", "/tf-validate", code=typed)
        assert alice.is_signed_in() is comes_in


@pytest.mark.requirement("R37")
@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_a_device_that_was_trusted_is_not_after_a_reset(made: Any) -> None:
    site: Site = made(**FACTORS, SECURITY_TWO_FACTOR_ALWAYS_VALIDATE=False)
    secret = set_up_factor(site, "authenticator")
    alice = site.visitor()
    alice.submit("/login", identity="alice", password=OLD_PASSWORD, remember="y")
    alice.submit("/tf-validate", "/tf-validate", code=code_of(site, secret))
    assert alice.is_signed_in()
    alice.submit("/", "/logout")
    assert alice.sign_in()  # this device is known
    alice.submit("/", "/logout")
    alice.set_password(site.new_link())
    assert not alice.sign_in(password=NEW_PASSWORD)


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_whoever_lost_the_second_factor_tells_the_operator_and_nobody_mails_a_way_around(made: Any) -> None:
    site: Site = made(**FACTORS, RECOVERY_OPERATOR="op@example.com")
    set_up_factor(site, "authenticator")
    alice = half_in(site)
    alice.submit("/tf-validate", "/tf-rescue", help_setup="email")
    assert site.messages() == []
    alice.submit("/tf-validate", "/tf-rescue", help_setup="help")
    site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == ["op@example.com"]


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_without_an_operator_nobody_is_told(made: Any) -> None:
    site: Site = made(**FACTORS)
    set_up_factor(site, "authenticator")
    half_in(site).submit("/tf-validate", "/tf-rescue", help_setup="help")
    assert site.messages() == []


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_an_admin_takes_the_factor_off_for_whoever_lost_it(made: Any) -> None:
    site: Site = made(**FACTORS)
    set_up_factor(site, "authenticator")
    assert not site.password_works(OLD_PASSWORD)
    done = FlaskCliRunner(site.app).invoke(manage.cli, ["users", "reset_access", "alice"])
    assert done.exit_code == 0, done.output
    assert site.password_works(OLD_PASSWORD)
    assert "admin" in site.events()


def test_somebodys_own_sms_service(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    class Mine(SmsSenderBaseClass):
        def send_sms(self, from_number: str, to_number: str, msg: str) -> None:
            sent.append(to_number)

    monkeypatch.setattr(codes, "Mine", Mine, raising=False)
    site: Site = made(**{**FACTORS, "SECURITY_SMS_SERVICE": "app.codes:Mine"})
    set_up_factor(site, "sms", phone="+14155550123")
    half_in(site)
    assert sent == ["+14155550123"]


@pytest.mark.parametrize("service", ["no.such.module:Sender", "app.codes:NoSuch", "app.codes:"])
def test_an_sms_service_that_is_not_there(made: Any, service: str) -> None:
    with pytest.raises(SettingsError, match=r"SECURITY_SMS_SERVICE .*can not be imported"):
        made(**{**FACTORS, "SECURITY_SMS_SERVICE": service})


# --- Unified sign-in -----------------------------------------------------------------------------


def unified(site: Site, passcode: str, identity: str = "alice@example.com") -> bool:
    visitor = site.visitor()
    visitor.submit("/us-signin", "/us-signin", identity=identity, passcode=passcode)
    return visitor.is_signed_in()


def test_a_password_or_a_code_signs_in(made: Any) -> None:
    site: Site = made(**UNIFIED, RATELIMIT_ENABLED=True)
    set_up_codes(site)
    assert unified(site, OLD_PASSWORD)
    assert not unified(site, "wrong")
    site.visitor().submit("/us-signin", "/us-signin/send-code", identity="alice", chosen_method="email")
    code = code_sent(site, "email", "")
    assert not unified(site, code, "bob@example.com")
    assert unified(site, code)
    assert not unified(site, code)  # once


def test_a_code_goes_to_nobody_who_did_not_choose_it(made: Any) -> None:
    site: Site = made(**UNIFIED)
    for identity in ("alice", "nobody", "inactive@example.com"):
        site.visitor().post_json(
            "/us-signin/send-code", json={"identity": identity, "chosen_method": "email"}
        )
    site.work()
    assert site.mailbox.mails == []
    assert "has not chosen" in site.messages()[0]["reason"]


def test_a_code_that_comes_too_late_is_not_sent(made: Any) -> None:
    site: Site = made(**UNIFIED, SECURITY_US_TOKEN_VALIDITY=1)
    set_up_codes(site)
    site.visitor().post_json("/us-signin/send-code", json={"identity": "alice"})
    time.sleep(1.1)
    site.work()
    assert site.mailbox.mails == []
    assert "longer ago than one works" in site.messages()[-1]["reason"]


def test_no_mailed_link_signs_in(made: Any) -> None:
    site: Site = made(**UNIFIED)
    secret = set_up_codes(site)
    user = find(site, "alice")
    assert user is not None
    visitor = site.visitor()
    answer = visitor.open(f"/us-verify-link?id={user.fs_uniquifier}&code={code_of(site, secret)}")
    assert answer.status_code == 404
    assert not visitor.is_signed_in()


@pytest.mark.parametrize("who", ["inactive@example.com", "sso@example.com", "nobody@example.com"])
def test_whoever_may_not_come_in_does_not(made: Any, who: str) -> None:
    assert not unified(made(**UNIFIED), OLD_PASSWORD, who)


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_unified_sign_in_asks_for_the_second_factor_too(made: Any) -> None:
    site: Site = made(**{**UNIFIED, **FACTORS})
    set_up_factor(site, "authenticator")
    assert not unified(site, OLD_PASSWORD)


def test_what_makes_no_sense_is_refused(made: Any) -> None:
    site: Site = made(**UNIFIED)
    for body in ({}, {"identity": "alice"}, {"identity": 7, "passcode": 7}, {"identity": "", "passcode": ""}):
        assert site.visitor().post_json("/us-signin", json=body).status_code == 400
        assert (
            "identity" in body
            or site.visitor().post_json("/us-signin/send-code", json=body).status_code == 400
        )


# --- The others ----------------------------------------------------------------------------------


def test_tracking_keeps_when_and_from_where(made: Any) -> None:
    site: Site = made(SECURITY_TRACKABLE=True)
    assert site.password_works(OLD_PASSWORD)
    alice = site.rows(User)[0]
    assert alice["login_count"] == 1
    assert alice["current_login_ip"] == "127.0.0.1"


def test_sign_in_survives_usernames(made: Any) -> None:
    """Flask-Security rewrites the fields of forms that derive from its own."""
    site: Site = made(SECURITY_USERNAME_ENABLE=True)
    for identity in ("alice", "alice@example.com", "(415) 555-0123"):
        assert site.password_works(OLD_PASSWORD, identity)


def test_no_passkey_is_hinted_at(made: Any) -> None:
    site: Site = made(SECURITY_WEBAUTHN=True, RECOVERY_PUBLIC_URL="http://localhost:5000")
    answer = site.visitor().post_json("/wan-signin", json={"identity": "alice@example.com"})
    assert answer.json["response"]["credential_options"]["allowCredentials"] == []
