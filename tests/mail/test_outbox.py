"""A message's life: nothing promised is lost, nothing is sent for ever."""

from __future__ import annotations

import smtplib
import threading
import time
from contextlib import closing
from datetime import datetime
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from support.mailbox import link_in, text_of
from support.outbox import make_due
from support.servers import free_port
from support.site import BOTH, Site

from app.db.engine import db
from app.mail import composing, delivery, outbox, worker
from app.mail.smtp_failures import RelayAway

pytestmark = BOTH


@pytest.mark.requirement("R2", "R3")
def test_a_relay_that_is_down_costs_time_and_nothing_else(make_site: Any, mailbox: Any) -> None:
    site: Site = make_site(MAIL_PORT=free_port())
    assert site.ask().json == site.ask("nobody").json == {"meta": {"code": 200}, "response": {}}
    with pytest.raises(RelayAway, match="Connection refused"):
        site.work()
    # Nobody was looked up yet: known and unknown wait alike, and no attempt was counted.
    assert [(row["state"], row["attempts"]) for row in site.messages()] == [("waiting", 0)] * 2
    site.app.config["MAIL_PORT"] = mailbox.port
    delivery.mailman.init_app(site.app)
    site.work()
    assert [box[0] for box in mailbox.envelopes] == ["alice@example.com"]
    assert site.messages()[0]["state"] == "sent"


def test_every_attempt_carries_the_same_link_and_message_id(site: Site) -> None:
    """The relay takes the mail, but we never learn: the next attempt is a recognisable repeat."""
    site.ask()
    with site.app.app_context():
        claimed = outbox.claim()
        assert claimed is not None
        with closing(delivery.mailman.get_connection()) as relay:
            worker.attempt(claimed, relay, time.monotonic() + 60)  # and the worker dies before it can say so
        db.session.rollback()
    assert site.work() == 0  # the lease still runs
    make_due(site)
    site.work()
    first, second = site.mailbox.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert link_in(first) == link_in(second)
    assert [message["attempts"] for message in site.messages()] == [2]


@pytest.mark.requirement("R59")
def test_the_pauses_between_attempts_grow(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "451 greylisted, try later"
    site.ask()
    pauses = []
    for _ in range(4):
        make_due(site)
        now = datetime.fromisoformat(_database_time(site))
        site.work()
        pauses.append((site.messages()[0]["due_at"] - now).total_seconds())
    for pause, shortest in zip(pauses, (10, 20, 40, 80), strict=True):
        assert shortest <= pause <= shortest * 1.25 + 2
    assert "451" in site.messages()[0]["reason"]


def _database_time(site: Site) -> str:
    with site.app.app_context():
        return str(db.session.scalar(db.select(outbox.utcnow())))


@pytest.mark.parametrize(
    ("command", "reply"), [("RCPT", "550 no such mailbox"), ("DATA", "554 looks like spam")]
)
def test_what_the_relay_refuses_for_good_is_given_up_with_its_reason(
    site: Site, command: str, reply: str
) -> None:
    site.mailbox.refuse[command] = reply
    site.ask()
    site.work()
    [message] = site.messages()
    assert message["state"] == "given_up"
    assert reply[:3] in message["reason"]
    assert message["sealed"]  # a dead letter is kept until somebody decides
    assert site.events() == ["requested", "mail_given_up"]


def test_a_recipient_refused_for_now_is_tried_again(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = "450 mailbox busy"
    site.ask()
    site.work()
    assert site.messages()[0]["state"] == "waiting"


@pytest.mark.requirement("R59")
def test_after_the_last_attempt_a_message_is_given_up(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_ATTEMPTS=2)
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask()
    for _ in range(2):
        make_due(site)
        site.work()
    assert site.messages()[0]["state"] == "given_up"
    site.mailbox.refuse.clear()
    site.new_link()  # it counts neither for the cool-down nor for the cap, and supersedes nothing


def test_a_given_up_mail_does_not_count_against_the_account(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_ATTEMPTS=1, RECOVERY_MAIL_COOLDOWN="5 minutes")
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask()
    site.work()
    site.mailbox.refuse.clear()
    site.new_link()


@pytest.mark.requirement("R59")
def test_a_message_that_kills_its_worker_every_time_ends(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_ATTEMPTS=2)
    site.ask()
    for _ in range(2):
        with site.app.app_context():
            assert outbox.claim() is not None  # and dies
        make_due(site)
    site.work()
    [message] = site.messages()
    assert (message["state"], message["reason"]) == ("given_up", "every attempt was cut short")
    assert site.mailbox.mails == []


@pytest.mark.requirement("R59")
def test_a_link_that_ended_while_its_mail_waited_is_not_sent(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask()
    site.work()
    site.mailbox.refuse.clear()
    site.visitor().set_password(site.new_link())
    make_due(site)
    site.work()
    assert [mail["Subject"] for mail in site.mailbox.mails if "/reset/" in str(mail)] == [
        "Reset your Sparekey password"
    ]
    assert site.messages()[0]["state"] == "dropped"


def test_a_lost_lease_settles_nothing(site: Site) -> None:
    site.ask()
    with site.app.app_context():
        first = outbox.claim()
        assert first is not None
    make_due(site)
    with site.app.app_context():
        assert outbox.claim() is not None
        assert not outbox.release(first, "given_up", "too late")
        db.session.commit()
    assert site.messages()[0]["state"] == "waiting"


def test_two_workers_never_hold_the_same_message(site: Site) -> None:
    for number in range(20):
        site.ask(f"nobody{number}")
    claimed: list[int] = []

    def claim_all() -> None:
        with site.app.app_context():
            while (message := outbox.claim()) is not None:
                claimed.append(message.id)

    threads = [threading.Thread(target=claim_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(1, 21))


@pytest.mark.requirement("R61")
def test_what_was_typed_rests_sealed_and_is_erased_when_settled(site: Site) -> None:
    site.ask("nobody-here@example.com")
    assert "nobody-here" not in str(site.messages())
    assert site.messages()[0]["sealed"]
    site.work()
    assert site.messages()[0]["sealed"] is None


def test_any_failure_keeps_the_message(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.ask()
    with monkeypatch.context() as broken:
        broken.setattr(composing, "compose", lambda *_: 1 / 0)
        site.work()
    assert site.messages()[0]["state"] == "waiting"
    assert site.messages()[0]["reason"] == "ZeroDivisionError: division by zero"
    make_due(site)
    site.work()
    assert len(site.mailbox.mails) == 1


@pytest.mark.requirement("R61")
def test_a_token_never_stands_in_a_reason(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_relay: Any, mails: list[Any]) -> None:
        raise smtplib.SMTPException(
            f"can not send {text_of(message_from_bytes(mails[0].message().as_bytes(), policy=default))}"
        )

    monkeypatch.setattr("app.mail.smtp.EmailBackend.send_messages", refuse)
    site.ask()
    site.work()
    assert "/reset/[token]" in site.messages()[0]["reason"]


def test_a_worker_outlives_its_database(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "DATABASE_SECONDS", 0.1)
    stop = threading.Event()
    claim, failures = outbox.claim, [1, 2]

    def fail_twice(*how: Any) -> Any:
        if failures:
            failures.pop()
            raise OperationalError("SELECT", {}, Exception("the server closed the connection"))
        return claim(*how)

    monkeypatch.setattr(outbox, "claim", fail_twice)
    site.ask()

    def work() -> None:
        with site.app.app_context():
            worker.run(stop)

    thread = threading.Thread(target=work)
    thread.start()
    site.mailbox.wait_for(1)
    deadline = time.monotonic() + 5
    while site.messages()[0]["state"] != "sent" and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.set()
    thread.join()
    assert site.messages()[0]["state"] == "sent"


def test_a_log_that_blocks_holds_no_lock(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks while the worker's log is stuck is served: nothing is written then."""
    asked: list[int] = []
    monkeypatch.setattr(worker.log, "info", lambda *_: asked.append(site.ask("nobody").status_code))
    site.ask()
    with site.app.app_context(), closing(delivery.mailman.get_connection()) as relay:
        claimed = outbox.claim()
        assert claimed is not None
        worker.work_on(claimed, relay, threading.Event(), time.monotonic() + 60)
    assert asked == [200]
