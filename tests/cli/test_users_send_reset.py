"""`manage.py users send-reset` and `force-reset` mail a link past all quotas, or say why none can go out."""

from typing import Any

import pytest
from support.commands import run
from support.mailbox import link_in
from support.outbox import make_due, states
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User
from app.mail.heartbeat import Heartbeat, WorkerHeartbeat
from app.mail.outbox import OutboxMessage

QUOTAS = {"RECOVERY_MAIL_COOLDOWN": "5 minutes", "RECOVERY_MAIL_DAILY_CAP": 1}
SENDS = pytest.mark.parametrize("command", ["send-reset", "force-reset"])


@BOTH
@SENDS
@pytest.mark.requirement("R43", "R58")
def test_link_of_an_admin_passes_cooldown_and_cap(make_site: Any, command: str) -> None:
    site: Site = make_site(**QUOTAS)
    site.visitor().set_password(site.new_link())
    for _ in range(3):
        run(site, "users", command, "alice")
        assert "email is waiting for its first attempt" in run(site, "users", "show", "alice").output
        mails = len(site.mailbox.mails)
        site.work()
        [link] = [link_in(mail) for mail in site.mailbox.mails[mails:] if "Reset" in mail["Subject"]]
    assert site.visitor().set_password(link, "three foxes took the eggs").location == "/reset-done"


def test_links_of_an_admin_change_no_quota(make_site: Any) -> None:
    site: Site = make_site(**QUOTAS)
    run(site, "users", "send-reset", "alice")
    site.work()
    site.new_link()
    run(site, "users", "send-reset", "alice")
    site.work()
    site.ask()
    assert site.work() == 1
    assert len(site.mailbox.mails) == 3  # the last request came within the cool-down


@BOTH
def test_two_sends_before_the_worker_comes_are_one_mail(make_site: Any) -> None:
    site: Site = make_site()
    for _ in range(2):
        run(site, "users", "send-reset", "alice")
    assert site.work() == 1


@BOTH
def test_message_that_an_admin_retries_passes_cooldown_and_cap(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="0 seconds", RECOVERY_MAIL_DAILY_CAP=1)
    site.new_link()
    site.ask()
    site.work()
    assert states(site) == [("sent", 1), ("waiting", 0)]  # postponed
    run(site, "outbox", "retry", "2")
    site.work()
    assert states(site) == [("sent", 1), ("sent", 1)]


@SENDS
@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        ("inactive@example.com", "the account is not active"),
        ("sso@example.com", "the account has no password"),
        ("alice", "MAIL_PASSWORD: the relay refuses it"),
    ],
)
def test_link_that_cannot_be_mailed_is_refused_and_changes_nothing(
    site: Site, command: str, identity: str, reason: str
) -> None:
    with site.app.app_context():
        Heartbeat().beat()
    if identity == "alice":
        site.change(WorkerHeartbeat, trouble="MAIL_PASSWORD: the relay refuses it")
    accounts, browser = site.rows(User), site.visitor()
    browser.sign_in()
    output = run(site, "users", command, identity, fails=True).output
    assert reason in output
    assert "Nothing was changed" in output
    assert site.rows(User) == accounts
    assert browser.is_signed_in()
    assert site.rows(OutboxMessage) == []
    assert "admin" not in site.events()


def test_force_reset_without_mail_ends_the_password_all_the_same(make_site: Any) -> None:
    site: Site = make_site(MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT="help@example.com")
    assert "users reset-link alice" in run(site, "users", "force-reset", "alice", fails=True).output
    assert site.password_works(OLD_PASSWORD)
    output = run(site, "users", "force-reset", "alice", "--without-mail").output
    assert "users reset-link alice" in output
    assert not site.password_works(OLD_PASSWORD)


def test_force_reset_without_mail_mails_no_link(site: Site) -> None:
    run(site, "users", "force-reset", "alice", "--without-mail", "--quiet")
    make_due(site)
    assert site.work() == 0
    assert not site.password_works(OLD_PASSWORD)
    assert not site.password_works(NEW_PASSWORD)
