"""`manage.py check --live`: the relay, DNS of the sender's domain, Redis and the breach service."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from support.mailbox import Mailbox
from support.servers import free_port
from support.site import load_settings

from app import create_app
from app.accounts import breaches
from app.cli import live_checks
from app.settings.findings import Finding
from doctor import dns_records

OURS = "Us <no-reply@mail.example.com>"


@dataclass
class NameServer:
    """A DNS server on this machine, with TXT records only. It ends with an empty packet."""

    records: Mapping[str, list[str] | None] = field(default_factory=dict)
    is_silent: bool = False

    def serve(self, listener: socket.socket) -> None:
        while (received := listener.recvfrom(4096))[0]:
            if not self.is_silent:
                listener.sendto(self._answer(dns.message.from_wire(received[0])), received[1])

    def _answer(self, query: dns.message.Message) -> bytes:
        name, answer = query.question[0].name, dns.message.make_response(query)
        texts = self.records.get(name.to_text(omit_final_dot=True))
        if texts is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif texts:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *map(json.dumps, texts)))
        return answer.to_wire()


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server, resolver = NameServer(), dns.resolver.Resolver(configure=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        resolver.nameservers, resolver.port = ["127.0.0.1"], listener.getsockname()[1]
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        yield server
        listener.sendto(b"", listener.getsockname())
        thread.join()


def live_findings(mailbox: Mailbox, recipient: str = "", **values: Any) -> dict[str, Finding]:
    settings = load_settings(**{"MAIL_PORT": mailbox.port, "MAIL_DEFAULT_SENDER": "me@localhost", **values})
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
    name_server.records = {**COMPLETE, **records}
    found = live_findings(mailbox, MAIL_DEFAULT_SENDER=OURS, RECOVERY_DKIM_SELECTOR="s1")
    assert found.keys() == expected


def test_dns_that_is_silent_or_lacks_a_selector(
    mailbox: Mailbox, name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_server.records = COMPLETE
    assert live_findings(mailbox, MAIL_DEFAULT_SENDER=OURS).keys() == {"dkim-unknown"}
    monkeypatch.setattr(dns_records, "DNS_SECONDS", 0.3)
    name_server.is_silent = True
    by_id = live_findings(mailbox, MAIL_DEFAULT_SENDER=OURS)
    assert by_id.keys() == {"dns-away"}
    assert "mail.example.com" in by_id["dns-away"].what
    assert live_findings(mailbox, MAIL_DEFAULT_SENDER=OURS, MAIL_SERVER="") == {}


@pytest.mark.parametrize(
    ("command", "reply", "values", "setting", "reason"),
    [
        ("", "", {"MAIL_PORT": 1}, "MAIL_SERVER", "cannot be reached"),
        ("", "", {"MAIL_USE_TLS": True}, "MAIL_USE_TLS", "STARTTLS"),
        ("MAIL", "550 no", {}, "MAIL_DEFAULT_SENDER", "550 no"),
        ("RCPT", "504 5.5.2 Helo command rejected", {}, "RECOVERY_MAIL_EHLO", "504 5.5.2 Helo"),
        ("RCPT", "554 5.7.1 Relay access denied", {}, "MAIL_USERNAME", "554 5.7.1 Relay access denied"),
        ("RCPT", "450 4.7.1 Host not found", {}, "MAIL_SERVER", "450 4.7.1 Host not found"),
    ],
)
def test_relay_refusal_names_the_setting(
    mailbox: Mailbox, command: str, reply: str, values: dict[str, Any], setting: str, reason: str
) -> None:
    mailbox.refuse |= {command: reply} if command else {}
    by_id = live_findings(mailbox, "alice@example.org", **values)
    assert by_id.keys() == {"relay-refuses"}
    assert by_id["relay-refuses"].setting == setting
    assert reason in by_id["relay-refuses"].what


def test_relay_is_asked_to_take_a_mail_to_the_address_or_the_operator(mailbox: Mailbox) -> None:
    """MAIL, RCPT and RSET: the relay gets no mail."""
    for recipient in ("alice@example.org", ""):
        assert live_findings(mailbox, recipient, RECOVERY_OPERATOR="Ops <ops@example.com>") == {}
    assert (mailbox.asked, mailbox.mails) == (["alice@example.org", "ops@example.com"], [])


def test_redis_and_breach_service_that_are_away(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaches._Breaker, "open_until", 0.0)
    services = {
        "RATELIMIT_STORAGE_URI": f"redis://127.0.0.1:{free_port()}/0",
        "SECURITY_PASSWORD_CHECK_BREACHED": "best-effort",
        "RECOVERY_BREACHES_URL": f"http://127.0.0.1:{free_port()}",
    }
    assert live_findings(mailbox, **services).keys() == {"redis-away", "breaches-away"}
    monkeypatch.setattr(breaches._Breaker, "open_until", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # is not waited for
        uri = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        assert live_findings(mailbox, RATELIMIT_STORAGE_URI=uri).keys() == {"redis-away"}
