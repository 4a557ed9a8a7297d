"""The reset instructions: their quotas, and accounts that change while a mail is written."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import pytest
from support import commands
from support.mailbox import text_of
from support.recovery import code_of
from support.site import BOTH, Site, at_work, csrf_token, wait_for

from app.accounts.models import User
from app.db.engine import db
from app.mail import composing, heartbeat
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
@pytest.mark.requirement("R55", "R58", "R59")
def test_instructions_over_the_daily_cap_are_postponed_and_end_no_link(make_site: Any) -> None:
    """One message waits for half an hour, however many strangers ask, and is not too old by then."""
    site: Site = make_site(RECOVERY_MAIL_DAILY_CAP=2, SECURITY_RESET_PASSWORD_WITHIN="10 minutes")
    links = [site.new_link(), site.new_link()]
    for identity in ("alice", "alice@example.com", "+14155550123", "bob"):
        site.ask(identity)
        site.work()
    assert site.mailbox.envelopes == [["alice@example.com"]] * 2 + [["bob@example.com"]]
    _, newest, postponed, *refused, _ = site.messages()
    assert [(row["state"], row["attempts"]) for row in refused] == [("dropped", 1)] * 2
    assert {row["reason"] for row in refused} == {
        "another email of this kind is already postponed (RECOVERY_MAIL_DAILY_CAP)"
    }
    assert (postponed["state"], postponed["attempts"]) == ("waiting", 0)
    assert timedelta(minutes=29) < postponed["due_at"] - newest["settled_at"] <= timedelta(minutes=37.5)
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
        assert health.check() == health.Health(database=True, worker=True, mail=True, problems=[])
    until = f"{postponed['due_at']:%Y-%m-%d %H:%M:%SZ}"
    shown = commands.run(site, "users", "show", "alice").output
    assert f"A link was requested, and its email is postponed until {until}" in shown
    assert "now: another email of this kind is already postponed (RECOVERY_MAIL_DAILY_CAP)." in shown
    assert re.search(f"postponed +0 +until {until}", commands.run(site, "outbox", "list").output)
    let_time_pass(site, timedelta(minutes=29))
    assert site.work() == 0
    let_time_pass(site, timedelta(minutes=9))
    assert site.work() == 1
    assert len(site.mailbox.mails) == 4
    site.ask()
    site.work()
    assert site.messages()[-1]["state"] == "waiting"  # postponed again
    assert [code_of(site, link) for link in (links[1], site.last_link())] == ["redeemed", "link_superseded"]


def let_time_pass(site: Site, span: timedelta) -> None:
    times = {OutboxMessage: ("created_at", "due_at", "settled_at"), ResetLink: ("issued_at",)}
    with site.app.app_context():
        for model, columns in times.items():
            for row in db.session.query(model):
                for column in columns:
                    if at := getattr(row, column):
                        setattr(row, column, at - span)
        db.session.commit()


@pytest.mark.requirement("R2")
def test_instructions_asked_for_one_after_the_other_are_postponed_in_no_order(make_site: Any) -> None:
    """The time between the mails to A and B would tell an attacker that X has an account."""
    site: Site = make_site(RECOVERY_MAIL_DAILY_CAP=1)
    pauses = []
    for _ in range(2):
        for identity in ("alice", "bob"):
            site.ask(identity)
        site.work()
    for _ in range(20):
        first, second = (row["due_at"] for row in site.messages() if row["state"] == "waiting")
        pauses.append(second - first)
        let_time_pass(site, timedelta(minutes=38))
        assert site.work() == 2
        for identity in ("alice", "bob"):
            site.ask(identity)
        site.work()
    assert min(pauses) < timedelta(0) < max(pauses)
    assert sum(abs(pause) > timedelta(seconds=5) for pause in pauses) > 10


@BOTH
@pytest.mark.requirement("R1", "R55", "R58")
def test_instructions_in_a_browser_that_has_signed_in_have_a_quota_of_their_own(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_DAILY_CAP=2)
    alice = site.visitor()
    assert alice.sign_in()
    alice.submit("/logout", "/logout", csrf_token=csrf_token(alice.open("/reset")))
    for _ in range(4):  # a stranger's
        site.ask("alice")
        site.work()
    assert len(site.mailbox.mails) == 2
    for identity in ("alice@example.com", "alice"):
        alice.post_json("/reset", json={"identity": identity})
        site.ask(identity)  # a stranger's does not replace it
        site.work()
    assert site.mailbox.envelopes == [["alice@example.com"]] * 4
    alice.post_json("/reset", json={"identity": "alice"})
    site.work()
    assert len(site.mailbox.mails) == 4
    assert [row["state"] for row in site.messages()].count("waiting") == 2  # one for each quota
    stolen = alice.client.get_cookie("sparekey_known", domain="127.0.0.1").value[:-2] + "xx"
    thief = site.visitor()
    thief.client.set_cookie("sparekey_known", stolen, domain="127.0.0.1")
    for visitor in (thief, alice):
        visitor.post_json("/reset", json={"identity": "bob"})
    assert {row["quota"] for row in site.messages()[-1:]} == {""}  # neither is known for bob
    assert len([row for row in site.messages() if row["state"] == "waiting"]) == 3


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
            wait_for(lambda: not has_due_mail(sites[0]), 30)
    assert sites[0].mailbox.envelopes == [["alice@example.com"]] * 2
    waiting = [row for row in sites[0].messages() if row["state"] == "waiting"]
    assert len(waiting) <= 4  # postponed at the same moment, one by each worker


def has_due_mail(site: Site) -> bool:
    waiting = [row for row in site.messages() if row["state"] == "waiting"]
    return any("RECOVERY_MAIL_DAILY_CAP" not in (row["reason"] or "") for row in waiting)


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
    [mail] = site.mailbox.mails  # without a password, one that explains how to sign in
    assert mail["To"] == change.get("email", "alice@example.com")
    assert ("/reset/" in text_of(mail)) is ("email" in change)
