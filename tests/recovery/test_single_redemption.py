"""Redemption of a reset link happens once or not at all, whatever fails and whoever else tries."""

import hashlib
import threading
from datetime import datetime
from functools import partial
from typing import Any

import flask_security.changeable
import pytest
from sqlalchemy import Engine, event, select, text, update
from support.commands import run
from support.concurrency import at_once, interrupt
from support.database import fault_at
from support.recovery import code_of, object_to, problem_at
from support.redemption import OpenForm
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, csrf_token, wait_for

from app.accounts import sign_in
from app.accounts.models import User
from app.db.engine import db
from app.recovery import link as links
from app.recovery.link import ResetLink

LONG_AGO = datetime(2020, 1, 1)
FIELDS = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
THIEFS = "the thief's own password"


def engine_of(site: Site) -> Engine:
    with site.app.app_context():
        return db.engine


@BOTH
@pytest.mark.requirement("R13")
def test_redemption_again_is_refused_except_for_a_second_click(site: Site) -> None:
    """A used link is no oracle for passwords."""
    link = site.new_link()
    form, other_browser = OpenForm(site, link), OpenForm(site, link)
    assert [form.click().location for _ in range(2)] == ["/reset-done", "/reset-done"]
    assert site.events().count("redeemed") == 1
    assert [message["kind"] for message in site.messages()].count("reset_notice") == 1
    assert [site.password_works(password) for password in (NEW_PASSWORD, OLD_PASSWORD)] == [True, False]
    fast = {getattr(hashlib, name)(NEW_PASSWORD.encode()).hexdigest() for name in ("sha1", "sha256", "md5")}
    assert not fast & {str(value) for value in site.links()[0].values()}
    # The token itself, with the right password.
    assert code_of(site, link) == problem_at(site, link) == "link_used"
    refused, written = 'data-code="link_used"', site.rows(User)[0]["password"]
    assert refused in other_browser.click().text
    assert refused in form.click(OLD_PASSWORD).text
    assert site.password_works(NEW_PASSWORD)
    site.change(User, User.username == "alice", password="$argon2id$written elsewhere")
    assert refused in form.click().text
    site.change(User, User.username == "alice", password=written)
    assert form.click().location == "/reset-done"
    site.change(ResetLink, redeemed_at=LONG_AGO)
    assert refused in form.click().text


@BOTH
@pytest.mark.parametrize("by", ["form", "json"])
@pytest.mark.requirement("R34", "R66")
def test_redemption_with_a_fault_at_any_statement_changes_nothing(site: Site, by: str) -> None:
    link, browser = site.new_link(), site.visitor()
    page = browser.open(link, follow_redirects=True)
    form = {"data": {**FIELDS, "csrf_token": csrf_token(page)}}
    url, body = {"form": (page.request.path, form), "json": (link, {"json": FIELDS})}[by]
    before = site.rows(User), site.links(), site.messages(), site.events()
    failed_at = []
    for number in range(100):  # nothing that fails once is made up for behind the answer
        with fault_at(site, number, RuntimeError("planted")) as statements:
            answer = browser.post_json(url, **body)
        if answer.status_code < 400:
            break
        failed_at.append(statements[number].split()[0])
        assert answer.status_code == 500
        assert "Traceback" not in answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert (site.rows(User), site.links(), site.messages(), site.events()) == before
    assert failed_at.count("UPDATE") == 3  # the link, the account and the other links
    assert failed_at.count("INSERT") == 3  # the notice and two events
    assert failed_at[-1] == "COMMIT"
    assert site.password_works(NEW_PASSWORD)


@BOTH
@pytest.mark.requirement("R34")
def test_redemption_in_a_read_only_database_keeps_the_link(site: Site) -> None:
    link, engine = site.new_link(), engine_of(site)

    def read_only(connection: Any, _record: Any, _proxy: Any) -> None:
        if engine.dialect.name == "sqlite":
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.read_only = True

    event.listen(engine, "checkout", read_only)
    assert code_of(site, link) == "unavailable"
    event.remove(engine, "checkout", read_only)
    engine.dispose()  # new connections can write again
    assert site.password_works(OLD_PASSWORD)
    assert code_of(site, link) == "redeemed"


@pytest.mark.requirement("R66")
def test_change_that_fails_at_its_end_changes_nothing(site: Site, monkeypatch: Any) -> None:
    """Flask-Security commits after the request whatever the session holds, on error answers too."""
    in_browser, in_program, before = site.visitor(), site.visitor(), site.rows(User)
    assert in_browser.sign_in()
    assert in_program.sign_in()
    new = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    monkeypatch.setattr(flask_security.changeable.password_changed, "send", lambda *_, **__: 1 / 0)
    assert in_browser.submit("/change", **new).status_code == 500
    assert in_program.post_json("/change", json=new).status_code == 500
    assert site.rows(User) == before
    assert site.messages() == []


@BOTH
@pytest.mark.requirement("R13")
def test_redemption_by_many_at_once_has_one_winner(site: Site) -> None:
    link = site.new_link()
    codes = at_once(12, lambda number: code_of(site, link, f"the password of visitor {number}"))
    assert sorted(codes) == ["link_used"] * 11 + ["redeemed"]
    assert site.password_works(f"the password of visitor {codes.index('redeemed')}")
    assert site.events().count("redeemed") == 1
    assert [message["kind"] for message in site.messages()].count("reset_notice") == 1


@BOTH
@pytest.mark.requirement("R12", "R14", "R15", "R16", "R17")
def test_redemption_is_refused_if_link_or_account_change_meanwhile(site: Site, monkeypatch: Any) -> None:
    """The link is checked before argon2 and redeemed after it; another process acts in between."""
    alice = site.rows(User)[0]
    changes: list[tuple[str, Any, str]] = [
        ("expires_at", LONG_AGO, "link_expired"),
        ("superseded_at", LONG_AGO, "link_superseded"),
        ("revoked_at", LONG_AGO, "link_revoked"),
        ("active", False, "account_unavailable"),
        ("email", "elsewhere@example.com", "link_revoked"),
        ("password", "$argon2id$other", "link_revoked"),
    ]
    for column, value, code in changes:
        link = site.new_link()
        target = (ResetLink,) if column.endswith("_at") else (User, User.username == "alice")
        interrupt(monkeypatch, links, "redeem", partial(site.change, *target, **{column: value}))
        assert code_of(site, link) == code
        assert site.events()[-1] == "refused"
        if column in alice:
            assert site.rows(User)[0][column] == value
            site.change(User, User.username == "alice", **{column: alice[column]})
    assert site.rows(User)[0]["password"] == alice["password"]


@pytest.mark.requirement("R13")
def test_loser_of_a_race_is_told_that_the_link_was_used(site: Site, monkeypatch: Any) -> None:
    """The winner commits after the loser's link was looked up, and before its account is."""
    link = site.new_link()
    win = partial(site.visitor().set_password, link, "the winner's new password")
    interrupt(monkeypatch, links, "resolve", win, after=True)
    assert code_of(site, link) == "link_used"
    assert site.password_works("the winner's new password")


@BOTH
@pytest.mark.requirement("R36")
def test_slow_change_does_not_undo_reset(site: Site, monkeypatch: Any) -> None:
    """A thief with session and old password posts /change; the owner resets while it is hashed."""
    thief = site.visitor()
    assert thief.sign_in()
    reset = partial(site.visitor().set_password, site.new_link())
    interrupt(monkeypatch, flask_security.changeable, "hash_password", reset)
    new = {"new_password": THIEFS, "new_password_confirm": THIEFS}
    assert thief.submit("/change", password=OLD_PASSWORD, **new).status_code == 409
    assert [site.password_works(password) for password in (NEW_PASSWORD, THIEFS)] == [True, False]
    assert not thief.is_signed_in()


@BOTH
def test_slow_rehash_does_not_undo_reset(site: Site, monkeypatch: Any) -> None:
    """A sign-in with the old password upgrades an outdated hash while the owner resets."""
    link = site.new_link()

    def reset() -> None:
        monkeypatch.undo()
        site.visitor().set_password(link)

    interrupt(monkeypatch, sign_in, "hash_password", reset)
    monkeypatch.setattr("passlib.context.CryptContext.needs_update", lambda *_, **__: True)
    site.visitor().post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
    assert [site.password_works(password) for password in (NEW_PASSWORD, OLD_PASSWORD)] == [True, False]


LOCKING = {
    "opening": lambda site, link: site.visitor().open(link),
    "links revoke": lambda site, _: run(site, "links", "revoke", "alice"),
    "users force-reset": lambda site, _: run(site, "users", "force-reset", "alice"),
    "objection": lambda site, _: object_to(site, site.mailbox.mails[0]),
}


@pytest.mark.requirement("R13")
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("act", LOCKING.values(), ids=LOCKING)
def test_opening_and_revoking_lock_the_account_before_its_links(site: Site, act: Any) -> None:
    """As a redemption does, or one of both would be refused as a deadlock."""
    link = site.new_link()
    waiting = text("SELECT 1 FROM pg_locks WHERE NOT granted")
    with engine_of(site).connect() as redemption, engine_of(site).connect() as monitor:
        redemption.execute(text("SET LOCAL lock_timeout = '200ms'"))
        redemption.execute(select(User.id).where(User.username == "alice").with_for_update())
        other = threading.Thread(target=act, args=(site, link))
        other.start()
        wait_for(lambda: monitor.scalar(waiting) is not None)
        redemption.execute(update(ResetLink).values(redeemed_at=LONG_AGO))  # times out if the link is locked
        redemption.rollback()
        other.join(10)
        assert not other.is_alive()
