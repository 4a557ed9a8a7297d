"""Every way in which an address, password, factor, state or role changes: one notice to the owner, and events.

The lists below name every POST and every command. A new one fails a test until it has a place here.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from passlib.totp import TOTP
from support import factors, features
from support.commands import run
from support.factors import post, stolen_session
from support.mailbox import words_of
from support.recovery import link_of, mails_to, object_to, objection_in
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, Visitor

import manage
from app.accounts.datastore import end_access
from app.accounts.models import User
from app.db.engine import db

ALICE, NEW, INACTIVE = "alice@example.com", "alice@new.example.com", "inactive@example.com"
SECOND = "alice@home.example.com"
PASSWORD = "Your Sparekey password was changed"
RESET = "A new password was set for your Sparekey account"
ADDRESS = "Your Sparekey email address was changed"
ACCOUNT = "Your Sparekey account was changed"
FROZEN = "Password resets for your Sparekey account are paused"
SETTLED = "Password resets for your Sparekey account are no longer paused"
FEATURES = {**features.ALL_FEATURES, **factors.FACTORS, **features.REGISTRATION, "SECURITY_REFRESH_TOKEN": True}  # fmt: skip
EVENTS = ("address_changed", "password_changed", "factor_changed", "account_changed")

Act = Callable[[Site, Visitor], Any]  # with a browser in which alice has signed in before


class Way(NamedTuple):
    """A change: its endpoint or command, what leads to it, itself, the notices and the events."""

    name: str
    prepare: Act
    act: Act
    notices: dict[str, str]  # subject by recipient
    events: str


def on(act: Callable[[Site], Any]) -> Act:
    return lambda site, _: act(site)


def send(path: str, **fields: Any) -> Act:
    return lambda _, alice: post(alice, path, **fields)


def command(words: str) -> Act:
    return on(lambda site: run(site, *words.split(), *site.app.extensions.get("options of commands", ())))


def change(**values: Any) -> Act:
    return on(lambda site: site.change(**values))


def follow(kind: str) -> Act:
    return on(lambda site: site.visitor().submit(link_of(site, kind)))


def steps(*acts: Act) -> Act:
    def act(site: Site, alice: Visitor) -> None:
        for step in acts:
            step(site, alice)
            site.work()

    return act


def settle(keep: str) -> Act:
    def act(site: Site, _alice: Visitor) -> None:
        owner, secret = features.enter_password(site), site.rows(User)[0]["tf_totp_secret"]
        owner.submit("/tf-validate", "/tf-validate", code=features.one_time_code(site, secret))
        assert owner.submit("/", "/settle-address", keep=keep).location == "/"

    return act


def set_up_required_factor(site: Site, _alice: Visitor) -> None:
    site.app.config["SECURITY_TWO_FACTOR_REQUIRED"] = True
    visitor = features.enter_password(site)
    key = post(visitor, "/tf-setup", setup="authenticator")["tf_authr_b32key"]
    post(visitor, "/tf-validate", code=TOTP(key=key).generate().token)


nothing = steps()
request_link = on(Site.new_link)
redeem = on(lambda site: site.visitor().set_password(site.last_link()))
object_in_browser = on(lambda site: object_to(site, mails_to(site, ALICE)[-1]))
object_by_json = on(lambda site: post(site.visitor(), objection_in(mails_to(site, ALICE)[-1])))
set_up_app = on(features.set_up_factor)
new_passwords = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
request_new_address = send("/change-email", email=NEW)
unconfirm, have_second = change(confirmed_at=None), change(second_email=SECOND)
request_confirmation = steps(unconfirm, on(lambda site: post(site.visitor(), "/confirm", identity=ALICE)))
reset = steps(request_link, redeem)
change_address = steps(request_new_address, follow("change-email"))
freeze = steps(change_address, object_in_browser)
contest = change(email=NEW, contested_email=ALICE, contested_at=User.create_datetime)
freeze_with_older_factor = steps(set_up_app, contest)
give_role = steps(command("roles create editor"), command("roles add alice editor"))

TOLD, BOTH_TOLD = {ALICE: ACCOUNT}, {ALICE: ACCOUNT, SECOND: ACCOUNT}
CHANGED, ALL_TOLD = {ALICE: PASSWORD}, {**BOTH_TOLD, NEW: ACCOUNT}
BOTH_FROZEN, BOTH_SETTLED = {ALICE: FROZEN, NEW: FROZEN}, {ALICE: SETTLED, NEW: SETTLED}
RESTORED = "account_changed address_changed password_changed"
WEB = [
    Way("security.reset_password", request_link, redeem, {ALICE: RESET}, "password_changed"),
    Way("security.change_password", nothing, send("/change", **new_passwords), CHANGED, "password_changed"),
    Way("security.change_email_confirm", request_new_address, follow("change-email"), {ALICE: ADDRESS}, "address_changed"),
    Way("security.confirm_email", request_confirmation, follow("confirm"), TOLD, "account_changed"),
    Way("security.second_address_confirm", send("/second-address", email=SECOND), follow("second-address"), BOTH_TOLD, "address_changed"),
    Way("security.second_address", have_second, send("/second-address", email=""), BOTH_TOLD, "address_changed"),
    Way("objections.not_me", reset, object_in_browser, CHANGED, "password_changed"),
    Way("objections.land", reset, object_by_json, CHANGED, "password_changed"),
    Way("objections.not_me", change_address, object_in_browser, BOTH_FROZEN, "account_changed"),
    Way("pages.settle_address", freeze_with_older_factor, settle("old"), BOTH_SETTLED, RESTORED),
    Way("pages.settle_address", freeze_with_older_factor, settle("new"), BOTH_SETTLED, "account_changed"),
    Way("security.two_factor_setup_validate", nothing, factors.add_app, TOLD, "factor_changed"),
    Way("security.two_factor_setup", set_up_app, send("/tf-setup", setup="disable"), TOLD, "factor_changed"),
    Way("security.two_factor_token_validation", nothing, set_up_required_factor, TOLD, "factor_changed"),
    Way("security.us_setup_validate", nothing, factors.add_code_sign_in, TOLD, "factor_changed"),
    Way("security.us_setup", factors.add_code_sign_in, send("/us-setup", delete_method=["authenticator"]), TOLD, "factor_changed"),
    Way("security.mf_recovery_codes", nothing, factors.add_recovery_codes, TOLD, "factor_changed"),
    Way("security.wan_register_response", nothing, factors.add_passkey, TOLD, "factor_changed"),
    Way("security.wan_delete", factors.add_passkey, send("/wan-delete", name="My phone"), TOLD, "factor_changed"),
]  # fmt: skip
COMMANDS = [
    Way("users activate", nothing, command(f"users activate {INACTIVE}"), {INACTIVE: ACCOUNT}, "account_changed"),
    Way("users deactivate", nothing, command("users deactivate alice"), TOLD, "account_changed"),
    Way("users confirm", unconfirm, command("users confirm alice"), TOLD, "account_changed"),
    Way("users reset_access", factors.add_passkey, command("users reset_access alice"), TOLD, "factor_changed"),
    Way("users change_password", nothing, command("users change_password alice --password kfwmqzhtrbxpldv"), CHANGED, "password_changed"),
    Way("users second-address", have_second, command(f"users second-address alice {NEW}"), ALL_TOLD, "address_changed"),
    Way("users force-reset", nothing, command("users force-reset alice"), CHANGED, "password_changed"),
    Way("users settle-address", freeze, command("users settle-address alice --keep old"), BOTH_SETTLED, RESTORED),
    Way("users settle-address", freeze, command("users settle-address alice --keep new"), BOTH_SETTLED, "account_changed"),
    Way("roles add", command("roles create editor"), command("roles add alice editor"), TOLD, "account_changed"),
    Way("roles remove", give_role, command("roles remove alice editor"), TOLD, "account_changed"),
]  # fmt: skip
# POSTs that change no account's address, password, factor, state or role. Of these, security.change_email only asks,
# register makes an account, whose owner gets a mail to finish it, and mf_recovery uses up a code, at a sign-in.
HARMLESS_POSTS = {
    "change_email", "forgot_password", "login", "logout", "mf_recovery", "recover_username", "refresh_token", "register",
    "reset_code", "send_confirmation", "tf_select", "two_factor_rescue", "us_signin", "us_signin_send_code", "us_verify",
    "us_verify_send_code", "verify", "wan_register", "wan_signin", "wan_signin_response", "wan_verify", "wan_verify_response",
}  # fmt: skip
# Commands that change nothing of an existing account. Those that make one tell nobody, because nothing of an
# owner's has changed, and an import of a million would be a mass mailing that holds up recovery. `roles
# add_permissions` is of a role: no account gets or loses one. The redemption of `users reset-link` is told.
HARMLESS_COMMANDS = {
    "roles add_permissions", "roles create", "roles remove_permissions", "users create", "users import", "users invite",
    "users reset-link", "users send-reset", "users show",
}  # fmt: skip
# Groups and commands beside `users` and `roles`. They change no account. After `after-restore`, which ends the
# sessions of all, everybody knows of the outage.
OTHER_COMMANDS = {
    "after-restore", "check", "config", "db", "doctor", "events", "limits", "links", "mail", "outbox", "purge", "routes", "run",
    "shell", "webhook", "worker",
}  # fmt: skip
# On both databases, those that write the most.
WAYS = [("sqlite", way) for way in (*WEB, *COMMANDS)]
WAYS += [("postgresql", way) for way in (*WEB, *COMMANDS) if way.events in ("address_changed", RESTORED)]


def name_of(value: Any) -> str:
    return value.name.replace("security.", "").replace(" ", "-") if isinstance(value, Way) else str(value)


@pytest.fixture
def site(make_site: Any, tmp_path: Path) -> Site:
    built: Site = make_site(**FEATURES)
    built.app.instance_path = str(tmp_path)
    return features.confirm_addresses(built)


def observe(site: Site, way: Way) -> tuple[list[Any], list[str]]:
    """Make a change, and return its notices and events. Links and codes that it mails are left out."""
    alice = stolen_session(site)
    way.prepare(site, alice)
    mails, events = len(mails_to(site)), len(site.events())
    way.act(site, alice)
    notices = [mail for mail in mails_to(site)[mails:] if not mail["Subject"].startswith("Reset your")]
    return notices, sorted(kind for kind in site.events()[events:] if kind in EVENTS)


@pytest.mark.parametrize(("database", "way"), WAYS, indirect=["database"], ids=name_of)
@pytest.mark.requirement("R35", "R41", "R43")
def test_change_leads_to_one_notice_and_its_events(site: Site, way: Way) -> None:
    notices, events = observe(site, way)
    assert sorted((mail["To"], mail["Subject"]) for mail in notices) == sorted(way.notices.items())
    assert events == way.events.split()
    for notice in notices:
        text = words_of(notice)
        assert re.search(r"When: \w+ \d+, 20\d\d, \d+:\d\d:\d\d [AP]M UTC", text)
        if notice["Subject"] not in (FROZEN, SETTLED):  # which also a thief gets
            by_admin = way in COMMANDS
            assert ("By: a site administrator" in text) is by_admin
            assert ("IP address: 127.0.0.1 Browser: " in text) is not by_admin
            assert objection_in(notice).startswith(factors.PUBLIC_URL)


@pytest.mark.parametrize("way", COMMANDS, ids=name_of)
def test_quiet_command_leads_to_its_events_alone(site: Site, way: Way) -> None:
    site.app.extensions["options of commands"] = ("--quiet",)
    assert observe(site, way) == ([], way.events.split())


def test_every_post_and_every_command_leads_to_a_notice_or_is_known_as_harmless(site: Site) -> None:
    posts = {rule.endpoint for rule in site.app.url_map.iter_rules() if "POST" in (rule.methods or ())}
    harmless = {"pages.choose_language", *(f"security.{name}" for name in HARMLESS_POSTS)}
    assert {way.name for way in WEB} | harmless == posts
    assert not {way.name for way in WEB} & harmless
    groups: dict[str, Any] = {name: manage.cli.commands[name] for name in ("users", "roles")}
    listed = {f"{name} {command}" for name, group in groups.items() for command in group.commands}
    assert {way.name for way in COMMANDS} | HARMLESS_COMMANDS == listed
    assert set(manage.cli.commands) - {"users", "roles"} == OTHER_COMMANDS


def test_notice_of_any_change_is_committed_with_it_or_not_at_all(site: Site, monkeypatch: Any) -> None:
    """Also of one by an extension, which knows neither events nor notices."""
    with site.app.app_context(), monkeypatch.context() as broken:
        alice = db.session.query(User).filter_by(username="alice").one()
        alice.email = NEW
        broken.setattr("app.recovery.notices.enqueue", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            db.session.commit()
        db.session.rollback()
    assert (site.rows(User)[0]["email"], site.events(), site.messages()) == (ALICE, [], [])
    with site.app.app_context():
        db.session.query(User).filter_by(username="alice").one().email = NEW
        db.session.commit()
    assert [(mail["To"], mail["Subject"]) for mail in mails_to(site)] == [(ALICE, ADDRESS)]


def test_password_that_is_hashed_anew_is_no_change(make_site: Any) -> None:
    """At a sign-in, because the costs of hashes were raised."""
    site: Site = make_site()
    before, uri = site.rows(User)[0]["password"], site.app.config["SQLALCHEMY_DATABASE_URI"]
    costs = {"argon2__memory_cost": 20480, "argon2__rounds": 2, "argon2__parallelism": 1}
    stronger: Site = make_site(SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS=costs, SQLALCHEMY_DATABASE_URI=uri)
    assert stronger.password_works(OLD_PASSWORD)
    assert site.rows(User)[0]["password"] != before
    assert "password_changed" not in site.events()
    assert site.messages() == []


@pytest.mark.parametrize("stored", ["not JSON", "[]"])
def test_sessions_end_although_the_codes_of_the_account_cannot_be_read(site: Site, stored: str) -> None:
    alice = stolen_session(site)
    site.change(us_totp_secrets=stored)
    with site.app.app_context():
        end_access(1, with_password=False)
        db.session.commit()
    assert not alice.is_signed_in()
