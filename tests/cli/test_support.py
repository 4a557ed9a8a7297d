"""A user calls: "why did I not get the mail?" One command has the whole answer, whatever it is."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from flask.testing import FlaskCliRunner
from sqlalchemy import update
from support import servers
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

import manage
from app.accounts.models import User
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.mail import heartbeat
from app.recovery.link import ResetLink


@pytest.fixture
def site(make_site: Any) -> Site:
    return with_a_worker(make_site(RECOVERY_MAIL_COOLDOWN="5 minutes", RECOVERY_MAIL_DAILY_CAP=3))


def with_a_worker(site: Site) -> Site:
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
    return site


def run(site: Site, *words: str, fails: bool = False) -> Result:
    result = FlaskCliRunner(site.app).invoke(manage.cli, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code != 0) is fails, result.output
    return result


def told(site: Site, identity: str = "alice") -> str:
    return str(run(site, "users", "show", identity).output)


def test_an_identity_that_nobody_has(site: Site) -> None:
    assert "No account has the address nobody@example.com" in told(site, "Nobody@example.com")
    assert "No account has the username alicia" in told(site, "Alicia")
    assert "No account has the phone number +14155550199" in told(site, "(415) 555-0199")
    assert "No account can have that as an identity" in told(site, "!!!")


def test_an_account_that_gets_no_mail(site: Site) -> None:
    assert "No reset mail goes to this account: the account is not active." in told(
        site, "inactive@example.com"
    )
    assert "signs in another way" in told(site, "sso@example.com")


def test_an_address_that_is_not_confirmed(make_site: Any) -> None:
    site: Site = with_a_worker(make_site(SECURITY_CONFIRMABLE=True))
    assert "No reset mail goes to this account: the address is not confirmed." in told(site)


def test_an_account_by_the_number_that_events_and_the_log_give(site: Site) -> None:
    assert "alice@example.com" in told(site, "#1")
    run(site, "users", "force-reset", "#1")
    site.work()
    assert site.mailbox.mails[-1]["To"] == "alice@example.com"
    run(site, "users", "force-reset", "#99999999999999", fails=True)


def test_nobody_asked(site: Site) -> None:
    for identity in ("alice", "ALICE@example.com", "(415) 555-0123"):
        assert "No link was requested for this account" in told(site, identity)


def test_a_mail_that_waits_and_goes_out(site: Site) -> None:
    site.ask()
    assert "and the mail waits for its first attempt." in told(site)
    site.work()
    assert "and the relay took the mail. Is it in the spam folder?" in told(site)
    assert "The newest link works until " in told(site)


def test_within_the_cool_down(site: Site) -> None:
    site.new_link()
    site.ask()
    site.work()
    said = told(site)
    assert "A reset mail went out a moment ago; the next one can go out in " in said
    assert "and no mail was sent: a reset mail went out a moment ago (RECOVERY_MAIL_COOLDOWN)." in said


def test_over_the_cap(make_site: Any) -> None:
    site: Site = with_a_worker(make_site(RECOVERY_MAIL_DAILY_CAP=3))
    for _ in range(4):
        site.ask()
        site.work()
    said = told(site)
    assert re.search(
        r"had its 3 reset mails of 24 hours; the next one can go out in (1 day|23 hours.*) \(RECOVERY_MAIL_DA",
        said,
    )


def test_a_mail_that_bounced(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = "550 5.1.1 no such mailbox"
    site.ask()
    site.work()
    said = told(site)
    assert (
        "and the mail was given up: the address is refused for good: the relay said 550 5.1.1 no such" in said
    )
    assert "manage.py outbox retry 1" in said
    assert "The newest link" not in said


def test_a_mail_that_the_relay_does_not_take_yet(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "451 try later"
    site.ask()
    site.work()
    assert "the mail was tried 1 times and waits for the next: " in told(site)
    assert "451 try later" in told(site)


def test_all_mail_is_held(site: Site) -> None:
    site.ask()
    with site.app.app_context():
        db.session.execute(
            update(heartbeat.WorkerHeartbeat).values(trouble="MAIL_USERNAME: the relay refuses this login")
        )
        db.session.commit()
    said = told(site)
    assert "All mail is held: MAIL_USERNAME: the relay refuses this login" in said


def test_a_link_that_was_superseded(make_site: Any) -> None:
    site: Site = with_a_worker(make_site())
    first, second = site.new_link(), site.new_link()
    assert "The newest link works until " in told(site)
    site.visitor().set_password(second)
    assert "Another link was used" in site.visitor().open(first).text
    assert "  superseded  " in told(site)


def test_a_link_that_was_used(site: Site) -> None:
    site.visitor().set_password(site.new_link())
    assert "The newest link was used at " in told(site)


def test_a_link_that_has_expired(site: Site) -> None:
    site.new_link()
    site.change(ResetLink, expires_at=datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=1))
    assert "The newest link expired at " in told(site)


def test_a_link_that_was_cancelled_and_one_whose_account_has_changed(site: Site) -> None:
    site.new_link()
    site.change(User, email="another@example.com")
    assert "The newest link no longer works, because the account's address or password has changed" in told(
        site
    )
    site.change(User, email="alice@example.com")
    run(site, "links", "revoke", "alice")
    assert "The newest link was revoked at " in told(site)


def test_the_story_for_programs(site: Site) -> None:
    site.visitor().open(site.new_link())
    story = json.loads(run(site, "users", "show", "alice", "--format", "json").stdout)
    assert story.keys() == {
        "problems",
        "answers",
        "account",
        "links",
        "mails",
        "events",
        "limits",
        "why_no_limits",
    }
    assert story["account"]["identities"] == "alice@example.com, alice, +14155550123"
    assert story["links"][0]["state"] == "open"
    assert story["mails"][0]["fate"] == "sent"
    assert {"mail_sent", "opened"} <= {event["kind"] for event in story["events"]}
    nobody = json.loads(run(site, "users", "show", "nobody", "--format", "json").stdout)
    assert nobody["account"] is None


def test_asking_leaves_no_trace(site: Site) -> None:
    told(site)
    with site.app.app_context():
        assert not db.session.query(RecoveryEvent).count()


def test_nothing_secret_is_shown(site: Site) -> None:
    token = site.new_link().rsplit("/", 1)[-1]
    with site.app.app_context():
        hashed = db.session.query(User.password).filter_by(username="alice").scalar()
    said = told(site) + run(site, "users", "show", "alice", "--format", "json").stdout
    assert token not in said
    assert hashed not in said


def test_a_reset_that_an_admin_forces(site: Site) -> None:
    """The old password, the sessions and the links end; the owner gets a new link, cool-down or not."""
    visitor, earlier = site.visitor(), site.new_link()
    visitor.sign_in()
    said = run(site, "users", "force-reset", "alice").output
    assert "signed out everywhere" in said
    assert not site.password_works(OLD_PASSWORD)
    assert "Welcome" in visitor.open("/").text
    assert "cancelled" in visitor.open(earlier).text
    site.work()
    assert site.visitor().set_password(site.last_link()).status_code == 302
    assert site.password_works(NEW_PASSWORD)
    with site.app.app_context():
        acts = db.session.query(RecoveryEvent.reason).filter_by(kind="admin").all()
    assert [reason.partition(" by ")[0] for (reason,) in acts] == ["users force-reset"]
    run(site, "users", "force-reset", "nobody", fails=True)


def test_links_are_cancelled_and_nobody_is_signed_out(make_site: Any) -> None:
    site: Site = make_site()
    visitor, link = site.visitor(), site.new_link()
    bobs = site.new_link("bob")
    visitor.sign_in()
    assert run(site, "links", "revoke", "alice").output == "1 link revoked\n"
    assert "cancelled" in visitor.open(link).text
    assert "You are signed in" in visitor.open("/").text
    assert run(site, "links", "revoke", "--all").output == "1 link revoked\n"
    assert "cancelled" in visitor.open(bobs).text
    assert run(site, "links", "revoke", "--all").output == "0 links revoked\n"
    run(site, "links", "revoke", fails=True)
    run(site, "links", "revoke", "alice", "--all", fails=True)
    run(site, "links", "revoke", "nobody", fails=True)


def test_whoever_cancelled_a_link_gets_another_at_once(site: Site) -> None:
    """The cool-down is against floods, and only who has the mail, or the command line, can cancel."""
    site.new_link()
    run(site, "links", "revoke", "alice")
    assert site.visitor().set_password(site.new_link()).status_code == 302


def test_limits_in_memory_can_not_be_seen_from_here(site: Site) -> None:
    assert "Limits are counted in the memory of each web process" in told(site)
    for act in ("show", "clear"):
        assert "in the memory of each web process" in run(site, "limits", act, "alice", fails=True).output


def test_limits_are_shown_and_cleared(make_site: Any, redis: servers.Redis) -> None:
    site: Site = with_a_worker(
        make_site(
            RATELIMIT_ENABLED=True,
            RATELIMIT_STORAGE_URI=redis.url,
            RECOVERY_LIMIT_IDENTITY="3 per hour",
            RECOVERY_LIMIT_SOURCE="1000 per hour",
        )
    )
    assert run(site, "limits", "show", "alice").output == "nothing is counted\n"
    for _ in range(4):
        site.visitor().post_json("/login", json={"identity": "alice", "password": "guess"})
    shown = json.loads(run(site, "limits", "show", "alice", "--format", "json").stdout)
    assert [(row["what"], row["used"], row["is_over"]) for row in shown] == [("signing in", 3, True)]
    assert 0 < shown[0]["ends_in_seconds"] <= 3600
    assert "are refused right now, since there were too many" in told(site)
    assert not site.password_works(OLD_PASSWORD)
    assert run(site, "limits", "clear", "alice").output == "1 cleared\n"
    assert site.password_works(OLD_PASSWORD)
    assert run(site, "limits", "show", "127.0.0.1", "--format", "json").output.count('"posts"') == 1
    run(site, "limits", "clear", "127.0.0.1")
    assert run(site, "limits", "show", "127.0.0.1").output == "nothing is counted\n"
    assert run(site, "limits", "show", "nobody@example.com").output == "nothing is counted\n"


def test_what_is_counted_by_account_is_shown_and_cleared_too(make_site: Any, redis: servers.Redis) -> None:
    site: Site = with_a_worker(
        make_site(
            RATELIMIT_ENABLED=True,
            RATELIMIT_STORAGE_URI=redis.url,
            SECURITY_UNIFIED_SIGNIN=True,
            SECURITY_TOTP_SECRETS={"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"},
        )
    )
    alice = site.visitor()
    assert alice.sign_in()
    alice.post_json("/verify", json={"password": "a guess"})
    for identity in ("alice", "1"):  # the second is nobody's, and no number of an account
        site.visitor().post_json("/us-signin", json={"identity": identity, "passcode": "123456"})

    def counted() -> dict[str, int]:
        rows = json.loads(run(site, "limits", "show", "alice", "--format", "json").stdout)
        return {row["what"]: row["used"] for row in rows if row["what"] in ("account", "codes")}

    assert counted() == {"account": 1, "codes": 1}
    run(site, "limits", "clear", "#1")
    assert counted() == {}


def test_limits_while_redis_is_away(make_site: Any) -> None:
    uri = f"redis://127.0.0.1:{servers.free_port()}/0"
    site: Site = with_a_worker(make_site(RATELIMIT_ENABLED=True, RATELIMIT_STORAGE_URI=uri))
    assert "Redis does not answer" in run(site, "limits", "show", "alice", fails=True).output
    assert "Redis does not answer" in told(site)
