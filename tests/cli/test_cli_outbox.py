"""`manage.py outbox` lists, shows, retries and discards messages."""

import json
import re
from typing import Any

import pytest
from support import commands
from support.outbox import LONG_AGO, beat
from support.recovery import code_of
from support.site import Site

from app.cli.database_checks import kind_of_problem
from app.db.engine import db
from app.mail import outbox, queue
from app.mail.outbox import OutboxMessage
from app.pages import health


@pytest.fixture
def site(make_site: Any) -> Site:
    """A worker was seen lately."""
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes", RECOVERY_MAIL_ATTEMPTS=1)
    beat(site)
    return site


def run(site: Site, *words: str, fails: bool = False) -> Any:
    return commands.run(site, "outbox", *words, fails=fails)


def list_messages(site: Site, identity: str = "alice") -> str:
    return str(run(site, "list", "--identity", identity).output)


def test_outbox_list_has_the_messages_of_an_account_filtered_and_limited(site: Site) -> None:
    site.ask()
    for identity in ("alice", "alice@example.com", "(415) 555-0123"):
        assert "  waiting " in list_messages(site, identity)
    assert list_messages(site, "bob") == "no messages\n"
    site.work()
    assert "  sent " in list_messages(site)
    site.mailbox.refuse["RCPT"] = "550 5.1.1 no such mailbox"
    site.ask("bob")
    site.work()
    bounce = "the address is refused for good: the relay said 550 5.1.1 no such mailbox"
    assert re.search(f"given up.*{bounce}", list_messages(site, "bob"))
    site.ask("inactive@example.com")
    site.work()
    assert "the account is not active" in run(site, "list", "--state", "dropped").output
    assert len(run(site, "list", "--limit", "1").output.splitlines()) == 2


def test_outbox_list_begins_with_problems_of_all_mail(site: Site) -> None:
    site.ask()
    beat(site, trouble="MAIL_PASSWORD: the relay refuses this login (535)")
    first, *_, last = list_messages(site).splitlines()
    assert first == "All mail is held: MAIL_PASSWORD: the relay refuses this login (535)."
    assert "  held " in last
    beat(site, trouble=None, seen_at=LONG_AGO)
    assert list_messages(site).startswith("No worker has reported in the last minute")
    assert all(map(kind_of_problem, health.PROBLEMS))  # each has a sentence


@pytest.mark.requirement("R43", "R61")
def test_outbox_show_hides_tokens_and_texts(site: Site) -> None:
    site.new_link()
    site.ask("bob")
    with site.app.app_context():
        outbox.enqueue("flask_security", recipient="a@example.com", subject="s", text="code 123456", html="")
        db.session.commit()
    token = site.last_link().rsplit("/", 1)[1]
    for number in "123":
        for form in ("text", "json"):
            output = run(site, "show", number, "--format", form).output
            assert token not in output
            assert "123456" not in output
    assert "identity" in run(site, "show", "2").output
    assert "a@example.com" in run(site, "show", "3").output
    listed = json.loads(run(site, "list", "--state", "sent", "--format", "json").output)
    [message] = listed["messages"]
    assert (message["id"], message["status"], message["attempts"], listed["problems"]) == (1, "sent", 1, [])
    shown = json.loads(run(site, "show", "1", "--format", "json").output)
    assert message["account"] == shown["link_sent_to"] == "alice@example.com"
    assert shown.items() >= message.items()


def test_outbox_show_message_whose_key_is_gone(site: Site, make_site: Any) -> None:
    site.ask()
    uri = site.app.config["SQLALCHEMY_DATABASE_URI"]
    other: Site = make_site(SQLALCHEMY_DATABASE_URI=uri, SECRET_KEY="another-key-another-key-another")
    assert "encrypted with a SECRET_KEY that is not known here" in run(other, "show", "1").output


def test_outbox_retry_sends_dead_letter_and_discard_drops_it_with_its_cooldown(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "554 5.2.0 no mailbox"
    for identity in ("alice", "bob"):
        site.ask(identity)
        site.work()
    site.mailbox.refuse.clear()
    site.change(OutboxMessage, OutboxMessage.id == 1, created_at=LONG_AGO)
    assert run(site, "retry", "1").output == "message 1 is due now\n"
    site.work()
    assert "sent" in run(site, "show", "1").output
    assert code_of(site, site.last_link()) == "redeemed"
    site.work()  # sends the notice
    site.ask("nobody")
    dropped = str(site.messages()[-1]["id"])
    output = run(site, "discard", "2", dropped).output
    assert output == f"message 2 will not be sent\nmessage {dropped} will not be sent\n"
    assert site.work() == 0
    rows = [row for row in site.messages() if str(row["id"]) in ("2", dropped)]
    assert [(row["state"], row["sealed"]) for row in rows] == [("dropped", None)] * 2
    assert [site.events().count(kind) for kind in ("mail_retried", "mail_discarded")] == [1, 2]
    site.new_link("bob")


def test_outbox_message_being_sent_or_sent_cannot_be_changed(site: Site) -> None:
    site.ask()
    with site.app.app_context():
        assert queue.claim() is not None
    assert "being sent" in run(site, "show", "1").output
    assert run(site, "discard", "1", fails=True).stderr == "message 1 cannot be changed: being sent\n"
    site.new_link("bob")
    for command in ("retry", "discard"):
        assert run(site, command, "2", fails=True).stderr == "message 2 cannot be changed: sent\n"
