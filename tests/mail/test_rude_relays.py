"""Relays that are slow, odd or rude, and what a worker makes of them. The database does not matter here."""

from __future__ import annotations

import logging
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from flask.testing import FlaskCliRunner
from support.mailbox import Mailbox
from support.site import Site, at_work, wait_for

from app.cli.worker import worker as once
from app.mail import composing, delivery, heartbeat, outbox, worker
from app.mail.outbox import OutboxMessage
from app.mail.smtp import TIMEOUTS_MAX
from app.mail.smtp_failures import MailHeld, RelayAway


def test_a_slow_relay_never_makes_a_mail_go_out_twice(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site()
    mailbox.delay["DATA"] = 2.0
    site.ask()
    with at_work(site), at_work(site):
        mailbox.wait_for(1)
        wait_for(lambda: site.messages()[0]["state"] == "sent")
        time.sleep(0.5)
    assert (len(mailbox.mails), site.messages()[0]["attempts"]) == (1, 1)


def test_a_relay_that_drips_is_cut_off(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and there is no end to them."""
    monkeypatch.setattr("app.mail.smtp.DATA_SECONDS", 0.5)
    with dripping(at=b"RCPT") as port:
        site: Site = make_site(MAIL_PORT=port, MAIL_TIMEOUT="0.3 seconds", RECOVERY_MAIL_LEASE="24 seconds")
        site.ask()
        began = time.monotonic()
        site.work()
        assert time.monotonic() - began < 10
    [message] = site.messages()
    assert (message["state"], message["attempts"]) == ("waiting", 1)
    assert "the relay took too long" in message["reason"]


def test_a_relay_that_drips_is_cut_off_also_when_it_was_looked_for_too_long_before(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up of its name that takes long leaves nothing to cut yet."""

    def look_up_slowly(self: Any, host: str, port: int, timeout: float) -> socket.socket:
        time.sleep((TIMEOUTS_MAX + 1) * timeout)
        return socket.create_connection((host, port), timeout)

    monkeypatch.setattr(smtplib.SMTP, "_get_socket", look_up_slowly)
    with dripping(at=b"greeting") as port:
        site: Site = make_site(MAIL_PORT=port, MAIL_TIMEOUT="0.2 seconds")
        site.ask()
        began = time.monotonic()
        with pytest.raises(RelayAway):
            site.work()
        assert time.monotonic() - began < 10


@contextmanager
def dripping(at: bytes) -> Iterator[int]:
    """A relay that answers a command, or greets, with a line that never ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client, client.makefile("rb") as lines:
                client.sendall(b"220-" if at == b"greeting" else b"220 hello\r\n")
                for line in () if at == b"greeting" else lines:
                    if line.upper().startswith(at):
                        client.sendall(b"250-")
                        break
                    client.sendall(b"250 well\r\n")
                try:
                    while True:
                        client.sendall(b"x")
                        time.sleep(0.05)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=10)


def test_a_worker_busy_with_one_mail_is_still_seen(
    make_site: Any, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "LOST_AFTER_SECONDS", 1)
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", 0.3)
    site: Site = make_site()
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


def test_a_relay_that_wants_a_login_for_one_recipient_does_not_block_the_others(
    site: Site, mailbox: Mailbox
) -> None:
    mailbox.refuse_only["alice@example.com"] = "530 log in first"
    link = site_link(site)
    site.visitor().set_password(link)
    site.ask("bob@example.com")
    site.work()
    assert mailbox.envelopes[-1] == ["bob@example.com"]
    notice = next(row for row in site.messages() if row["kind"] == "reset_notice")
    assert (notice["state"], notice["attempts"]) == ("waiting", 1)
    assert "530" in notice["reason"]


def site_link(site: Site) -> str:
    """A link for alice, mailed while nothing was refused."""
    refused = dict(site.mailbox.refuse_only)
    site.mailbox.refuse_only.clear()
    link = site.new_link()
    site.mailbox.refuse_only.update(refused)
    return link


@pytest.mark.parametrize("reply", ["550 not yours to send from", "530 log in first", "451 not now"])
@pytest.mark.requirement("R2", "R3")
def test_a_refused_sender_is_found_out_before_anybody_is_looked_up(site: Site, reply: str) -> None:
    """Known or not, every request waits: nothing tells who has an account."""
    site.mailbox.refuse["MAIL"] = reply
    site.ask("nobody")
    site.ask("alice")
    with pytest.raises(MailHeld):
        site.work()
    assert [(row["state"], row["attempts"]) for row in site.messages()] == [("waiting", 0)] * 2


def test_a_lease_that_is_lost_during_the_conversation_stays_lost(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site()
    mailbox.delay["DATA"] = 1.0
    site.ask()
    with at_work(site) as stop:
        wait_for(lambda: site.messages()[0]["claim"])
        stop.set()
        site.change(OutboxMessage, OutboxMessage.state == "waiting", claim="another worker's")
    assert site.messages()[0]["claim"] == "another worker's"


def test_a_relay_that_takes_long_over_a_mail_gets_it_once(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site(MAIL_TIMEOUT="0.5 seconds")
    mailbox.delay["DATA"] = 1.5
    site.ask()
    site.work()
    assert (len(mailbox.mails), site.messages()[0]["state"]) == (1, "sent")


def test_a_greeting_without_end_costs_some_timeouts(make_site: Any) -> None:
    with dripping(at=b"greeting") as port:
        site: Site = make_site(MAIL_PORT=port, MAIL_TIMEOUT="0.2 seconds")
        site.ask()
        with pytest.raises(RelayAway):
            site.work()
    assert site.messages()[0]["attempts"] == 0


def test_whatever_a_connection_fails_with_the_worker_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.mail.smtp_failures.RelayAway.pause", 0.05)
    monkeypatch.setattr(worker, "DATABASE_SECONDS", 0.05)
    failures: list[Exception] = [UnicodeError("a host name of alice@example.com"), ZeroDivisionError("x")]
    is_due = outbox.is_due

    def connect(*_: Any, **__: Any) -> Any:
        raise failures[0]

    def fail_once(*how: Any) -> bool:
        if len(failures) == 2:
            failures.pop()
            raise ZeroDivisionError
        return is_due(*how)

    with monkeypatch.context() as broken:
        broken.setattr("smtplib.SMTP.__init__", connect)
        broken.setattr(outbox, "is_due", fail_once)
        site.ask()
        with at_work(site):
            wait_for(lambda: "all mail is held" in caplog.text)
            assert "the worker continues after an unexpected error" in caplog.text
            assert "UnicodeError" in caplog.text
            assert "alice@" not in caplog.text
            broken.undo()
            site.mailbox.wait_for(1)


@pytest.mark.requirement("R61", "R62")
def test_each_attempt_is_one_line_in_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """With what finds it in the relay's log, and without what a relay may have put into its reply."""
    caplog.set_level(logging.INFO)
    site.mailbox.refuse["DATA"] = '451 "later" for alice@example.com'
    site.ask()
    site.work()
    name = site.messages()[0]["message_id"].strip("<>").split("@")[0]
    [line] = [record.getMessage() for record in caplog.records if "mail=1" in record.getMessage()]
    assert line == (
        f"mail=1 id={name} kind=reset_instructions attempt=1 fate=retried"
        ' cause="the relay said 451 \\"later\\" for [address]"'
    )


@pytest.mark.parametrize("reply", ["502 not here", "421 closing"])
def test_a_relay_that_does_not_know_rset_gets_mail_all_the_same(site: Site, reply: str) -> None:
    site.mailbox.refuse["RSET"] = reply
    site.ask("alice")
    site.ask("bob")
    site.work()
    assert {row["state"] for row in site.messages()} == {"sent"}


def test_a_quota_that_is_used_up_in_between_loses_no_mail(site: Site) -> None:
    site.ask("alice")
    with site.app.app_context(), closing(delivery.mailman.get_connection()) as relay:
        relay.open()
        site.mailbox.refuse["MAIL"] = "550 5.4.5 daily sending quota exceeded"
        message = outbox.claim()
        assert message is not None
        worker.work_on(message, relay, threading.Event(), time.monotonic() + 60)
    assert site.messages()[0]["state"] == "waiting"
    assert "quota" in site.messages()[0]["reason"]


@pytest.mark.requirement("R62")
def test_once_says_why_all_mail_is_held_in_plain_text(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site()
    mailbox.refuse["MAIL"] = "451 \x1b]0;owned\x07 alice@example.com"
    site.ask()
    result = FlaskCliRunner(site.app).invoke(once, ["--once"])
    assert result.exit_code == 1
    assert "all mail is held: the relay" in result.stderr
    assert "\x1b" not in result.stderr
    assert "alice@" not in result.stderr


def test_nothing_is_sent_after_the_deadline(site: Site) -> None:
    """Not after it, and not if it passes between MAIL and DATA, because the lease may be another worker's then."""
    with site.app.app_context(), closing(delivery.mailman.get_connection()) as relay:
        mail = composing.compose("alice@example.com", "Hello", "Hello", "", "<1@id.example.com>")
        relay.deadline = time.monotonic()
        with pytest.raises(TimeoutError, match="took too long"):
            relay.send_messages([mail])
        site.mailbox.delay["RCPT"] = 0.6
        relay.deadline = time.monotonic() + 0.3
        with pytest.raises(TimeoutError, match="took too long"):
            relay.send_messages([mail])
        relay.deadline = time.monotonic() + 20
        assert relay.send_messages([mail]) == 1
    assert len(site.mailbox.mails) == 1
