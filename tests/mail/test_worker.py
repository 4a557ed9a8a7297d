"""Several threads in one worker: each mail goes out once, and stopping finishes those in hand."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flask.testing import FlaskCliRunner
from support.admin import Admin
from support.mailbox import Mailbox
from support.site import BOTH, Site, at_work, wait_for

from app.cli.worker import worker as command
from app.db.engine import db
from app.mail import heartbeat, outbox
from app.mail.heartbeat import WorkerHeartbeat


@BOTH
def test_two_threads_deliver_each_mail_once(site: Site, mailbox: Mailbox) -> None:
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


@BOTH
def test_sigterm_finishes_the_mails_in_hand_and_touches_no_other(make_site: Any, mailbox: Mailbox) -> None:
    site: Site = make_site()
    with site.app.app_context():
        admin = Admin(db.engine.url.render_as_string(hide_password=False), mailbox.port)
    mailbox.delay["DATA"] = 4.0
    site.ask("alice")
    site.ask("bob")
    process = admin.starts("manage.py", "worker", "--threads", "2")
    try:
        wait_for(lambda: sum(row["claim"] is not None for row in site.messages()) == 2, 30)
        site.ask("+14155550123")
    finally:
        admin.ends(process)
    assert process.wait(timeout=1) == 0
    assert [(row["state"], row["attempts"]) for row in site.messages()] == [("sent", 1)] * 2 + [
        ("waiting", 0)
    ]


def test_a_worker_without_threads_is_refused(site: Site) -> None:
    result = FlaskCliRunner(site.app).invoke(command, ["--threads", "0"])
    assert result.exit_code == 2
    assert "--threads" in result.stderr


def test_trouble_that_two_threads_find_is_told_once(
    make_site: Any, mailbox: Mailbox, caplog: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("app.mail.smtp_failures.RelayAway.pause", 0.1)
    site: Site = make_site()
    mailbox.refuse["MAIL"] = "451 not now"
    site.ask()
    with at_work(site, threads=2):
        wait_for(lambda: trouble(site) is not None)
        time.sleep(0.5)
        mailbox.refuse.clear()
        mailbox.wait_for(1)
    assert caplog.text.count("all mail is held") == 1


def trouble(site: Site) -> str | None:
    with site.app.app_context():
        return db.session.scalar(db.select(WorkerHeartbeat.trouble))


def test_a_worker_does_not_turn_in_circles_over_a_message_it_cannot_have(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask()
    monkeypatch.setattr(outbox, "claim", lambda _held: None)
    looked: list[bool] = []
    is_due = outbox.is_due

    def count(held: bool) -> bool:
        looked.append(is_due(held))
        assert len(looked) < 5
        return looked[-1]

    monkeypatch.setattr(outbox, "is_due", count)
    assert site.work() == 0
    assert looked == [True]
