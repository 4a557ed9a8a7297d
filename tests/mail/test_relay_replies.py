"""Replies of mail servers: which ones end a message, which ones set it aside, and which ones hold all mail."""

import logging
import threading
from contextlib import closing, suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event
from support import commands
from support.outbox import make_due, shift, states
from support.receiver import receiving
from support.relay import check_login, relay
from support.site import BOTH, ROOT, Site, at_work, wait_for

from app.db.clock import utcnow
from app.db.engine import db
from app.mail import heartbeat, outbox, queue, worker
from app.mail.backends import mailman
from app.mail.outbox import OutboxMessage
from app.mail.smtp_failures import MailHeld, RelayMisconfigured

# The test relay takes passwords in the clear on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

NOT_OWNED = "553 5.7.1 <no-reply@example.com>: Sender address rejected: not owned by user app"
UNKNOWN_HELO = "450 4.7.1 <id>: Helo command rejected: Host not found"

# What follows a reply. A setting in brackets is the likely one.
ENDS = "ends: the recipient's"
LATER = "tried again: the recipient's"
AGAIN = "tried again"
ASIDE = "set aside (`{}`)"
HELD = "all mail is held (`{}`)"
SENT = "sent"

SENDER, EHLO, LOGIN, SERVER = "MAIL_DEFAULT_SENDER", "RECOVERY_MAIL_EHLO", "MAIL_USERNAME", "MAIL_SERVER"
# Codes and key words are those of the documentation; the rest of each text is shortened. docs/reliability.md has
# the same table.
REPLIES = [
    ("Postfix", "RCPT", "550 5.1.1 Recipient address rejected: User unknown", ENDS),
    ("Postfix", "RCPT", "550 5.1.2 Recipient address rejected: Domain not found", ENDS),
    ("Postfix", "RCPT", "450 4.1.1 Recipient address rejected: unverified address", LATER),
    ("Postfix", "RCPT", "450 4.2.0 Recipient address rejected: Greylisted", LATER),
    ("Postfix", "RCPT", "553 5.7.1 Sender address rejected: not owned by user", ASIDE.format(SENDER)),
    ("Postfix", "RCPT", "550 5.1.0 Sender address rejected: User unknown", ASIDE.format(SENDER)),
    ("Postfix", "RCPT", "550 5.1.7 Sender address rejected: undeliverable", ASIDE.format(SENDER)),
    ("Postfix", "RCPT", "550 5.1.8 Sender address rejected: Domain not found", ASIDE.format(SENDER)),
    ("Postfix", "RCPT", "504 5.5.2 Helo command rejected: need a full name", ASIDE.format(EHLO)),
    ("Postfix", "RCPT", "450 4.7.1 Helo command rejected: Host not found", AGAIN),
    ("Postfix", "RCPT", "554 5.7.1 Relay access denied", ASIDE.format(LOGIN)),
    ("Postfix", "RCPT", "554 5.7.1 Client host blocked using zen.spamhaus.org", ASIDE.format(SERVER)),
    ("Postfix", "DATA", "552 5.3.4 Message size exceeds the limit", ASIDE.format(SERVER)),
    ("Exim", "EHLO", "501 Syntactically invalid HELO argument", HELD.format(EHLO)),
    ("Exim", "RCPT", "550 relay not permitted", ASIDE.format(LOGIN)),
    ("Exim", "RCPT", "550 Sender verify failed", ASIDE.format(SENDER)),
    ("Exim", "RCPT", "550 Unrouteable address", ASIDE.format(SERVER)),
    ("Exim", "RCPT", "451 Temporary local problem", AGAIN),
    ("Exchange Online", "MAIL", "530 5.7.57 Client not authenticated", HELD.format(LOGIN)),
    ("Exchange Online", "MAIL", "550 5.1.8 Access denied, bad outbound sender", HELD.format(SENDER)),
    ("Exchange Online", "RCPT", "550 5.1.10 RecipientNotFound", ENDS),
    ("Exchange Online", "RCPT", "550 5.4.1 Recipient address rejected: Access denied", ASIDE.format(SERVER)),
    ("Exchange Online", "RCPT", "550 5.7.64 TenantAttribution; Relay Access Denied", ASIDE.format(LOGIN)),
    ("Exchange Online", "DATA", "554 5.2.252 SendAsDenied", ASIDE.format(SENDER)),
    ("Exchange Online", "DATA", "550 5.7.60 no permission to send as this sender", ASIDE.format(SENDER)),
    ("Exchange Online", "DATA", "550 5.2.2 Submission quota exceeded", ASIDE.format(SERVER)),
    ("Exchange Online", "DATA", "550 5.1.90 daily limit for recipients", ASIDE.format(SERVER)),
    ("Gmail", "MAIL", "530 5.7.0 Must issue a STARTTLS command first", HELD.format("MAIL_USE_TLS")),
    ("Gmail", "login", "535 5.7.8 Username and Password not accepted", HELD.format(LOGIN)),
    ("Gmail", "RCPT", "550 5.2.1 the account is disabled", ENDS),
    ("Gmail", "RCPT", "452 4.2.2 the account is over quota", LATER),
    ("Gmail", "RCPT", "550 5.7.1 Daily SMTP relay limit exceeded", ASIDE.format(SERVER)),
    ("Gmail", "DATA", "550 5.4.5 Daily sending limit exceeded", ASIDE.format(SERVER)),
    ("Gmail", "DATA", "550 5.7.26 Unauthenticated, against the DMARC policy", ASIDE.format(SENDER)),
    ("SES", "login", "535 Authentication Credentials Invalid", HELD.format(LOGIN)),
    ("SES", "DATA", "554 Message rejected: Email address is not verified", ASIDE.format(SENDER)),
    ("SES", "DATA", "554 not authorized to perform ses:SendRawEmail", ASIDE.format(LOGIN)),
    ("SES", "DATA", "454 Throttling failure: Maximum sending rate exceeded", AGAIN),
    ("Postmark", "login", "535 5.7.8 Authentication failed", HELD.format(LOGIN)),
    ("Postmark", "DATA", "250 accepted; no sender signature, or a suppressed recipient", SENT),
]


def enqueue(site: Site, *recipients: str) -> None:
    with site.app.app_context():
        for recipient in recipients:
            outbox.enqueue("flask_security", recipient=recipient, subject="s", text="text", html="")
        db.session.commit()


def readyz(site: Site) -> dict[str, Any]:
    """Return the answer, with a worker that was seen lately."""
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
    answer: dict[str, Any] = site.visitor().open("/readyz").json  # type: ignore[assignment]
    return answer


def probe(site: Site) -> None:
    """Work, while all mail may be held."""
    with suppress(MailHeld):
        site.work()


def later(site: Site, minutes: float) -> None:
    """Let time pass for every message."""
    shift(site, by=-timedelta(minutes=minutes))


# --- A reply ---


@pytest.mark.parametrize(
    ("server", "step", "reply", "follows"), REPLIES, ids=[row[2][:40] for row in REPLIES]
)
def test_reply_of_a_mail_server(make_site: Any, server: str, step: str, reply: str, follows: str) -> None:
    options = {"authenticator": check_login, "auth_require_tls": False} if step == "login" else {}
    login = {"MAIL_USERNAME": "x", "MAIL_PASSWORD": "x"} if step == "login" else {}
    with relay(**options) as box:
        site: Site = make_site(MAIL_SERVER="localhost", MAIL_PORT=box.port, **login)
        box.refuse[{"login": "AUTH"}.get(step, step)] = reply
        site.ask()
        setting = follows.partition("`")[2].rstrip("`)")
        if follows.startswith("all mail is held"):
            with pytest.raises(RelayMisconfigured, match=f"^{setting}.*: the relay .*{reply[:3]}"):
                site.work()
            assert states(site) == [("waiting", 0)]
            return
        site.work()
        [message] = site.messages()
    code = "waiting" if setting or follows in (LATER, AGAIN) else "sent" if follows == SENT else "given_up"
    assert (message["state"], message["attempts"]) == (code, 0 if setting else 1)
    assert (message["refused_at"] is not None) == (bool(setting) or follows == AGAIN)
    if setting:
        assert message["reason"].startswith(f"{setting}: the relay said {reply[:9]}")
        assert message["refused_domain"] == "example.com"


def test_documentation_has_each_reply_of_a_mail_server() -> None:
    rows = [f"| {server} | {step} | `{reply}` | {follows} |" for server, step, reply, follows in REPLIES]
    text = (ROOT / "docs/reliability.md").read_text()
    assert [row for row in rows if row not in text] == []
    assert len(rows) == len(set(rows)) == 40


@pytest.mark.parametrize(
    "reply",
    ["550-5.1.1 no such user\r\n550 5.1.1 try another address", "550 5.1.1 <sender@helo.example>: unknown"],
    ids=["of two lines", "with an address"],
)
def test_reply_is_read_line_by_line_and_without_addresses(site: Site, reply: str) -> None:
    site.mailbox.refuse["RCPT"] = reply
    site.ask()
    site.work()
    assert states(site) == [("given_up", 1)]


# --- A message that is set aside ---


@BOTH
@pytest.mark.requirement("R59")
def test_refusal_that_may_be_ours_sets_the_message_aside_and_names_the_setting(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    site.ask()
    site.work()
    assert states(site) == [("waiting", 0)]
    state = readyz(site)
    assert (state["problems"], state["mail"]) == (["mail_refused"], False)
    assert state["reason"].startswith("MAIL_DEFAULT_SENDER: the relay said 553 5.7.1 <[address]>: Sender")
    assert "@example.com" not in str(state)
    assert "mail_given_up" not in site.events()
    for words in (("users", "show", "alice"), ("outbox", "list")):
        assert "MAIL_DEFAULT_SENDER: the relay said 553 5.7.1" in commands.run(site, *words).output
    assert "the email is set aside" in commands.run(site, "users", "show", "alice").output
    site.mailbox.refuse.clear()
    make_due(site)
    site.work()
    assert states(site) == [("sent", 1)]
    assert readyz(site)["problems"] == []


@BOTH
def test_refused_message_with_nothing_to_compare_is_tried_again_with_growing_pauses(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    enqueue(site, "alice@example.com")
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
def test_message_refused_while_others_are_accepted_ends_after_three_tries(site: Site) -> None:
    site.mailbox.refuse_only["bob@example.com"] = "554 5.7.1 Recipient address rejected: Access denied"
    site.ask("bob")
    for tries in range(1, 5):
        make_due(site)
        site.ask("alice")
        site.work()
        assert readyz(site)["problems"] == []  # alice's mail was accepted
        assert site.mailbox.asked.count("bob@example.com") == min(tries, 3)
    [message] = [row for row in site.messages() if row["user_id"] == 2]
    assert message["state"] == "given_up"
    assert message["reason"].startswith(
        "refused while other mail was accepted: MAIL_SERVER: the relay said 554"
    )
    assert site.events().count("mail_given_up") == 1
    assert site.mailbox.envelopes == [["alice@example.com"]] * 4
    site.mailbox.refuse_only.clear()
    commands.run(site, "outbox", "retry", str(message["id"]))
    site.work()
    assert site.mailbox.envelopes[-1] == ["bob@example.com"]


@BOTH
def test_refused_recipient_never_stops_the_mail_of_others(site: Site) -> None:
    """Twenty rounds, in which its message is always the first."""
    site.mailbox.refuse_only["bob@example.com"] = "550 no"
    for number in range(20):
        site.ask("bob")
        enqueue(site, f"user{number}@example.org")
        make_due(site)
        site.work()
        assert site.mailbox.envelopes[-1] == [f"user{number}@example.org"]
    assert len(site.mailbox.envelopes) == 20


@BOTH
def test_two_refused_recipients_delay_the_mail_of_others_by_one_pause(site: Site) -> None:
    site.mailbox.refuse_only = dict.fromkeys(("bob@example.com", "bob@example.org"), "550 no")
    enqueue(site, "bob@example.com", "bob@example.org", "carol@example.com", "dave@example.org")
    with pytest.raises(RelayMisconfigured):
        site.work()
    site.work()
    assert site.mailbox.envelopes == [["carol@example.com"], ["dave@example.org"]]


def test_message_refused_at_mail_for_its_own_sake_is_set_aside(site: Site) -> None:
    """The relay has accepted the sender when the connection was opened."""
    site.ask()
    with site.app.app_context(), closing(mailman.get_connection()) as backend:
        backend.open()
        site.mailbox.refuse["MAIL"] = "550 5.6.7 not in this message"
        message = queue.claim()
        assert message is not None
        worker.work_on(message, backend, queue.Pace(), threading.Event())
    assert site.messages()[0]["reason"].startswith("MAIL_DEFAULT_SENDER: the relay said 550 5.6.7")
    assert states(site) == [("waiting", 0)]


@BOTH
def test_acceptance_leaves_the_lease_of_a_refused_message_alone(site: Site) -> None:
    """Another worker is trying it, and would be joined by a third one."""
    site.mailbox.refuse_only["bob@example.com"] = "550 no"
    enqueue(site, "bob@example.com")
    site.work()
    make_due(site)
    with site.app.app_context():
        assert queue.claim() is not None
    lease = site.messages()[0]["due_at"]
    enqueue(site, "alice@example.org")
    site.work()
    refused, sent = site.messages()
    assert (refused["due_at"], refused["refused_domain"], sent["state"]) == (lease, "example.com", "sent")


@BOTH
def test_refusal_outlasts_its_message(site: Site) -> None:
    """A dropped request is no sign that mail flows."""
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    site.ask()
    site.work()
    later(site, minutes=90)
    site.work()
    assert states(site) == [("dropped", 1)]
    state = readyz(site)
    assert state["problems"] == ["mail_refused"]
    assert state["reason"].startswith("MAIL_DEFAULT_SENDER: the relay said 553")
    assert "SECURITY_RESET_PASSWORD_WITHIN" in site.messages()[0]["reason"]
    site.mailbox.refuse.clear()
    enqueue(site, "carol@example.org")
    site.work()
    assert readyz(site)["problems"] == []


@pytest.mark.parametrize("command", ["retry", "discard"])
def test_admin_who_retries_or_discards_a_message_ends_its_refusal(site: Site, command: str) -> None:
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    site.ask()
    site.work()
    commands.run(site, "outbox", command, "1")
    assert readyz(site)["problems"] == []


# --- All mail ---


@BOTH
@pytest.mark.requirement("R59")
def test_refusals_for_two_domains_hold_all_mail_and_each_probe_takes_another_message(site: Site) -> None:
    addresses = [f"user{number}@{domain}" for number in range(3) for domain in ("example.com", "example.org")]
    enqueue(site, *addresses)
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    with pytest.raises(RelayMisconfigured, match=r"^MAIL_DEFAULT_SENDER: the relay said 553 5\.7\.1"):
        site.work()
    assert site.mailbox.asked == addresses[:2]
    for _ in addresses[2:]:
        with pytest.raises(RelayMisconfigured):
            site.work()
    assert site.mailbox.asked == addresses
    assert site.work() == 0  # each waits for its next try
    make_due(site)
    with pytest.raises(RelayMisconfigured):
        site.work()
    assert set(states(site)) == {("waiting", 0)}
    site.mailbox.refuse.clear()
    for _ in range(2):
        make_due(site)
        site.work()
    assert sorted(recipient for [recipient] in site.mailbox.envelopes) == sorted(addresses)
    assert set(states(site)) == {("sent", 1)}


@BOTH
def test_first_accepted_message_makes_all_that_were_held_due_within_seconds(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "554 Message rejected: Email address is not verified"
    enqueue(site, "alice@example.com", "bob@example.org")
    probe(site)
    later(site, minutes=30)
    make_due(site)
    probe(site)
    probe(site)
    site.mailbox.refuse.clear()
    enqueue(site, "carol@example.net")
    site.work()
    assert site.mailbox.envelopes == [["carol@example.net"]]
    shift(site, by=-timedelta(seconds=outbox.PAUSE_SECONDS + 1))
    site.work()
    assert len(site.mailbox.envelopes) == 3


def test_refusals_for_one_domain_hold_nothing(site: Site) -> None:
    """They may be that domain's."""
    site.mailbox.refuse_only = dict.fromkeys(
        ("a@example.com", "b@example.com", "c@example.com"), "550 5.7.26 no"
    )
    enqueue(site, *site.mailbox.refuse_only, "dave@example.org")
    site.work()
    assert site.mailbox.envelopes == [["dave@example.org"]]
    assert [row["refusals"] for row in site.messages()] == [1, 1, 1, 0]


def test_worker_says_once_that_all_mail_is_refused_and_once_that_it_goes_out_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(RelayMisconfigured, "pause", 0.1)
    monkeypatch.setattr(outbox, "PAUSE_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    enqueue(site, "alice@example.com", "bob@example.org")
    with at_work(site):
        wait_for(lambda: len(site.mailbox.asked) >= 4)
        problems = site.visitor().open("/readyz").json["problems"]  # type: ignore[index]
        assert {"mail_held", "mail_refused"} == set(problems)
        assert "All mail is held: MAIL_DEFAULT_SENDER: " in commands.run(site, "outbox", "list").output
        site.mailbox.refuse.clear()
        for count in (1, 2):
            make_due(site)
            site.mailbox.wait_for(count)
        wait_for(lambda: site.visitor().open("/readyz").json["problems"] == [])  # type: ignore[index]
    assert caplog.text.count("all mail is held: MAIL_DEFAULT_SENDER") == 1
    assert caplog.text.count("mail goes out again") == 1


def test_held_worker_connects_only_for_a_message_that_is_due(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = NOT_OWNED
    enqueue(site, "alice@example.com", "bob@example.org")
    with site.app.app_context():
        beating = heartbeat.Heartbeat()
        with pytest.raises(RelayMisconfigured) as caught:
            worker.work_until_done(heartbeat=beating)
        beating.report(str(caught.value))
        connections = site.mailbox.connections
        assert worker.work_until_done(heartbeat=beating) == 0
    assert site.mailbox.connections == connections


# --- Mail that does not flow ---


@BOTH
@pytest.mark.requirement("R59")
@pytest.mark.parametrize(
    ("step", "reply"),
    [("RCPT", UNKNOWN_HELO), ("DATA", "451 4.3.0 later"), ("DATA", "452 no enhanced code")],
)
def test_readyz_reports_mail_that_was_tried_in_vain_for_long(site: Site, step: str, reply: str) -> None:
    site.mailbox.refuse[step] = reply
    site.ask("alice")
    site.ask("bob")
    site.work()
    later(site, minutes=14)
    assert readyz(site)["problems"] == []
    later(site, minutes=2)
    state = readyz(site)
    assert (state["problems"], state["mail"]) == (["mail_refused"], False)
    assert reply[:9] in state["reason"]
    later(site, minutes=60)
    site.work()  # the requests are too old
    assert readyz(site)["problems"] == ["mail_refused"]
    site.mailbox.refuse.clear()
    site.new_link("alice")
    assert readyz(site)["problems"] == []


def test_readyz_reports_connections_that_break_and_mails_that_cannot_be_composed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("division")

    monkeypatch.setattr("app.mail.composing.compose", fail)
    site.ask()
    site.work()
    later(site, minutes=20)
    assert readyz(site)["reason"] == "ZeroDivisionError: division"


@pytest.mark.requirement("R2")
@pytest.mark.parametrize("reply", [UNKNOWN_HELO, "452 no enhanced code"])
def test_readyz_hides_a_temporary_refusal_while_other_mail_is_accepted(site: Site, reply: str) -> None:
    site.mailbox.refuse_only["bob@example.com"] = reply
    site.ask("bob")
    site.work()
    later(site, minutes=10)
    site.ask("alice")
    site.work()
    later(site, minutes=10)
    assert readyz(site)["problems"] == []


@pytest.mark.requirement("R2")
def test_outcome_runs_the_same_statements_whether_a_mail_was_sent_or_dropped(site: Site) -> None:
    """Their time would tell the requester of the next mail."""
    statements: dict[str, list[str]] = {}

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements[outcome].append(statement)

    with site.app.app_context():
        engine = db.engine
    for outcome in ("sent", "dropped"):
        enqueue(site, "alice@example.com")
        with site.app.app_context():
            message = queue.claim()
            assert message is not None
            statements[outcome] = []
            event.listen(engine, "before_cursor_execute", note)
            outbox.release(message, outcome, None)
            event.remove(engine, "before_cursor_execute", note)
            db.session.commit()
    assert statements["sent"] == statements["dropped"]


def test_message_is_compared_by_the_domain_in_its_envelope(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = "550 no"
    enqueue(site, "alice@Bücher.example")
    site.work()
    assert site.messages()[0]["refused_domain"] == "xn--bcher-kva.example"


@BOTH
def test_events_of_the_webhook_are_no_sign_whether_mail_flows(make_site: Any) -> None:
    with receiving() as receiver:
        site: Site = make_site(**receiver.settings)
        site.mailbox.refuse["RCPT"] = NOT_OWNED
        site.ask()
        site.work()
        commands.run(site, "users", "force-reset", "alice")
        assert site.post_events() >= 1
        assert readyz(site)["problems"] == ["mail_refused"]
        site.mailbox.refuse.clear()
        enqueue(site, "carol@example.org")
        site.work()
        receiver.status = 500
        commands.run(site, "users", "force-reset", "bob")
        site.post_events()
    later(site, minutes=20)
    assert "mail_refused" not in readyz(site)["problems"]
