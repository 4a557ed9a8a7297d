"""Replies of mail servers: which ones end a message, which ones set it aside, and which ones hold all mail."""

import logging
import re
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event
from support.commands import run
from support.outbox import beat, claim, enqueue_mails, make_due, problems, shift, states
from support.receiver import receiving
from support.relay import LOGIN, check_login, relay
from support.site import BOTH, ROOT, Site, at_work, wait_for

from app.db.clock import utcnow
from app.db.engine import db
from app.mail import outbox, queue
from app.mail.outbox import OutboxMessage
from app.mail.smtp_failures import RelayMisconfigured

NOT_OWNED = "553 5.7.1 <no-reply@example.com>: Sender address rejected: not owned by user app"
# The rows of the table in docs/reliability.md: the step, the reply and what follows.
REPLIES = re.findall(
    r"^\| [\w ]+ \| (EHLO|login|MAIL|RCPT|DATA) \| `(.+)` \| ([\w :']+(?:\(`\w+`\))?) \|$",
    (ROOT / "docs/reliability.md").read_text(),
    re.MULTILINE,
)
REPLIES += [
    ("RCPT", "550-5.1.1 no such user\r\n550 5.1.1 try another address", "ends: the recipient's"),
    ("RCPT", "550 5.1.1 <sender@helo.example>: unknown", "ends: the recipient's"),
]
OUTCOMES = {  # state, attempts, and whether /readyz may report it
    "ends: the recipient's": ("given_up", 1, False),
    "tried again: the recipient's": ("waiting", 1, False),
    "tried again": ("waiting", 1, True),
    "set aside ": ("waiting", 0, True),
    "all mail is held ": ("waiting", 0, False),
    "sent": ("sent", 1, False),
}


def refused(site: Site) -> Any:
    """Return the reason that /readyz gives, which must report refused mail and nothing else."""
    beat(site)
    answer: Any = site.visitor().open("/readyz").json
    assert (answer["problems"], answer["mail"]) == (["mail_refused"], False)
    return answer["reason"]


def is_ready(site: Site) -> bool:
    beat(site)
    return problems(site) == []


# --- A reply ---


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
def test_replies_of_mail_servers_have_the_documented_outcome(make_site: Any) -> None:
    assert len(set(REPLIES)) == 42
    with relay(authenticator=check_login, auth_require_tls=False) as box:
        login = {"MAIL_USERNAME": LOGIN.login.decode(), "MAIL_PASSWORD": LOGIN.password.decode()}
        site: Site = make_site(MAIL_SERVER="localhost", MAIL_PORT=box.port, **login)
        for step, reply, follows in REPLIES:
            outcome, _, setting = follows.rstrip("`)").partition("(`")
            box.refuse = {{"login": "AUTH"}.get(step, step): reply}
            site.ask()
            if outcome.startswith("all"):
                with pytest.raises(RelayMisconfigured, match=f"^{setting}.*: the relay .*{reply[:3]}"):
                    site.work()
            else:
                site.work()
            [message] = site.messages()
            result = message["state"], message["attempts"], message["refused_at"] is not None
            assert result == OUTCOMES[outcome], reply
            assert message["refused_domain"] == ("example.com" if outcome == "set aside " else None), reply
            if outcome == "set aside ":
                assert message["reason"].startswith(f"{setting}: the relay said {reply[:9]}"), reply
            with site.app.app_context():
                db.session.execute(OutboxMessage.__table__.delete())
                db.session.commit()


# --- A message that is set aside ---


@BOTH
@pytest.mark.requirement("R59")
def test_refusal_that_may_be_ours_sets_the_message_aside_and_names_the_setting(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    site.ask()
    site.work()
    assert states(site) == [("waiting", 0)]
    reason = refused(site)
    assert reason.startswith("MAIL_DEFAULT_SENDER: the relay said 553 5.7.1 <[address]>: Sender")
    assert "@example.com" not in reason
    assert "mail_given_up" not in site.events()
    for words in (("users", "show", "alice"), ("outbox", "list")):
        assert "MAIL_DEFAULT_SENDER: the relay said 553 5.7.1" in run(site, *words).output
    assert "the email is set aside" in run(site, "users", "show", "alice").output
    site.mailbox.refuse.clear()
    make_due(site)
    site.work()
    assert states(site) == [("sent", 1)]
    assert is_ready(site)


@BOTH
def test_refused_message_with_nothing_to_compare_is_tried_again_with_growing_pauses(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    enqueue_mails(site, "alice@example.com")
    pauses = []
    for refused_for in (0, 15, 60, 1_000):
        make_due(site)
        site.change(OutboxMessage, OutboxMessage.refused_at.is_not(None), refused_at=utcnow(-refused_for))
        site.work()
        with site.app.app_context():
            due_at, now = db.session.execute(db.select(OutboxMessage.due_at, outbox.NOW)).one()
        pauses.append((due_at - datetime.fromisoformat(str(now))).total_seconds())
    assert states(site) == [("waiting", 0)]
    assert pauses == pytest.approx([10, 15, 60, 300], abs=2)
    assert site.work() == 0


@BOTH
def test_message_refused_while_others_are_accepted_ends_after_three_tries_and_stops_none(site: Site) -> None:
    """Its message is always the first."""
    site.mailbox.refuse_only["bob@example.com"] = "554 5.7.1 Recipient address rejected: Access denied"
    site.ask("bob")
    for tries in range(1, 5):
        make_due(site)
        enqueue_mails(site, "carol@example.org")
        site.work()
        assert is_ready(site)
        assert site.mailbox.asked.count("bob@example.com") == min(tries, 3)
        assert site.mailbox.envelopes == [["carol@example.org"]] * tries
    message = site.messages()[0]
    assert message["state"] == "given_up"
    reason = "refused while other mail was accepted: MAIL_SERVER: the relay said 554"
    assert message["reason"].startswith(reason)
    assert site.events().count("mail_given_up") == 1
    site.mailbox.refuse_only.clear()
    run(site, "outbox", "retry", str(message["id"]))
    site.work()
    assert site.mailbox.envelopes[-1] == ["bob@example.com"]


@BOTH
def test_two_refused_recipients_delay_the_mail_of_others_by_one_pause(site: Site) -> None:
    site.mailbox.refuse_only = dict.fromkeys(("bob@example.com", "bob@example.org"), "550 no")
    enqueue_mails(site, "bob@example.com", "bob@example.org", "carol@example.com", "dave@example.org")
    with pytest.raises(RelayMisconfigured):
        site.work()
    site.work()
    assert site.mailbox.envelopes == [["carol@example.com"], ["dave@example.org"]]


@BOTH
def test_acceptance_leaves_the_lease_of_a_refused_message_alone(site: Site) -> None:
    """Another worker is trying it, and would be joined by a third one."""
    site.mailbox.refuse_only["bob@example.com"] = "550 no"
    enqueue_mails(site, "bob@example.com")
    site.work()
    make_due(site)
    claim(site)
    lease = site.messages()[0]["due_at"]
    enqueue_mails(site, "alice@example.org")
    site.work()
    message, sent = site.messages()
    assert (message["due_at"], message["refused_domain"], sent["state"]) == (lease, "example.com", "sent")


@pytest.mark.parametrize("command", ["retry", "discard"])
def test_admin_who_retries_or_discards_a_message_ends_its_refusal(site: Site, command: str) -> None:
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    site.ask()
    site.work()
    run(site, "outbox", command, "1")
    assert is_ready(site)


def test_message_that_was_set_aside_is_not_called_untried_and_its_problem_can_be_discarded(
    site: Site,
) -> None:
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    site.ask()
    site.work()
    shift(site, by=-timedelta(minutes=30))
    assert refused(site)  # and nothing else
    shift(site, by=-timedelta(hours=1))
    make_due(site)
    site.work()
    assert site.messages()[0]["state"] == "dropped"
    assert refused(site)
    run(site, "outbox", "discard", "1")
    assert is_ready(site)
    assert "553 5.7.1" in site.messages()[0]["reason"]
    assert "cannot be changed" in run(site, "outbox", "retry", "1", fails=True).output


# --- All mail ---


@BOTH
@pytest.mark.requirement("R59")
def test_refusals_for_two_domains_hold_all_mail_and_each_probe_takes_another_message(site: Site) -> None:
    addresses = [f"user{number}@{domain}" for number in range(3) for domain in ("example.com", "example.org")]
    enqueue_mails(site, *addresses)
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    with pytest.raises(RelayMisconfigured, match=r"^MAIL_DEFAULT_SENDER: the relay said 553 5\.7\.1"):
        site.work()
    assert site.mailbox.asked == addresses[:2]
    for _ in addresses[2:]:
        with pytest.raises(RelayMisconfigured):
            site.work()
    assert site.mailbox.asked == addresses
    assert site.work() == 0  # each waits for its next try
    shift(site, by=-timedelta(minutes=30))
    make_due(site)
    for _ in addresses:
        with pytest.raises(RelayMisconfigured):
            site.work()
    assert set(states(site)) == {("waiting", 0)}
    site.mailbox.refuse.clear()
    enqueue_mails(site, "carol@example.net")
    site.work()
    assert site.mailbox.envelopes == [["carol@example.net"]]
    # The first accepted message makes all others due within seconds.
    shift(site, by=-timedelta(seconds=outbox.PAUSE_SECONDS + 1))
    site.work()
    assert sorted(recipient for [recipient] in site.mailbox.envelopes[1:]) == sorted(addresses)
    assert set(states(site)) == {("sent", 1)}


def test_refusals_for_one_domain_hold_nothing(site: Site) -> None:
    """They may be that domain's, however it is written."""
    addresses = "a@bücher.example", "b@xn--bcher-kva.example", "c@XN--BCHER-KVA.example"
    refused = ("a@xn--bcher-kva.example", *addresses[1:])
    site.mailbox.refuse_only = dict.fromkeys(refused, "550 5.7.26 no")
    enqueue_mails(site, *addresses, "dave@example.org")
    site.work()
    assert site.mailbox.envelopes == [["dave@example.org"]]
    assert [row["refusals"] for row in site.messages()] == [1, 1, 1, 0]


def test_worker_reports_once_that_all_mail_is_refused_and_connects_for_due_messages_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(RelayMisconfigured, "pause", 0.1)
    caplog.set_level(logging.INFO)
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    enqueue_mails(site, "alice@example.com", "bob@example.org")
    with at_work(site):
        wait_for(lambda: {"mail_held", "mail_refused"} == set(problems(site)))
        assert "All mail is held: MAIL_DEFAULT_SENDER: " in run(site, "outbox", "list").output
        make_due(site)
        wait_for(lambda: len(site.mailbox.asked) >= 4)
        connections = site.mailbox.connections
        site.mailbox.refuse.clear()
        time.sleep(0.4)  # four pauses
        assert site.mailbox.connections == connections
        for count in (1, 2):
            make_due(site)
            wait_for(lambda count=count: states(site).count(("sent", 1)) == count)
        wait_for(lambda: problems(site) == [])
    assert caplog.text.count("all mail is held: MAIL_DEFAULT_SENDER") == 1
    assert caplog.text.count("mail goes out again") == 1


# --- Mail that does not flow ---


@BOTH
@pytest.mark.requirement("R59")
def test_readyz_reports_mail_that_was_tried_in_vain_for_long(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = "450 4.7.1 <id>: Helo command rejected: Host not found"
    site.ask("alice")
    site.ask("bob")
    site.work()
    shift(site, by=-timedelta(minutes=14))
    assert is_ready(site)
    shift(site, by=-timedelta(minutes=2))
    assert "450 4.7.1" in refused(site)
    shift(site, by=-timedelta(minutes=60))
    site.work()  # the requests are too old, which is no sign that mail flows
    assert states(site) == [("dropped", 2)] * 2
    assert re.match("the relay said 450 4.7.1 .*SECURITY_RESET_PASSWORD_WITHIN", refused(site))
    site.mailbox.refuse.clear()
    site.new_link("alice")
    assert is_ready(site)


@pytest.mark.requirement("R2")
def test_readyz_hides_a_temporary_refusal_while_other_mail_is_accepted(site: Site) -> None:
    site.mailbox.refuse_only["bob@example.com"] = "452 no enhanced code"
    site.ask("bob")
    site.work()
    shift(site, by=-timedelta(minutes=10))
    site.ask("alice")
    site.work()
    shift(site, by=-timedelta(minutes=10))
    assert is_ready(site)


@pytest.mark.requirement("R2")
def test_outcome_runs_the_same_statements_whether_a_mail_was_sent_or_dropped(site: Site) -> None:
    """Their time would tell the requester of the next mail."""
    statements: dict[str, list[str]] = {"sent": [], "dropped": []}

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements[outcome].append(statement)

    with site.app.app_context():
        for outcome in statements:
            enqueue_mails(site, "alice@example.com")
            message = queue.claim()
            assert message is not None
            event.listen(db.engine, "before_cursor_execute", note)
            outbox.release(message, outcome, None)
            event.remove(db.engine, "before_cursor_execute", note)
            db.session.commit()
    assert statements["sent"] == statements["dropped"] != []


@BOTH
def test_events_of_the_webhook_are_no_sign_whether_mail_flows(make_site: Any) -> None:
    with receiving() as receiver:
        site: Site = make_site(**receiver.settings)
        site.mailbox.refuse["RCPT"] = NOT_OWNED
        site.ask()
        site.work()
        run(site, "users", "force-reset", "alice")
        assert site.post_events() >= 1
        assert refused(site)
        site.mailbox.refuse.clear()
        enqueue_mails(site, "carol@example.org")
        site.work()
        receiver.status = 500
        run(site, "users", "force-reset", "bob")
        site.post_events()
    shift(site, by=-timedelta(minutes=20))
    assert "mail_refused" not in problems(site)
