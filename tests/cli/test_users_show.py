"""`manage.py users show` answers "Why did I not get the mail?"."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask_security import naive_utcnow
from support.commands import run
from support.features import REGISTRATION
from support.outbox import beat
from support.recovery import code_of
from support.site import OLD_PASSWORD, Site

from app.accounts.models import User
from app.db.clock import utcnow
from app.recovery.link import ResetLink


def show(site: Site, identity: str = "alice") -> str:
    return str(run(site, "users", "show", identity).output)


@pytest.mark.parametrize(
    ("identity", "answer"),
    [
        ("Nobody@example.com", "No account has the email nobody@example.com"),
        ("!!!", "That cannot be an account's identity"),
        ("inactive@example.com", "This account gets no reset email: the account is not active."),
        ("sso@example.com", "A request sends an email that says how to sign in, without a link"),
        ("ALICE@example.com", "No link was requested for this account"),
        ("#1", "alice@example.com"),
    ],
)
def test_users_show_before_any_request(site: Site, identity: str, answer: str) -> None:
    assert answer in show(site, identity)
    assert site.events() == []


def test_users_show_last_sign_in(make_site: Any) -> None:
    site: Site = make_site(SECURITY_TRACKABLE=True)
    for source in ("192.0.2.1", "192.0.2.2"):
        visitor = site.visitor()
        visitor.client.environ_base["REMOTE_ADDR"] = source
        assert visitor.sign_in("alice", OLD_PASSWORD)
    account = json.loads(run(site, "users", "show", "alice", "--format", "json").output)["account"]
    assert account["last_sign_in_from"] == "192.0.2.2"
    newest = next(row["current_login_at"] for row in site.rows(User) if row["email"] == "alice@example.com")
    assert datetime.fromisoformat(account["last_sign_in"]).replace(tzinfo=None) == newest.replace(
        microsecond=0
    )


def test_users_show_request_through_cooldown_and_cap(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes")
    site.ask()
    assert "and the email is waiting for its first attempt." in show(site)
    site.work()
    assert "and the relay accepted the email. Is it in the spam folder?" in show(site)
    assert "The newest link works until " in show(site)
    site.ask()
    site.work()
    shown = show(site)
    reason = r": there was one; the next can be at [\d-]+ [\d:]+Z \(RECOVERY_MAIL_COOLDOWN\)\."
    assert re.search(f"A reset email cannot go out now{reason}", shown)
    assert re.search(f"and no email was sent{reason}", shown)
    capped: Site = make_site(RECOVERY_MAIL_DAILY_CAP=1, SECURITY_CONFIRMABLE=True)
    unconfirmed = "This account gets no reset email: the address is not confirmed."
    assert unconfirmed in show(capped)
    run(capped, "users", "confirm", "alice", "--quiet")
    capped.new_link()
    cap = r"A reset email cannot go out until (.*)Z, after too many \(RECOVERY_MAIL_DAILY_CAP\)\."
    [until] = re.findall(cap, show(capped))
    assert timedelta(minutes=29) < datetime.fromisoformat(until) - naive_utcnow() < timedelta(minutes=38)
    both: Site = make_site(RECOVERY_MAIL_DAILY_CAP=1, RECOVERY_MAIL_COOLDOWN="5 minutes")
    both.new_link()
    [next_at] = re.findall(r"the next can be at (.*)Z \(RECOVERY_MAIL_DAILY_CAP\)", show(both))
    assert timedelta(minutes=29) < datetime.fromisoformat(next_at) - naive_utcnow() < timedelta(minutes=31)


def test_users_show_bounced_deferred_and_held_mail(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "451 try later"
    site.ask("bob")
    site.work()
    assert "sending was attempted 1 times and will be attempted again: " in show(site, "bob")
    assert "451 try later" in show(site, "bob")
    site.mailbox.refuse = {"RCPT": "550 5.1.1 no such mailbox"}
    site.ask()
    site.work()
    shown = show(site)
    bounce = "and the email was given up: the address is refused for good: the relay said 550 5.1.1 no such"
    assert bounce in shown
    assert "manage.py outbox retry 2" in shown
    assert "The newest link" not in shown
    beat(site, trouble="MAIL_USERNAME: the relay refuses this login")
    assert "All mail is held: MAIL_USERNAME: the relay refuses this login" in show(site, "bob")


def test_users_show_open_link_of_an_account_that_is_not_active(site: Site) -> None:
    site.new_link()
    run(site, "users", "deactivate", "alice", "--quiet")
    assert "The newest link does not work now: the account is not active." in show(site)


def test_users_show_open_link_of_a_sign_up(make_site: Any) -> None:
    site: Site = make_site(**REGISTRATION)
    site.visitor().submit("/register", "/register", email="dora@example.com")
    site.work()
    assert "The newest link works until " in show(site, "dora@example.com")


def test_users_show_request_behind_many_notices(site: Site) -> None:
    site.new_link()
    for _ in range(6):
        for command in ("deactivate", "activate"):
            run(site, "users", command, "alice")
    site.work()
    assert "A link was requested at " in show(site)


def test_users_show_state_of_newest_link(site: Site) -> None:
    earlier = site.new_link()
    site.change(User, email="another@example.com")
    void = "The newest link no longer works, because the account's address or password has changed"
    assert void in show(site)
    site.change(User, User.id == 1, email="alice@example.com")
    run(site, "links", "revoke", "alice")
    assert "The newest link was revoked at " in show(site)
    earlier = site.new_link()
    assert code_of(site, site.new_link()) == "redeemed"
    assert "The newest link was used at " in show(site)
    assert "  superseded  " in show(site)
    assert code_of(site, earlier) == "link_superseded"
    site.work()  # sends the notice
    site.new_link()
    site.change(ResetLink, expires_at=utcnow(-60))
    assert "The newest link expired at " in show(site)


def test_users_show_json_without_secrets(site: Site) -> None:
    link = site.new_link()
    site.visitor().open(link)
    output = run(site, "users", "show", "alice", "--format", "json").stdout
    report = json.loads(output)
    lists = {"problems", "answers", "links", "mails", "events"}
    assert report.keys() == {*lists, "account", "limits", "why_no_limits"}
    assert report["account"]["identities"] == "alice@example.com, alice, +14155550123"
    assert (report["links"][0]["state"], report["mails"][0]["status"]) == ("open", "sent")
    assert {"mail_sent", "opened"} <= {event["kind"] for event in report["events"]}
    unknown = json.loads(run(site, "users", "show", "nobody", "--format", "json").stdout)
    assert unknown["account"] is None
    for secret in (link.rsplit("/", 1)[-1], site.rows(User)[0]["password"]):
        assert secret not in output + show(site)
