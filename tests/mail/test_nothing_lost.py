"""Whatever happens to the relay, the worker, the queue or the clock: a mail that was asked for goes out
once, or an admin can see why not.
"""

from __future__ import annotations

import logging
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from select import select
from typing import Any

import flask_migrate
import pytest
from flask.testing import FlaskCliRunner
from sqlalchemy import delete, text
from sqlalchemy.exc import DataError, OperationalError
from support.admin import Admin
from support.mailbox import Mailbox
from support.outbox import HOUR, shift
from support.servers import free_port
from support.site import BOTH, Site, at_work, load_settings, wait_for

from app import settings
from app.accounts.identities import identity_key, map_identity
from app.accounts.models import User
from app.cli.outbox import group as outbox_command
from app.db.engine import db
from app.mail import delivery, heartbeat, outbox, worker
from app.mail.heartbeat import WorkerHeartbeat
from app.mail.outbox import OutboxMessage
from app.mail.smtp_failures import MailHeld
from app.recovery import instructions
from app.settings import schema
from app.settings.problems import SettingsError

pytestmark = BOTH

# --- Requests for the same are one mail ---------------------------------------------------------


@pytest.mark.requirement("R59")
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


@pytest.mark.requirement("R59")
def test_nothing_that_can_be_typed_takes_the_place_of_somebody_elses_mail(site: Site) -> None:
    """What is of no kind is nobody's, also when it is typed as a known identity is written inside."""
    for known in ("alice@example.com", "alice"):
        with site.app.app_context():
            assert identity_key(str(map_identity(known))) != identity_key(known)
    site.ask("alice@example.com")
    site.ask("('email', 'alice@example.com')")
    assert len(site.messages()) == 2
    site.work()
    assert site.mailbox.envelopes == [["alice@example.com"]]


def test_the_last_request_decides_what_the_mail_is_for(make_site: Any) -> None:
    spa = {
        "web": {"reset_view": "https://app.example.com/new", "reset_error_view": "https://app.example.com/x"}
    }
    site: Site = make_site(RECOVERY_CLIENTS=spa)
    site.ask("alice")
    shift(site, by=-timedelta(seconds=outbox.REPEAT_SECONDS + 1))
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


def test_a_row_that_somebody_holds_delays_a_request_for_two_seconds_at_most(site: Site) -> None:
    """On PostgreSQL: a process that froze, or an admin. Requests for others never wait for it."""
    with site.app.app_context():
        if db.engine.dialect.name == "sqlite":
            return  # there, one writer at a time is all there is
        frozen = db.engine.connect()
    site.ask("alice")
    with frozen:
        frozen.execute(text("SELECT * FROM outbox_message WHERE id = 1 FOR UPDATE"))
        assert site.ask("alice").status_code == 200  # so soon after, nothing is to be changed
        frozen.rollback()
        shift(site, by=-timedelta(seconds=outbox.REPEAT_SECONDS + 1))
        frozen.execute(text("SELECT * FROM outbox_message WHERE id = 1 FOR UPDATE"))
        began = time.monotonic()
        assert site.ask("alice").status_code == 503
        assert time.monotonic() - began < 5
        assert site.ask("bob").status_code == 200


# --- The queue is bounded -----------------------------------------------------------------------


@pytest.mark.requirement("R1", "R59")
def test_a_full_outbox_answers_as_always_and_says_so_in_the_log(
    make_site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site: Site = make_site(RECOVERY_MAIL_WAITING_MAX=2)
    answers = [site.ask(f"nobody{number}@example.com") for number in range(4)]
    assert len({(answer.status_code, answer.text) for answer in answers}) == 1
    assert len(site.messages()) == 2
    assert "RECOVERY_MAIL_WAITING_MAX" in caplog.text
    site.work()
    site.ask()
    site.work()
    assert len(site.mailbox.mails) == 1


@pytest.mark.requirement("R35")
def test_the_notice_of_a_changed_password_is_never_cut_off(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_WAITING_MAX=1)
    link = site.new_link()
    site.ask("nobody")
    site.visitor().set_password(link)
    site.work()
    assert "was changed" in site.mailbox.mails[-1]["Subject"]


# --- The relay goes away ------------------------------------------------------------------------


@pytest.mark.requirement("R3", "R59")
def test_after_an_outage_mails_go_out_oldest_first_and_no_attempt_was_counted(
    make_site: Any, mailbox: Mailbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mail.smtp_failures.RelayAway.pause", 0.2)
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
        with source, target, suppress(OSError):  # either side may hang up at any moment
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


@pytest.mark.requirement("R59")
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


def test_the_mail_of_a_worker_that_died_is_taken_over(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site()
    site.ask()
    with site.app.app_context():
        assert outbox.claim() is not None
    assert site.work() == 0
    shift(site, by=-timedelta(minutes=4))  # RECOVERY_MAIL_LEASE
    with at_work(site):
        mailbox.wait_for(1)


# --- The clock ----------------------------------------------------------------------------------


def test_after_a_clock_was_set_back_retry_makes_mails_due(site: Site) -> None:
    """One in the hand of a worker that died, one that was tried and one that was not."""
    site.ask("alice")
    with site.app.app_context():
        assert outbox.claim() is not None
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask("bob")
    site.work()
    site.mailbox.refuse.clear()
    site.ask("alice@example.com")
    shift(site, by=24 * HOUR)
    assert site.work() == 0
    done = FlaskCliRunner(site.app).invoke(outbox_command, ["retry", "1", "2", "3"])
    assert done.exit_code == 0, done.output
    assert site.work() == 3
    assert {row["state"] for row in site.messages()} == {"sent"}


def test_a_clock_that_is_set_back_raises_nobody_from_the_dead(site: Site) -> None:
    """A worker's sign from the future proves nothing, and the next worker sweeps it out."""
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
    shift(site, by=HOUR)
    assert "no_worker" in site.visitor().open("/readyz").json["problems"]
    with site.app.app_context():
        other = heartbeat.Heartbeat()
        other.name = "another:1"
        other.beat()
        assert db.session.scalars(db.select(WorkerHeartbeat.name)).all() == ["another:1"]


# --- Machines -----------------------------------------------------------------------------------


def test_two_machines_that_upgrade_at_once_take_turns(database: Any, make_site: Any) -> None:
    admin = Admin(uri := database(), free_port())
    with make_site(SQLALCHEMY_DATABASE_URI=uri).app.app_context():
        flask_migrate.downgrade(revision="base")
        upgrades = [admin.starts("manage.py", "db", "upgrade") for _ in range(2)]
        assert [process.wait(timeout=60) for process in upgrades] == [0, 0], admin.stops()
        assert db.session.scalars(text("SELECT version_num FROM sparekey_version")).all() == ["0001"]
    admin.stops()


def test_sqlite_is_for_one_machine(database: Any) -> None:
    uri = database()
    if uri.startswith("sqlite"):
        with pytest.raises(SettingsError, match="SQLite serves one machine; for RECOVERY_MACHINES use Post"):
            load_settings(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_MACHINES=2)
    else:
        assert isinstance(load_settings(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_MACHINES=2), schema.Settings)


# --- What no mail's fault is, and what is ---------------------------------------------------------


def test_an_account_that_is_deleted_while_its_mail_goes_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = outbox.release

    def delete_first(message: Any, *how: Any) -> bool:
        db.session.execute(delete(User).where(User.id == message.user_id))
        db.session.commit()
        return release(message, *how)

    monkeypatch.setattr(outbox, "release", delete_first)
    site.ask()
    site.work()
    [message] = site.messages()
    assert (message["state"], message["user_id"], len(site.mailbox.mails)) == ("sent", None, 1)


def test_a_relay_that_hangs_up_between_two_mails_costs_no_attempt(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found out when the second was claimed already: that one goes back as it was."""
    site.ask("alice")
    site.ask("bob")
    with site.app.app_context(), closing(delivery.mailman.get_connection()) as relay:
        relay.open()
        message = outbox.claim()
        assert message is not None
        site.mailbox.hang_up()
        assert select([relay.connection.sock], [], [], 5)[0]
        monkeypatch.setattr(relay, "port", free_port())
        with pytest.raises(MailHeld):
            worker.work_on(message, relay, threading.Event(), time.monotonic() + 60)
    assert [(row["state"], row["attempts"]) for row in site.messages()] == [("waiting", 0)] * 2
    site.work()
    assert [box[0] for box in site.mailbox.envelopes] == ["alice@example.com", "bob@example.com"]


@pytest.mark.requirement("R2")
def test_readyz_does_not_tell_whose_mail_is_refused_for_now(site: Site) -> None:
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
    site.mailbox.refuse["RCPT"] = "452 mailbox full"
    site.ask("alice")
    site.ask("nobody")
    site.work()
    shift(site, by=-timedelta(minutes=20))
    with site.app.app_context():
        other = heartbeat.Heartbeat()
        other.beat()
    assert site.visitor().open("/readyz").json["problems"] == []


def test_mails_that_never_went_out_do_not_use_up_the_day(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_DAILY_CAP=3)
    site.mailbox.refuse["DATA"] = "451 later"
    for _ in range(3):
        site.ask()
        site.work()
    shift(site, by=-(HOUR + timedelta(seconds=5)))
    site.work()
    site.change(OutboxMessage, OutboxMessage.state == "waiting", due_at=datetime(2020, 1, 1))
    site.work()
    assert {row["state"] for row in site.messages()} == {"dropped"}
    site.mailbox.refuse.clear()
    site.new_link()


def test_a_mail_that_takes_too_long_to_write_is_not_sent_but_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be another worker's by now."""
    monkeypatch.setattr(schema.Settings, "sending_time", timedelta(0))
    site.ask()
    site.work()
    [message] = site.messages()
    assert (message["state"], message["attempts"], message["claim"]) == ("waiting", 1, None)
    assert "RECOVERY_MAIL_LEASE" in message["reason"]
    assert site.mailbox.mails == []


def test_a_lease_shorter_than_a_conversation_may_take_is_refused(database: Any) -> None:
    with pytest.raises(SettingsError, match=r"RECOVERY_MAIL_LEASE.* ten times MAIL_TIMEOUT"):
        load_settings(SQLALCHEMY_DATABASE_URI=database(), RECOVERY_MAIL_LEASE="119 seconds")


@pytest.mark.requirement("R64")
def test_a_message_whose_key_is_not_known_yet_waits_for_it(make_site: Any) -> None:
    """A key is rotated: the web processes have the new one, and the worker gets it a little later."""
    new_key = "another-key-another-key-another"
    old: Site = make_site()
    with old.app.app_context():
        uri = db.engine.url.render_as_string(hide_password=False)
        old_key = settings.current().SECRET_KEY
    new: Site = make_site(SQLALCHEMY_DATABASE_URI=uri, SECRET_KEY=new_key, SECRET_KEY_FALLBACKS=[old_key])
    new.ask()
    old.work()
    assert (old.messages()[0]["state"], "SECRET_KEY" in old.messages()[0]["reason"]) == ("waiting", True)
    new.change(OutboxMessage, OutboxMessage.state == "waiting", due_at=datetime(2020, 1, 1))
    new.work()
    assert len(new.mailbox.mails) == 1


def test_a_database_that_fails_while_a_mail_is_written_costs_one_pause(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("permission denied for table user"))

    monkeypatch.setattr(instructions, "find_account", fail)
    site.ask()
    site.work()
    [message] = site.messages()
    assert (message["state"], message["claim"]) == ("waiting", None)
    assert "permission denied" in message["reason"]


def test_a_flood_for_one_identity_does_not_keep_it_from_being_claimed(site: Site) -> None:
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            site.ask("alice")

    threads = [threading.Thread(target=flood) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with at_work(site):
            site.mailbox.wait_for(3, seconds=10)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_worker_of_the_version_before_stops_no_later_request(site: Site) -> None:
    """It claims and settles without a thought for what asks for the same."""
    for state in ("waiting", "sent"):
        site.ask()
        site.change(OutboxMessage, OutboxMessage.attempts == 0, attempts=1, state=state)
    site.ask()
    assert [row["attempts"] for row in site.messages()] == [1, 1, 0]


@pytest.mark.requirement("R62")
def test_what_a_relay_says_can_always_be_written_down(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise smtplib.SMTPDataError(451, b"later\x00\x1b[2J\xff" + b"x" * 300)

    monkeypatch.setattr("app.mail.smtp.EmailBackend.send_messages", refuse)
    site.ask()
    site.work()
    [message] = site.messages()
    assert (message["state"], message["claim"]) == ("waiting", None)
    assert message["reason"].isprintable()


def test_what_can_never_be_written_down_stops_nobody_else(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    release = outbox.release

    def fail_for_alice(message: Any, *how: Any) -> bool:
        if message.id == 1:
            raise DataError("UPDATE", {}, Exception("can not be stored"))
        return release(message, *how)

    monkeypatch.setattr(outbox, "release", fail_for_alice)
    monkeypatch.setattr(worker, "DATABASE_SECONDS", 0.05)
    site.ask("alice")
    site.ask("bob")
    with at_work(site):
        wait_for(lambda: site.messages()[1]["state"] == "sent")
    assert "can not be stored" in caplog.text


def test_a_process_that_froze_with_the_oldest_mail_does_not_stop_the_others(site: Site) -> None:
    with site.app.app_context():
        if db.engine.dialect.name == "sqlite":
            return  # there, one writer at a time is all there is
    site.ask("alice")
    site.ask("bob")
    with site.app.app_context():
        frozen = db.engine.connect()
    with frozen, at_work(site):
        frozen.execute(text("SELECT * FROM outbox_message WHERE id = 1 FOR UPDATE"))
        site.mailbox.wait_for(1)
    assert site.mailbox.envelopes[0] == ["bob@example.com"]


def test_as_soon_as_mail_flows_again_it_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the last of a long backlog is out."""
    heard = []
    monkeypatch.setattr(worker, "work_on", lambda *_: heard.append(heartbeat.worker_troubles()))
    site.ask("alice")
    with site.app.app_context():
        beating = heartbeat.Heartbeat()
        beating.report("the relay is away")
        worker.work_until_done(heartbeat=beating)
    assert heard == [[None]]
