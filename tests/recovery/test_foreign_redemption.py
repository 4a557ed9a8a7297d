"""Redemption in another application's table: one conditional UPDATE, whatever else writes or fails."""

import os
import sqlite3
import time
from contextlib import closing
from functools import partial
from itertools import count
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from support.application import EVERYWHERE, OLD_HASH, Application
from support.concurrency import at_once, interrupt
from support.database import fault_at
from support.mailbox import link_in
from support.outbox import make_due
from support.recovery import code_of, object_to, problem_at
from support.redemption import OpenForm
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts import foreign, foreign_hashes
from app.db import engine
from app.db.engine import db
from app.recovery import new_password

RACERS = 32
RACE_ROUNDS = int(os.environ.get("RACE_ROUNDS", "1"))
ON_POSTGRESQL = pytest.mark.parametrize("application", ["postgresql"], indirect=True)


@pytest.fixture
def site(application: Application, make_site: Any) -> Site:
    built: Site = make_site(**application.deployment(changed_at="changed_at"))
    return built


@EVERYWHERE
@pytest.mark.requirement("R13")
def test_one_of_32_redeems_while_the_application_writes_the_row(application: Application, site: Site) -> None:
    application.execute("ALTER TABLE users ADD visits integer DEFAULT 0")
    for number in range(RACE_ROUNDS):
        link, codes, before = site.new_link(), {}, application.user()["visits"]

        def act(racer: int, number: int = number, link: str = link, codes: dict[str, str] = codes) -> int:
            if racer < RACERS:
                password = f"round {number}, visitor {racer:02}"
                codes[password] = code_of(site, link, password)
                return 0
            writes = 0
            while writes < 5_000 and len(codes) < RACERS:
                writes += application.execute("UPDATE users SET visits = visits + 1 WHERE id = 1")
                time.sleep(0.001)
            return writes

        writes = at_once(RACERS + 1, act)[-1]
        [winner] = [password for password, code in codes.items() if code == "redeemed"]
        # A loser may give up on the lock, which the application takes again and again.
        assert set(codes.values()) <= {"redeemed", "link_used", "unavailable"}, codes
        assert application.signs_in(winner)
        assert application.user()["visits"] == before + writes
        site.work()
    assert site.events().count("redeemed") == RACE_ROUNDS


@EVERYWHERE
@pytest.mark.parametrize("moment", ["before", "while hashing"])
def test_change_in_the_application_ends_the_link(
    application: Application, site: Site, monkeypatch: Any, moment: str
) -> None:
    before, values = application.user(), ("password = 'changed there'", "email = 'o@example.com'", "is_active = false")  # fmt: skip
    for statement in (*(f"UPDATE users SET {value} WHERE id = 1" for value in values), "DELETE FROM users WHERE id = 1"):  # fmt: skip
        link, change = site.new_link(), partial(application.execute, statement)
        if moment == "before":
            change()
        else:
            interrupt(monkeypatch, new_password, "new_hash", change, after=True)
        assert code_of(site, link) in ("link_revoked", "account_unavailable"), statement
        rows = application.execute("SELECT * FROM users WHERE id = 1")
        assert [row["password"] for row in rows] in ([], [OLD_HASH], ["changed there"])
        restored = "email = :email, password = :password, is_active = :is_active"
        application.execute(f"UPDATE users SET {restored} WHERE id = 1", **before)
    assert "redeemed" not in site.events()


@EVERYWHERE
def test_row_that_the_application_deletes_while_its_password_is_hashed_keeps_its_password(
    application: Application, make_site: Any, monkeypatch: Any
) -> None:
    site: Site = make_site(**application.deployment(active=["is_active", "!verified_at"]))
    link = site.new_link()
    delete = "UPDATE users SET verified_at = '2026-01-02 03:04:05' WHERE id = 1"
    interrupt(monkeypatch, new_password, "new_hash", partial(application.execute, delete), after=True)
    assert code_of(site, link) == "account_unavailable"
    assert application.user()["password"] == OLD_HASH


@EVERYWHERE
def test_error_at_any_statement_leaves_both_tables_as_they_were(
    application: Application, site: Site, monkeypatch: Any
) -> None:
    monkeypatch.setitem(foreign_hashes.FLOORS, "bcrypt", 4)  # each try costs a hash
    link, before = site.new_link(), application.user()
    for number in count():
        with fault_at(site, number, OperationalError("planted", None, Exception("planted"))):
            code = code_of(site, link)
        if code == "redeemed":
            break
        assert code == "unavailable"
        assert application.user() == before
        assert site.links()[-1]["redeemed_at"] is None
        assert not [row for row in site.messages() if row["kind"] == "reset_notice"]
    assert number > 6
    assert application.signs_in(NEW_PASSWORD)


@EVERYWHERE
@pytest.mark.requirement("R13")
def test_lock_held_by_the_application_is_answered_with_503_and_changes_nothing(
    application: Application, site: Site, monkeypatch: Any
) -> None:
    monkeypatch.setattr(foreign, "LOCK_SECONDS", 1)
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 2000)
    link, before = site.new_link(), application.user()
    lock = "BEGIN IMMEDIATE" if application.file else "SELECT id FROM users WHERE id = 1 FOR UPDATE"
    with application.engine.connect() as connection:
        connection.exec_driver_sql(lock)
        assert code_of(site, link) == "unavailable"
        connection.rollback()
    assert application.user() == before
    assert code_of(site, link) == "redeemed"


@EVERYWHERE
@pytest.mark.requirement("R37")
def test_objection_takes_the_stolen_password_away_there(application: Application, site: Site) -> None:
    stolen = "the password of a thief"
    assert code_of(site, site.new_link(), stolen) == "redeemed"
    assert application.signs_in(stolen)
    site.work()
    assert "The new password has been disabled" in object_to(site, site.mailbox.mails[-1])
    assert [application.signs_in(password) for password in (stolen, OLD_PASSWORD)] == [False, False]
    assert site.work() == 1  # the notice that the password was disabled
    link = site.new_link()
    assert code_of(site, link, stolen) == "password_unchanged"
    assert code_of(site, link) == "redeemed"
    assert application.signs_in(NEW_PASSWORD)


@EVERYWHERE
def test_objection_counts_though_the_thief_has_changed_address_and_password(
    application: Application, site: Site
) -> None:
    """In the application, where Sparekey sees neither change."""
    code_of(site, site.new_link())
    site.work()
    notice = site.mailbox.mails[-1]
    application.execute("UPDATE users SET email = 'thief@example.com' WHERE username = 'alice'")
    assert code_of(site, site.new_link("thief@example.com"), f"another {NEW_PASSWORD}") == "redeemed"
    assert "The new password has been disabled" in object_to(site, notice)
    assert not application.signs_in(f"another {NEW_PASSWORD}", "thief@example.com")


@EVERYWHERE
def test_second_click_is_the_first(site: Site) -> None:
    form = OpenForm(site, site.new_link())
    assert [form.click().location for _ in range(2)] == ["/reset-done", "/reset-done"]
    assert site.events().count("redeemed") == 1


@ON_POSTGRESQL
@pytest.mark.parametrize(
    "change",
    ["ALTER password TYPE varchar(60)", "ADD CHECK (password NOT LIKE '$argon2%')", "RENAME password TO secret"],
)  # fmt: skip
def test_password_that_the_table_refuses_is_answered_with_503_and_changes_nothing(
    application: Application, make_site: Any, change: str
) -> None:
    application.execute("UPDATE users SET password = '!'")
    application.execute("UPDATE users SET password = 'of no known format' WHERE id = 1")
    site: Site = make_site(**application.deployment(hash="argon2"))
    link = site.new_link()
    application.execute(f"ALTER TABLE users {change}")
    before = application.execute("SELECT * FROM users WHERE id = 1")
    assert code_of(site, link) == "unavailable"
    assert application.execute("SELECT * FROM users WHERE id = 1") == before
    assert site.links()[-1]["redeemed_at"] is None


def test_link_that_is_opened_in_an_outage_is_tried_again_and_no_other_is_asked_for(
    application: Application, site: Site
) -> None:
    link, visitor = site.new_link(), site.visitor()
    form = OpenForm(site, link)
    application.execute("ALTER TABLE users RENAME TO away")
    for answer in (visitor.open(link), form.click()):
        assert answer.status_code == 503
        assert (
            '<a class="button" href="">Try again</a>' in answer.text
        )  # its own address, of which it says nothing
        assert link.rpartition("/")[2] not in answer.text
        assert "Request a new link" not in answer.text
    application.execute("ALTER TABLE away RENAME TO users")
    assert form.click().location == "/reset-done"
    assert "Request a new link" in visitor.open(link, follow_redirects=True).text


# --- Two files (SQLite) ---


def lose_a_redemption(application: Application, site: Site) -> str:
    """Redeem a link, and lose the application's commit, as a power cut between the commits does. Return the link."""
    link = site.new_link()
    assert code_of(site, link, "a password that is lost") == "redeemed"
    application.execute("UPDATE users SET password = :old, changed_at = NULL WHERE id = 1", old=OLD_HASH)
    return link


@pytest.mark.parametrize("comes_first", ["notice", "second redemption"])
def test_link_whose_password_was_lost_works_again_and_its_notice_is_withdrawn(
    application: Application, site: Site, comes_first: str
) -> None:
    link = lose_a_redemption(application, site)
    for _ in range(2 if comes_first == "notice" else 0):
        site.work()
        make_due(site)
    assert site.visitor().open(link, follow_redirects=True).status_code == 200
    assert code_of(site, link) == "redeemed"
    assert application.signs_in(NEW_PASSWORD)
    assert problem_at(site, link) == "link_used"
    site.work()
    first, second = (row for row in site.messages() if row["kind"] == "reset_notice")
    assert (first["state"], second["state"]) == ("dropped", "sent")
    assert "the password was not written: the link works again" in first["reason"]
    assert len(site.mailbox.mails) == 2


@ON_POSTGRESQL
def test_used_link_stays_used_where_one_commit_writes_both(application: Application, site: Site) -> None:
    assert problem_at(site, lose_a_redemption(application, site)) == "link_used"


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
def test_password_is_hashed_as_it_was_typed_and_refused_if_bcrypt_would_cut_it(
    application: Application, site: Site
) -> None:
    link = site.new_link()
    answer = site.visitor().post_json(link, json={"password": "ä" * 37 + "long enough"})
    assert answer.json["response"]["error_code"] == "password_too_long"
    assert "at most 72 characters" in answer.text
    assert code_of(site, link, "nul\0 in the middle of it") == "invalid_request"
    assert code_of(site, link, "x8 kd02 qmf" * 6) == "redeemed"
    site.work()
    typed = "zoe\u0308 and the decomposed letters"
    assert code_of(site, site.new_link(), typed) == "redeemed"
    assert application.signs_in(typed)


@EVERYWHERE
def test_each_variant_in_case_keeps_its_own_link_over_retries(application: Application, site: Site) -> None:
    addresses = ["ALICE@example.com", "Alice@example.com"]
    application.add(addresses[0])
    application.execute("UPDATE users SET email = 'Alice@example.com' WHERE id = 1")
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask()
    site.work()
    site.mailbox.refuse.clear()
    for _ in range(3):
        make_due(site)
        site.work()
    assert sorted(str(mail["To"]) for mail in site.mailbox.mails) == addresses
    assert len({link_in(mail) for mail in site.mailbox.mails}) == 2
