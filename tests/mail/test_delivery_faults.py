"""Lost leases, lost keys, failing databases and relays that want a login: no mail is lost, sent twice or leaked."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from support.concurrency import in_another_thread
from support.database import database_uri
from support.site import Site

from app.mail import backends, outbox, worker
from app.mail.outbox import OutboxMessage
from app.mail.smtp_failures import RelayMisconfigured


def test_worker_that_lost_its_lease_writes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.ask()
    attempt = worker.attempt

    def lose_the_lease(message: OutboxMessage, relay: Any) -> tuple[str, str]:
        monkeypatch.setattr(worker, "attempt", attempt)
        site.change(OutboxMessage, due_at=datetime(2020, 1, 1))
        in_another_thread(site.work)
        return "dropped", "too late"

    monkeypatch.setattr(worker, "attempt", lose_the_lease)
    site.work()
    assert site.events() == ["requested", "mail_sent"]
    assert site.messages()[0]["state"] == "sent"


def test_message_whose_key_is_gone_becomes_a_dead_letter(make_site: Any) -> None:
    site: Site = make_site()
    site.ask()
    key = "a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5"
    other: Site = make_site(
        SQLALCHEMY_DATABASE_URI=database_uri(site), SECRET_KEY=key, RECOVERY_MAIL_ATTEMPTS=1
    )
    other.work()
    [message] = other.messages()
    assert (message["state"], "SECRET_KEY" in message["reason"]) == ("given_up", True)
    assert message["sealed"]  # the key may be found again


def test_database_failure_after_relay_accepted_sends_no_second_mail(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, failures = outbox.release, [1, 2, 3]

    def fail_at_first(*args: Any) -> bool:
        if failures:
            failures.pop()
            raise OperationalError("UPDATE", {}, Exception("the server closed the connection"))
        return release(*args)

    monkeypatch.setattr(outbox, "release", fail_at_first)
    monkeypatch.setattr(worker, "WRITE_SECONDS", 0.05)
    site.ask()
    site.work()
    assert (site.messages()[0]["state"], site.messages()[0]["attempts"]) == ("sent", 1)
    assert site.work() == 0
    assert len(site.mailbox.mails) == 1


# --- the relay's login ------------------------------------------------------------------------------


@pytest.mark.requirement("R61")
def test_login_that_smtplib_cannot_encode_holds_mail_without_leaking(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise UnicodeEncodeError("ascii", "the pässword", 5, 6, "ordinal not in range(128)")

    monkeypatch.setattr("smtplib.SMTP.login", fail)
    site.app.config["MAIL_USERNAME"] = site.app.config["MAIL_PASSWORD"] = "x"
    backends.mailman.init_app(site.app)
    site.ask()
    with pytest.raises(RelayMisconfigured, match="MAIL_PASSWORD"):
        site.work()
    assert "ässword" not in str(site.messages())


def test_missing_login_holds_mail_and_names_the_setting(site: Site) -> None:
    site.mailbox.refuse["MAIL"] = "530 5.7.0 Authentication required"
    site.ask()
    with pytest.raises(RelayMisconfigured, match="MAIL_USERNAME"):
        site.work()


@pytest.mark.requirement("R61")
def test_address_in_relay_reply_is_redacted_from_reason(site: Site) -> None:
    site.mailbox.refuse["RCPT"] = "450 alice@example.com is busy"
    site.ask()
    site.work()
    assert "alice" not in site.messages()[0]["reason"]
    assert "450" in site.messages()[0]["reason"]
