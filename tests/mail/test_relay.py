"""SMTP as it is in the world: TLS, certificates, logins, and relays that misbehave."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from select import select
from typing import Any

import pytest
import trustme
from support.mailbox import Mailbox
from support.relay import LOGIN, ImplicitTLS, certificate, check_login, relay
from support.servers import free_port
from support.site import Site, served

from app.accounts.models import User
from app.db.engine import db
from app.mail import outbox, worker
from app.mail.delivery import mailman
from app.mail.outbox import OutboxMessage
from app.mail.smtp_failures import RelayAway, RelayMisconfigured

# The test relay takes passwords in the clear on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


@pytest.fixture
def site_behind(make_site: Any, tmp_path: Path, authority: trustme.CA) -> Callable[..., Site]:
    def build(box: Mailbox, **overrides: Any) -> Site:
        trusted = {
            "MAIL_SERVER": "localhost",
            "MAIL_PORT": box.port,
            "RECOVERY_MAIL_CA": str(tmp_path / "ca.pem"),
        }
        site: Site = make_site(**{**trusted, **overrides})
        site.mailbox = box
        return site

    return build


def held_for(site: Site) -> str:
    """What stops all mail: the worker says so, and the message waits with its attempt not counted."""
    site.ask()
    with pytest.raises(RelayMisconfigured) as caught:
        site.work()
    [message] = site.messages()
    assert (message["state"], message["attempts"]) == ("waiting", 0)
    assert site.mailbox.mails == []
    return str(caught.value)


@pytest.mark.requirement("R23")
def test_starttls_with_a_login(site_behind: Any, authority: trustme.CA) -> None:
    options = {
        "tls_context": certificate(authority),
        "require_starttls": True,
        "authenticator": check_login,
        "auth_required": True,
    }
    with relay(**options) as box:
        login = {"MAIL_USE_TLS": True, "MAIL_USERNAME": "sparekey", "MAIL_PASSWORD": "the relay's password"}
        site_behind(box, **login).new_link()


def test_a_batch_over_tls_goes_over_one_connection(site_behind: Any, authority: trustme.CA) -> None:
    with relay(ImplicitTLS, tls=certificate(authority)) as box:
        site = site_behind(box, MAIL_USE_SSL=True)
        for identity in ("alice", "bob"):
            site.ask(identity)
        site.work()
        assert (len(box.mails), box.connections) == (2, 1)


@pytest.mark.requirement("R23")
def test_tls_from_the_start(site_behind: Any, authority: trustme.CA) -> None:
    with relay(ImplicitTLS, tls=certificate(authority)) as box:
        site_behind(box, MAIL_USE_SSL=True).new_link()


@pytest.mark.requirement("R23")
def test_a_relay_without_starttls_gets_nothing_in_the_clear(site_behind: Any) -> None:
    with relay() as box:
        assert held_for(site_behind(box, MAIL_USE_TLS=True)).startswith(
            "MAIL_USE_TLS: the relay offers no STARTTLS"
        )
        assert box.envelopes == []


@pytest.mark.parametrize("by", ["MAIL_USE_TLS", "MAIL_USE_SSL"])
@pytest.mark.parametrize("flaw", ["unknown authority", "another host"])
@pytest.mark.requirement("R23")
def test_a_certificate_that_does_not_check_out_stops_all_mail(
    site_behind: Any, authority: trustme.CA, by: str, flaw: str
) -> None:
    tls = (
        certificate(trustme.CA()) if flaw == "unknown authority" else certificate(authority, "other.example")
    )
    with ExitStack() as stack:
        if by == "MAIL_USE_TLS":
            box = stack.enter_context(relay(tls_context=tls, require_starttls=True))
        else:
            box = stack.enter_context(relay(ImplicitTLS, tls=tls))
        said = held_for(site_behind(box, **{by: True}))
        assert said.startswith("MAIL_SERVER: its certificate is not trusted (")
        assert "RECOVERY_MAIL_CA" in said


@pytest.mark.requirement("R23")
def test_tls_on_a_port_that_does_not_speak_it(site_behind: Any) -> None:
    with relay() as box:
        assert "MAIL_USE_SSL" in held_for(site_behind(box, MAIL_USE_SSL=True))


@pytest.mark.requirement("R61")
def test_a_wrong_password_names_the_setting_and_never_the_password(site_behind: Any) -> None:
    with relay(authenticator=check_login, auth_required=True, auth_require_tls=False) as box:
        said = held_for(site_behind(box, MAIL_USERNAME="sparekey", MAIL_PASSWORD="not the password"))
        assert said == "MAIL_USERNAME, MAIL_PASSWORD: the relay refuses this login (535)"


def test_a_login_that_the_relay_does_not_take(site_behind: Any) -> None:
    with relay() as box:
        assert "takes no login" in held_for(site_behind(box, MAIL_USERNAME="sparekey", MAIL_PASSWORD="x"))


def test_a_refused_sender_is_a_setting_too(site_behind: Any) -> None:
    with relay() as box:
        box.refuse["MAIL"] = "550 not yours to send from"
        assert held_for(site_behind(box)).startswith("MAIL_DEFAULT_SENDER")


def test_held_mail_goes_out_when_the_setting_is_right(site_behind: Any) -> None:
    with relay(authenticator=check_login, auth_required=True, auth_require_tls=False) as box:
        wrong = site_behind(box, MAIL_USERNAME="sparekey", MAIL_PASSWORD="not the password")
        held_for(wrong)
        with wrong.app.app_context():
            uri = str(db.engine.url)
        right = site_behind(
            box, MAIL_USERNAME="sparekey", MAIL_PASSWORD=LOGIN.password.decode(), SQLALCHEMY_DATABASE_URI=uri
        )
        right.work()
        assert box.envelopes == [["alice@example.com"]]


@pytest.mark.requirement("R3", "R23")
def test_a_worker_says_once_that_all_mail_is_held(site_behind: Any, caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    with relay() as box:
        site: Site = site_behind(box, MAIL_USE_TLS=True)
        for _ in range(3):
            site.ask()

        def work() -> None:
            with site.app.app_context():
                worker.run(stop)

        thread = threading.Thread(target=work)
        thread.start()
        deadline = time.monotonic() + 10
        while "all mail is held" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
        stop.set()
        thread.join()
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage().split(":")[0] for record in said] == ["all mail is held"]
    assert "MAIL_USE_TLS" in said[0].getMessage()


def test_a_relay_that_hangs_costs_one_timeout(make_site: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        site: Site = make_site(MAIL_PORT=silent.getsockname()[1], MAIL_TIMEOUT="0.3 seconds")
        site.ask()
        with pytest.raises(RelayAway, match="timed out"):
            site.work()
    assert (site.messages()[0]["state"], site.messages()[0]["attempts"]) == ("waiting", 0)


@pytest.mark.parametrize("moment", ["RCPT", "DATA"])
def test_a_temporary_refusal_is_tried_again(site: Site, moment: str) -> None:
    site.mailbox.refuse[moment] = "451 later"
    site.ask()
    site.work()
    assert site.messages()[0]["state"] == "waiting"


def test_a_batch_goes_over_one_connection(site: Site) -> None:
    for identity in ("alice", "bob", "alice@example.com", "bob@example.com"):
        site.ask(identity)
    site.work()
    assert len(site.mailbox.mails) == 4
    assert site.mailbox.connections == 1


def test_a_relay_that_has_hung_up_a_moment_ago_costs_no_attempt(site: Site) -> None:
    site.ask("alice")
    site.ask("bob")
    with site.app.app_context(), closing(mailman.get_connection()) as relay:
        relay.open()
        for _ in range(2):
            message = outbox.claim()
            assert message is not None
            worker.work_on(message, relay, threading.Event(), time.monotonic() + 60)
            site.mailbox.hang_up()
            assert select([relay.connection.sock], [], [], 5)[0]
    assert [(row["state"], row["attempts"]) for row in site.messages()] == [("sent", 1), ("sent", 1)]
    assert site.mailbox.connections == 2


@pytest.mark.parametrize(
    ("stored", "envelope"),
    [
        ("alice@bücher.example.com", "alice@xn--bcher-kva.example.com"),
        ("élise@example.com", "élise@example.com"),
    ],
)
@pytest.mark.requirement("R18")
def test_internationalised_addresses(site_behind: Any, stored: str, envelope: str) -> None:
    with relay(enable_SMTPUTF8=True) as box:
        site: Site = site_behind(box)
        site.change(User, User.username == "alice", email=stored)
        site.new_link("alice")
        assert box.envelopes == [[envelope]]
        assert box.mails[0]["To"] == envelope


def test_a_relay_without_smtputf8_gives_such_an_address_up(site_behind: Any) -> None:
    with relay(enable_SMTPUTF8=False) as box:
        site: Site = site_behind(box)
        site.change(User, User.username == "alice", email="élise@example.com")
        site.ask("alice")
        site.work()
        [message] = site.messages()
        assert (message["state"], "SMTPUTF8" in message["reason"]) == ("given_up", True)


def test_a_site_name_in_any_script_travels_in_seven_bits(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME="Größe 漢字", MAIL_DEFAULT_SENDER="Größe <id@example.com>")
    site.new_link()
    mail = site.mailbox.mails[0]
    assert mail["Subject"] == "Reset your Größe 漢字 password"
    assert mail["From"] == "Größe <id@example.com>"
    assert site.mailbox.raw[0].isascii()


def test_a_reused_message_row_is_not_needed_after_the_connection_is_gone(site: Site) -> None:
    """SIGTERM between two mails: the second waits for the next worker, untouched."""
    site.ask("alice")
    site.ask("bob")
    with site.app.app_context():
        stopped = threading.Event()
        stopped.set()
        assert worker.work_until_done(stopped) == 0
    with served(site.app, free_port()):
        site.mailbox.wait_for(2)
    assert {row["state"] for row in site.rows(OutboxMessage)} == {"sent"}


@pytest.mark.parametrize(
    ("verb", "state", "reason"),
    [("MAIL", "waiting", "quota"), ("RCPT", "given_up", "quota"), ("DATA", "given_up", "quota")],
)
def test_what_a_refusal_means_depends_on_the_command(site: Site, verb: str, state: str, reason: str) -> None:
    site.ask("alice")
    with site.app.app_context(), closing(mailman.get_connection()) as relay:
        relay.open()
        site.mailbox.refuse[verb] = "550 5.4.5 daily sending quota exceeded"
        message = outbox.claim()
        assert message is not None
        worker.work_on(message, relay, threading.Event(), time.monotonic() + 60)
        site.mailbox.refuse.clear()
    [row] = site.messages()
    assert (row["state"], reason in row["reason"], row["attempts"]) == (state, True, 1)
    assert site.mailbox.mails == []
