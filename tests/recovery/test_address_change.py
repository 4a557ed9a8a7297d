"""Changes of address: links that act once and by a button only, and a change that the old address contests."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import flask_security.views
import pytest
from flask_security import change_email
from support import features
from support.commands import run
from support.concurrency import interrupt
from support.database import statements_of
from support.factors import add_app, post, stolen_session
from support.features import enter_password, one_time_code, set_up_factor
from support.mailbox import text_of, words_of
from support.recovery import link_of, mails_to, object_to, objection_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, Visitor

from app.accounts.models import User
from app.accounts.one_time_codes import UsedCode
from app.db.audit import RecoveryEvent
from app.mail.outbox import OutboxMessage

SUPPORT, OPERATOR = "help@example.com", "operator@example.com"
SETTINGS = {"SECURITY_CHANGE_EMAIL": True, "RECOVERY_SUPPORT_CONTACT": SUPPORT, "RECOVERY_OPERATOR": OPERATOR}
OLD, NEW, THIEFS = "alice@example.com", "alice@new.example.com", "thief@example.com"
THIEFS_PASSWORD = "a fox took the eggs away"
FROZEN = "send reset links"
KINDS = pytest.mark.parametrize("kind", ["change-email", "confirm"])


@pytest.fixture
def site(make_site: Any) -> Site:
    built: Site = make_site(**SETTINGS)
    return built


def build(make_site: Any, kind: str) -> Site:
    built: Site = make_site(**SETTINGS, **(features.CONFIRMATION if kind == "confirm" else {}))
    return built


def request_change(site: Site, address: str, visitor: Visitor | None = None) -> str:
    """Request a change of alice's address, and return the link that the new address gets."""
    post(visitor or stolen_session(site), "/change-email", email=address)
    return link_of(site, "change-email")


def link_for(site: Site, kind: str) -> str:
    if kind == "change-email":
        return request_change(site, NEW)
    site.change(confirmed_at=None)
    site.visitor().post_json("/confirm", json={"identity": OLD})
    return link_of(site, "confirm")


def is_applied(site: Site, kind: str) -> bool:
    alice = site.rows(User)[0]
    return bool(alice["email"] == NEW if kind == "change-email" else alice["confirmed_at"])


def steal(site: Site, link: str = "") -> None:
    """Move alice's account to the thief's address."""
    site.visitor().submit(link or request_change(site, THIEFS))


def contest(site: Site) -> str:
    """Object to the newest notice of an address at the old one, and return the page."""
    return object_to(site, [mail for mail in mails_to(site, OLD) if "address" in mail["Subject"]][-1])


def settle(site: Site, keep: str, fails: bool = False) -> str:
    return run(site, "users", "settle-address", "alice", "--keep", keep, fails=fails).output


def is_mailed_nothing(site: Site, *identities: str) -> bool:
    """Request links and codes, and return True if none is mailed."""
    count = len(mails_to(site))
    for identity in identities:
        site.ask(identity)
        site.visitor().post_json("/us-signin/send-code", json={"identity": identity})
    return len(mails_to(site)) == count


@pytest.mark.requirement("R1", "R2")
def test_request_for_a_taken_address_is_answered_and_mailed_as_for_a_free_one(site: Site) -> None:
    """The requester reads the mail to the old address, and would know who has an account."""

    def observe(address: str) -> tuple[list[str], list[str]]:
        alice, mails = stolen_session(site), len(site.mailbox.mails)
        with statements_of(site) as ran:
            assert alice.post_json("/change-email", json={"email": address}).status_code == 200
        return ran, [mail["To"].replace(address, "the new one") for mail in mails_to(site)[mails:]]

    free = observe("nobody@example.com")
    assert observe("bob@example.com") == free
    assert OLD in free[1]
    site.visitor().submit(link_of(site, "change-email"))
    assert site.rows(User)[0]["email"] == OLD


def mailed_code(site: Site, address: str) -> str:
    """Request a code for sign-in, and return it."""
    site.visitor().post_json("/us-signin/send-code", json={"identity": "alice"})
    return str(re.findall(r"\b\d{6}\b", text_of(mails_to(site, address)[-1]))[-1])


def signs_in_by_code(site: Site, code: str) -> bool:
    visitor = site.visitor()
    visitor.post_json("/us-signin", json={"identity": "alice", "passcode": code})
    return visitor.is_signed_in()


@pytest.mark.requirement("R41")
@BOTH
def test_code_for_sign_in_ends_with_its_mailbox_and_with_a_freeze(make_site: Any) -> None:
    site: Site = make_site(**SETTINGS, **features.CODE_SIGN_IN)
    features.set_up_code_sign_in(site)
    code = mailed_code(site, OLD)
    steal(site)
    assert not signs_in_by_code(site, code)
    thiefs, unused = mailed_code(site, THIEFS), mailed_code(site, THIEFS)
    assert signs_in_by_code(site, thiefs)  # at once
    site.change(UsedCode, UsedCode.counter > 0, counter=0)
    assert FROZEN in contest(site)
    assert not signs_in_by_code(site, unused)
    assert "factor_changed" not in site.events()


def test_code_as_second_factor_ends_with_its_mailbox_and_with_a_new_start_by_an_admin(make_site: Any) -> None:
    email = {**features.SECOND_FACTOR, "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["email"]}
    site: Site = make_site(**SETTINGS, **email)

    def code(visitor: Visitor, address: str) -> str:
        """Enter the password, and return the mailed code."""
        visitor.post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
        return str(re.findall(r"\b\d{6}\b", text_of(mails_to(site, address)[-1]))[-1])

    link = request_change(site, NEW)
    features.set_up_factor(site, "email")
    held = code(site.visitor(), OLD)
    site.visitor().submit(link)
    visitor = site.visitor()
    right = code(visitor, NEW)
    for passcode, is_signed_in in ((held, False), (right, True)):
        visitor.post_json("/tf-validate", json={"code": passcode})
        assert visitor.is_signed_in() is is_signed_in
    site.change(UsedCode, UsedCode.counter > 0, counter=0)
    held = code(site.visitor(), NEW)
    run(site, "users", "force-reset", "alice")
    site.visitor().set_password(link_of(site, "reset"), OLD_PASSWORD + "!")
    visitor.post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD + "!"})
    visitor.post_json("/tf-validate", json={"code": held})
    assert not visitor.is_signed_in()
    assert "factor_changed" not in site.events()


@KINDS
@pytest.mark.requirement("R41", "R49")
def test_address_link_acts_once_and_by_the_button_of_its_page_alone(make_site: Any, kind: str) -> None:
    site = build(make_site, kind)
    earlier, link, scanner = link_for(site, kind), link_for(site, kind), site.visitor()
    for method in ("HEAD", "GET", "GET"):
        answer = scanner.open(link, method=method)
        assert (answer.status_code, answer.location) == (303, "/confirm-address")  # without the token
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    scanner.open("/confirm-address")
    assert not is_applied(site, kind)
    assert site.visitor().post_json(link, data={}).status_code == 400  # a form of another site
    assert site.visitor().open("/confirm-address").status_code == 404  # of a browser without a link
    assert site.visitor().submit(link).status_code == 302
    assert is_applied(site, kind)
    site.change(User, User.username == "alice", email=OLD, confirmed_at=None)
    for ended in (earlier, link):
        site.visitor().submit(ended)
        assert not is_applied(site, kind)


@BOTH
@KINDS
@pytest.mark.requirement("R41")
def test_address_link_works_for_one_of_two_at_once(make_site: Any, kind: str, monkeypatch: Any) -> None:
    site = build(make_site, kind)
    link, statuses = link_for(site, kind), []

    def redeem() -> None:
        statuses.append(site.visitor().post_json(link, json={}).status_code)

    checks = {"change-email": (change_email, "_verify_token_status")}
    target = checks.get(kind, (flask_security.views, "confirm_email_token_status"))
    interrupt(monkeypatch, *target, redeem, after=True)
    redeem()
    assert statuses == [302, 409]
    assert is_applied(site, kind)


@pytest.mark.requirement("R41")
def test_change_of_address_ends_sessions_and_every_earlier_link_for_good(site: Site) -> None:
    reset_link, alice = site.new_link(), stolen_session(site)
    there, elsewhere = request_change(site, NEW, alice), request_change(site, THIEFS, alice)
    alice.submit(there)
    assert not alice.is_signed_in()
    back = request_change(site, OLD)
    site.visitor().submit(back)
    assert site.visitor().open(reset_link).status_code == 400
    for link in (there, elsewhere, back):
        assert site.visitor().submit(link).location == "/change-email"  # where it could be requested anew
        assert site.rows(User)[0]["email"] == OLD
    assert alice.sign_in()


@BOTH
@pytest.mark.requirement("R41")
def test_thief_with_the_new_address_is_frozen_out_by_the_old_one(make_site: Any) -> None:
    site: Site = make_site(**SETTINGS, **features.CODE_SIGN_IN)
    features.set_up_code_sign_in(site)
    thief = stolen_session(site)
    link = request_change(site, THIEFS, thief)
    [requested] = mails_to(site, OLD)
    assert "once that address is confirmed" in words_of(requested)
    thief.submit(link)
    assert "was changed to" in words_of(mails_to(site, OLD)[-1])
    thief.set_password(site.new_link(THIEFS), THIEFS_PASSWORD)
    assert thief.sign_in(THIEFS, THIEFS_PASSWORD)
    site.work()
    waiting = site.new_link(THIEFS)
    page = contest(site)
    assert (FROZEN in page, SUPPORT in page, "/reset" in page) == (True, True, False)
    assert not thief.is_signed_in()
    assert not site.password_works(THIEFS_PASSWORD, THIEFS)
    assert site.visitor().open(waiting).status_code == 400
    assert sorted(mail["To"] for mail in mails_to(site)[-3:]) == [OLD, OPERATOR, THIEFS]
    assert "Password resets for the account are paused" in words_of(mails_to(site, OPERATOR)[-1])
    stranger = {identity: site.ask(identity) for identity in (OLD, THIEFS, "alice", "nobody@example.com")}
    assert len({(answer.status_code, answer.text) for answer in stranger.values()}) == 1
    assert is_mailed_nothing(site, OLD, THIEFS, "alice")
    shown = run(site, "users", "show", "alice").output
    assert "settle-address" in shown
    assert OLD in shown
    assert OLD in settle(site, "old")
    assert not site.password_works(OLD_PASSWORD)  # the thief knew it
    assert "/not-me/" not in text_of(mails_to(site, THIEFS)[-1])  # or the thief could contest that, too
    site.visitor().set_password(site.new_link(OLD))
    assert site.password_works(NEW_PASSWORD)
    steps = [f"{row['kind']}: {row['reason']}" for row in site.rows(RecoveryEvent)]
    changed = "address_changed: changed address"
    expected = ["address_requested: None", changed, "not_me: frozen", "address_settled: old", changed]
    assert [step for step in steps if step.startswith(("address_", "not_me"))] == expected


@pytest.mark.requirement("R41")
def test_hacked_old_address_neither_recovers_nor_restores_the_account(site: Site) -> None:
    """The owner left her hacked mailbox. Its reader objects, with each of the two notices."""
    site.visitor().submit(request_change(site, NEW))
    requested, done = mails_to(site, OLD)
    assert FROZEN in object_to(site, done)
    assert is_mailed_nothing(site, OLD, NEW)
    assert site.rows(User)[0]["email"] == NEW
    owner = stolen_session(site)  # the password that she has had since before the change works
    assert owner.post_json("/change-email", json={"email": THIEFS}).status_code == 401  # nothing moves on
    assert owner.post_json("/settle-address", json={"keep": "new"}).status_code == 403  # without a factor
    assert site.rows(User)[0]["contested_email"] == OLD
    assert NEW in settle(site, "new")
    assert "already been taken care of" in object_to(site, requested)
    assert owner.is_signed_in()
    told = [mail["To"] for mail in mails_to(site) if "no longer paused" in mail["Subject"]]
    assert sorted(told) == [OLD, NEW]
    site.new_link(NEW)
    assert "not frozen" in settle(site, "new", fails=True)


@BOTH
@pytest.mark.requirement("R37", "R41")
@pytest.mark.parametrize("keep", ["old", "new"])
def test_older_second_factor_settles_a_contested_address(make_site: Any, keep: str) -> None:
    site: Site = make_site(**SETTINGS, **features.SECOND_FACTOR)
    link = request_change(site, THIEFS)
    secret = set_up_factor(site)
    steal(site, link)
    contest(site)
    thief = enter_password(site)
    assert thief.post_json("/settle-address", json={"keep": "new"}).status_code == 401
    bob = site.visitor()
    bob.sign_in("bob")
    assert bob.post_json("/settle-address", json={"keep": "new"}).status_code == 403  # nothing is contested
    owner = enter_password(site)
    owner.submit("/tf-validate", "/tf-validate", code=one_time_code(site, secret))
    assert "Which email address is yours?" in owner.open("/").text
    malformed = owner.post_json("/settle-address", json={"keep": ["old"]})
    assert (malformed.status_code, list(malformed.json["response"]["field_errors"])) == (400, ["keep"])  # type: ignore[index]
    assert owner.submit("/", "/settle-address", keep="both").status_code == 400
    assert owner.submit("/", "/settle-address", keep=keep).location == "/"
    address = {"old": OLD, "new": THIEFS}[keep]
    assert site.rows(User)[0]["email"] == address
    assert owner.is_signed_in() is (keep == "new")
    site.work()
    site.new_link(address)
    assert "address_settled" in site.events()


@pytest.mark.requirement("R41")
@pytest.mark.parametrize("case", ["codes by mail", "added before", "added after", "events purged"])
def test_factor_that_may_be_the_thiefs_settles_no_address(make_site: Any, case: str) -> None:
    """Codes by mail go to the new address. Of an old change, the events of factors may be purged."""
    site: Site = make_site(**SETTINGS, **features.SECOND_FACTOR, RECOVERY_KEEP_EVENTS="31 days")
    thief = stolen_session(site)
    if case == "added after":
        steal(site)
        thief = stolen_session(site)
    if case.startswith("added"):
        add_app(site, thief)
    else:
        set_up_factor(site, "email" if case == "codes by mail" else "authenticator")
    if case != "added after":
        steal(site, request_change(site, THIEFS, thief))
    contest(site)
    assert not thief.is_signed_in()
    if case == "events purged":
        month_ago = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=29)
        site.change(User, User.username == "alice", contested_at=month_ago)
    thief = enter_password(site)
    site.change(UsedCode, UsedCode.counter > 0, counter=0)  # half a minute later
    code = one_time_code(site, site.rows(User)[0]["tf_totp_secret"])
    if case == "codes by mail":
        [*_, code] = re.findall(r"\b\d{6}\b", text_of(mails_to(site, THIEFS)[-1]))
    thief.submit("/tf-validate", "/tf-validate", code=code)
    assert thief.is_signed_in()
    thief.post_json("/verify", json={"password": OLD_PASSWORD})
    assert thief.post_json("/settle-address", json={"keep": "new"}).status_code == 403
    # Nothing moves on.
    assert thief.post_json("/tf-setup", json={"setup": "authenticator"}).status_code == 401


@pytest.mark.requirement("R41")
def test_objection_before_the_change_prevents_it_and_leads_back_to_the_old_address(site: Site) -> None:
    thief = stolen_session(site)
    link = request_change(site, THIEFS, thief)
    assert "may know your password" in contest(site)
    assert not thief.is_signed_in()
    steal(site, link)
    assert site.rows(User)[0]["email"] == OLD
    assert not site.password_works(OLD_PASSWORD)
    site.work()
    site.visitor().set_password(site.new_link(OLD))
    assert site.password_works(NEW_PASSWORD)


def test_objection_of_the_first_address_counts_in_a_chain_of_changes(site: Site) -> None:
    steal(site)
    site.visitor().submit(request_change(site, "hideout@example.com"))
    contest(site)
    object_to(site, next(mail for mail in mails_to(site, THIEFS) if "was changed to" in words_of(mail)))
    assert OLD in settle(site, "old")


def test_objection_to_a_change_of_address_expires_after_three_days(site: Site) -> None:
    steal(site)
    url = objection_in(mails_to(site, OLD)[-1])
    four_days_ago = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=4)
    site.change(OutboxMessage, OutboxMessage.kind == "address_notice", created_at=four_days_ago)
    assert site.visitor().open(url).status_code == 303  # the mail server was away until now
    site.change(OutboxMessage, OutboxMessage.kind == "address_notice", settled_at=four_days_ago)
    page = site.visitor().open(url)
    assert (page.status_code, "expired" in page.text) == (400, True)


@pytest.mark.parametrize("change", [{}, {"confirmed_at": None}], ids=["confirmed", "imported"])
def test_old_address_that_another_account_has_now_is_not_given_back(make_site: Any, change: Any) -> None:
    """An imported account may lack its confirmation. It is no sign-up, and nothing deletes it."""
    site: Site = features.confirm_addresses(make_site(**SETTINGS, **features.REGISTRATION))
    steal(site)
    contest(site)
    site.change(User, User.username == "bob", email=OLD, **change)
    assert "another account now has the old address" in settle(site, "old", fails=True)
    assert site.rows(User)[0]["contested_email"] == OLD
    assert [row["username"] for row in site.rows(User)].count("bob") == 1


@BOTH
def test_old_address_that_the_thief_has_signed_up_with_is_given_back(make_site: Any) -> None:
    """A sign-up makes an account before its link is opened, so the thief needs no mailbox for it."""
    site: Site = features.confirm_addresses(make_site(**SETTINGS, **features.REGISTRATION))
    steal(site)
    site.visitor().post_json("/register", json={"email": OLD})
    contest(site)
    assert OLD in settle(site, "old")
    assert [row["email"] for row in site.rows(User)].count(OLD) == 1
    site.work()
    site.visitor().set_password(site.new_link(OLD))
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R35", "R41", "R55")
def test_notice_of_a_change_is_not_held_by_the_cooldown_that_its_request_began(make_site: Any) -> None:
    site: Site = make_site(**SETTINGS, RECOVERY_MAIL_COOLDOWN="5 minutes")
    steal(site)
    _, done = mails_to(site, OLD)
    assert "was changed to" in words_of(done)
    assert FROZEN in object_to(site, done)
