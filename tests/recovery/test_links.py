"""A reset link's life: one winner, and nothing that an account's change leaves open."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import event, select
from support.outbox import make_due
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, SECRETS, Site, Visitor, csrf_token
from werkzeug.test import TestResponse

from app import settings
from app.accounts.models import User
from app.db.engine import db
from app.mail import composing, outbox
from app.recovery import link as links
from app.recovery import not_me
from app.recovery.link import ResetLink

pytestmark = BOTH

LONG_AGO = datetime(2020, 1, 1)


def code_of(site: Site, link: str, password: str = NEW_PASSWORD) -> str:
    """What a program is told that redeems the link."""
    answer = site.visitor().post_json(link, json={"password": password})
    assert answer.json is not None
    return str(answer.json["response"].get("error_code", "redeemed"))


def problem_at(site: Site, link: str) -> str:
    """What a browser is told that opens the link."""
    page = site.visitor().open(link, follow_redirects=True)
    assert page.status_code == 400
    assert 'class="button" href="/' in page.text  # the way forward
    return page.text.split('data-code="')[1].split('"')[0]


@pytest.mark.requirement("R13")
def test_a_link_sets_the_password_and_works_once(site: Site) -> None:
    link = site.new_link()
    done = site.visitor().set_password(link)
    assert done.status_code == 302
    assert done.location == "/reset-done"
    assert site.password_works(NEW_PASSWORD)
    assert not site.password_works(OLD_PASSWORD)
    assert code_of(site, link) == "link_used"
    assert problem_at(site, link) == "link_used"


@pytest.mark.requirement("R37")
def test_json_redeems_a_link_and_gets_no_session(site: Site) -> None:
    visitor = site.visitor()
    answer = visitor.post_json(
        site.new_link() + "?include_auth_token",
        json={"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD},
    )
    assert answer.json == {"meta": {"code": 200}, "response": {}}
    assert not visitor.is_signed_in()
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R36")
def test_every_session_of_the_account_ends(site: Site) -> None:
    at_home, remembered = site.visitor(), site.visitor()
    assert at_home.sign_in()
    remembered.submit("/login", identity="alice", password=OLD_PASSWORD, remember="y")
    assert remembered.client.get_cookie("sparekey_remember", domain="127.0.0.1") is not None
    site.visitor().set_password(site.new_link())
    remembered.client.delete_cookie("sparekey_session", domain="127.0.0.1")
    assert not at_home.is_signed_in()
    assert not remembered.is_signed_in()


@pytest.mark.requirement("R25")
def test_opening_a_link_consumes_nothing(site: Site) -> None:
    link = site.new_link()
    assert site.visitor().open(link, method="HEAD").status_code == 200
    assert (site.links()[0]["opened_at"], site.events()) == (None, ["requested", "mail_sent"])
    site.visitor().open(link)  # the first time is written down, for the audit trail
    assert site.events()[-1] == "opened"
    before = site.links(), site.messages(), site.events()
    for _ in range(20):
        head = site.visitor().open(link, method="HEAD")
        assert (head.status_code, "Set-Cookie" in head.headers) == (200, False)
        assert site.visitor().open(link).status_code == 303
    assert (site.links(), site.messages(), site.events()) == before
    assert site.visitor().set_password(link).status_code == 302


@pytest.mark.requirement("R48", "R49", "R51")
def test_the_token_leaves_the_address_bar_at_once(site: Site) -> None:
    visitor, link = site.visitor(), site.new_link()
    landing = visitor.open(link)
    assert landing.headers["Referrer-Policy"] == "no-referrer"
    assert landing.headers["Cache-Control"] == "no-store"
    token = link.rsplit("/", 1)[1]
    assert token not in landing.location
    form = visitor.open(landing.location)
    assert form.headers["Referrer-Policy"] == "same-origin"
    assert token not in form.text
    assert "a•••@example.com" in form.text
    assert "alice@example.com" not in form.text


def test_a_handle_of_another_browser_says_what_to_do(site: Site) -> None:
    location = site.visitor().open(site.new_link()).location
    page = site.visitor().open(location)
    assert page.status_code == 400
    assert "open the link in the mail again" in page.text
    assert "cookies" in page.text


@pytest.mark.requirement("R10")
def test_two_tabs_of_two_accounts_each_change_their_own(site: Site) -> None:
    browser = site.visitor()
    alices, bobs = (browser.open(site.new_link(name)).location for name in ("alice", "bob"))
    browser.set_password(alices, "the first tab is for alice")
    browser.set_password(bobs, "the second tab is for bob")
    assert site.password_works("the first tab is for alice", "alice")
    assert site.password_works("the second tab is for bob", "bob")


@pytest.mark.requirement("R51")
def test_a_browser_keeps_four_open_links_and_forgets_the_oldest(site: Site) -> None:
    browser = site.visitor()
    link = site.new_link()
    handles = [browser.open(link).location for _ in range(5)]
    assert browser.open(handles[0]).status_code == 400
    assert all(browser.open(handle).status_code == 200 for handle in handles[1:])
    browser.set_password(handles[4])
    assert browser.open(handles[4]).status_code == 400  # its link is spent: Back shows no form


def look_up_hash(site: Site, token: str) -> str:
    with site.app.app_context():
        [key] = settings.current().derive_keys("reset link look-up")
    return hmac.digest(key, token.encode(), "sha256").hex()


@pytest.mark.requirement("R9", "R11")
def test_a_token_is_random_opaque_and_stored_hashed(site: Site) -> None:
    tokens = {site.new_link().rsplit("/", 1)[1] for _ in range(20)}
    assert len(tokens) == 20
    assert all(len(base64.urlsafe_b64decode(token + "=")) == 32 for token in tokens)
    assert {link["token_hash"] for link in site.links()} == {look_up_hash(site, token) for token in tokens}
    dump = str([site.links(), site.messages(), site.events()])
    assert not any(token in dump for token in tokens)


@pytest.mark.requirement("R9")
def test_a_changed_token_is_refused(site: Site) -> None:
    link = site.new_link()
    for position in range(-43, 0, 7):
        other = "A" if link[position] != "A" else "B"
        tampered = link[:position] + other + (link[position + 1 :] if position != -1 else "")
        assert code_of(site, tampered) == "link_invalid"
    assert problem_at(site, link + "x") == "link_invalid"
    assert code_of(site, link) == "redeemed"


@pytest.mark.requirement("R10")
def test_extra_fields_can_not_lead_to_another_account(site: Site) -> None:
    site.visitor().submit(
        site.new_link(),
        password=NEW_PASSWORD,
        password_confirm=NEW_PASSWORD,
        email="bob@example.com",
        user_id="2",
    )
    assert site.password_works(NEW_PASSWORD, "alice")
    assert site.password_works(OLD_PASSWORD, "bob")


@pytest.mark.requirement("R12", "R69")
def test_an_expired_link_says_so(make_site: Any) -> None:
    site: Site = make_site(SECURITY_RESET_PASSWORD_WITHIN="2 seconds")
    link = site.new_link()
    assert site.visitor().open(link).status_code == 303
    time.sleep(2.1)
    assert problem_at(site, link) == "link_expired"
    assert code_of(site, link) == "link_expired"
    assert site.password_works(OLD_PASSWORD)


# --- several links ------------------------------------------------------------------------------


@pytest.mark.requirement("R14")
def test_asking_ends_no_link_and_redeeming_one_ends_the_others(site: Site) -> None:
    first, second, third = site.new_link(), site.new_link(), site.new_link()
    for link in (first, second, third):
        assert site.visitor().open(link).status_code == 303
    assert code_of(site, second) == "redeemed"
    for link in (first, third):
        assert problem_at(site, link) == code_of(site, link) == "link_superseded"


@pytest.mark.requirement("R55", "R58")
def test_asking_again_within_the_cooldown_ends_nothing(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes")
    link = site.new_link()
    for identity in ("alice", "alice@example.com", "+14155550123"):
        site.ask(identity)
    site.work()
    assert len(site.mailbox.mails) == 1
    assert [message["state"] for message in site.messages()] == ["sent", "dropped", "dropped", "dropped"]
    assert "RECOVERY_MAIL_COOLDOWN" in site.messages()[1]["reason"]
    assert code_of(site, link) == "redeemed"


@pytest.mark.requirement("R55", "R58")
def test_asking_over_the_daily_cap_ends_nothing(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_DAILY_CAP=2)
    site.new_link()
    last = site.new_link()
    site.ask()
    site.work()
    assert len(site.mailbox.mails) == 2
    assert "RECOVERY_MAIL_DAILY_CAP" in site.messages()[2]["reason"]
    assert code_of(site, last) == "redeemed"


@pytest.mark.requirement("R58")
def test_the_cap_ends_by_itself(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_DAILY_CAP=1, RECOVERY_MAIL_COOLDOWN="5 minutes")
    site.new_link()
    site.change(ResetLink, issued_at=LONG_AGO)
    site.new_link()


# --- two clicks on one button -------------------------------------------------------------------


class OpenForm:
    """The form of a link in a browser, whose button may be clicked again."""

    def __init__(self, site: Site, link: str) -> None:
        self.browser = site.visitor()
        page = self.browser.open(link, follow_redirects=True)
        self.path, self.token = page.request.path, csrf_token(page)

    def click(self, password: str = NEW_PASSWORD) -> TestResponse:
        form = {"password": password, "password_confirm": password, "csrf_token": self.token}
        return self.browser.post_json(self.path, data=form)


@pytest.mark.requirement("R13")
def test_two_clicks_are_one(site: Site) -> None:
    form = OpenForm(site, site.new_link())
    for _ in range(2):
        answer = form.click()
        assert (answer.status_code, answer.location) == (302, "/reset-done")
    assert site.events().count("redeemed") == 1
    assert [message["kind"] for message in site.messages()].count("reset_notice") == 1
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R13")
def test_a_second_click_with_another_password_is_refused(site: Site) -> None:
    form = OpenForm(site, site.new_link())
    form.click()
    assert 'data-code="link_used"' in form.click(OLD_PASSWORD).text
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R13")
def test_a_used_link_is_no_oracle_for_passwords(site: Site) -> None:
    """Neither for the token itself, nor for another browser that has opened it, nor after a minute."""
    link = site.new_link()
    form, anothers = OpenForm(site, link), OpenForm(site, link)
    form.click()
    assert code_of(site, link) == "link_used"
    assert 'data-code="link_used"' in anothers.click().text
    site.change(ResetLink, redeemed_at=LONG_AGO)
    assert 'data-code="link_used"' in form.click().text


@pytest.mark.requirement("R13")
def test_a_second_click_after_the_password_was_changed_again_is_refused(site: Site) -> None:
    form = OpenForm(site, site.new_link())
    form.click()
    site.change(User, User.username == "alice", password="$argon2id$written elsewhere")
    assert 'data-code="link_used"' in form.click().text


@pytest.mark.requirement("R13")
def test_no_fast_hash_of_a_password_rests_anywhere(site: Site) -> None:
    OpenForm(site, site.new_link()).click()
    [link] = site.links()
    hashes = {getattr(hashlib, name)(NEW_PASSWORD.encode()).hexdigest() for name in ("sha1", "sha256", "md5")}
    assert not hashes & {str(value) for value in link.values()}


# --- a password that was taken away --------------------------------------------------------------


@pytest.mark.requirement("R37")
def test_a_withdrawn_password_is_refused_until_the_next_redemption(site: Site) -> None:
    with site.app.app_context():
        alice = db.session.scalars(select(User.id).where(User.username == "alice")).one()
        not_me.end_access(alice, with_password=True)
        db.session.commit()
    link = site.new_link()
    assert code_of(site, link, OLD_PASSWORD) == "password_unchanged"
    assert code_of(site, link) == "redeemed"
    site.work()  # the notice
    assert code_of(site, site.new_link(), OLD_PASSWORD) == "redeemed"  # now it is one as any


@pytest.mark.requirement("R15", "R16")
@pytest.mark.parametrize("change", [{"email": "alice@new.example.com"}, {"password": None}])
def test_a_mail_for_an_account_that_changed_meanwhile_is_written_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """Or it would bring a link to the old address, or a dead one."""
    write, changes = composing.write, [change]

    def changed_meanwhile(*args: Any, **kwargs: Any) -> Any:
        if changes:
            person = threading.Thread(
                target=site.change, args=(User, User.username == "alice"), kwargs=changes.pop()
            )
            person.start()
            person.join()
        return write(*args, **kwargs)

    monkeypatch.setattr(composing, "write", changed_meanwhile)
    site.ask("alice")
    site.work()
    assert [site.mailbox.mails, site.links()] == [[], []]
    assert site.messages()[0]["state"] == "waiting"
    make_due(site)
    site.work()
    came = [mail["To"] for mail in site.mailbox.mails]
    assert came == (["alice@new.example.com"] if "email" in change else [])


# --- what changes on the account ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"email": "alice@new.example.com"}, "link_revoked"),
        ({"password": "$argon2id$written directly"}, "link_revoked"),
        ({"password": None}, "account_unavailable"),
        ({"active": False}, "account_unavailable"),
    ],
)
@pytest.mark.requirement("R15", "R16", "R17")
def test_a_change_of_the_account_ends_its_link(site: Site, change: dict[str, Any], code: str) -> None:
    link = site.new_link()
    handle = (browser := site.visitor()).open(link).location
    site.change(User, User.email == "alice@example.com", **change)
    before = site.rows(User)
    assert problem_at(site, link) == code_of(site, link) == code
    assert browser.open(handle).status_code == 400
    assert site.rows(User) == before


@pytest.mark.requirement("R16")
def test_a_revoked_link_and_a_deleted_account_are_told_apart(site: Site) -> None:
    link = site.new_link()
    site.change(ResetLink, revoked_at=LONG_AGO)
    assert problem_at(site, link) == "link_revoked"
    with site.app.app_context():
        db.session.delete(db.session.query(User).filter_by(email="alice@example.com").one())
        db.session.commit()
    assert problem_at(site, link) == "link_invalid"


@pytest.mark.requirement("R17")
def test_a_password_change_by_its_owner_ends_the_link(site: Site) -> None:
    alice = site.visitor()
    alice.sign_in()
    link = site.new_link()
    alice.submit(
        "/change", password=OLD_PASSWORD, new_password=NEW_PASSWORD, new_password_confirm=NEW_PASSWORD
    )
    assert site.password_works(NEW_PASSWORD)
    assert code_of(site, link) == "link_revoked"


@pytest.mark.requirement("R26", "R34")
def test_a_refused_password_does_not_use_up_the_link(site: Site) -> None:
    browser, link = site.visitor(), site.new_link()
    handle = browser.open(link).location
    short = browser.set_password(handle, "too short")
    assert short.status_code == 200
    assert "at least 15 characters" in short.text
    assert "a•••@example.com" in short.text
    different = browser.set_password(handle, NEW_PASSWORD, again=NEW_PASSWORD + "?")
    assert "not the same" in different.text
    assert browser.set_password(handle).status_code == 302


# --- all or nothing --------------------------------------------------------------------------


class Planted(Exception):
    """A fault that a test has planted."""


@contextmanager
def planted_at(site: Site, number: int) -> Iterator[list[str]]:
    """Fail the n-th statement; -1 fails none, and past the last one the commit. Yields what ran."""
    seen: list[str] = []

    def on_statement(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)
        if len(seen) == number + 1:
            raise Planted

    def on_commit(_connection: Any) -> None:
        seen.append("COMMIT")
        if len(seen) >= number + 1 > 0:
            raise Planted

    with site.app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", on_statement)
    event.listen(engine, "commit", on_commit)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", on_statement)
        event.remove(engine, "commit", on_commit)


@pytest.mark.parametrize("by", ["form", "json"])
@pytest.mark.requirement("R34", "R66")
def test_a_fault_at_every_statement_of_redeem_leaves_the_old_password(site: Site, by: str) -> None:
    link, browser = site.new_link(), site.visitor()
    page = browser.open(link, follow_redirects=True)
    handle = page.request.path if by == "form" else link
    body: dict[str, Any] = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    before = site.rows(User), site.links(), site.messages(), site.events()

    def post() -> TestResponse:
        if by == "json":
            return browser.post_json(handle, json=body)
        return browser.post_json(handle, data={**body, "csrf_token": csrf_token(page)})

    failed_at = []
    for number in range(100):
        with planted_at(site, number) as seen:
            answer = post()
        if answer.status_code < 400:
            break
        failed_at.append(seen[number].split()[0])
        assert answer.status_code == 500
        assert "Traceback" not in answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert (site.rows(User), site.links(), site.messages(), site.events()) == before
        assert site.password_works(OLD_PASSWORD)
    # All of it was tried: link, account, other links, notice, event, and the commit itself.
    assert failed_at.count("UPDATE") == 3
    assert failed_at.count("INSERT") == 2
    assert failed_at[-1] == "COMMIT"
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R34", "R66")
def test_a_commit_that_fails_once_is_not_made_up_for_behind_the_answer(site: Site) -> None:
    link = site.new_link()
    failures = [Planted()]

    def fail_once(_connection: Any) -> None:
        if failures:
            raise failures.pop()

    with site.app.app_context():
        engine = db.engine
    browser = site.visitor()
    handle = browser.open(link).location
    event.listen(engine, "commit", fail_once)
    answer = browser.set_password(handle)
    event.remove(engine, "commit", fail_once)
    assert answer.status_code == 500
    assert site.password_works(OLD_PASSWORD)
    assert browser.set_password(handle).status_code == 302


@pytest.mark.requirement("R34")
def test_a_read_only_database_changes_nothing_and_keeps_the_link(site: Site) -> None:
    link = site.new_link()
    with site.app.app_context():
        engine = db.engine

    def read_only(connection: Any, _record: Any, _proxy: Any) -> None:
        if engine.dialect.name == "sqlite":
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.read_only = True

    event.listen(engine, "checkout", read_only)
    assert code_of(site, link) == "unavailable"
    event.remove(engine, "checkout", read_only)
    engine.dispose()  # the next connections may write again
    assert site.password_works(OLD_PASSWORD)
    assert code_of(site, link) == "redeemed"


@pytest.mark.requirement("R13")
def test_of_many_who_come_at_once_one_wins(site: Site) -> None:
    link = site.new_link()
    passwords = [f"the password of visitor {number}" for number in range(12)]
    codes: dict[str, str] = {}
    start = threading.Barrier(len(passwords))

    def redeem(password: str) -> None:
        visitor: Visitor = site.visitor()
        start.wait()
        answer = visitor.post_json(link, json={"password": password, "password_confirm": password})
        codes[password] = answer.json["response"].get("error_code", "redeemed")  # type: ignore[index]

    threads = [threading.Thread(target=redeem, args=(password,)) for password in passwords]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes.values()) == ["link_used"] * 11 + ["redeemed"]
    [winner] = [password for password, code in codes.items() if code == "redeemed"]
    assert site.password_works(winner)
    assert site.events().count("redeemed") == 1
    assert [message["kind"] for message in site.messages()].count("reset_notice") == 1


@pytest.mark.parametrize(
    "change", [{"active": False}, {"email": "elsewhere@example.com"}, {"password": "$argon2id$other"}]
)
@pytest.mark.requirement("R15", "R16", "R17")
def test_what_changes_while_the_new_password_is_hashed_still_counts(
    site: Site, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """The link is looked at before argon2 and redeemed after it; another process acts in between."""
    link = site.new_link()
    redeem = links.redeem

    def redeem_later(*args: Any, **kwargs: Any) -> None:
        other = threading.Thread(
            target=site.change, args=(User, User.email == "alice@example.com"), kwargs=change
        )
        other.start()
        other.join()
        redeem(*args, **kwargs)

    monkeypatch.setattr(links, "redeem", redeem_later)
    assert code_of(site, link) in ("link_revoked", "account_unavailable")
    [alice] = [row for row in site.rows(User) if row["username"] == "alice"]
    assert {key: alice[key] for key in change} == change


# --- keys --------------------------------------------------------------------------------------


@pytest.mark.requirement("R64")
def test_a_link_outlives_the_rotation_of_the_secret_key(make_site: Any) -> None:
    site: Site = make_site()
    old_link = site.new_link()
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask("bob")
    site.work()
    site.mailbox.refuse.clear()
    site.change(outbox.OutboxMessage, outbox.OutboxMessage.state == "waiting", due_at=LONG_AGO)
    with site.app.app_context():
        uri = str(db.engine.url)
    rotated: Site = make_site(
        SQLALCHEMY_DATABASE_URI=uri,
        SECRET_KEY="a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5",
        SECRET_KEY_FALLBACKS=[SECRETS["FLASK_SECRET_KEY"]],
    )
    [attempted] = [
        link for link in site.links() if link["superseded_at"] is None and link["email"] == "bob@example.com"
    ]
    rotated.work()  # the mail that waited keeps its link
    assert look_up_hash(site, rotated.last_link().rsplit("/", 1)[1]) == attempted["token_hash"]
    assert code_of(rotated, old_link) == "redeemed"
