"""The worker: threads, shutdown, errors, its log lines and heartbeats."""

import logging
import smtplib
import threading
import time
from contextlib import closing
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from flask.testing import FlaskCliRunner
from sqlalchemy.exc import DataError, OperationalError
from support.admin import Admin
from support.mailbox import Mailbox, link_in
from support.outbox import HOUR, make_due, shift, states
from support.site import BOTH, Site, at_work, load_settings, wait_for

from app.cli.worker import worker as worker_command
from app.db.engine import db
from app.mail import backends, composing, heartbeat, outbox, queue, worker
from app.mail.heartbeat import WorkerHeartbeat
from app.mail.queue import Pace
from app.recovery import instructions
from app.settings import schema
from app.settings.problems import SettingsError


def problems(site: Site) -> list[str]:
    return site.visitor().open("/readyz").json["problems"]


# --- Threads and shutdown ---


def test_worker_threads_deliver_each_mail_once_over_their_own_connections(
    site: Site, mailbox: Mailbox
) -> None:
    mailbox.delay["DATA"] = 0.05
    with site.app.app_context():
        for number in range(20):
            address = f"operator{number}@example.com"
            outbox.enqueue("flask_security", recipient=address, subject="s", text="text", html="")
        db.session.commit()
    with at_work(site, threads=2):
        mailbox.wait_for(20)
        wait_for(lambda: {row["state"] for row in site.messages()} == {"sent"})
        with site.app.app_context():
            assert heartbeat.worker_troubles() == [None]  # one heartbeat for both
    assert len(mailbox.mails) == len({recipient for [recipient] in mailbox.envelopes}) == 20
    assert {row["attempts"] for row in site.messages()} == {1}
    assert mailbox.connections >= 2
    assert site.events() == ["mail_sent"] * 20


def test_worker_finishes_mails_in_delivery_on_sigterm_and_claims_no_other(
    site: Site, mailbox: Mailbox
) -> None:
    with site.app.app_context():
        admin = Admin(db.engine.url.render_as_string(hide_password=False), mailbox.port)
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


def test_worker_command_refuses_zero_threads(site: Site) -> None:
    result = FlaskCliRunner(site.app).invoke(worker_command, ["--threads", "0"])
    assert result.exit_code == 2
    assert "--threads" in result.stderr


def test_workers_send_a_mail_once_though_the_relay_is_slower_than_the_timeout(
    make_site: Any, mailbox: Mailbox
) -> None:
    site: Site = make_site(MAIL_TIMEOUT="0.3 seconds")
    mailbox.delay["DATA"] = 1
    site.ask()
    with at_work(site), at_work(site):
        wait_for(lambda: site.messages()[0]["state"] == "sent")
    assert (len(mailbox.mails), site.messages()[0]["attempts"]) == (1, 1)


def test_worker_stops_when_a_due_message_cannot_be_claimed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker was first, or has locked the row."""
    site.ask()
    monkeypatch.setattr(queue, "claim", lambda _lanes: None)
    looks: list[bool] = []
    is_due = queue.is_due

    def count(*lanes: Any) -> bool:
        looks.append(is_due(*lanes))
        assert len(looks) < 5
        return looks[-1]

    monkeypatch.setattr(queue, "is_due", count)
    assert site.work() == 0
    assert looks == [True]


# --- Errors ---


@pytest.mark.parametrize(
    ("place", "name", "error", "reason"),
    [
        (composing, "compose", ZeroDivisionError("division"), "ZeroDivisionError: division"),
        (
            instructions,
            "find_accounts",
            OperationalError("", {}, Exception("permission denied")),
            "permission denied",
        ),
    ],
)
def test_worker_retries_a_message_after_any_error(
    site: Site, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, error: Exception, reason: str
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    site.ask()
    with monkeypatch.context() as broken:
        broken.setattr(place, name, fail)
        site.work()
    [message] = site.messages()
    assert (message["state"], message["claim"]) == ("waiting", None)
    assert reason in message["reason"]
    make_due(site)
    site.work()
    assert len(site.mailbox.mails) == 1


def test_worker_does_not_send_a_mail_composed_after_the_deadline(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker may have claimed the message by then."""
    monkeypatch.setattr(schema.Settings, "sending_time", timedelta(0))
    site.ask()
    site.work()
    [message] = site.messages()
    assert (message["state"], message["attempts"], message["claim"]) == ("waiting", 1, None)
    assert "RECOVERY_MAIL_LEASE" in message["reason"]
    assert site.mailbox.mails == []


def test_worker_lease_must_be_longer_than_a_conversation() -> None:
    with pytest.raises(SettingsError, match=r"RECOVERY_MAIL_LEASE.* ten times MAIL_TIMEOUT"):
        load_settings(RECOVERY_MAIL_LEASE="119 seconds")


def test_worker_survives_errors_of_database_and_connection(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.mail.smtp_failures.RelayAway.pause", 0.05)
    monkeypatch.setattr(worker, "DATABASE_SECONDS", 0.05)
    failures = [ZeroDivisionError("a bug"), OperationalError("SELECT", {}, Exception("closed"))]
    is_due = queue.is_due

    def connect(*_: Any, **__: Any) -> Any:
        raise UnicodeError("a host name of alice@example.com")

    def fail_at_first(*arguments: Any) -> bool:
        if failures:
            raise failures.pop()
        return is_due(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr("smtplib.SMTP.__init__", connect)
        broken.setattr(queue, "is_due", fail_at_first)
        site.ask()
        with at_work(site):
            wait_for(lambda: "all mail is held" in caplog.text)
            assert "the database cannot be used" in caplog.text
            assert "the worker continues after an unexpected error" in caplog.text
            assert "UnicodeError" in caplog.text
            assert "alice@" not in caplog.text
            broken.undo()
            site.mailbox.wait_for(1)
            wait_for(lambda: site.messages()[0]["state"] == "sent")


def test_worker_continues_when_an_outcome_cannot_be_stored(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    release = outbox.release

    def fail_for_alice(message: Any, *outcome: Any) -> Any:
        if message.id == 1:
            raise DataError("UPDATE", {}, Exception("can not be stored"))
        return release(message, *outcome)

    monkeypatch.setattr(outbox, "release", fail_for_alice)
    monkeypatch.setattr(worker, "DATABASE_SECONDS", 0.05)
    site.ask("alice")
    site.ask("bob")
    with at_work(site):
        wait_for(lambda: site.messages()[1]["state"] == "sent")
    assert "can not be stored" in caplog.text


@BOTH
@pytest.mark.requirement("R61", "R62")
def test_worker_stores_any_reply_as_one_printable_line_without_token(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_relay: Any, mails: list[Any]) -> None:
        link = link_in(message_from_bytes(mails[0].message().as_bytes(), policy=default))
        raise smtplib.SMTPDataError(451, b"later\x00\x1b[2J\xff " + link.encode() + b" " + b"x" * 300)

    monkeypatch.setattr("app.mail.smtp.EmailBackend.send_messages", refuse)
    site.ask()
    site.work()
    [message] = site.messages()
    assert (message["state"], message["claim"]) == ("waiting", None)
    assert message["reason"].isprintable()
    assert "/reset/[token]" in message["reason"]


# --- The log ---


@pytest.mark.requirement("R61", "R62")
def test_worker_logs_each_attempt_in_one_line(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """With the Message-ID, which is also in the relay's log, and without addresses in the relay's reply."""
    caplog.set_level(logging.INFO)
    site.mailbox.refuse["DATA"] = '451 "later" for alice@example.com'
    site.ask()
    site.work()
    name = site.messages()[0]["message_id"].strip("<>").split("@")[0]
    [line] = [record.getMessage() for record in caplog.records if "mail=1" in record.getMessage()]
    assert line == (
        f"mail=1 id={name} kind=reset_instructions attempt=1 status=retried"
        ' cause="the relay said 451 \\"later\\" for [address]"'
    )


def test_worker_holds_no_lock_while_it_logs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(worker.log, "info", lambda *_: statuses.append(site.ask("nobody").status_code))
    site.ask()
    with site.app.app_context(), closing(backends.mailman.get_connection()) as relay:
        message = queue.claim()
        assert message is not None
        worker.work_on(message, relay, Pace(), threading.Event())
    assert statuses == [200]


@pytest.mark.requirement("R62")
def test_worker_once_prints_why_all_mail_is_held(site: Site, mailbox: Mailbox) -> None:
    mailbox.refuse["MAIL"] = "451 \x1b]0;owned\x07 alice@example.com"
    site.ask()
    result = FlaskCliRunner(site.app).invoke(worker_command, ["--once"])
    assert result.exit_code == 1
    assert "all mail is held: the relay" in result.stderr
    assert "\x1b" not in result.stderr
    assert "alice@" not in result.stderr


def test_worker_threads_log_once_that_all_mail_is_held(
    site: Site, mailbox: Mailbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mail.smtp_failures.RelayAway.pause", 0.05)
    mailbox.refuse["MAIL"] = "451 not now"
    site.ask()
    with at_work(site, threads=2):
        wait_for(lambda: mailbox.connections >= 6)
        mailbox.refuse.clear()
        mailbox.wait_for(1)
    assert caplog.text.count("all mail is held") == 1


# --- Heartbeats ---


def test_heartbeat_continues_during_a_long_delivery(
    site: Site, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
    shift(site, by=HOUR)
    assert "no_worker" in problems(site)
    with site.app.app_context():
        other = heartbeat.Heartbeat()
        other.name = "another:1"
        other.beat()
        assert db.session.scalars(db.select(WorkerHeartbeat.name)).all() == ["another:1"]


@pytest.mark.requirement("R2")
def test_readyz_hides_a_temporary_refusal_of_one_recipient(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = "452 4.2.2 mailbox full"
    site.ask("alice")
    site.ask("nobody")
    site.work()
    shift(site, by=-timedelta(minutes=20))
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
    assert problems(site) == []


def test_heartbeat_reports_recovery_before_the_backlog_is_sent(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles = []
    monkeypatch.setattr(worker, "work_on", lambda *_: troubles.append(heartbeat.worker_troubles()))
    site.ask("alice")
    with site.app.app_context():
        beating = heartbeat.Heartbeat()
        beating.report("the relay is away")
        worker.work_until_done(heartbeat=beating)
    assert troubles == [[None]]
