"""The reset instructions: their quotas, and accounts that change while a mail is written."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from support import commands
from support.concurrency import interrupt
from support.mailbox import text_of
from support.outbox import LONG_AGO, make_due
from support.recovery import code_of
from support.site import BOTH, Site, at_work, csrf_token, wait_for

from app.accounts.models import User
from app.db.engine import db
from app.mail import composing, heartbeat
from app.mail.outbox import OutboxMessage
from app.pages import health
from app.recovery.link import ResetLink

ALICE, BOB = ["alice@example.com"], ["bob@example.com"]
SPELLINGS = ("alice@example.com", "ALICE@example.com", " Alice@Example.Com ", "alice", "+1 415 555 0123")


def ask_and_work(site: Site, *identities: str) -> None:
    for identity in identities:
        site.ask(identity)
        site.work()


def states(site: Site) -> list[str]:
    return [message["state"] for message in site.messages()]


@BOTH
@pytest.mark.requirement("R55", "R58")
def test_instructions_within_the_cooldown_are_dropped_and_end_no_link(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes")
    link = site.new_link()
    ask_and_work(site, "alice", "alice@example.com", "+14155550123")
    assert site.mailbox.envelopes == [ALICE]
    assert states(site) == ["sent", "dropped", "dropped", "dropped"]
    assert "RECOVERY_MAIL_COOLDOWN" in site.messages()[1]["reason"]
    assert code_of(site, link) == "redeemed"


@BOTH
@pytest.mark.requirement("R55", "R58", "R59")
def test_instructions_over_the_daily_cap_are_postponed_and_end_no_link(make_site: Any) -> None:
    """One message waits for half an hour, however many strangers ask, and is not too old by then."""
    site: Site = make_site(RECOVERY_MAIL_DAILY_CAP=2, SECURITY_RESET_PASSWORD_WITHIN="10 minutes")
    links = [site.new_link(), site.new_link()]
    ask_and_work(site, "alice", "alice@example.com", "+14155550123", "bob")
    assert site.mailbox.envelopes == [ALICE, ALICE, BOB]
    _, newest, postponed, *refused, _ = site.messages()
    assert [(row["state"], row["attempts"]) for row in refused] == [("dropped", 1)] * 2
    excess = "another email of this kind is already postponed (RECOVERY_MAIL_DAILY_CAP)"
    assert {row["reason"] for row in refused} == {excess}
    assert (postponed["state"], postponed["attempts"]) == ("waiting", 0)
    assert timedelta(minutes=29) < postponed["due_at"] - newest["settled_at"] <= timedelta(minutes=37.5)
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
        state = {"database": True, "worker": True, "mail": True}
        assert health.check() == {**state, "problems": [], "reason": None}
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
    ask_and_work(site, "alice")
    assert states(site)[-1] == "waiting"  # postponed again
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
    ask_and_work(site, "alice", "bob")
    pauses = []
    for _ in range(20):
        ask_and_work(site, "alice", "bob")
        first, second = (row["due_at"] for row in site.messages() if row["state"] == "waiting")
        pauses.append(second - first)
        site.change(OutboxMessage, OutboxMessage.state == "waiting", state="dropped", settled_at=LONG_AGO)
    assert min(pauses) < timedelta(0) < max(pauses)
    assert sum(abs(pause) > timedelta(seconds=5) for pause in pauses) > 10


@BOTH
@pytest.mark.requirement("R1", "R55", "R58")
def test_instructions_in_a_browser_that_has_signed_in_have_a_quota_of_their_own(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_DAILY_CAP=2)
    alice = site.visitor()
    assert alice.sign_in()
    alice.submit("/logout", "/logout", csrf_token=csrf_token(alice.open("/reset")))
    ask_and_work(site, *["alice"] * 4)  # a stranger's
    assert len(site.mailbox.mails) == 2
    for identity in ("alice@example.com", "alice"):
        alice.post_json("/reset", json={"identity": identity})
        ask_and_work(site, identity)  # a stranger's does not replace it
    assert site.mailbox.envelopes == [ALICE] * 4
    alice.post_json("/reset", json={"identity": "alice"})
    site.work()
    assert len(site.mailbox.mails) == 4
    assert states(site).count("waiting") == 2  # one for each quota
    stolen = alice.client.get_cookie("sparekey_known", domain="127.0.0.1").value[:-2] + "xx"
    thief = site.visitor()
    thief.client.set_cookie("sparekey_known", stolen, domain="127.0.0.1")
    for visitor in (thief, alice):
        visitor.post_json("/reset", json={"identity": "bob"})
    assert site.messages()[-1]["quota"] == ""  # neither is known for bob
    assert states(site).count("waiting") == 3


@BOTH
@pytest.mark.requirement("R56")
def test_daily_cap_holds_for_four_workers_and_after_a_restart(make_site: Any, database: Any) -> None:
    settings = {"RECOVERY_MAIL_DAILY_CAP": 2, "RECOVERY_WORKER_POLL": "0.05 seconds"}
    uri = database()
    sites = [make_site(SQLALCHEMY_DATABASE_URI=uri, **settings) for _ in range(4)]

    def ask(number: int) -> int:
        return sites[number % 4].ask(SPELLINGS[number % len(SPELLINGS)]).status_code

    def waiting() -> list[str]:
        return [row["reason"] or "" for row in sites[0].messages() if row["state"] == "waiting"]

    for requests in (range(28), range(28, 56)):  # each with new workers
        with ExitStack() as workers, ThreadPoolExecutor(4) as threads:
            for site in sites:
                workers.enter_context(at_work(site))
            assert set(threads.map(ask, requests)) == {200}
            wait_for(lambda: all("RECOVERY_MAIL_DAILY_CAP" in reason for reason in waiting()), 30)
    assert sites[0].mailbox.envelopes == [ALICE] * 2
    assert len(waiting()) <= 4  # postponed at the same moment, one by each worker


@BOTH
@pytest.mark.requirement("R1", "R56")
def test_instructions_over_the_hourly_quota_wait_for_every_identity(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_HOURLY_MAX=1)
    site.new_link("alice")
    site.ask("bob")
    site.ask("nobody")
    site.visitor().set_password(site.last_link())
    site.work()
    assert site.mailbox.envelopes == [ALICE] * 2  # the notice is not held
    waiting = [message for message in site.messages() if message["state"] == "waiting"]
    assert [(message["attempts"], message["user_id"]) for message in waiting] == [(0, None)] * 2
    with site.app.app_context():
        assert health.BUDGET_SPENT in health.check()["problems"]
    assert site.work() == 0  # they are not tried again at once
    site.change(ResetLink, issued_at=LONG_AGO)
    site.work()
    assert site.mailbox.envelopes[-1] == BOB


@BOTH
@pytest.mark.requirement("R15", "R16")
@pytest.mark.parametrize("change", [{"email": "alice@new.example.com"}, {"password": None}])
def test_instructions_are_written_again_if_the_account_changes(
    site: Site, monkeypatch: Any, change: Any
) -> None:
    interrupt(monkeypatch, composing, "write", partial(site.change, User, User.username == "alice", **change))
    ask_and_work(site, "alice")
    assert [site.mailbox.mails, site.links()] == [[], []]
    assert states(site) == ["waiting"]
    make_due(site)
    site.work()
    [mail] = site.mailbox.mails  # without a password, one that explains how to sign in
    assert mail["To"] == change.get("email", "alice@example.com")
    assert ("/reset/" in text_of(mail)) is ("email" in change)
