"""`manage.py check --live`: the relay, DNS of the sender's domain, Redis and the breach service."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from click.testing import CliRunner
from support.mailbox import Mailbox
from support.servers import free_port
from support.site import load_settings

import manage
from app import create_app
from app.accounts import breaches
from app.cli import live_checks
from app.settings.findings import Finding
from doctor import dns_records


@dataclass
class NameServer:
    """A DNS server on this machine, with TXT records only."""

    records: Mapping[str, list[str] | None] = field(default_factory=dict)
    is_silent: bool = False

    @contextmanager
    def serves(self) -> Iterator[dns.resolver.Resolver]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.bind(("127.0.0.1", 0))
            thread = threading.Thread(target=self._answer_all, args=(listener,))
            thread.start()
            resolver = dns.resolver.Resolver(configure=False)
            resolver.nameservers, resolver.port = ["127.0.0.1"], listener.getsockname()[1]
            try:
                yield resolver
            finally:
                listener.sendto(b"", listener.getsockname())
                thread.join()

    def _answer_all(self, listener: socket.socket) -> None:
        while True:
            packet, client = listener.recvfrom(4096)
            if not packet:
                return
            if not self.is_silent:
                listener.sendto(self._answer(dns.message.from_wire(packet)), client)

    def _answer(self, query: dns.message.Message) -> bytes:
        name = query.question[0].name
        answer = dns.message.make_response(query)
        texts = self.records.get(name.to_text(omit_final_dot=True))
        if texts is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif texts:
            quoted = [json.dumps(text) for text in texts]
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *quoted))
        return answer.to_wire()


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    with server.serves() as resolver:
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        yield server


def live_findings(mailbox: Mailbox, recipient: str = "", **values: Any) -> dict[str, Finding]:
    settings = load_settings(**{"MAIL_PORT": mailbox.port, **values})
    with create_app(settings, checked=False).app_context():
        return {finding.id: finding for finding in live_checks.run(settings, recipient)}


COMPLETE: dict[str, list[str] | None] = {
    "mail.example.com": ["v=spf1 include:relay.example.net -all", "something else"],
    "s1._domainkey.mail.example.com": ["v=DKIM1; k=rsa; p=MIIB"],
    "_dmarc.example.com": ["v=DMARC1; p=reject"],
}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ({}, set()),
        ({"mail.example.com": ["unrelated"]}, {"spf-missing"}),
        ({"mail.example.com": None}, {"sender-domain-missing"}),
        ({"mail.example.com": []}, {"spf-missing"}),
        ({"mail.example.com": ["v=spf1 -all", "v=spf1 mx -all"]}, {"spf-twice"}),
        ({"mail.example.com": ["v=spf1 +all"]}, {"spf-open"}),
        ({"s1._domainkey.mail.example.com": None}, {"dkim-missing"}),
        ({"s1._domainkey.mail.example.com": ["v=DKIM1; p="]}, {"dkim-missing"}),
        ({"_dmarc.example.com": None}, {"dmarc-missing"}),
        ({"_dmarc.example.com": ["v=DMARC1; p=none; rua=mailto:me@example.com"]}, {"dmarc-none"}),
        ({"_dmarc.mail.example.com": ["v=DMARC1; p=none"]}, {"dmarc-none"}),
    ],
)
@pytest.mark.requirement("R24")
def test_dns_records_of_the_sender_domain(
    mailbox: Mailbox, name_server: NameServer, records: dict[str, list[str] | None], expected: set[str]
) -> None:
    sender = {"MAIL_DEFAULT_SENDER": "Us <no-reply@mail.example.com>", "RECOVERY_DKIM_SELECTOR": "s1"}
    name_server.records = {**COMPLETE, **records}
    assert live_findings(mailbox, **sender).keys() == expected


def test_dns_silence_is_a_finding_after_seconds(
    mailbox: Mailbox, name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_records, "DNS_SECONDS", 0.3)
    name_server.is_silent = True
    by_id = live_findings(mailbox, MAIL_DEFAULT_SENDER="me@example.com")
    assert by_id.keys() == {"dns-away"}
    assert "example.com" in by_id["dns-away"].what


@pytest.mark.parametrize(
    ("values", "setting", "reason"),
    [
        ({"MAIL_PORT": 1}, "MAIL_SERVER", "cannot be reached"),
        ({"MAIL_USE_TLS": True}, "MAIL_USE_TLS", "STARTTLS"),
        ({"MAIL_DEFAULT_SENDER": "refused@localhost"}, "MAIL_DEFAULT_SENDER", "550 no"),
    ],
)
def test_relay_refusal_names_the_setting(
    mailbox: Mailbox, values: dict[str, Any], setting: str, reason: str
) -> None:
    if "MAIL_DEFAULT_SENDER" in values:
        mailbox.refuse["MAIL"] = "550 no"
    by_id = live_findings(mailbox, **{"MAIL_DEFAULT_SENDER": "me@localhost", **values})
    assert by_id.keys() == {"relay-refuses"}
    assert by_id["relay-refuses"].setting == setting
    assert reason in by_id["relay-refuses"].what


@pytest.mark.parametrize("is_given", [True, False])
@pytest.mark.parametrize(
    ("reply", "setting"),
    [
        ("553 5.7.1 Sender address rejected: not owned by user", "MAIL_DEFAULT_SENDER"),
        ("504 5.5.2 Helo command rejected", "RECOVERY_MAIL_EHLO"),
        ("554 5.7.1 Relay access denied", "MAIL_USERNAME"),
        ("450 4.7.1 Helo command rejected: Host not found", "MAIL_SERVER"),
        ("550 5.1.1 no such user", "MAIL_SERVER"),
    ],
)
def test_relay_is_asked_to_take_a_mail_to_the_address_or_the_operator(
    mailbox: Mailbox, reply: str, setting: str, is_given: bool
) -> None:
    """MAIL, RCPT and RSET: the relay gets no mail."""
    values = {"MAIL_DEFAULT_SENDER": "me@localhost", "RECOVERY_OPERATOR": "Ops <ops@example.com>"}
    recipient = "alice@example.org" if is_given else ""
    assert live_findings(mailbox, recipient, **values) == {}
    mailbox.refuse["RCPT"] = reply
    by_id = live_findings(mailbox, recipient, **values)
    assert by_id.keys() == {"relay-refuses"}
    assert by_id["relay-refuses"].setting == setting
    assert reply in by_id["relay-refuses"].what
    assert mailbox.asked == [recipient or "ops@example.com"] * 2
    assert mailbox.mails == []


@pytest.mark.parametrize("address", ["alice", "@", "a@b, c@d", "a@example.com\r\nDATA"])
def test_check_refuses_what_is_no_address(address: str) -> None:
    result = CliRunner().invoke(manage.cli, ["check", "--to", address])
    assert (result.exit_code, "not an email address" in result.output) == (2, True)


def test_dkim_without_selector_is_not_checked(mailbox: Mailbox, name_server: NameServer) -> None:
    name_server.records = {"example.com": ["v=spf1 -all"], "_dmarc.example.com": ["v=DMARC1; p=reject"]}
    assert live_findings(mailbox, MAIL_DEFAULT_SENDER="me@example.com").keys() == {"dkim-unknown"}


def test_redis_and_breach_service_that_are_away(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaches._Breaker, "open_until", 0.0)
    services = {
        "RATELIMIT_STORAGE_URI": f"redis://127.0.0.1:{free_port()}/0",
        "SECURITY_PASSWORD_CHECK_BREACHED": "best-effort",
        "RECOVERY_BREACHES_URL": f"http://127.0.0.1:{free_port()}",
    }
    by_id = live_findings(mailbox, MAIL_DEFAULT_SENDER="me@localhost", **services)
    assert by_id.keys() == {"redis-away", "breaches-away"}
    monkeypatch.setattr(breaches._Breaker, "open_until", 0.0)


def test_redis_that_never_answers_is_not_waited_for(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        storage = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        by_id = live_findings(mailbox, MAIL_DEFAULT_SENDER="me@localhost", RATELIMIT_STORAGE_URI=storage)
        assert by_id.keys() == {"redis-away"}


def test_without_mail_neither_relay_nor_dns_is_asked(mailbox: Mailbox) -> None:
    assert live_findings(mailbox, MAIL_SERVER="", MAIL_DEFAULT_SENDER="me@example.com") == {}
