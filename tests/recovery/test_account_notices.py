"""Every way in which an address, password, factor, state or role changes: one notice to the owner, and events.

The lists below name every POST and every command. A new one fails a test until it has a place here.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from passlib.totp import TOTP
from support.commands import run
from support.factors import (
    FACTORS,
    PUBLIC_URL,
    add_app,
    add_code_sign_in,
    add_passkey,
    add_recovery_codes,
    post,
    stolen_session,
)
from support.features import (
    ALL_FEATURES,
    REGISTRATION,
    confirm_addresses,
    enter_password,
    one_time_code,
    set_up_factor,
)
from support.mailbox import text_of
from support.recovery import object_to, objection_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

import manage
from app.accounts.datastore import end_access
from app.accounts.models import User
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.mail.outbox import OutboxMessage

ALICE, NEW, INACTIVE = "alice@example.com", "alice@new.example.com", "inactive@example.com"
SECOND = "alice@home.example.com"
PASSWORD = "Your Sparekey password was changed"
RESET = "A new password was set for your Sparekey account"
ADDRESS = "Your Sparekey email address was changed"
ACCOUNT = "Your Sparekey account was changed"
FACTOR = ACCOUNT
FROZEN = "Password resets for your Sparekey account are paused"
SETTLED = "Password resets for your Sparekey account are no longer paused"
FEATURES = {**ALL_FEATURES, **FACTORS, **REGISTRATION, "SECURITY_REFRESH_TOKEN": True}
EVENTS = ("address_changed", "password_changed", "factor_changed", "account_changed")

Act = Callable[[Site], Any]


class Way(NamedTuple):
    """A change: its endpoint or command, what leads to it, itself, the notices and the events."""

    name: str
    prepare: Act
    act: Act
    notices: dict[str, str]  # subject by recipient
    events: list[str]


# --- Steps ---


def nothing(_site: Site) -> None:
    pass


def signed_in(act: Callable[..., Any], *arguments: Any) -> Act:
    return lambda site: act(site, stolen_session(site), *arguments)


def change_password(as_json: bool) -> Act:
    def act(site: Site) -> None:
        new = {"new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD, "password": OLD_PASSWORD}
        visitor = stolen_session(site)
        if as_json:
            post(visitor, "/change", **new)
        else:
            assert visitor.submit("/change", **new).status_code == 302

    return act


def redeem(as_json: bool) -> Act:
    def act(site: Site) -> None:
        link = site.last_link()
        if as_json:
            post(site.visitor(), link, password=NEW_PASSWORD)
        else:
            assert site.visitor().set_password(link).location == "/reset-done"

    return act


def mailed_link(site: Site, kind: str) -> str:
    site.work()
    links = [re.search(rf"https?://\S+/{kind}/\S+", text_of(mail)) for mail in site.mailbox.mails]
    return [link[0] for link in links if link][-1]


def request_new_address(site: Site) -> None:
    post(stolen_session(site), "/change-email", email=NEW)
    site.work()


def follow(kind: str, as_json: bool = False) -> Act:
    def act(site: Site) -> None:
        link, visitor = mailed_link(site, kind), site.visitor()
        answer = visitor.post_json(link, json={}) if as_json else visitor.submit(link)
        assert answer.status_code == 302

    return act


def unconfirm(site: Site) -> None:
    site.change(confirmed_at=None)


def request_confirmation(site: Site) -> None:
    unconfirm(site)
    site.visitor().post_json("/confirm", json={"identity": ALICE})


def change_address(site: Site) -> None:
    request_new_address(site)
    follow("change-email")(site)
    site.work()


def object_last(site: Site) -> None:
    [notice] = [mail for mail in site.mailbox.mails if mail["To"] == ALICE][-1:]
    object_to(site, notice)


def object_by_json(site: Site) -> None:
    [notice] = [mail for mail in site.mailbox.mails if mail["To"] == ALICE][-1:]
    assert post(site.visitor(), objection_in(notice))["state"] == "done"


def request_link(site: Site) -> None:
    site.new_link()


def reset_and_deliver(site: Site) -> None:
    request_link(site)
    redeem(as_json=True)(site)
    site.work()


def freeze(site: Site) -> None:
    change_address(site)
    object_last(site)


def freeze_with_older_factor(site: Site) -> None:
    site.app.extensions["secret of alice"] = set_up_factor(site)
    site.change(email=NEW, contested_email=ALICE, contested_at=User.create_datetime)


def settle(keep: str) -> Act:
    def act(site: Site) -> None:
        owner = enter_password(site)
        code = one_time_code(site, site.app.extensions["secret of alice"])
        owner.submit("/tf-validate", "/tf-validate", code=code)
        assert owner.submit("/", "/settle-address", keep=keep).location == "/"

    return act


def require_factor(site: Site) -> None:
    site.app.config["SECURITY_TWO_FACTOR_REQUIRED"] = True


def set_up_required_factor(site: Site) -> None:
    visitor = site.visitor()
    visitor.submit("/login", identity="alice", password=OLD_PASSWORD)
    key = post(visitor, "/tf-setup", setup="authenticator")["tf_authr_b32key"]
    post(visitor, "/tf-validate", code=TOTP(key=key).generate().token)


def passkey(site: Site) -> None:
    site.app.extensions["browser of alice"] = visitor = stolen_session(site)
    add_passkey(site, visitor)


def remove_passkey(site: Site) -> None:
    post(site.app.extensions["browser of alice"], "/wan-delete", name="My phone")


def remove_code_sign_in(site: Site) -> None:
    post(stolen_session(site), "/us-setup", delete_method=["authenticator"])


def remove_app(site: Site) -> None:
    visitor = stolen_session(site)
    set_up_factor(site)
    post(visitor, "/tf-setup", setup="disable")


def have_second(site: Site) -> None:
    site.change(second_email=SECOND)


def post_second(address: str) -> Act:
    return lambda site: post(stolen_session(site), "/second-address", email=address)


def command(*words: str) -> Act:
    return lambda site: run(site, *words, *site.app.extensions.get("options of commands", ()))


def give_role(site: Site) -> None:
    run(site, "roles", "create", "editor")
    run(site, "roles", "add", "alice", "editor")
    site.work()


WEB = [
    Way(
        "security.reset_password",
        request_link,
        redeem(as_json=False),
        {ALICE: RESET},
        ["password_changed"],
    ),
    Way("security.reset_password", request_link, redeem(as_json=True), {ALICE: RESET}, ["password_changed"]),
    Way("security.change_password", nothing, change_password(False), {ALICE: PASSWORD}, ["password_changed"]),
    Way("security.change_password", nothing, change_password(True), {ALICE: PASSWORD}, ["password_changed"]),
    Way(
        "security.change_email_confirm",
        request_new_address,
        follow("change-email"),
        {ALICE: ADDRESS},
        ["address_changed"],
    ),
    Way(
        "security.change_email_confirm",
        request_new_address,
        follow("change-email", as_json=True),
        {ALICE: ADDRESS},
        ["address_changed"],
    ),
    Way(
        "security.confirm_email",
        request_confirmation,
        follow("confirm"),
        {ALICE: ACCOUNT},
        ["account_changed"],
    ),
    Way(
        "security.confirm_email",
        request_confirmation,
        follow("confirm", as_json=True),
        {ALICE: ACCOUNT},
        ["account_changed"],
    ),
    Way(
        "security.second_address_confirm",
        post_second(SECOND),
        follow("second-address"),
        {ALICE: ACCOUNT, SECOND: ACCOUNT},
        ["address_changed"],
    ),
    Way(
        "security.second_address",
        have_second,
        post_second(""),
        {ALICE: ACCOUNT, SECOND: ACCOUNT},
        ["address_changed"],
    ),
    Way("objections.not_me", reset_and_deliver, object_last, {ALICE: PASSWORD}, ["password_changed"]),
    Way("objections.land", reset_and_deliver, object_by_json, {ALICE: PASSWORD}, ["password_changed"]),
    Way("objections.not_me", change_address, object_last, {ALICE: FROZEN, NEW: FROZEN}, ["account_changed"]),
    Way(
        "pages.settle_address",
        freeze_with_older_factor,
        settle("old"),
        {ALICE: SETTLED, NEW: SETTLED},
        ["account_changed", "address_changed", "password_changed"],
    ),
    Way(
        "pages.settle_address",
        freeze_with_older_factor,
        settle("new"),
        {ALICE: SETTLED, NEW: SETTLED},
        ["account_changed"],
    ),
    Way(
        "security.two_factor_setup_validate", nothing, signed_in(add_app), {ALICE: FACTOR}, ["factor_changed"]
    ),
    Way("security.two_factor_setup", nothing, remove_app, {ALICE: FACTOR}, ["factor_changed"]),
    Way(
        "security.two_factor_token_validation",
        require_factor,
        set_up_required_factor,
        {ALICE: FACTOR},
        ["factor_changed"],
    ),
    Way(
        "security.us_setup_validate",
        nothing,
        signed_in(add_code_sign_in),
        {ALICE: FACTOR},
        ["factor_changed"],
    ),
    Way(
        "security.us_setup",
        signed_in(add_code_sign_in),
        remove_code_sign_in,
        {ALICE: FACTOR},
        ["factor_changed"],
    ),
    Way(
        "security.mf_recovery_codes",
        nothing,
        signed_in(add_recovery_codes),
        {ALICE: FACTOR},
        ["factor_changed"],
    ),
    Way("security.wan_register_response", nothing, passkey, {ALICE: FACTOR}, ["factor_changed"]),
    Way("security.wan_delete", passkey, remove_passkey, {ALICE: FACTOR}, ["factor_changed"]),
]
COMMANDS = [
    Way(
        "users activate",
        nothing,
        command("users", "activate", INACTIVE),
        {INACTIVE: ACCOUNT},
        ["account_changed"],
    ),
    Way(
        "users deactivate",
        nothing,
        command("users", "deactivate", "alice"),
        {ALICE: ACCOUNT},
        ["account_changed"],
    ),
    Way(
        "users confirm",
        unconfirm,
        command("users", "confirm", "alice"),
        {ALICE: ACCOUNT},
        ["account_changed"],
    ),
    Way(
        "users reset_access",
        passkey,
        command("users", "reset_access", "alice"),
        {ALICE: FACTOR},
        ["factor_changed"],
    ),
    Way(
        "users change_password",
        nothing,
        command("users", "change_password", "alice", "--password", NEW_PASSWORD),
        {ALICE: PASSWORD},
        ["password_changed"],
    ),
    Way(
        "users second-address",
        have_second,
        command("users", "second-address", "alice", NEW),
        {ALICE: ACCOUNT, SECOND: ACCOUNT, NEW: ACCOUNT},
        ["address_changed"],
    ),
    Way(
        "users force-reset",
        nothing,
        command("users", "force-reset", "alice"),
        {ALICE: PASSWORD},
        ["password_changed"],
    ),
    Way(
        "users settle-address",
        freeze,
        command("users", "settle-address", "alice", "--keep", "old"),
        {ALICE: SETTLED, NEW: SETTLED},
        ["account_changed", "address_changed", "password_changed"],
    ),
    Way(
        "users settle-address",
        freeze,
        command("users", "settle-address", "alice", "--keep", "new"),
        {ALICE: SETTLED, NEW: SETTLED},
        ["account_changed"],
    ),
    Way(
        "roles add",
        command("roles", "create", "editor"),
        command("roles", "add", "alice", "editor"),
        {ALICE: ACCOUNT},
        ["account_changed"],
    ),
    Way(
        "roles remove",
        give_role,
        command("roles", "remove", "alice", "editor"),
        {ALICE: ACCOUNT},
        ["account_changed"],
    ),
]
# POSTs that change no account's address, password, factor, state or role.
HARMLESS_POSTS = {
    "pages.choose_language",  # of mails
    "security.change_email",  # only asks; the old address is told of that, too
    "security.forgot_password",
    "security.login",
    "security.logout",
    "security.mf_recovery",  # uses up a code, at a sign-in
    "security.recover_username",
    "security.refresh_token",
    "security.reset_code",  # leads to a link's token
    "security.register",  # makes an account, whose owner gets a mail to finish it
    "security.send_confirmation",
    "security.tf_select",
    "security.two_factor_rescue",
    "security.us_signin",
    "security.us_signin_send_code",
    "security.us_verify",
    "security.us_verify_send_code",
    "security.verify",
    "security.wan_register",  # begins; wan_register_response adds the passkey
    "security.wan_signin",
    "security.wan_signin_response",
    "security.wan_verify",
    "security.wan_verify_response",
}
# Commands that change nothing of an existing account. Those that make one tell nobody, because nothing of an
# owner's has changed, and an import of a million would be a mass mailing that holds up recovery.
HARMLESS_COMMANDS = {
    "roles add_permissions",  # of a role: no account gets or loses one
    "roles create",
    "roles remove_permissions",
    "users create",
    "users import",
    "users invite",
    "users reset-link",  # its redemption is told
    "users send-reset",
    "users show",
}
# Groups and commands beside `users` and `roles`. They change no account.
OTHER_COMMANDS = {
    "after-restore",  # ends sessions of all, after an outage that they know of
    "check",
    "config",
    "db",
    "doctor",
    "events",
    "limits",
    "links",
    "mail",
    "outbox",
    "purge",
    "routes",
    "run",
    "shell",
    "webhook",
    "worker",
}


def name_of(way: Way) -> str:
    return way.name.replace("security.", "").replace(" ", "-")


@pytest.fixture
def site(make_site: Any, tmp_path: Path) -> Site:
    built: Site = make_site(**FEATURES)
    built.app.instance_path = str(tmp_path)
    return confirm_addresses(built)


@pytest.fixture
def observe(site: Site) -> Callable[[Way], tuple[list[Any], list[str]]]:
    """Make a change, and return its notices and events. Links and codes that it mails are left out."""

    def observe(way: Way) -> tuple[list[Any], list[str]]:
        way.prepare(site)
        site.work()
        mails, events = len(site.mailbox.mails), len(site.rows(RecoveryEvent))
        way.act(site)
        site.work()
        new = [row["kind"] for row in site.rows(RecoveryEvent)[events:]]
        notices = [
            mail for mail in site.mailbox.mails[mails:] if not mail["Subject"].startswith("Reset your")
        ]
        return notices, sorted(kind for kind in new if kind in EVENTS)

    return observe


@BOTH
@pytest.mark.parametrize("way", [*WEB, *COMMANDS], ids=name_of)
@pytest.mark.requirement("R35", "R41", "R43")
def test_change_leads_to_one_notice_and_its_events(site: Site, observe: Any, way: Way) -> None:
    notices, events = observe(way)
    assert sorted((mail["To"], mail["Subject"]) for mail in notices) == sorted(way.notices.items())
    assert events == way.events
    for notice in notices:
        text = " ".join(text_of(notice).split())
        assert re.search(r"When: \w+ \d+, 20\d\d, \d+:\d\d:\d\d [AP]M UTC", text)
        if notice["Subject"] not in (FROZEN, SETTLED):  # which also a thief gets
            by_admin = way in COMMANDS
            assert ("By: a site administrator" in text) is by_admin
            assert ("IP address: 127.0.0.1 Browser: " in text) is not by_admin
            assert objection_in(notice).startswith(PUBLIC_URL)


@pytest.mark.parametrize("way", COMMANDS, ids=name_of)
def test_quiet_command_leads_to_its_events_alone(site: Site, observe: Any, way: Way) -> None:
    site.app.extensions["options of commands"] = ("--quiet",)
    notices, events = observe(way)
    assert notices == []
    assert events == way.events


def test_every_post_leads_to_a_notice_or_is_known_as_harmless(site: Site) -> None:
    posts = {rule.endpoint for rule in site.app.url_map.iter_rules() if "POST" in (rule.methods or ())}
    assert {way.name for way in WEB} | HARMLESS_POSTS == posts
    assert not {way.name for way in WEB} & HARMLESS_POSTS


def test_every_command_leads_to_a_notice_or_is_known_as_harmless() -> None:
    groups: dict[str, Any] = {name: manage.cli.commands[name] for name in ("users", "roles")}
    listed = {f"{name} {command}" for name, group in groups.items() for command in group.commands}
    assert {way.name for way in COMMANDS} | HARMLESS_COMMANDS == listed
    assert set(manage.cli.commands) - {"users", "roles"} == OTHER_COMMANDS


def test_change_by_other_code_leads_to_a_notice(site: Site) -> None:
    """As of an extension, which knows neither events nor notices."""
    with site.app.app_context():
        security = site.app.extensions["security"]
        alice = security.datastore.find_user(username="alice")
        alice.email = NEW
        db.session.commit()
    site.work()
    assert [(mail["To"], mail["Subject"]) for mail in site.mailbox.mails] == [(ALICE, ADDRESS)]


@BOTH
def test_password_that_is_hashed_anew_is_no_change(make_site: Any) -> None:
    """At a sign-in, because the costs of hashes were raised."""
    site: Site = make_site()
    stronger: Site = make_site(
        SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS={
            "argon2__memory_cost": 20480,
            "argon2__rounds": 2,
            "argon2__parallelism": 1,
        },
        SQLALCHEMY_DATABASE_URI=site.app.config["SQLALCHEMY_DATABASE_URI"],
    )
    before = site.rows(User)[0]["password"]
    assert stronger.password_works(OLD_PASSWORD)
    assert site.rows(User)[0]["password"] != before
    assert "password_changed" not in site.events()
    assert site.messages() == []


@BOTH
def test_notice_is_committed_with_the_change_or_not_at_all(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.recovery.notices.enqueue", lambda *_, **__: 1 / 0)
    with pytest.raises(AssertionError):
        run(site, "users", "deactivate", "alice")
    assert site.rows(User)[0]["active"]
    assert "account_changed" not in site.events()
    assert site.rows(OutboxMessage) == []


@pytest.mark.parametrize("stored", ["not JSON", "[]"])
def test_sessions_end_although_the_codes_of_the_account_cannot_be_read(site: Site, stored: str) -> None:
    visitor = site.visitor()
    visitor.sign_in()
    site.change(User, User.username == "alice", us_totp_secrets=stored)
    with site.app.app_context():
        end_access(site.rows(User)[0]["id"], with_password=False)
        db.session.commit()
    assert not visitor.is_signed_in()
