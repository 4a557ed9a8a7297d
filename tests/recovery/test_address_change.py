"""Changes of address: links that act once and by a button only, and a change that the old address contests."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import flask_security.views
import pytest
from flask.testing import FlaskCliRunner
from flask_security import change_email
from sqlalchemy import event
from support.commands import run
from support.concurrency import in_another_thread
from support.features import (
    CODE_SIGN_IN,
    CONFIRMATION,
    REGISTRATION,
    SECOND_FACTOR,
    confirm_addresses,
    enter_password,
    one_time_code,
    set_up_code_sign_in,
    set_up_factor,
)
from support.mailbox import text_of
from support.recovery import object_to, objection_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, Visitor

import manage
from app.accounts.models import User
from app.accounts.one_time_codes import UsedCode
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.mail.outbox import OutboxMessage

ADDRESS = {"SECURITY_CHANGE_EMAIL": True}
HELP = {"RECOVERY_SUPPORT_CONTACT": "help@example.com", "RECOVERY_OPERATOR": "operator@example.com"}
OLD, NEW, THIEFS = "alice@example.com", "alice@new.example.com", "thief@example.com"
THIEFS_PASSWORD = "a fox took the eggs away"
FROZEN = "send reset links"
SPA = {
    "SECURITY_REDIRECT_BEHAVIOR": "spa",
    "SECURITY_REDIRECT_HOST": "spa.example.com",
    **{f"SECURITY_{view}_VIEW": f"/{view.lower()}" for view in ("RESET", "RESET_ERROR")},
    **{f"SECURITY_{view}_VIEW": f"/{view.lower()}" for view in ("POST_CHANGE_EMAIL", "CHANGE_EMAIL_ERROR")},
    **{f"SECURITY_{view}_VIEW": f"/{view.lower()}" for view in ("POST_CONFIRM", "CONFIRM_ERROR")},
}
SHIFTS = pytest.mark.parametrize("kind", ["change-email", "confirm"])


@pytest.fixture
def site(make_site: Any) -> Site:
    built: Site = make_site(**ADDRESS, **HELP)
    return built


def link_of(site: Site, kind: str) -> str:
    """Return the newest link of a kind in the mailbox."""
    links = [re.search(rf"https?://\S+/{kind}/\S+", text_of(mail)) for mail in site.mailbox.mails]
    return [link[0] for link in links if link][-1]


def request_change(site: Site, address: str, visitor: Visitor | None = None, **sign_in: str) -> str:
    """Request a change of alice's address, and return the link that the new address gets."""
    if visitor is None:
        visitor = site.visitor()
        body = {"identity": "alice", "password": OLD_PASSWORD, **sign_in}
        assert visitor.post_json("/login", json=body).status_code == 200
    assert visitor.post_json("/change-email", json={"email": address}).status_code == 200
    site.work()
    return link_of(site, "change-email")


def request_confirmation(site: Site) -> str:
    site.change(confirmed_at=None)
    site.visitor().post_json("/confirm", json={"identity": OLD})
    site.work()
    return link_of(site, "confirm")


def link_for(site: Site, kind: str) -> str:
    return request_change(site, NEW) if kind == "change-email" else request_confirmation(site)


def is_applied(site: Site, kind: str) -> bool:
    alice = site.rows(User)[0]
    return bool(alice["email"] == NEW if kind == "change-email" else alice["confirmed_at"])


def steal(site: Site, **sign_in: str) -> None:
    """Move alice's account to the thief's address."""
    site.visitor().submit(request_change(site, THIEFS, **sign_in))
    site.work()


def notices(site: Site, address: str = OLD) -> list[Any]:
    """Return the mails to an address, which got no others."""
    return [mail for mail in site.mailbox.mails if mail["To"] == address]


def words_of(mail: Any) -> str:
    return " ".join(text_of(mail).split())


def settle(site: Site, keep: str, identity: str = "alice") -> str:
    return (
        FlaskCliRunner(site.app)
        .invoke(manage.cli, ["users", "settle-address", identity, "--keep", keep])
        .output
    )


# --- Links ---


@pytest.mark.requirement("R1", "R2")
def test_request_for_a_taken_address_is_answered_and_mailed_as_for_a_free_one(make_site: Any) -> None:
    """The requester reads the mail to the old address, and would know who has an account."""
    site: Site = make_site(**ADDRESS)
    statements: list[str] = []
    with site.app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    def observe(address: str) -> tuple[list[str], list[str]]:
        alice, mails = site.visitor(), len(site.mailbox.mails)
        alice.sign_in()
        statements.clear()
        assert alice.post_json("/change-email", json={"email": address}).status_code == 200
        ran = list(statements)
        site.work()
        return ran, [mail["To"].replace(address, "the new one") for mail in site.mailbox.mails[mails:]]

    free = observe("nobody@example.com")
    assert observe("bob@example.com") == free
    assert OLD in free[1]
    site.visitor().submit(link_of(site, "change-email"))
    assert site.rows(User)[0]["email"] == OLD


@BOTH
@SHIFTS
@pytest.mark.requirement("R41", "R49")
def test_address_link_acts_by_the_button_of_its_page_alone(make_site: Any, kind: str) -> None:
    site: Site = make_site(**ADDRESS, **(CONFIRMATION if kind == "confirm" else {}))
    link, scanner, alice = link_for(site, kind), site.visitor(), site.visitor()
    for method in ("HEAD", "GET", "GET"):
        answer = scanner.open(link, method=method)
        assert (answer.status_code, answer.location) == (303, "/confirm-address")  # without the token
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    scanner.open("/confirm-address")
    assert not is_applied(site, kind)
    assert site.visitor().post_json(link, data={}).status_code == 400  # a form of another site
    assert site.visitor().open("/confirm-address").status_code == 404  # of a browser without a link
    assert alice.submit(link).status_code == 302
    assert is_applied(site, kind)


@BOTH
@SHIFTS
@pytest.mark.requirement("R41")
def test_address_link_works_for_one_of_two_requests_at_once(
    make_site: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site: Site = make_site(**ADDRESS, **(CONFIRMATION if kind == "confirm" else {}))
    link, statuses = link_for(site, kind), []
    module, name = {
        "change-email": (change_email, "_verify_token_status"),
        "confirm": (flask_security.views, "confirm_email_token_status"),
    }[kind]
    check: Callable[[str], Any] = getattr(module, name)

    def checked_before_another(token: str) -> Any:
        monkeypatch.setattr(module, name, check)
        status = check(token)
        in_another_thread(lambda: statuses.append(site.visitor().post_json(link, json={}).status_code))
        return status

    monkeypatch.setattr(module, name, checked_before_another)
    statuses.append(site.visitor().post_json(link, json={}).status_code)
    assert statuses == [302, 409]
    assert is_applied(site, kind)


@pytest.mark.requirement("R41")
def test_address_link_works_once_and_ends_with_any_later_change(site: Site) -> None:
    there, elsewhere = request_change(site, NEW), request_change(site, THIEFS)
    site.visitor().submit(there)
    back = request_change(site, OLD)
    site.visitor().submit(back)
    assert site.rows(User)[0]["email"] == OLD
    for link in (there, elsewhere, back):
        answer = site.visitor().submit(link)
        assert answer.location == "/change-email"  # where it could be requested anew
        assert site.rows(User)[0]["email"] == OLD


@pytest.mark.requirement("R41")
def test_change_of_address_ends_sessions_and_reset_links_for_good(site: Site) -> None:
    reset_link, alice = site.new_link(), site.visitor()
    alice.sign_in()
    alice.submit(request_change(site, NEW, alice))
    assert not alice.is_signed_in()
    site.visitor().submit(request_change(site, OLD))
    assert site.visitor().open(reset_link).status_code == 400
    assert alice.sign_in()


def test_confirmation_link_works_once_and_ends_with_the_first(make_site: Any) -> None:
    site: Site = make_site(**CONFIRMATION, RECOVERY_MAIL_COOLDOWN="0 seconds")
    first = request_confirmation(site)
    second = request_confirmation(site)
    site.visitor().submit(second)
    site.change(confirmed_at=None)  # an admin wants it confirmed again
    for link in (first, second):
        site.visitor().submit(link)
        assert not is_applied(site, "confirm")


@SHIFTS
@pytest.mark.requirement("R52")
def test_address_link_leads_to_the_views_of_a_single_page_client(make_site: Any, kind: str) -> None:
    site: Site = make_site(**ADDRESS, **SPA, **(CONFIRMATION if kind == "confirm" else {}))
    link, name = link_for(site, kind), kind.replace("-", "_")
    browser = site.visitor()
    page = browser.open(link, follow_redirects=True)
    assert "form-action 'self' https://spa.example.com;" in page.headers["Content-Security-Policy"]
    assert browser.submit(link).location.startswith(f"https://spa.example.com/post_{name}?success=")
    refused = site.visitor().post_json(link, json={})  # a program may post to it
    assert refused.location.startswith(f"https://spa.example.com/{name}_error?error=")


# --- Contested changes ---


@BOTH
@pytest.mark.requirement("R41")
def test_thief_with_the_new_address_is_frozen_out_by_the_old_one(make_site: Any) -> None:
    site: Site = make_site(**ADDRESS, **HELP)
    thief = site.visitor()
    link = request_change(site, THIEFS, thief) if thief.sign_in() else ""
    [requested] = notices(site)
    assert "once that address is confirmed" in words_of(requested)
    thief.submit(link)
    site.work()
    assert "was changed to" in words_of(notices(site)[-1])
    thief.set_password(site.new_link(THIEFS), THIEFS_PASSWORD)
    assert thief.sign_in(THIEFS, THIEFS_PASSWORD)
    site.work()
    waiting = site.new_link(THIEFS)
    assert FROZEN in object_to(site, notices(site)[-1])
    assert not thief.is_signed_in()
    assert not site.password_works(THIEFS_PASSWORD, THIEFS)
    assert site.visitor().open(waiting).status_code == 400
    site.work()
    recipients = [mail["To"] for mail in site.mailbox.mails[-3:]]
    assert sorted(recipients) == [OLD, "operator@example.com", THIEFS]
    assert "Password resets for the account are paused" in words_of(notices(site, "operator@example.com")[-1])
    stranger = {identity: site.ask(identity) for identity in (OLD, THIEFS, "alice", "nobody@example.com")}
    assert len({(answer.status_code, answer.text) for answer in stranger.values()}) == 1
    count = len(site.mailbox.mails)
    site.work()
    assert len(site.mailbox.mails) == count  # to neither address
    shown = run(site, "users", "show", "alice").output
    assert "settle-address" in shown
    assert OLD in shown
    assert OLD in settle(site, "old")
    assert not site.password_works(OLD_PASSWORD)  # the thief knew it
    site.work()
    assert "/not-me/" not in text_of(notices(site, THIEFS)[-1])  # or the thief could contest that, too
    site.visitor().set_password(site.new_link(OLD))
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R41")
def test_hacked_old_address_neither_recovers_nor_restores_the_account(site: Site) -> None:
    """The owner left her hacked mailbox. Its reader objects, with each of the two notices."""
    site.visitor().submit(request_change(site, NEW))
    site.work()
    requested, done = notices(site)
    assert FROZEN in object_to(site, done)
    site.work()
    count = len(site.mailbox.mails)
    for identity in (OLD, NEW):
        site.ask(identity)
    assert not site.work() or len(site.mailbox.mails) == count
    assert site.rows(User)[0]["email"] == NEW
    owner = site.visitor()
    assert owner.sign_in()  # the password that she has had since before the change works
    assert owner.post_json("/change-email", json={"email": THIEFS}).status_code == 401  # nothing moves on
    assert owner.post_json("/settle-address", json={"keep": "new"}).status_code == 403
    assert NEW in settle(site, "new")
    assert "already been taken care of" in object_to(site, requested)
    assert owner.is_signed_in()
    site.work()
    told = [mail["To"] for mail in site.mailbox.mails if "no longer paused" in mail["Subject"]]
    assert sorted(told) == [OLD, NEW]
    site.new_link(NEW)
    assert "not frozen" in settle(site, "new")


@BOTH
@pytest.mark.requirement("R37", "R41")
@pytest.mark.parametrize("keep", ["old", "new"])
def test_older_second_factor_settles_a_contested_address(make_site: Any, keep: str) -> None:
    site: Site = make_site(**ADDRESS, **HELP, **SECOND_FACTOR)
    link = request_change(site, THIEFS)
    secret = set_up_factor(site)
    site.visitor().submit(link)
    site.work()
    object_to(site, notices(site)[-1])
    thief = enter_password(site)
    assert thief.post_json("/settle-address", json={"keep": "new"}).status_code == 401
    bob = site.visitor()
    bob.sign_in("bob")
    assert bob.post_json("/settle-address", json={"keep": "new"}).status_code == 403  # nothing is contested
    owner = enter_password(site)
    owner.submit("/tf-validate", "/tf-validate", code=one_time_code(site, secret))
    assert "Which email address is yours?" in owner.open("/").text
    assert owner.submit("/", "/settle-address", keep="both").status_code == 403
    assert owner.submit("/", "/settle-address", keep=keep).location == "/"
    address = {"old": OLD, "new": THIEFS}[keep]
    assert site.rows(User)[0]["email"] == address
    assert owner.is_signed_in() is (keep == "new")
    site.work()
    site.new_link(address)
    assert "address_settled" in site.events()


def settles_nothing(visitor: Visitor) -> bool:
    """True if a visitor who is signed in can neither settle the address nor change how to sign in."""
    assert visitor.is_signed_in()
    visitor.post_json("/verify", json={"password": OLD_PASSWORD})
    settled = visitor.post_json("/settle-address", json={"keep": "new"})
    changed = visitor.post_json("/tf-setup", json={"setup": "authenticator"})
    return (settled.status_code, changed.status_code) == (403, 401)


def test_codes_by_mail_settle_no_address(make_site: Any) -> None:
    """They go to the new one."""
    site: Site = make_site(**ADDRESS, **HELP, **SECOND_FACTOR)
    link = request_change(site, THIEFS)
    set_up_factor(site, "email")
    site.visitor().submit(link)
    site.work()
    object_to(site, notices(site)[-1])
    thief = enter_password(site)
    site.work()
    code = re.findall(r"\b\d{6}\b", text_of(notices(site, THIEFS)[-1]))[-1]
    thief.submit("/tf-validate", "/tf-validate", code=code)
    assert settles_nothing(thief)


@pytest.mark.requirement("R41")
@pytest.mark.parametrize("is_first", [True, False], ids=["before the change", "after the change"])
def test_factor_of_the_thief_settles_no_address(make_site: Any, is_first: bool) -> None:
    site: Site = make_site(**ADDRESS, **HELP, **SECOND_FACTOR)
    thief = site.visitor()
    thief.sign_in()
    if not is_first:
        steal(site)
        thief.sign_in()
    token = thief.post_json("/tf-setup", json={"setup": "authenticator"}).json["response"]["tf_state_token"]  # type: ignore[index]
    with thief.client.session_transaction(base_url=thief.base) as session:
        secret = session["tf_totp_secret"]
    thief.post_json(f"/tf-setup/{token}", json={"code": one_time_code(site, secret)})
    if is_first:
        site.visitor().submit(request_change(site, THIEFS, thief))
        site.work()
    object_to(site, [mail for mail in notices(site) if "address" in mail["Subject"]][-1])
    assert not thief.is_signed_in()
    thief = enter_password(site)
    site.change(UsedCode, UsedCode.counter > 0, counter=0)  # half a minute later
    thief.submit("/tf-validate", "/tf-validate", code=one_time_code(site, secret))
    assert settles_nothing(thief)


def test_factor_settles_no_address_when_its_events_may_be_purged(make_site: Any) -> None:
    site: Site = make_site(**ADDRESS, **HELP, **SECOND_FACTOR, RECOVERY_KEEP_EVENTS="31 days")
    secret = set_up_factor(site)
    month_ago = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=29)
    site.change(email=THIEFS, contested_email=OLD, contested_at=month_ago)
    thief = site.visitor()
    thief.submit("/login", identity="alice", password=OLD_PASSWORD)
    thief.submit("/tf-validate", "/tf-validate", code=one_time_code(site, secret))
    assert settles_nothing(thief)


@pytest.mark.requirement("R41")
def test_account_without_a_factor_is_not_settled_by_its_password(site: Site) -> None:
    steal(site)
    object_to(site, notices(site)[-1])
    thief = site.visitor()
    thief.sign_in()
    assert thief.post_json("/settle-address", json={"keep": "new"}).status_code == 403
    assert site.rows(User)[0]["contested_email"] == OLD


def test_freeze_stops_codes_by_mail_too(make_site: Any) -> None:
    site: Site = make_site(**ADDRESS, **HELP, **CODE_SIGN_IN)
    set_up_code_sign_in(site)
    steal(site)
    object_to(site, notices(site)[-1])
    site.work()
    count = len(site.mailbox.mails)
    site.visitor().post_json("/us-signin/send-code", json={"identity": "alice"})
    site.work()
    assert len(site.mailbox.mails) == count


@pytest.mark.requirement("R41")
def test_objection_before_the_change_prevents_it_and_leads_back_to_the_old_address(site: Site) -> None:
    thief = site.visitor()
    thief.sign_in()
    link = request_change(site, THIEFS, thief)
    [requested] = notices(site)
    assert "may know your password" in object_to(site, requested)
    assert not thief.is_signed_in()
    site.visitor().submit(link)
    assert site.rows(User)[0]["email"] == OLD
    assert not site.password_works(OLD_PASSWORD)
    site.work()
    site.visitor().set_password(site.new_link(OLD))
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R55")
def test_requests_of_a_change_send_the_old_address_one_mail_in_the_cooldown(make_site: Any) -> None:
    site: Site = make_site(**ADDRESS, RECOVERY_MAIL_COOLDOWN="5 minutes")
    thief = site.visitor()
    thief.sign_in()
    link = request_change(site, THIEFS, thief)
    for number in range(3):
        request_change(site, f"thief{number}@example.com", thief)
    assert len(notices(site)) == 1
    site.visitor().submit(link)
    site.work()
    assert "was changed to" in words_of(notices(site)[-1])


def test_objection_of_the_first_address_counts_in_a_chain_of_changes(site: Site) -> None:
    steal(site)
    site.visitor().submit(request_change(site, "hideout@example.com", identity=THIEFS))
    site.work()
    object_to(site, notices(site)[-1])
    object_to(site, next(mail for mail in notices(site, THIEFS) if "was changed to" in words_of(mail)))
    assert OLD in settle(site, "old")


def test_objection_to_a_change_of_address_expires_after_three_days(site: Site) -> None:
    steal(site)
    url = objection_in(notices(site)[-1])
    four_days_ago = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=4)
    site.change(OutboxMessage, OutboxMessage.kind == "address_notice", created_at=four_days_ago)
    assert site.visitor().open(url).status_code == 303  # the mail server was away until now
    site.change(OutboxMessage, OutboxMessage.kind == "address_notice", settled_at=four_days_ago)
    page = site.visitor().open(url)
    assert (page.status_code, "expired" in page.text) == (400, True)


def test_settled_address_that_another_account_has_now_is_refused(site: Site) -> None:
    steal(site)
    object_to(site, notices(site)[-1])
    site.change(User, User.username == "bob", email=OLD)
    assert "another account now has the old address" in settle(site, "old")
    assert site.rows(User)[0]["contested_email"] == OLD


@BOTH
def test_old_address_that_the_thief_has_signed_up_with_is_given_back(make_site: Any) -> None:
    """A sign-up makes an account before its link is opened, so the thief needs no mailbox for it."""
    site: Site = confirm_addresses(make_site(**ADDRESS, **HELP, **REGISTRATION))
    steal(site)
    site.visitor().post_json("/register", json={"email": OLD})
    site.work()
    object_to(site, [mail for mail in notices(site) if "was changed" in mail["Subject"]][-1])
    assert OLD in settle(site, "old")
    assert [row["email"] for row in site.rows(User)].count(OLD) == 1
    site.work()
    site.visitor().set_password(site.new_link(OLD), NEW_PASSWORD)
    assert site.password_works(NEW_PASSWORD)


def test_old_address_of_an_account_that_lacks_its_confirmation_alone_is_not_given_back(
    make_site: Any,
) -> None:
    """An imported account may lack it, too. It is no sign-up, and nothing deletes it."""
    site: Site = confirm_addresses(make_site(**ADDRESS, **HELP, **REGISTRATION))
    steal(site)
    object_to(site, [mail for mail in notices(site) if "was changed" in mail["Subject"]][-1])
    site.change(User, User.username == "bob", email=OLD, confirmed_at=None)
    assert "another account now has the old address" in settle(site, "old")
    assert [row["username"] for row in site.rows(User)].count("bob") == 1


def test_events_name_each_step_of_a_contested_change(site: Site) -> None:
    steal(site)
    object_to(site, notices(site)[-1])
    settle(site, "old")
    rows = site.rows(RecoveryEvent)
    steps = [(row["kind"], row["reason"]) for row in rows if row["kind"].startswith(("address_", "not_me"))]
    assert steps == [
        ("address_requested", None),
        ("address_changed", "changed address"),
        ("not_me", "frozen"),
        ("address_settled", "old"),
        ("address_changed", "changed address"),
    ]
