"""Redemption in another application's table: one conditional UPDATE, whatever else writes or fails."""

import os
import sqlite3
import threading
import time
from contextlib import closing
from itertools import count
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from support.application import EVERYWHERE, OLD_HASH, Application
from support.concurrency import in_another_thread
from support.mailbox import link_in
from support.outbox import make_due
from support.recovery import code_of, object_to, problem_at
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts import foreign
from app.db import engine
from app.db.engine import db
from app.recovery import redemption

RACERS = 32
RACE_ROUNDS = int(os.environ.get("RACE_ROUNDS", "1"))


@pytest.fixture
def site(application: Application, make_site: Any) -> Site:
    built: Site = make_site(**application.deployment(changed_at="changed_at"))
    return built


@EVERYWHERE
@pytest.mark.requirement("R13")
def test_one_of_32_redeems_while_the_application_writes_the_row(application: Application, site: Site) -> None:
    application.execute("ALTER TABLE users ADD visits integer DEFAULT 0")
    for number in range(RACE_ROUNDS):
        link, codes, stop = site.new_link(), {}, threading.Event()
        start = threading.Barrier(RACERS + 1)
        before, writes = application.user()["visits"], []

        def redeem(password: str, link: str = link, start: Any = start, codes: Any = codes) -> None:
            start.wait()
            codes[password] = code_of(site, link, password)

        def write(start: Any = start, stop: Any = stop, writes: Any = writes) -> None:
            start.wait()
            while not stop.is_set():
                application.execute("UPDATE users SET visits = visits + 1 WHERE id = 1")
                writes.append(1)
                time.sleep(0.001)

        passwords = [f"round {number}, visitor {racer:02}" for racer in range(RACERS)]
        threads = [threading.Thread(target=redeem, args=(password,)) for password in passwords]
        writer = threading.Thread(target=write)
        for thread in (*threads, writer):
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        writer.join()
        [winner] = [password for password, code in codes.items() if code == "redeemed"]
        # A loser may give up on the lock, which the application takes again and again.
        assert set(codes.values()) <= {"redeemed", "link_used", "unavailable"}, codes
        assert application.signs_in(winner)
        assert application.user()["visits"] == before + len(writes)
        site.work()
    assert site.events().count("redeemed") == RACE_ROUNDS


CHANGES = {
    "password": "UPDATE users SET password = 'changed there' WHERE id = 1",
    "address": "UPDATE users SET email = 'other@example.com' WHERE id = 1",
    "state": "UPDATE users SET is_active = false WHERE id = 1",
    "deletion": "DELETE FROM users WHERE id = 1",
}


@EVERYWHERE
@pytest.mark.parametrize("moment", ["before", "while hashing"])
@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES)
def test_change_in_the_application_ends_the_link(
    application: Application, site: Site, monkeypatch: Any, statement: str, moment: str
) -> None:
    link = site.new_link()

    def hash_slowly(*args: Any) -> str:
        hashed = new_hash(*args)
        in_another_thread(lambda: application.execute(statement))
        return hashed

    new_hash = redemption.new_hash
    if moment == "before":
        application.execute(statement)
    else:
        monkeypatch.setattr(redemption, "new_hash", hash_slowly)
    assert code_of(site, link) in ("link_revoked", "account_unavailable")
    rows = application.execute("SELECT * FROM users WHERE id = 1")
    assert [row["password"] for row in rows] in ([], [OLD_HASH], ["changed there"])
    assert "redeemed" not in site.events()


@EVERYWHERE
def test_error_at_any_statement_leaves_both_tables_as_they_were(application: Application, site: Site) -> None:
    link = site.new_link()
    before, reached = application.user(), 0
    for point in count(1):
        numbers = count(1)

        def fail(*args: Any, numbers: Any = numbers, point: int = point) -> None:
            if next(numbers) == point:
                raise OperationalError("planted", None, Exception("planted"))

        with site.app.app_context():
            target = db.engine
        event.listen(target, "before_cursor_execute", fail)
        event.listen(target, "commit", fail)
        answer = site.visitor().post_json(link, json={"password": NEW_PASSWORD})
        event.remove(target, "before_cursor_execute", fail)
        event.remove(target, "commit", fail)
        if answer.status_code == 200:
            break
        reached += 1
        assert answer.status_code == 503
        assert application.user() == before
        assert site.links()[-1]["redeemed_at"] is None
        assert not [row for row in site.messages() if row["kind"] == "reset_notice"]
    assert reached > 6
    assert application.signs_in(NEW_PASSWORD)


@EVERYWHERE
@pytest.mark.requirement("R13")
def test_lock_held_by_the_application_is_answered_with_503_and_changes_nothing(
    application: Application, site: Site, monkeypatch: Any
) -> None:
    monkeypatch.setattr(foreign, "LOCK_SECONDS", 1)
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 2000)
    link, before = site.new_link(), application.user()
    connection = application.engine.connect()
    if application.file:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("SELECT id FROM users WHERE id = 1 FOR UPDATE")
    answer = site.visitor().post_json(link, json={"password": NEW_PASSWORD})
    connection.rollback()
    connection.close()
    assert answer.status_code == 503
    assert application.user() == before
    assert code_of(site, link) == "redeemed"


@EVERYWHERE
@pytest.mark.requirement("R37")
def test_objection_takes_the_stolen_password_away_in_the_applications_table(
    application: Application, site: Site
) -> None:
    stolen = "the password of a thief"
    assert code_of(site, site.new_link(), stolen) == "redeemed"
    assert application.signs_in(stolen)
    site.work()
    page = object_to(site, site.mailbox.mails[-1])
    assert "The new password has been disabled" in page
    assert not application.signs_in(stolen)
    assert not application.signs_in(OLD_PASSWORD)
    assert site.work() == 1  # the notice that the password was disabled
    link = site.new_link()
    assert code_of(site, link, stolen) == "password_unchanged"
    assert code_of(site, link) == "redeemed"
    assert application.signs_in(NEW_PASSWORD)


@EVERYWHERE
def test_second_click_is_the_first(application: Application, site: Site) -> None:
    browser = site.visitor()
    handle = browser.open(site.new_link()).location
    form = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    form["csrf_token"] = (
        browser.open(handle).text.split('name="csrf_token" type="hidden" value="')[1].split('"')[0]
    )
    answers = [browser.client.post(handle, base_url=browser.base, data=form) for _ in range(2)]
    assert [answer.location for answer in answers] == ["/reset-done", "/reset-done"]
    assert site.events().count("redeemed") == 1


@pytest.mark.parametrize("application", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        "ALTER password TYPE varchar(60)",
        "ADD CHECK (password NOT LIKE '$argon2%')",
        "RENAME password TO secret",
    ],
)
def test_password_that_the_table_refuses_is_answered_with_503_and_changes_nothing(
    application: Application, make_site: Any, change: str
) -> None:
    application.execute("UPDATE users SET password = '!'")
    application.execute("UPDATE users SET password = 'of no known format' WHERE id = 1")
    site: Site = make_site(**application.deployment(hash="argon2"))
    link = site.new_link()
    application.execute(f"ALTER TABLE users {change}")
    before = application.execute("SELECT * FROM users WHERE id = 1")
    assert site.visitor().post_json(link, json={"password": NEW_PASSWORD}).status_code == 503
    assert application.execute("SELECT * FROM users WHERE id = 1") == before
    assert site.links()[-1]["redeemed_at"] is None


# --- Two files (SQLite) ---


def lose_the_applications_commit(application: Application) -> None:
    """Put the application's file into the state before the redemption, as a power cut between the commits does."""
    application.execute("UPDATE users SET password = :old, changed_at = NULL WHERE id = 1", old=OLD_HASH)


def test_link_whose_password_was_lost_works_again_and_its_notice_is_withdrawn(
    application: Application, site: Site
) -> None:
    link = site.new_link()
    assert code_of(site, link, "a password that is lost") == "redeemed"
    lose_the_applications_commit(application)
    for _ in range(2):
        site.work()
        make_due(site)
    [notice] = [row for row in site.messages() if row["kind"] == "reset_notice"]
    assert notice["state"] == "dropped"
    assert "the password was not written: the link works again" in notice["reason"]
    assert site.visitor().open(link, follow_redirects=True).status_code == 200
    assert code_of(site, link) == "redeemed"
    assert application.signs_in(NEW_PASSWORD)
    assert problem_at(site, link) == "link_used"
    site.work()
    assert len(site.mailbox.mails) == 2


def test_notice_of_the_lost_redemption_is_withdrawn_after_the_link_was_used_again(
    application: Application, site: Site
) -> None:
    link = site.new_link()
    assert code_of(site, link, "a password that is lost") == "redeemed"
    lose_the_applications_commit(application)
    assert code_of(site, link) == "redeemed"
    site.work()
    assert [row["state"] for row in site.messages() if row["kind"] == "reset_notice"] == ["dropped", "sent"]


@pytest.mark.parametrize("application", ["postgresql"], indirect=True)
def test_used_link_stays_used_where_one_commit_writes_both_tables(
    application: Application, site: Site
) -> None:
    link = site.new_link()
    assert code_of(site, link) == "redeemed"
    application.execute("UPDATE users SET password = :old WHERE id = 1", old=OLD_HASH)
    assert problem_at(site, link) == "link_used"


def test_application_writes_on_while_sparekey_is_asked(application: Application, site: Site) -> None:
    """A request locks Sparekey's file alone, also after the application's was attached."""
    code_of(site, site.new_link())
    assert application.file
    with closing(sqlite3.connect(application.file, timeout=0)) as other:

        def write(*args: Any) -> None:
            if "outbox_message" in args[2]:
                other.execute("UPDATE users SET status = 'x'")
                other.commit()

        with site.app.app_context():
            event.listen(db.engine, "after_cursor_execute", write)
        assert site.ask().status_code == 200


# --- Passwords ---


@EVERYWHERE
def test_password_that_bcrypt_would_cut_is_refused_with_a_message_of_its_own(site: Site) -> None:
    link = site.new_link()
    answer = site.visitor().post_json(link, json={"password": "ä" * 37 + "long enough"})
    assert answer.json["response"]["error_code"] == "password_too_long"
    assert "at most 72 characters" in answer.text
    assert code_of(site, link, "nul\0 in the middle of it") == "invalid_request"
    assert code_of(site, link, "x8 kd02 qmf" * 6) == "redeemed"


@EVERYWHERE
def test_password_is_hashed_as_it_was_typed(application: Application, site: Site) -> None:
    typed = "zoe\u0308 and the decomposed letters"
    assert code_of(site, site.new_link(), typed) == "redeemed"
    assert application.signs_in(typed)


@EVERYWHERE
def test_each_variant_that_differs_in_case_keeps_its_own_link_over_retries(
    application: Application, site: Site
) -> None:
    application.add("ALICE@example.com")
    application.execute("UPDATE users SET email = 'Alice@example.com' WHERE id = 1")
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask()
    site.work()
    site.mailbox.refuse.clear()
    for _ in range(3):
        make_due(site)
        site.work()
    assert sorted(str(mail["To"]) for mail in site.mailbox.mails) == [
        "ALICE@example.com",
        "Alice@example.com",
    ]
    assert len({link_in(mail) for mail in site.mailbox.mails}) == 2
