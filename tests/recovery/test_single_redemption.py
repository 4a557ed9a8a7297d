"""Redemption of a reset link happens once or not at all, whatever fails and whoever else tries."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text, update
from support.commands import run
from support.recovery import code_of, problem_at
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, csrf_token, wait_for
from werkzeug.test import TestResponse

from app.accounts.models import User
from app.db.engine import db
from app.recovery import link as links, not_me
from app.recovery.link import ResetLink

LONG_AGO = datetime(2020, 1, 1)


def engine_of(site: Site) -> Engine:
    with site.app.app_context():
        return db.engine


@BOTH
@pytest.mark.requirement("R13")
def test_redemption_sets_the_password_once(site: Site) -> None:
    link = site.new_link()
    done = site.visitor().set_password(link)
    assert (done.status_code, done.location) == (302, "/reset-done")
    assert site.password_works(NEW_PASSWORD)
    assert not site.password_works(OLD_PASSWORD)
    assert code_of(site, link) == problem_at(site, link) == "link_used"


@pytest.mark.requirement("R13")
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "act",
    [
        lambda site, link: site.visitor().open(link),
        lambda site, _: run(site, "links", "revoke", "alice"),
        lambda site, _: run(site, "users", "force-reset", "alice"),
    ],
    ids=["opening", "links revoke", "users force-reset"],
)
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


@pytest.mark.requirement("R37", "R45")
def test_redemption_in_json_signs_nobody_in_and_the_signed_in_user_out(site: Site) -> None:
    link, mallory = site.new_link(), site.visitor()
    mallory.sign_in("bob")
    body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    answer = mallory.post_json(link + "?include_auth_token", json=body)
    assert answer.json == {"meta": {"code": 200}, "response": {}}
    assert not mallory.is_signed_in()
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R26", "R34")
def test_redemption_with_a_refused_password_keeps_the_link(site: Site) -> None:
    browser = site.visitor()
    handle = browser.open(site.new_link()).location
    short = browser.set_password(handle, "too short")
    assert short.status_code == 200
    assert "at least 15 characters" in short.text
    assert "a•••@example.com" in short.text
    assert "The passwords don" in browser.set_password(handle, again=NEW_PASSWORD + "?").text
    assert browser.set_password(handle).status_code == 302


@pytest.mark.requirement("R37")
def test_redemption_refuses_a_withdrawn_password_until_the_next_one(site: Site) -> None:
    with site.app.app_context():
        alice = db.session.scalars(select(User.id).where(User.username == "alice")).one()
        not_me.end_access(alice, with_password=True)
        db.session.commit()
    site.work()  # a notice
    link = site.new_link()
    assert code_of(site, link, OLD_PASSWORD) == "password_unchanged"
    assert code_of(site, link) == "redeemed"
    site.work()  # the notice
    assert code_of(site, site.new_link(), OLD_PASSWORD) == "redeemed"


class OpenForm:
    """The form of a link in a browser of its own. Its button can be clicked again."""

    def __init__(self, site: Site, link: str) -> None:
        self.browser = site.visitor()
        page = self.browser.open(link, follow_redirects=True)
        self.path, self.token = page.request.path, csrf_token(page)

    def click(self, password: str = NEW_PASSWORD) -> TestResponse:
        form = {"password": password, "password_confirm": password, "csrf_token": self.token}
        return self.browser.post_json(self.path, data=form)


@BOTH
@pytest.mark.requirement("R13")
def test_redemption_by_two_clicks_is_one(site: Site) -> None:
    form = OpenForm(site, site.new_link())
    for _ in range(2):
        answer = form.click()
        assert (answer.status_code, answer.location) == (302, "/reset-done")
    assert site.events().count("redeemed") == 1
    assert [message["kind"] for message in site.messages()].count("reset_notice") == 1
    assert site.password_works(NEW_PASSWORD)
    fast = {getattr(hashlib, name)(NEW_PASSWORD.encode()).hexdigest() for name in ("sha1", "sha256", "md5")}
    assert not fast & {str(value) for value in site.links()[0].values()}


@BOTH
@pytest.mark.requirement("R13")
def test_redemption_again_is_refused_except_for_a_second_click(site: Site) -> None:
    """A used link is no oracle for passwords."""
    link = site.new_link()
    form, other_browser = OpenForm(site, link), OpenForm(site, link)
    form.click()
    written = site.rows(User)[0]["password"]
    assert code_of(site, link) == "link_used"  # the token itself, with the right password
    refused = 'data-code="link_used"'
    assert refused in other_browser.click().text
    assert refused in form.click(OLD_PASSWORD).text
    assert site.password_works(NEW_PASSWORD)
    site.change(User, User.username == "alice", password="$argon2id$written elsewhere")
    assert refused in form.click().text
    site.change(User, User.username == "alice", password=written)
    assert form.click().location == "/reset-done"
    site.change(ResetLink, redeemed_at=LONG_AGO)
    assert refused in form.click().text


class PlantedError(Exception):
    """A fault that a test has planted."""


@contextmanager
def fault_at(site: Site, number: int) -> Iterator[list[str]]:
    """Fail once, at the n-th statement or commit. Yields the statements that ran."""
    statements: list[str] = []

    def note(statement: str) -> None:
        statements.append(statement)
        if len(statements) == number + 1:
            raise PlantedError

    def on_statement(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        note(statement)

    def on_commit(_connection: Any) -> None:
        note("COMMIT")

    engine = engine_of(site)
    event.listen(engine, "before_cursor_execute", on_statement)
    event.listen(engine, "commit", on_commit)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", on_statement)
        event.remove(engine, "commit", on_commit)


@BOTH
@pytest.mark.parametrize("by", ["form", "json"])
@pytest.mark.requirement("R34", "R66")
def test_redemption_with_a_fault_at_any_statement_changes_nothing(site: Site, by: str) -> None:
    link, browser = site.new_link(), site.visitor()
    page = browser.open(link, follow_redirects=True)
    fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    form = {"data": {**fields, "csrf_token": csrf_token(page)}}
    url, body = {"form": (page.request.path, form), "json": (link, {"json": fields})}[by]
    before = site.rows(User), site.links(), site.messages(), site.events()
    failed_at = []
    for number in range(100):  # nothing that fails once is made up for behind the answer
        with fault_at(site, number) as statements:
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


@BOTH
@pytest.mark.requirement("R13")
def test_redemption_by_many_at_once_has_one_winner(site: Site) -> None:
    link, codes = site.new_link(), {}
    passwords = [f"the password of visitor {number}" for number in range(12)]
    start = threading.Barrier(len(passwords))

    def redeem(password: str) -> None:
        start.wait()
        codes[password] = code_of(site, link, password)

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


@BOTH
@pytest.mark.parametrize(
    "change", [{"active": False}, {"email": "elsewhere@example.com"}, {"password": "$argon2id$other"}]
)
@pytest.mark.requirement("R15", "R16", "R17")
def test_redemption_is_refused_if_the_account_changes_during_the_hash(
    site: Site, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """The link is checked before argon2 and redeemed after it; another process acts in between."""
    link, redeem = site.new_link(), links.redeem

    def redeem_later(*args: Any, **kwargs: Any) -> None:
        other = threading.Thread(target=site.change, args=(User, User.username == "alice"), kwargs=change)
        other.start()
        other.join()
        redeem(*args, **kwargs)

    monkeypatch.setattr(links, "redeem", redeem_later)
    assert code_of(site, link) in ("link_revoked", "account_unavailable")
    alice = site.rows(User)[0]
    assert {key: alice[key] for key in change} == change
