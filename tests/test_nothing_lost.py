"""Whatever happens to the relay, the worker, the queue or the clock: a mail that was asked for goes out
once, or an admin can see why not.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import Any

import flask_migrate
import pytest
from conftest import BOTH, Admin, Mailbox, Site, free_port, load_settings
from sqlalchemy import delete, text
from sqlalchemy.exc import OperationalError

from app import health, mail, outbox, settings, worker
from app.db import db
from app.errors import MailHeld, RelayAway, SettingsError
from app.models import OutboxMessage, User, WorkerSign

pytestmark = BOTH

HOUR = timedelta(hours=1)


@contextmanager
def at_work(site: Site) -> Iterator[threading.Event]:
    """A worker in a thread."""
    stop = threading.Event()

    def work() -> None:
        with site.app.app_context():
            worker.run(stop)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(timeout=30)
        assert not thread.is_alive()


def wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def shift(site: Site, by: timedelta) -> None:
    """What the rows look like when the database's clock is set back by this (forward, if negative)."""
    for model, columns in ((OutboxMessage, ("created_at", "due_at")), (WorkerSign, ("seen_at",))):
        with site.app.app_context():
            for row in db.session.query(model):
                for column in columns:
                    setattr(row, column, getattr(row, column) + by)
            db.session.commit()


# --- Requests for the same are one mail ---------------------------------------------------------


def test_pending_requests_of_one_identity_are_one_mail(site: Site) -> None:
    """However it is spelt, and whether or not anybody has it."""
    for identity in ("alice@example.com", " Alice@EXAMPLE.com ", "alice@example.com"):
        site.ask(identity)
    for identity in ("nobody@example.com", "NOBODY@example.com", "?!", "?!"):
        site.ask(identity)
    assert len(site.messages()) == 3
    assert site.events() == ["requested"] * 7
    site.work()
    assert len(site.mailbox.mails) == 1


def test_the_last_request_decides_what_the_mail_is_for(make_site: Any) -> None:
    spa = {
        "web": {"reset_view": "https://app.example.com/new", "reset_error_view": "https://app.example.com/x"}
    }
    site: Site = make_site(RECOVERY_CLIENTS=spa)
    site.ask("alice")
    site.visitor().post_json("/reset", json={"identity": "alice", "client": "web"})
    site.work()
    [link] = site.links()
    assert link["client"] == "web"


def test_whoever_asks_after_the_first_attempt_has_a_mail_of_their_own(make_site: Any) -> None:
    site: Site = make_site()
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask()
    site.work()
    site.ask()
    site.ask()
    assert [message["attempts"] for message in site.messages()] == [1, 0]
    site.mailbox.refuse.clear()
    site.work()
    assert len(site.mailbox.mails) == 1


def test_asking_while_a_worker_claims_loses_nobody(site: Site) -> None:
    """The row that a request wants to meet is claimed at that moment: the request gets its own."""
    threads, claimed = [], []

    def claim() -> None:
        with site.app.app_context():
            while len(claimed) < 20:
                if (message := outbox.claim()) is not None:
                    claimed.append(message.id)

    def ask() -> None:
        while len(claimed) < 20:
            assert site.ask().status_code == 200

    for job in (claim, ask, ask):
        threads.append(threading.Thread(target=job))
        threads[-1].start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(set(claimed)) == 20


def test_a_flood_for_one_account_does_not_delay_the_others(site: Site) -> None:
    for _ in range(30):
        site.ask("alice")
    site.ask("bob")
    for _ in range(30):
        site.ask("alice")
    assert site.work() == 2


# --- The queue is bounded -----------------------------------------------------------------------


def test_a_full_outbox_answers_as_always_and_says_so_in_the_log(
    make_site: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "COUNT_SECONDS", 0)
    site: Site = make_site(RECOVERY_MAIL_WAITING_MAX=2)
    answers = [site.ask(f"nobody{number}@example.com") for number in range(4)]
    assert len({(answer.status_code, answer.text) for answer in answers}) == 1
    assert len(site.messages()) == 2
    assert "RECOVERY_MAIL_WAITING_MAX" in caplog.text
    site.work()
    site.ask()
    site.work()
    assert len(site.mailbox.mails) == 1


def test_the_notice_of_a_changed_password_is_never_cut_off(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site: Site = make_site(RECOVERY_MAIL_WAITING_MAX=1)
    link = site.new_link()
    monkeypatch.setattr(health, "COUNT_SECONDS", 0)
    site.ask("nobody")
    site.visitor().set_password(link)
    site.work()
    assert "was changed" in site.mailbox.mails[-1]["Subject"]


# --- The relay goes away ------------------------------------------------------------------------


def test_after_an_outage_mails_go_out_oldest_first_and_no_attempt_was_counted(
    make_site: Any, mailbox: Mailbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.errors.RelayAway.pause", 0.2)
    caplog.set_level(logging.INFO)
    port = free_port()
    site: Site = make_site(MAIL_PORT=port)
    names = ("bob", "alice", "bob@example.com", "nobody", "alice@example.com")
    with at_work(site):
        for name in names:
            site.ask(name)
        wait_for(lambda: "all mail is held" in caplog.text)
        assert "mail_held" in site.visitor().open("/readyz").json["problems"]
        time.sleep(0.5)
        assert {(row["state"], row["attempts"]) for row in site.messages()} == {("waiting", 0)}
        with forwarding(port, mailbox.port):
            mailbox.wait_for(4)
            wait_for(lambda: "mail goes out again" in caplog.text)
    assert [box[0] for box in mailbox.envelopes] == [f"{name}@example.com" for name in ("bob", "alice") * 2]
    assert caplog.text.count("all mail is held") == 1  # once, not at each look
    assert site.visitor().open("/readyz").json["problems"] == ["no_worker"]


@contextmanager
def forwarding(port: int, to: int) -> Iterator[None]:
    """What was down is up: whoever connects to `port` talks with `to`."""
    listener = socket.create_server(("127.0.0.1", port))
    open_sockets = [listener]

    def pump(source: socket.socket, target: socket.socket) -> None:
        with source, target:
            while data := source.recv(65536):
                target.sendall(data)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", to))
            for pair in ((client, server), (server.dup(), client.dup())):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        for each in open_sockets:
            each.shutdown(socket.SHUT_RDWR)
            each.close()


def test_a_request_older_than_a_links_life_is_dropped_and_recorded(site: Site) -> None:
    site.ask()
    shift(site, by=-(HOUR + timedelta(seconds=5)))
    site.work()
    [message] = site.messages()
    assert (message["state"], site.mailbox.mails) == ("dropped", [])
    assert "SECURITY_RESET_PASSWORD_WITHIN" in message["reason"]
    assert site.events() == ["requested", "mail_dropped"]


def test_asking_again_keeps_a_request_alive(site: Site) -> None:
    site.ask()
    shift(site, by=-(HOUR + timedelta(seconds=5)))
    site.ask()
    site.work()
    assert len(site.mailbox.mails) == 1


# --- Leases -------------------------------------------------------------------------------------


def test_a_slow_relay_never_makes_a_mail_go_out_twice(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site(RECOVERY_MAIL_LEASE="0.6 seconds", MAIL_TIMEOUT="5 seconds")
    mailbox.delay["DATA"] = 2.0
    site.ask()
    with at_work(site), at_work(site):
        mailbox.wait_for(1)
        wait_for(lambda: site.messages()[0]["state"] == "sent")
        time.sleep(0.5)
    assert (len(mailbox.mails), site.messages()[0]["attempts"]) == (1, 1)


def test_the_mail_of_a_worker_that_died_is_taken_over(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site(RECOVERY_MAIL_LEASE="0.5 seconds")
    site.ask()
    with site.app.app_context():
        assert outbox.claim() is not None
    assert site.work() == 0
    with at_work(site):
        mailbox.wait_for(1)


def test_a_relay_that_drips_is_cut_off(make_site: Any) -> None:
    """Each byte comes in time, and there is no end to them."""
    with dripping() as port:
        site: Site = make_site(MAIL_PORT=port, MAIL_TIMEOUT="0.3 seconds", RECOVERY_MAIL_LEASE="1 second")
        site.ask()
        began = time.monotonic()
        site.work()
        assert time.monotonic() - began < 10
    [message] = site.messages()
    assert (message["state"], message["attempts"]) == ("waiting", 1)
    assert "the relay took too long" in message["reason"]


@contextmanager
def dripping() -> Iterator[int]:
    """A relay that answers MAIL with a line that never ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client, client.makefile("rb") as lines:
                client.sendall(b"220 hello\r\n")
                for line in lines:
                    if line.upper().startswith(b"MAIL"):
                        break
                    client.sendall(b"250 well\r\n")
                try:
                    client.sendall(b"250-")
                    while True:
                        client.sendall(b"x")
                        time.sleep(0.05)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=10)


def test_a_renewal_that_fails_is_said_and_the_next_one_may_do(
    make_site: Any, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site: Site = make_site(RECOVERY_MAIL_LEASE="0.9 seconds")
    mailbox.delay["DATA"] = 1.5
    renew, failures = outbox.renew, [1]

    def fail_once(message: Any) -> bool:
        if failures:
            failures.pop()
            raise OperationalError("UPDATE", {}, Exception("gone"))
        return renew(message)

    monkeypatch.setattr(outbox, "renew", fail_once)
    site.ask()
    site.work()
    assert site.messages()[0]["state"] == "sent"
    assert "could not be renewed" in caplog.text


def test_a_worker_busy_with_one_mail_is_still_seen(
    make_site: Any, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SIGN_LOST_SECONDS", 1)
    site: Site = make_site(RECOVERY_MAIL_LEASE="0.9 seconds")
    mailbox.delay["DATA"] = 2.5
    with at_work(site):
        wait_for(lambda: site.visitor().open("/readyz").json["worker"])
        site.ask()
        wait_for(lambda: site.messages()[0]["claim"])
        time.sleep(1.5)
        assert site.visitor().open("/readyz").json["worker"]


def test_stopping_finishes_the_mail_in_hand_and_touches_no_other(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site()
    mailbox.delay["DATA"] = 1.0
    site.ask("alice")
    site.ask("bob")
    with at_work(site) as stop:
        wait_for(lambda: any(row["claim"] for row in site.messages()))
        stop.set()
    assert [(row["state"], row["attempts"]) for row in site.messages()] == [("sent", 1), ("waiting", 0)]


# --- The clock ----------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_makes_no_mail_wait_for_it(site: Site) -> None:
    site.ask("alice")
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask("bob")
    with site.app.app_context():
        first = outbox.claim()
        assert first is not None  # and its worker dies
    site.work()
    shift(site, by=24 * HOUR)
    assert site.work() == 0
    site.mailbox.refuse.clear()
    with site.app.app_context():
        assert health.mend_clock() == 2
        db.session.commit()
        assert health.mend_clock() == 0
        now = db.session.scalar(db.select(outbox.utcnow()))
        if isinstance(now, str):
            now = datetime.fromisoformat(now)
    in_hand, retried = site.messages()
    assert in_hand["due_at"] - now <= timedelta(seconds=30)
    assert retried["due_at"] - now <= 1.25 * HOUR


def test_what_was_never_tried_is_due_again_at_once(site: Site) -> None:
    site.ask()
    shift(site, by=24 * HOUR)
    with at_work(site):
        site.mailbox.wait_for(1)


def test_a_clock_that_is_set_back_raises_nobody_from_the_dead(site: Site) -> None:
    """A worker's sign from the future proves nothing, and the next worker sweeps it out."""
    with site.app.app_context():
        health.Presence().renew()
    shift(site, by=HOUR)
    assert "no_worker" in site.visitor().open("/readyz").json["problems"]
    with site.app.app_context():
        other = health.Presence()
        other.name = "another:1"
        other.renew()
        assert db.session.scalars(db.select(WorkerSign.name)).all() == ["another:1"]


# --- Machines -----------------------------------------------------------------------------------


def test_two_machines_that_upgrade_at_once_take_turns(database: Any) -> None:
    admin = Admin(database(), free_port())
    assert admin.types("db", "downgrade", "base").returncode == 0
    upgrades = [admin.starts("manage.py", "db", "upgrade") for _ in range(3)]
    assert [process.wait(timeout=60) for process in upgrades] == [0, 0, 0], admin.stops()
    assert admin.types("db", "current").stdout.split()[0] == "0002"
    admin.stops()


def test_an_upgrade_under_running_processes(make_site: Any, mailbox: Mailbox) -> None:
    """The new version runs on the old tables: it says what to do, and goes on when that is done."""
    site: Site = make_site()
    site.ask("bob")
    with site.app.app_context():
        flask_migrate.downgrade(revision="0001")
        flask_migrate.upgrade()
        db.session.execute(
            text(  # as version 0001 does it
                "INSERT INTO outbox_message (kind, sealed, nonce, message_id, state, attempts, created_at, due_at)"
                " SELECT kind, sealed, :nonce, 'another', state, attempts, created_at, due_at FROM outbox_message"
            ),
            {"nonce": b"n" * 32},
        )
        db.session.commit()
        flask_migrate.downgrade(revision="0001")
    with at_work(site):
        time.sleep(0.3)
        with site.app.app_context():
            flask_migrate.upgrade()
        mailbox.wait_for(2)


def test_an_upgrade_keeps_what_refers_to_a_message(site: Site) -> None:
    site.new_link()
    before = site.links()
    with site.app.app_context():
        flask_migrate.downgrade(revision="0001")
        flask_migrate.upgrade()
    assert site.links() == before
    assert before[0]["message_id"] == 1


def test_sqlite_is_for_one_machine(database: Any) -> None:
    uri = database()
    if uri.startswith("sqlite"):
        with pytest.raises(SettingsError, match="SQLite serves one machine; for RECOVERY_MACHINES take Post"):
            load_settings(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_MACHINES=2)
    else:
        assert isinstance(load_settings(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_MACHINES=2), settings.Settings)


# --- What no mail's fault is, and what is ---------------------------------------------------------


def test_an_account_that_is_deleted_while_its_mail_goes_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = outbox.sent

    def delete_first(message: Any) -> bool:
        db.session.execute(delete(User).where(User.id == message.user_id))
        db.session.commit()
        return sent(message)

    monkeypatch.setattr(outbox, "sent", delete_first)
    site.ask()
    site.work()
    [message] = site.messages()
    assert (message["state"], message["user_id"], len(site.mailbox.mails)) == ("sent", None, 1)


def test_a_relay_that_hangs_up_between_two_mails_costs_no_attempt(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask()
    with site.app.app_context(), closing(mail.mailman.get_connection()) as relay:
        monkeypatch.setattr(relay, "open", lambda: relay.close() or hang_up())
        with pytest.raises(MailHeld):
            worker.work_once(relay, threading.Event())
    assert (site.messages()[0]["state"], site.messages()[0]["attempts"]) == ("waiting", 0)


def hang_up() -> None:
    raise RelayAway("gone")
