"""Flask-Security's features, each by its settings alone, and all at once: the journey goes on, no reset gets
around a second factor, and nothing tells who has an account.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskCliRunner
from flask_security import SmsSenderBaseClass
from playwright.sync_api import Page
from sqlalchemy import event
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.exc import StaleDataError
from support.mailbox import link_in, text_of
from support.servers import free_port
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, Visitor, served

import manage
from app.accounts import one_time_codes
from app.accounts.datastore import find_account
from app.accounts.models import User
from app.db.engine import db
from app.mail.outbox import OutboxMessage
from app.settings.problems import SettingsError

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
        page.get_by_label("New password again", exact=True).fill(NEW_PASSWORD)
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
    "/register": {"email": "{who}"},
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


@pytest.mark.requirement("R56")
@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
@pytest.mark.parametrize("path", ["/reset", "/confirm", "/register"])
def test_a_request_counts_once_whatever_is_switched_on(made: Any, path: str) -> None:
    limits = {"RATELIMIT_ENABLED": True, "RECOVERY_LIMIT_IDENTITY": "3 per hour"}
    site: Site = made(**ALL, **limits, RECOVERY_PUBLIC_URL="http://localhost:5000")
    body = {"email": "nobody@example.com"}
    seen = [site.visitor().post_json(path, json=body).status_code for _ in range(4)]
    assert seen == [200, 200, 200, 429]


# --- Signing up --------------------------------------------------------------------------------


def sign_up(site: Site, email: str = "dora@example.com", **more: str) -> Any:
    return site.visitor().submit("/register", "/register", email=email, **more)


def test_signing_up(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    answer = sign_up(site, "Dora@Example.com", username="Dora")
    assert answer.location.endswith("/check-mail?after=sign-up")
    assert find(site, "dora@example.com") is None
    site.work()
    assert "Finish signing up" in site.mailbox.mails[-1]["Subject"]
    assert site.visitor().set_password(site.last_link()).status_code == 302
    for identity in ("dora@example.com", "dora"):
        assert site.password_works(NEW_PASSWORD, identity)
    assert "registered" in site.events()
    site.work()
    site.new_link("dora")


@pytest.mark.requirement("R1")
def test_signing_up_with_an_address_that_has_an_account_changes_nothing(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    before = site.rows(User)
    answer = sign_up(site, "alice@example.com", username="dora")
    assert answer.location.endswith("/check-mail?after=sign-up")
    site.work()
    assert "There is an account with this address already" in text_of(site.mailbox.mails[-1])
    assert "/reset/" not in text_of(site.mailbox.mails[-1])
    assert site.rows(User) == before


@pytest.mark.requirement("R14")
def test_whoever_signs_up_anothers_address_has_nothing_of_that_account(made: Any) -> None:
    """Nobody types a password before the mail is read, so there is none that a stranger knows."""
    site: Site = made(**SIGN_UP)
    sign_up(site, username="stranger")
    site.work()
    first = site.last_link()
    sign_up(site)
    site.work()
    assert site.visitor().set_password(site.last_link()).status_code == 302
    assert "Another link was used" in site.visitor().open(first).text
    assert site.password_works(NEW_PASSWORD, "dora@example.com")


@pytest.mark.requirement("R25")
def test_no_mail_scanner_confirms_an_address(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    sign_up(site)
    site.work()
    for method in ("HEAD", "GET"):
        site.visitor().open(site.last_link(), method=method, follow_redirects=True)
    assert site.rows(User)[-1]["confirmed_at"] is None
    assert site.visitor().set_password(site.last_link()).status_code == 302
    assert site.rows(User)[-1]["confirmed_at"]


@pytest.mark.parametrize("state", [{"active": True}, {"active": False}])
def test_an_account_that_is_not_confirmed_yet_is_not_changed_by_a_stranger(
    make_site: Any, state: dict[str, bool]
) -> None:
    """One that was imported, or made by an admin."""
    site: Site = make_site(**SIGN_UP)
    site.change(**state)
    before = site.rows(User)
    sign_up(site, "alice@example.com")
    site.work()
    assert site.rows(User) == before
    assert len(site.mailbox.mails) == state["active"]


def test_a_username_that_somebody_has_is_told_by_mail_alone(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    assert sign_up(site, username="alice").location == sign_up(site, username="dora").location
    sign_up(site, username="Alice")
    site.work()
    assert "The username alice belongs to somebody else" in text_of(site.mailbox.mails[-1])
    site.visitor().set_password(site.last_link())
    assert site.password_works(NEW_PASSWORD, "dora@example.com")
    assert site.password_works(OLD_PASSWORD, "alice")


def test_the_username_is_the_one_of_the_newest_sign_up(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    for name in ("first", "second"):
        sign_up(site, username=name)
        site.work()
        assert "belongs to somebody else" not in text_of(site.mailbox.mails[-1])
    site.visitor().set_password(site.last_link())
    assert site.password_works(NEW_PASSWORD, "second")


@pytest.mark.requirement("R55")
def test_nobodys_mailbox_is_flooded_by_signing_up(made: Any) -> None:
    site: Site = made(**SIGN_UP, RECOVERY_MAIL_COOLDOWN="5 minutes")
    for email in ("alice@example.com", "dora@example.com") * 3:
        sign_up(site, email)
        site.work()
    assert sorted(mail["To"] for mail in site.mailbox.mails) == ["alice@example.com", "dora@example.com"]


@pytest.mark.requirement("R56")
def test_over_the_budget_of_all_signing_up_waits_too(made: Any) -> None:
    site: Site = made(**SIGN_UP, RECOVERY_MAIL_HOURLY_MAX=1)
    for name in ("dora", "emil"):
        sign_up(site, f"{name}@example.com")
        site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == ["dora@example.com"]
    assert site.messages()[-1]["state"] == "waiting"


@BOTH
def test_addresses_that_the_database_takes_for_one_do_not_meet(made: Any) -> None:
    """PostgreSQL lowers É, and we do not: the mail for one never goes to the other."""
    site: Site = made(**SIGN_UP)
    for email in ("É@example.com", "é@example.com"):
        sign_up(site, email)
        site.work()
    assert site.mailbox.envelopes in (
        [["É@example.com"]],
        [["É@example.com"], ["é@example.com"]],
    )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"email": "no address"}, "Type your email address."),
        ({"email": ""}, "Type your email address."),
        ({"username": "d d"}, "Take another username."),
        ({"username": "d" * 65}, "Take another username."),
    ],
)
def test_what_can_not_be_is_said_at_its_field_and_nothing_is_lost(
    made: Any, typed: dict[str, str], said: str
) -> None:
    site: Site = made(**SIGN_UP)
    body = {"email": "dora@example.com", **typed}
    page = site.visitor().submit("/register", "/register", **body)
    assert page.status_code == 400
    assert said in page.text
    assert body["email"] in page.text
    json = site.visitor().post_json("/register", json=body)
    assert json.status_code == 400
    assert said in str(json.json["response"]["field_errors"])
    assert site.messages() == []


@pytest.mark.parametrize("value", [7, None, ["a"], {"a": 1}, "\ud800"])
@pytest.mark.parametrize("field", ["email", "username", "identity"])
def test_nonsense_is_refused(made: Any, field: str, value: Any) -> None:
    site: Site = made(**SIGN_UP)
    body = {"email": "dora@example.com", "username": "dora", field: value}
    answer = site.visitor().post_json("/register", json=body)
    assert answer.status_code == (200 if (field, value) == ("username", None) else 400)


@pytest.mark.requirement("R56")
def test_no_other_field_is_counted_in_place_of_the_address(made: Any) -> None:
    site: Site = made(**SIGN_UP, RATELIMIT_ENABLED=True, RECOVERY_LIMIT_IDENTITY="2 per hour")
    codes = [
        site.visitor().post_json("/register", json={"email": "dora@example.com", "identity": f"x{n}"})
        for n in range(4)
    ]
    assert {answer.status_code for answer in codes} == {400}
    seen = [
        site.visitor().post_json("/register", json={"email": "dora@example.com"}).status_code
        for _ in range(3)
    ]
    assert seen == [200, 200, 429]


def test_a_program_signs_up(made: Any) -> None:
    site: Site = made(**SIGN_UP)
    known = site.visitor().open("/register", headers={"Accept": "application/json"}).json["response"]
    assert known["password_length_min"] == 15
    answer = site.visitor().post_json("/register", json={"email": "dora@example.com"})
    assert (answer.status_code, answer.json["response"]) == (200, {})
    site.work()
    site.visitor().set_password(site.last_link())
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


@pytest.mark.requirement("R37")
@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_no_reset_gets_around_a_passkey_as_second_factor(made: Any) -> None:
    site: Site = made(**FEATURES["passkeys"], RECOVERY_PUBLIC_URL="http://localhost:5000")
    with site.app.app_context():
        site.app.extensions["security"].datastore.create_webauthn(
            find_account("alice"),
            credential_id=b"key",
            public_key=b"public",
            name="My phone",
            sign_count=0,
            usage="secondary",
            device_type="single_device",
            backup_state=False,
        )
        db.session.commit()
    site.visitor().set_password(site.new_link())
    answer = half_in(site, NEW_PASSWORD).open("/")
    assert "You are not signed in" in answer.text


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_a_code_works_once(made: Any) -> None:
    site: Site = made(**FACTORS)
    code = code_of(site, set_up_factor(site, "authenticator"))
    for typed, comes_in in ((code, True), (code, False), (f"{code[:3]} {code[3:]}", False)):
        alice = half_in(site)
        alice.submit("/tf-validate", "/tf-validate", code=typed)
        assert alice.is_signed_in() is comes_in


def test_a_code_works_once_in_all_processes_and_for_each_secret(made: Any) -> None:
    one: Site = made(**FACTORS)
    with one.app.app_context():
        other: Site = made(**FACTORS, SQLALCHEMY_DATABASE_URI=str(db.engine.url))
    codes, elsewhere = (site.app.extensions["security"].totp_factory for site in (one, other))
    secrets = [codes.generate_totp_secret() for _ in range(2)]
    for secret in secrets:
        code = codes.generate_totp_password(secret)
        with one.app.app_context():
            assert codes.verify_totp(code, secret, User())
            db.session.commit()
        with other.app.app_context():
            assert not elsewhere.verify_totp(code, secret, User())


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_a_code_works_once_though_the_sign_in_goes_on(made: Any) -> None:
    """Where Flask-Security's views commit nothing: the second factor is still to come, or was confirmed."""
    site: Site = made(**ALL, RECOVERY_PUBLIC_URL="http://localhost:5000")
    secret = set_up_codes(site)
    set_up_factor(site, "authenticator")
    once = {"identity": "alice", "passcode": code_of(site, secret)}
    assert [site.visitor().post_json("/us-signin", json=once).status_code for _ in range(2)] == [200, 400]


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_a_code_confirms_who_it_is_once(made: Any) -> None:
    site: Site = made(**UNIFIED)
    secret = set_up_codes(site)
    alice = site.visitor()
    assert alice.sign_in()
    once = {"passcode": code_of(site, secret)}
    assert [alice.post_json("/us-verify", json=once).status_code for _ in range(2)] == [200, 400]


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


@pytest.mark.requirement("R57")
@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_a_reset_begins_no_new_count_of_guesses(made: Any) -> None:
    site: Site = made(**FACTORS, RATELIMIT_ENABLED=True, RECOVERY_LIMIT_IDENTITY="3 per hour")
    set_up_factor(site, "authenticator")
    guesses = []
    for password in (OLD_PASSWORD, NEW_PASSWORD):
        alice = half_in(site, password)
        guesses += [alice.post_json("/tf-validate", json={"code": "000000"}).status_code for _ in range(2)]
        site.visitor().set_password(site.new_link())
        site.work()
    assert guesses == [400, 400, 400, 429]


@pytest.mark.requirement("R37")
@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_who_is_half_in_does_not_replace_a_factor_that_was_set_up_meanwhile(made: Any) -> None:
    site: Site = made(**FACTORS, SECURITY_TWO_FACTOR_REQUIRED=True)
    thief = site.visitor()
    thief.submit("/login", identity="alice", password=OLD_PASSWORD)
    set_up_factor(site, "authenticator")  # by the owner
    answer = thief.post_json("/tf-setup", json={"setup": "authenticator"})
    assert answer.status_code == 400
    assert not thief.is_signed_in()


def test_a_recovery_code_works_once_though_two_type_it_at_the_same_moment(made: Any) -> None:
    site: Site = made(**FACTORS, **RECOVERY_CODES)
    with site.app.app_context():
        datastore = site.app.extensions["security"].datastore
        user = find_account("alice")
        datastore.mf_set_recovery_codes(user, ["one", "two"])
        db.session.commit()
        before = list(user.mf_recovery_codes)
        datastore.mf_delete_recovery_code(user, 0)
        db.session.commit()
        db.session.expunge_all()
        late = find_account("alice")
        set_committed_value(late, "mf_recovery_codes", before)  # as the other has read them
        with pytest.raises(StaleDataError):
            datastore.mf_delete_recovery_code(late, 0)
        db.session.rollback()
        assert len(find_account("alice").mf_recovery_codes) == 1


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")
def test_a_text_that_can_not_be_sent_is_said_so(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = made(**FACTORS)
    set_up_factor(site, "sms", phone="+14155550123")
    monkeypatch.setattr(one_time_codes.FileSender, "send_sms", lambda *_, **__: 1 / 0)
    answer = site.visitor().post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
    assert (answer.status_code, answer.json["response"]["error_code"]) == (503, "unavailable")


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


def test_a_site_whose_name_apps_could_not_show(made: Any) -> None:
    made(**FACTORS, RECOVERY_SITE_NAME="Acme: Mail")  # a colon ends the name in what the picture holds


def test_somebodys_own_sms_service(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    class Mine(SmsSenderBaseClass):
        def send_sms(self, from_number: str, to_number: str, msg: str) -> None:
            sent.append(to_number)

    monkeypatch.setattr(one_time_codes, "Mine", Mine, raising=False)
    site: Site = made(**{**FACTORS, "SECURITY_SMS_SERVICE": "app.accounts.one_time_codes:Mine"})
    set_up_factor(site, "sms", phone="+14155550123")
    half_in(site)
    assert sent == ["+14155550123"]


@pytest.mark.parametrize(
    "service", ["no.such.module:Sender", "app.accounts.one_time_codes:NoSuch", "app.accounts.one_time_codes:"]
)
def test_an_sms_service_that_is_not_there(made: Any, service: str) -> None:
    with pytest.raises(SettingsError, match=r"SECURITY_SMS_SERVICE .*cannot be imported"):
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


def test_nobody_comes_in_by_what_stands_for_a_secret_that_is_not_there(made: Any) -> None:
    site: Site = made(**UNIFIED)
    assert not unified(site, code_of(site, site.app.extensions["dummy_totp"]))
    set_up_codes(site, "bob")
    assert not unified(site, code_of(site, site.app.extensions["dummy_totp"]), "bob@example.com")


@pytest.mark.requirement("R57")
def test_codes_can_not_be_guessed_and_the_password_goes_on_to_work(made: Any) -> None:
    site: Site = made(**UNIFIED, RATELIMIT_ENABLED=True, RECOVERY_LIMIT_SOURCE="1000 per minute")
    secret = set_up_codes(site)
    for n in range(10):
        name = ("alice", "alice@example.com", "+14155550123")[n % 3]
        assert not unified(site, f"00000{n}", name)
    assert not unified(site, code_of(site, secret))
    assert unified(site, OLD_PASSWORD)


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
    site: Site = made(**UNIFIED)
    set_up_codes(site)
    site.visitor().post_json("/us-signin/send-code", json={"identity": "alice"})
    site.change(OutboxMessage, OutboxMessage.id > 0, created_at=datetime(2026, 1, 1))
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
