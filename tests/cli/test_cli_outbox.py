"""An admin is asked: why did I not get the mail? And sends, or drops, what is left."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from click.testing import Result
from flask.testing import FlaskCliRunner
from support.mailbox import link_in
from support.site import Site

from app.accounts.models import User
from app.cli.database_checks import KIND_OF_PROBLEM
from app.cli.outbox import group
from app.db.engine import db
from app.mail import heartbeat, outbox
from app.mail.heartbeat import WorkerHeartbeat
from app.mail.outbox import OutboxMessage
from app.pages import health

LONG_AGO = datetime(2020, 1, 1)


@pytest.fixture
def site(make_site: Any) -> Site:
    """A worker was seen lately."""
    built: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes", RECOVERY_MAIL_ATTEMPTS=1)
    with built.app.app_context():
        heartbeat.Heartbeat().beat()
    return built


def run(site: Site, *words: str) -> Result:
    result = FlaskCliRunner(site.app).invoke(group, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def why(site: Site, identity: str = "alice") -> str:
    result = run(site, "list", "--identity", identity)
    assert result.exit_code == 0
    return str(result.output)


def test_why_did_i_not_get_the_mail(site: Site) -> None:
    """One command, whatever the answer is."""
    assert "No account has this identity" in why(site, "nobody@example.com")
    assert "No account has this identity" in why(site, "!!! what is this ???")
    assert "No reset mail goes to it: the account is not active." in why(site, "inactive@example.com")
    assert "signs in another way" in why(site, "sso@example.com")
    assert "none was requested" in why(site)
    site.ask()
    for identity in ("alice", "alice@example.com", "(415) 555-0123"):
        assert "  waiting " in why(site, identity)  # it was not tried yet
    assert "none was requested" in why(site, "bob")
    site.work()
    assert "  sent " in why(site)
    site.ask()
    site.work()
    assert "a reset mail went out a moment ago (RECOVERY_MAIL_COOLDOWN)" in why(site)
    site.mailbox.refuse["RCPT"] = "550 no such mailbox"
    site.ask("bob")
    site.work()
    assert "given up" in why(site, "bob")
    assert "the address is refused for good: the relay said 550 no such mailbox" in why(site, "bob")


@pytest.mark.requirement("R62")
def test_a_mail_that_the_relay_refuses_for_now(make_site: Any) -> None:
    site: Site = make_site()
    site.mailbox.refuse["DATA"] = "451 greylisted \x1b[2J"
    site.ask()
    site.work()
    said = why(site)
    assert "waiting" in said
    assert "the relay said 451 greylisted" in said
    assert "\x1b" not in said  # what a relay says can not move the cursor


def test_what_stops_all_mail_is_said_first(site: Site) -> None:
    site.ask()
    site.change(
        WorkerHeartbeat,
        WorkerHeartbeat.name != "",
        trouble="MAIL_PASSWORD: the relay refuses this login (535)",
    )
    first, *_, last = why(site).splitlines()
    assert first == "All mail is held: MAIL_PASSWORD: the relay refuses this login (535)."
    assert "  held " in last
    site.change(WorkerHeartbeat, WorkerHeartbeat.name != "", trouble=None, seen_at=LONG_AGO)
    assert why(site).startswith("No worker has reported in the last minute")


def test_a_mail_in_a_workers_hand(site: Site) -> None:
    site.ask()
    with site.app.app_context():
        claimed = outbox.claim()
        assert claimed is not None
    assert "being sent" in run(site, "show", "1").output
    result = run(site, "discard", "1")
    assert (result.exit_code, result.stderr) == (1, "mail 1 cannot be changed: being sent\n")


def test_json(site: Site) -> None:
    site.ask()
    site.work()
    said = json.loads(run(site, "list", "--format", "json").output)
    [message] = said["messages"]
    assert (message["id"], message["fate"], message["attempts"], said["problems"]) == (1, "sent", 1, [])
    assert message["account"] == "alice@example.com"
    shown = json.loads(run(site, "show", "1", "--format", "json").output)
    assert shown["link_sent_to"] == "alice@example.com"
    assert shown.items() >= message.items()


@pytest.mark.requirement("R43", "R61")
def test_nothing_shown_is_a_token_or_a_mails_text(site: Site) -> None:
    for number in (1, 2):
        site.ask(("alice", "bob")[number - 1])
        if number == 1:
            site.work()
    token = site.last_link().rsplit("/", 1)[1]
    with site.app.app_context():
        outbox.enqueue("flask_security", recipient="a@example.com", subject="s", text="code 123456", html="")
        db.session.commit()
    for number in "123":
        for form in ("text", "json"):
            said = run(site, "show", number, "--format", form).output
            assert token not in said
            assert "123456" not in said
    assert "identity" in run(site, "show", "2").output
    assert "a@example.com" in run(site, "show", "3").output


def test_a_dead_letter_is_sent_when_the_admin_says_so(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "554 looks like spam"
    site.ask()
    site.work()
    site.mailbox.refuse.clear()
    site.change(OutboxMessage, OutboxMessage.id == 1, created_at=LONG_AGO)
    assert run(site, "retry", "1").output == "mail 1 is due now\n"
    site.work()
    assert run(site, "show", "1").output.count("sent") >= 1
    assert site.visitor().set_password(link_in(site.mailbox.mails[0])).status_code in (200, 302, 303)
    assert site.password_works("a brand new password for alice")
    assert "mail_retried" in site.events()


def test_what_is_discarded_is_never_sent_and_counts_for_nothing(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "554 looks like spam"
    site.ask()
    site.work()
    site.mailbox.refuse.clear()
    site.ask("bob")
    result = run(site, "discard", "1", "2")
    assert result.output == "mail 1 will not be sent\nmail 2 will not be sent\n"
    assert site.work() == 0
    assert [(row["state"], row["sealed"]) for row in site.messages()] == [("dropped", None)] * 2
    assert site.events().count("mail_discarded") == 2
    site.new_link()  # within the cool-down of a mail that never went out


def test_what_is_settled_stays_so(site: Site) -> None:
    site.new_link()
    for command in ("retry", "discard"):
        result = run(site, command, "1")
        assert (result.exit_code, result.stderr) == (1, "mail 1 cannot be changed: sent\n")
    assert run(site, "show", "7").stderr == "Error: there is no mail 7\n"


def test_a_sealed_message_whose_key_is_gone_can_be_seen(site: Site, make_site: Any) -> None:
    site.ask()
    with site.app.app_context():
        uri = db.engine.url.render_as_string(hide_password=False)
    other: Site = make_site(SQLALCHEMY_DATABASE_URI=uri, SECRET_KEY="another-key-another-key-another")
    assert "encrypted with a SECRET_KEY that is not known here" in run(other, "show", "1").output


def test_states_and_limits(site: Site) -> None:
    site.change(User, active=False)
    site.ask()
    site.work()
    site.ask("bob")
    assert "the account is not active" in run(site, "list", "--state", "dropped").output
    assert len(run(site, "list", "--limit", "1").output.splitlines()) == 2
    assert run(site, "list", "--state", "lost").exit_code == 2


def test_every_problem_of_readyz_has_its_words() -> None:
    """Or the command that is to explain it would fail on it."""
    known = {text for name, text in vars(health).items() if name.isupper() and isinstance(text, str)}
    assert known == set(KIND_OF_PROBLEM)
