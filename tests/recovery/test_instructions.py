"""The reset instructions: their quotas, and accounts that change while a mail is written."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import pytest
from support.recovery import code_of
from support.site import BOTH, Site, at_work, wait_for

from app.accounts.models import User
from app.mail import composing
from app.mail.outbox import OutboxMessage
from app.pages import health
from app.recovery.link import ResetLink

LONG_AGO = datetime(2020, 1, 1)
SPELLINGS = (
    "alice@example.com",
    "ALICE@example.com",
    " Alice@Example.Com ",
    "aLiCe@example.com",
    "alice",
    "+1 415 555 0123",
    "(415) 555-0123",
)


@BOTH
@pytest.mark.requirement("R55", "R58")
def test_instructions_within_the_cooldown_are_dropped_and_end_no_link(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes")
    link = site.new_link()
    for identity in ("alice", "alice@example.com", "+14155550123"):
        site.ask(identity)
    site.work()
    assert len(site.mailbox.mails) == 1
    assert [message["state"] for message in site.messages()] == ["sent", "dropped", "dropped", "dropped"]
    assert "RECOVERY_MAIL_COOLDOWN" in site.messages()[1]["reason"]
    assert code_of(site, link) == "redeemed"


@BOTH
@pytest.mark.requirement("R55", "R58")
def test_instructions_over_the_daily_cap_are_dropped_for_a_day_and_end_no_link(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_DAILY_CAP=2)
    site.new_link()
    link = site.new_link()
    site.ask()
    site.work()
    assert len(site.mailbox.mails) == 2
    assert "RECOVERY_MAIL_DAILY_CAP" in site.messages()[2]["reason"]
    site.change(ResetLink, issued_at=LONG_AGO)
    site.new_link()
    assert code_of(site, link) == "redeemed"


@BOTH
@pytest.mark.requirement("R56")
def test_daily_cap_holds_for_four_workers_and_after_a_restart(make_site: Any, database: Any) -> None:
    settings = {"RECOVERY_MAIL_DAILY_CAP": 2, "RECOVERY_WORKER_POLL": "0.05 seconds"}
    uri = database()
    sites = [make_site(SQLALCHEMY_DATABASE_URI=uri, **settings) for _ in range(4)]

    def ask(number: int) -> int:
        return sites[number % 4].ask(SPELLINGS[number % len(SPELLINGS)]).status_code

    for requests in (range(28), range(28, 56)):  # each with new workers
        with ExitStack() as workers:
            for site in sites:
                workers.enter_context(at_work(site))
            with ThreadPoolExecutor(4) as threads:
                assert set(threads.map(ask, requests)) == {200}
            wait_for(lambda: all(message["state"] != "waiting" for message in sites[0].messages()), 30)
    assert sites[0].mailbox.envelopes == [["alice@example.com"]] * 2


@BOTH
@pytest.mark.requirement("R1", "R56")
def test_instructions_over_the_hourly_quota_wait_for_every_identity(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_HOURLY_MAX=1)
    site.new_link("alice")
    site.ask("bob")
    site.ask("nobody")
    site.visitor().set_password(site.last_link())
    site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == ["alice@example.com"] * 2  # the notice is not held
    waiting = [message for message in site.messages() if message["state"] == "waiting"]
    assert [(message["attempts"], message["user_id"]) for message in waiting] == [(0, None)] * 2
    with site.app.app_context():
        assert health.BUDGET_SPENT in health.check().problems
    assert site.work() == 0  # they are not tried again at once
    site.change(ResetLink, issued_at=LONG_AGO)
    site.work()
    assert site.mailbox.mails[-1]["To"] == "bob@example.com"


@BOTH
@pytest.mark.requirement("R15", "R16")
@pytest.mark.parametrize("change", [{"email": "alice@new.example.com"}, {"password": None}])
def test_instructions_are_written_again_if_the_account_changes_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    write, changes = composing.write, [change]

    def change_then_write(*args: Any, **kwargs: Any) -> Any:
        if changes:
            target = (User, User.username == "alice")
            other = threading.Thread(target=site.change, args=target, kwargs=changes.pop())
            other.start()
            other.join()
        return write(*args, **kwargs)

    monkeypatch.setattr(composing, "write", change_then_write)
    site.ask("alice")
    site.work()
    assert [site.mailbox.mails, site.links()] == [[], []]
    assert site.messages()[0]["state"] == "waiting"
    site.change(OutboxMessage, OutboxMessage.state == "waiting", due_at=LONG_AGO)
    site.work()
    recipients = [mail["To"] for mail in site.mailbox.mails]
    assert recipients == (["alice@new.example.com"] if "email" in change else [])
