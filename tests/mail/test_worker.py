"""The worker: threads, shutdown, errors, its log lines and heartbeats."""

import logging
import smtplib
import time
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from itertools import chain, repeat
from typing import Any
from unittest.mock import DEFAULT, Mock

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, OperationalError, TimeoutError as PoolTimeout
from support.admin import Admin
from support.commands import run
from support.database import database_uri
from support.mailbox import Mailbox, link_in
from support.outbox import HOUR, beat, enqueue_mails, problems, shift, states
from support.site import BOTH, Site, at_work, load_settings, wait_for

from app.db.engine import db
from app.mail import composing, heartbeat, outbox, queue, worker
from app.mail.heartbeat import WorkerHeartbeat
from app.recovery import instructions
from app.settings import schema
from app.settings.problems import SettingsError

# --- Threads and shutdown ---


def test_worker_reports_an_outage_of_the_database_once_and_its_end(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "DATABASE_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    away, back = "the database cannot be used: no such table", "the database answers again"

    def rename(table: str, name: str) -> None:
        with site.app.app_context():
            db.session.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))
            db.session.commit()

    with at_work(site):
        for outage in (1, 2):
            rename("outbox_message", "away")
            wait_for(
                lambda number=2 * outage: caplog.text.count(away) >= number
            )  # the threads of mail and of events
            time.sleep(0.5)
            assert caplog.text.count(away) == 2 * outage
            rename("away", "outbox_message")
            wait_for(lambda number=2 * outage: caplog.text.count(back) >= number)
    assert caplog.text.count(back) == 4


def test_worker_threads_deliver_each_mail_once_over_own_connections(site: Site, mailbox: Mailbox) -> None:
    mailbox.delay["DATA"] = 0.05
    enqueue_mails(site, *(f"operator{number}@example.com" for number in range(20)))
    with at_work(site, threads=2):
        mailbox.wait_for(20)
        wait_for(lambda: states(site) == [("sent", 1)] * 20)
        with site.app.app_context():
            assert heartbeat.worker_troubles() == [None]  # one heartbeat for both
    assert len({recipient for [recipient] in mailbox.envelopes}) == len(mailbox.mails) == 20
    assert mailbox.connections >= 2
    assert site.events() == ["mail_sent"] * 20


def test_worker_finishes_mails_in_delivery_on_sigterm_alone(site: Site, mailbox: Mailbox) -> None:
    admin = Admin(database_uri(site), mailbox.port)
    mailbox.delay["DATA"] = 2.5
    site.ask("alice")
    site.ask("bob")
    process = admin.starts("manage.py", "worker", "--threads", "2")
    try:
        wait_for(lambda: sum(row["claim"] is not None for row in site.messages()) == 2, 30)
        site.ask("+14155550123")
    finally:
        admin.ends(process)
    assert process.wait(timeout=1) == 0
    assert states(site) == [("sent", 1), ("sent", 1), ("waiting", 0)]


def test_workers_send_a_mail_once_to_a_slow_relay(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site(MAIL_TIMEOUT="0.3 seconds")
    mailbox.delay["DATA"] = 1
    site.ask()
    with at_work(site), at_work(site):
        wait_for(lambda: states(site) == [("sent", 1)])
    assert len(mailbox.mails) == 1


def test_worker_stops_when_no_due_message_can_be_claimed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker was first, or has locked the row."""
    site.ask()
    claims = iter([None])  # a second one would fail
    monkeypatch.setattr(queue, "claim", lambda _lanes: next(claims))
    assert site.work() == 0


# --- Errors ---


@pytest.mark.parametrize(
    ("place", "name", "error", "reason"),
    [
        (composing, "compose", ZeroDivisionError("division"), "ZeroDivisionError: division"),
        (instructions, "find_accounts", OperationalError("", {}, Exception("denied")), "denied"),
    ],
)
def test_worker_retries_a_message_after_any_error_and_readyz_reports_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, error: Exception, reason: str
) -> None:
    site.ask()
    with monkeypatch.context() as broken:
        broken.setattr(place, name, Mock(side_effect=error))
        site.work()
    assert (states(site), site.messages()[0]["claim"]) == ([("waiting", 1)], None)
    shift(site, by=-timedelta(minutes=20))
    assert reason in site.visitor().open("/readyz").json["reason"]  # type: ignore[index]
    site.work()
    assert len(site.mailbox.mails) == 1


def test_worker_sends_no_mail_composed_too_late(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have claimed the message by then."""
    with pytest.raises(SettingsError, match=r"RECOVERY_MAIL_LEASE.* ten times MAIL_TIMEOUT"):
        load_settings(RECOVERY_MAIL_LEASE="119 seconds")
    monkeypatch.setattr(schema.Settings, "sending_time", timedelta(0))
    site.ask()
    site.work()
    assert states(site) == [("waiting", 1)]
    assert "RECOVERY_MAIL_LEASE" in site.messages()[0]["reason"]
    assert site.mailbox.mails == []


def test_worker_survives_errors_of_database_and_connection(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.mail.smtp_failures.RelayAway.pause", 0.05)
    monkeypatch.setattr(worker, "DATABASE_SECONDS", 0.05)
    closed = OperationalError("SELECT", {}, Exception("closed"))
    fail_at_first = Mock(
        wraps=queue.is_due, side_effect=chain([closed, ZeroDivisionError("a bug")], repeat(DEFAULT))
    )
    release = outbox.release

    def fail_for_alice(message: Any, *outcome: Any) -> Any:
        if message.id == 1:
            raise DataError("UPDATE", {}, Exception("cannot be stored"))
        return release(message, *outcome)

    site.ask("alice")
    site.ask("bob")
    monkeypatch.setattr(outbox, "release", fail_for_alice)
    with monkeypatch.context() as broken:
        broken.setattr(
            "smtplib.SMTP.__init__", Mock(side_effect=UnicodeError("a host name of alice@example.com"))
        )
        broken.setattr(queue, "is_due", fail_at_first)
        with at_work(site):
            wait_for(lambda: "all mail is held" in caplog.text)
            assert "the database cannot be used" in caplog.text
            assert "the worker continues after an unexpected error" in caplog.text
            assert "UnicodeError" in caplog.text
            assert "alice@" not in caplog.text
            broken.undo()
            wait_for(lambda: site.messages()[1]["state"] == "sent")
    assert "cannot be stored" in caplog.text


@pytest.mark.parametrize(
    "away", [OperationalError("UPDATE", {}, Exception("the server closed the connection")), PoolTimeout()]
)
def test_worker_writes_outcomes_after_an_outage(
    site: Site, monkeypatch: pytest.MonkeyPatch, away: Exception
) -> None:
    monkeypatch.setattr(outbox, "release", Mock(wraps=outbox.release, side_effect=[away, away, DEFAULT]))
    monkeypatch.setattr(worker, "WRITE_SECONDS", 0.05)
    site.ask()
    site.work()
    assert states(site) == [("sent", 1)]
    assert site.work() == 0
    assert len(site.mailbox.mails) == 1


@BOTH
@pytest.mark.requirement("R61", "R62")
def test_worker_stores_any_reply_as_a_line_without_token(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_relay: Any, mails: list[Any]) -> None:
        link = link_in(message_from_bytes(mails[0].message().as_bytes(), policy=default))
        raise smtplib.SMTPDataError(451, b"later\x00\x1b[2J\xff " + link.encode() + b" " + b"x" * 300)

    monkeypatch.setattr("app.mail.smtp.EmailBackend.send_messages", refuse)
    site.ask()
    site.work()
    assert states(site) == [("waiting", 1)]
    reason = site.messages()[0]["reason"]
    assert (reason.isprintable(), "/reset/[token]" in reason) == (True, True)


# --- The log ---


@pytest.mark.requirement("R61", "R62")
def test_worker_logs_each_attempt_and_holds_no_lock(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """With the Message-ID, which is also in the relay's log, and without addresses in the relay's reply."""
    answers: list[int] = []

    def ask_meanwhile(_record: logging.LogRecord) -> bool:
        worker.log.removeFilter(ask_meanwhile)
        answers.append(site.ask("nobody").status_code)
        return True

    caplog.set_level(logging.INFO)
    site.mailbox.refuse["DATA"] = '451 "later" for alice@example.com'
    site.ask()
    worker.log.addFilter(ask_meanwhile)
    site.work()
    name = site.messages()[0]["message_id"].strip("<>").split("@")[0]
    [line] = [record.getMessage() for record in caplog.records if "mail=1" in record.getMessage()]
    assert line == (
        f"mail=1 id={name} kind=reset_instructions attempt=1 status=retried"
        ' cause="the relay said 451 \\"later\\" for [address]"'
    )
    assert answers == [200]


@pytest.mark.requirement("R62")
def test_worker_once_prints_why_all_mail_is_held(site: Site, mailbox: Mailbox) -> None:
    mailbox.refuse["MAIL"] = "451 \x1b]0;owned\x07 alice@example.com"
    site.ask()
    printed = run(site, "worker", "--once", fails=True).stderr
    assert "all mail is held: the relay" in printed
    assert "\x1b" not in printed
    assert "alice@" not in printed
    assert "--threads" in run(site, "worker", "--threads", "0", fails=True).stderr


# --- Heartbeats ---


def test_heartbeat_goes_on_in_delivery(site: Site, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "LOST_AFTER_SECONDS", 1)
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 0.2)
    mailbox.delay["DATA"] = 2.5
    with at_work(site):
        site.ask()
        wait_for(lambda: site.messages()[0]["claim"])
        time.sleep(1.5)
        assert site.messages()[0]["claim"]
        assert "no_worker" not in problems(site)


def test_heartbeat_from_the_future_counts_for_nothing(site: Site) -> None:
    """It was written before the clock was set back, and the next worker deletes it."""
    beat(site)
    shift(site, by=HOUR)
    assert "no_worker" in problems(site)
    beat(site)
    with site.app.app_context():
        assert len(db.session.scalars(db.select(WorkerHeartbeat.name)).all()) == 1
    assert problems(site) == []


def test_heartbeat_reports_recovery_before_the_backlog(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    troubles = []
    monkeypatch.setattr(worker, "work_on", lambda *_: troubles.append(heartbeat.worker_troubles()))
    site.ask("alice")
    with site.app.app_context():
        beating = heartbeat.Heartbeat()
        beating.report("the relay is away")
        worker.work_until_done(heartbeat=beating)
    assert troubles == [[None]]
