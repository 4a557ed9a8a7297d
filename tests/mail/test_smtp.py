"""SMTP: TLS, certificates, logins, refusals, outages, and relays that are slow or odd."""

import logging
import smtplib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from select import select
from typing import Any
from unittest.mock import Mock

import pytest
import trustme
from flask_mailman.backends.base import BaseEmailBackend
from support.database import database_uri
from support.mailbox import Mailbox, listening
from support.outbox import problems, states
from support.relay import LOGIN, ImplicitTLS, certificate, check_login, relay
from support.servers import free_port
from support.site import Site, at_work, load_settings, wait_for

from app.accounts.models import User
from app.mail import composing, queue, worker
from app.mail.backends import mailman
from app.mail.smtp import REPLY_BYTES_MAX, TIMEOUTS_MAX
from app.mail.smtp_failures import MailHeld, RelayAway, RelayMisconfigured

# The test relay takes passwords in the clear on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

PASSWORD = {"MAIL_USERNAME": LOGIN.login.decode(), "MAIL_PASSWORD": LOGIN.password.decode()}


@pytest.fixture
def site_behind(make_site: Any, tmp_path: Path, authority: trustme.CA) -> Callable[..., Site]:
    """Builds a site that sends to a relay and trusts the authority."""

    def build(box: Mailbox, **values: Any) -> Site:
        trusted = {"MAIL_SERVER": "localhost", "RECOVERY_MAIL_CA": str(tmp_path / "ca.pem")}
        site: Site = make_site(MAIL_PORT=box.port, **trusted, **values)
        site.mailbox = box
        return site

    return build


@contextmanager
def connection(site: Site) -> Iterator[BaseEmailBackend]:
    with site.app.app_context(), closing(mailman.get_connection()) as backend:
        backend.open()
        yield backend


def send_next(backend: BaseEmailBackend) -> None:
    message = queue.claim()
    assert message is not None
    worker.work_on(message, backend, queue.Pace(), threading.Event())


def reason_held(site: Site, kind: type[MailHeld] = RelayMisconfigured) -> str:
    """Ask, and return why all mail is held. The message waits, and its attempt does not count."""
    site.ask()
    with pytest.raises(kind) as caught:
        site.work()
    assert states(site) == [("waiting", 0)]
    assert site.mailbox.envelopes == []
    return str(caught.value)


# --- TLS and login ---


@pytest.mark.requirement("R23")
def test_smtp_sends_a_batch_over_one_connection_with_tls(site_behind: Any, authority: trustme.CA) -> None:
    tls = certificate(authority)
    starttls = relay(tls_context=tls, require_starttls=True, authenticator=check_login, auth_required=True)
    implicit = relay(ImplicitTLS, tls=tls)
    for server, values in {
        starttls: {"MAIL_USE_TLS": True, **PASSWORD},
        implicit: {"MAIL_USE_SSL": True},
    }.items():
        with server as box:
            site = site_behind(box, **values)
            for identity in ("alice", "bob"):
                site.ask(identity)
            site.work()
            greetings = 2 if server is starttls else 1  # once more over TLS
            assert (len(box.mails), box.connections) == (2, greetings)


@pytest.mark.parametrize("setting", ["MAIL_USE_TLS", "MAIL_USE_SSL"])
@pytest.mark.requirement("R23")
def test_smtp_relay_without_tls_gets_nothing(site_behind: Any, authority: trustme.CA, setting: str) -> None:
    reasons = {"MAIL_USE_TLS": "MAIL_USE_TLS: the relay offers no STARTTLS", "MAIL_USE_SSL": "MAIL_USE_TLS, MAIL_USE_SSL"}  # fmt: skip
    with relay() as box:
        assert reason_held(site_behind(box, **{setting: True})).startswith(reasons[setting])
    for tls in (certificate(trustme.CA()), certificate(authority, "other.example")):
        options: dict[str, Any] = {"tls_context": tls, "require_starttls": True}
        with relay(**options) if setting == "MAIL_USE_TLS" else relay(ImplicitTLS, tls=tls) as box:
            reason = reason_held(site_behind(box, **{setting: True}))
        assert reason.startswith("MAIL_SERVER: its certificate is not trusted (")
        assert "RECOVERY_MAIL_CA" in reason


@pytest.mark.requirement("R61")
def test_smtp_refused_login_holds_mail(site_behind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay() as box:
        assert "takes no login" in reason_held(site_behind(box, **PASSWORD))
    with relay(authenticator=check_login, auth_required=True, auth_require_tls=False) as box:
        wrong = site_behind(box, **{**PASSWORD, "MAIL_PASSWORD": "not the password"})
        reason = "MAIL_USERNAME, MAIL_PASSWORD: the relay refuses this login (535)"
        assert reason_held(wrong) == reason
        with monkeypatch.context() as broken:
            unencodable = UnicodeEncodeError("ascii", "the pässword", 5, 6, "ordinal not in range(128)")
            broken.setattr("smtplib.SMTP.login", Mock(side_effect=unencodable))
            assert (
                reason_held(wrong)
                == "MAIL_USERNAME, MAIL_PASSWORD: no login method of the relay accepts these"
            )
        assert "ässword" not in str(wrong.messages())
        site_behind(box, **PASSWORD, SQLALCHEMY_DATABASE_URI=database_uri(wrong)).work()
        assert box.envelopes == [["alice@example.com"]]


def test_smtp_greets_with_the_public_host_or_a_setting(make_site: Any, mailbox: Mailbox) -> None:
    names = {"mail.xn--bcher-kva.example": "mail.xn--bcher-kva.example", "192.0.2.1": "[192.0.2.1]"}
    for setting, name in names.items():
        assert load_settings(RECOVERY_MAIL_EHLO=setting).ehlo_name == name
    assert load_settings(RECOVERY_PUBLIC_URL="http://[::1]:5000").ehlo_name == "[IPv6:::1]"
    with connection(make_site(RECOVERY_PUBLIC_URL="https://id.example.com/auth")):
        assert mailbox.greetings == ["id.example.com"]


# --- Refusals ---


@pytest.mark.parametrize("reply", ["550 not yours to send from", "451 not now"])
@pytest.mark.requirement("R2", "R3")
def test_smtp_refused_sender_holds_all_mail_before_any_look_up(site: Site, reply: str) -> None:
    site.mailbox.refuse["MAIL"] = reply
    site.ask("nobody")
    site.ask("alice")
    with pytest.raises(MailHeld, match="MAIL_DEFAULT_SENDER" if reply[0] == "5" else "MAIL_SERVER"):
        site.work()
    assert states(site) == [("waiting", 0)] * 2


@pytest.mark.parametrize(
    ("command", "reply", "state"),
    [
        ("MAIL", "451 too many mails in this connection", ("waiting", 1)),
        ("MAIL", "550 5.6.7 not in this message", ("waiting", 0)),  # the sender was accepted at first
        ("RCPT", "550 5.1.1 no such mailbox", ("given_up", 1)),
    ],
)
def test_smtp_refused_mail_stops_none(site: Site, command: str, reply: str, state: tuple[str, int]) -> None:
    site.ask("alice")
    site.ask("bob")
    with connection(site) as backend:
        site.mailbox.refuse[command] = reply
        send_next(backend)
    site.mailbox.refuse.clear()
    site.work()
    assert states(site) == [state, ("sent", 1)]
    message = site.messages()[0]
    assert reply in message["reason"]
    assert message["sealed"]  # a dead letter, too, because an admin may retry it
    assert ("mail_given_up" in site.events()) == (state[0] == "given_up")


def test_smtp_relay_without_rset_gets_mail(site: Site) -> None:
    for site.mailbox.refuse["RSET"] in ("502 not here", "421 closing"):
        site.new_link("alice")


@pytest.mark.parametrize(
    ("address", "recipient", "is_utf8"),
    [
        ("alice@bücher.example.com", "alice@xn--bcher-kva.example.com", False),
        ("élise@example.com", "élise@example.com", True),
        ("élise@example.com", None, False),
    ],
)
@pytest.mark.requirement("R18")
def test_smtp_unicode_address(site_behind: Any, address: str, recipient: str | None, is_utf8: bool) -> None:
    with relay(enable_SMTPUTF8=is_utf8) as box:
        site: Site = site_behind(box)
        site.change(User, User.username == "alice", email=address)
        site.ask("alice")
        site.work()
        [message] = site.messages()
        if recipient:
            assert (box.envelopes, box.mails[0]["To"]) == ([[recipient]], recipient)
        else:
            assert (message["state"], "SMTPUTF8" in message["reason"]) == ("given_up", True)


# --- Outages ---


@pytest.mark.requirement("R2", "R3", "R59")
def test_smtp_outage_holds_all_mail_and_counts_no_attempt(
    make_site: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a worker of two threads, which says once that mail is held, and once that it goes out."""
    monkeypatch.setattr("app.mail.smtp_failures.RelayAway.pause", 0.1)
    caplog.set_level(logging.INFO)
    box = Mailbox(free_port())
    site: Site = make_site(MAIL_PORT=box.port)
    with at_work(site, threads=2):
        for name in ("bob", "alice", "bob@example.com", "nobody", "alice@example.com"):
            assert site.ask(name).json == {"meta": {"code": 200}, "response": {}}
        wait_for(lambda: "all mail is held" in caplog.text)
        assert "Connection refused" in caplog.text
        assert "mail_held" in problems(site)
        time.sleep(0.3)  # several attempts to connect
        assert set(states(site)) == {("waiting", 0)}
        with listening(box):
            wait_for(lambda: set(states(site)) == {("sent", 1), ("dropped", 1)})
    assert sorted(box.envelopes) == [["alice@example.com"]] * 2 + [["bob@example.com"]] * 2
    assert [caplog.text.count(line) for line in ("all mail is held", "mail goes out again")] == [1, 1]
    assert problems(site) == ["no_worker"]


def test_smtp_connection_lost_between_mails_costs_no_attempt(site: Site) -> None:
    for name in ("alice", "bob", "alice@example.com"):
        site.ask(name)
    with connection(site) as backend:
        for _ in range(2):
            send_next(backend)
            site.mailbox.hang_up()
            assert select([backend.connection.sock], [], [], 5)[0]
        backend.port = free_port()  # the relay does not come back
        with pytest.raises(MailHeld):
            send_next(backend)
    assert states(site) == [("sent", 1), ("sent", 1), ("waiting", 0)]
    assert site.mailbox.connections == 2
    site.work()
    assert [recipient for [recipient] in site.mailbox.envelopes] == [
        f"{name}@example.com" for name in ("alice", "bob", "alice")
    ]


@contextmanager
def endless(command: bytes, chunk: bytes = b"x", pause: float = 0.05) -> Iterator[tuple[int, list[int]]]:
    """A relay whose reply to a command, or greeting (220), never ends. Yields its port and the bytes sent."""
    sent = [0]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client, client.makefile("rb") as lines, suppress(OSError):
                client.sendall(b"220-" if command == b"220" else b"220 hello\r\n")
                for line in () if command == b"220" else lines:
                    if line.upper().startswith(command):
                        client.sendall(b"250-")
                        break
                    client.sendall(b"250 well\r\n")
                while sent[0] < 64 * 1024 * 1024:
                    sent[0] += client.send(chunk)
                    time.sleep(pause)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], sent
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_smtp_dripping_reply_is_cut_off(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes before the timeout."""
    monkeypatch.setattr("app.mail.smtp.DATA_SECONDS", 0.5)
    with endless(b"RCPT") as (port, _):
        site: Site = make_site(MAIL_PORT=port, MAIL_TIMEOUT="0.2 seconds", RECOVERY_MAIL_LEASE="22 seconds")
        site.ask()
        began = time.monotonic()
        site.work()
        assert time.monotonic() - began < 10
    assert states(site) == [("waiting", 1)]
    assert "the relay took too long" in site.messages()[0]["reason"]


@pytest.mark.parametrize("kind", ["silent", "dripping", "found slowly"])
def test_smtp_endless_greeting_is_cut_off(make_site: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Also if the relay's name was resolved so slowly that there was no socket to close at the deadline."""

    def resolve_slowly(_self: Any, host: str, port: int, timeout: float) -> socket.socket:
        time.sleep((TIMEOUTS_MAX + 1) * timeout)
        return socket.create_connection((host, port), timeout)

    if kind == "found slowly":
        monkeypatch.setattr(smtplib.SMTP, "_get_socket", resolve_slowly)
    with endless(b"220", pause=0.5 if kind == "silent" else 0.05) as (port, _):
        site = make_site(MAIL_PORT=port, MAIL_TIMEOUT="0.1 seconds")
        began = time.monotonic()
        reason = reason_held(site, RelayAway)
        assert time.monotonic() - began < 10
    assert kind != "silent" or "timed out" in reason


@pytest.mark.parametrize("command", [b"220", b"EHLO", b"MAIL"])
@pytest.mark.requirement("R3", "R62")
def test_smtp_flooding_reply_takes_little_memory_and_holds_mail(make_site: Any, command: bytes) -> None:
    chunk = (b"250-" + b"x" * 60 + b"\r\n") * 1000
    with endless(command, chunk, pause=0) as (port, sent):
        reason_held(make_site(MAIL_PORT=port), RelayAway)
    assert sent[0] < 100 * REPLY_BYTES_MAX  # the kernel's buffers included


def test_smtp_sends_nothing_after_the_deadline(site: Site) -> None:
    """Before MAIL and before DATA, because another worker may hold the lease then."""
    with connection(site) as backend:
        mail = composing.compose("alice@example.com", "Hello", "Hello", "", "<1@id.example.com>")
        backend.deadline = time.monotonic()
        with pytest.raises(TimeoutError, match="took too long"):
            backend.send_messages([mail])
        site.mailbox.delay["RCPT"] = 0.6
        backend.deadline = time.monotonic() + 0.3
        with pytest.raises(TimeoutError, match="took too long"):
            backend.send_messages([mail])
        backend.deadline = time.monotonic() + 20
        assert backend.send_messages([mail]) == 1
    assert len(site.mailbox.mails) == 1
