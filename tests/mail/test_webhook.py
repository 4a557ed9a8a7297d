"""The webhook: which changes it tells of, the signature, retries, and that its failures delay no mail."""

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
from flask_security import hash_password
from support.commands import run
from support.foreign_hashes import FLASK_SECURITY_HASHES
from support.mailbox import Mailbox
from support.outbox import HOUR, LONG_AGO, beat, make_due, problems, shift, states
from support.receiver import SECRET, Receiver, receiving
from support.recovery import code_of
from support.servers import free_port
from support.site import BOTH, NEW_PASSWORD, Site, at_work, wait_for

from app.accounts.models import User
from app.db.engine import db
from app.mail import outbox, queue, webhook
from app.mail.outbox import OutboxMessage

RESET, CHANGED, ADDRESS, ENDED = "password.reset", "password.changed", "email.changed", "account.sessions_ended"  # fmt: skip
NEW_ADDRESS = "alice@new.example.com"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def site(make_site: Any, receiver: Receiver) -> Site:
    built: Site = make_site(**receiver.settings, SECURITY_CHANGE_EMAIL=True)
    return built


def events(site: Site, *states: str) -> list[dict[str, Any]]:
    """Return the events in one of these states, or all."""
    rows = [row for row in site.messages() if row["kind"] == "webhook"]
    return [row for row in rows if not states or row["state"] in states]


def force_reset(site: Site, identity: str = "alice", *options: str) -> None:
    """Change an account, of which two events tell."""
    run(site, "users", "force-reset", identity, "--quiet", *options)


def enqueue_events(site: Site, count: int) -> None:
    with site.app.app_context():
        for number in range(count):
            outbox.enqueue("webhook", user_id=1, event=webhook.new_event(ENDED, str(number)))
        db.session.commit()


# --- Which changes ---


def reset(site: Site) -> None:
    site.visitor().set_password(site.new_link())


def change_in_an_extension(site: Site) -> None:
    """Code of the operator's own may write an account, too."""
    with site.app.app_context():
        datastore = site.app.extensions["security"].datastore
        user = datastore.find_user(username="alice")
        user.email = NEW_ADDRESS
        db.session.flush()
        user.password = hash_password(NEW_PASSWORD)
        db.session.flush()
        datastore.set_uniquifier(user)
        db.session.commit()


CHANGES: dict[str, tuple[Callable[[Site], Any], list[str]]] = {
    "reset": (reset, [RESET, ENDED]),
    "users force-reset": (force_reset, [CHANGED, ENDED]),
    "users reset_access": (lambda site: run(site, "users", "reset_access", "alice"), [ENDED]),
    "users deactivate": (lambda site: run(site, "users", "deactivate", "alice"), [ENDED]),
    "an extension": (change_in_an_extension, [CHANGED, ADDRESS, ENDED]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_webhook_tells_of_each_way_to_change_an_account(site: Site, receiver: Receiver, name: str) -> None:
    change, types = CHANGES[name]
    alice = site.visitor()
    alice.sign_in()
    account = {"account_id": alice.open("/me").json["response"]["user"]["id"]}  # type: ignore[index]
    began = datetime.now(UTC)
    change(site)
    site.post_events()
    assert receiver.types() == sorted(types)
    assert len({call.id for call in receiver.calls}) == len(types)
    for call in receiver.calls:
        assert call.event["data"] == account
        assert began <= datetime.fromisoformat(call.event["timestamp"]) <= datetime.now(UTC)
        assert call.event.keys() == {"type", "timestamp", "data"}


def test_webhook_is_silent_about_everything_else(site: Site, receiver: Receiver) -> None:
    """Requests, sign-ins, refused links, new accounts. The first sign-in upgrades the hash."""
    weak, password = FLASK_SECURITY_HASHES["bcrypt"]
    site.change(password=weak)
    for identity in ("alice", "nobody"):
        site.ask(identity)
    site.work()
    link = site.last_link()
    assert code_of(site, link, "too short") == "password_too_short"
    alice = site.visitor()
    assert alice.sign_in(password=password)
    assert site.rows(User)[0]["password"] != weak
    alice.post_json("/login", json={"identity": "alice", "password": password})
    alice.post_json("/change-email", json={"email": NEW_ADDRESS})
    alice.post_json("/logout")
    run(site, "users", "create", "email:carol@example.com", "--password", NEW_PASSWORD, "--active")
    run(site, "users", "activate", "inactive@example.com")
    run(site, "links", "revoke", "alice")
    assert code_of(site, link) == "link_revoked"
    assert (events(site), site.post_events(), receiver.calls) == ([], 0, [])


def test_note_of_a_change_that_is_rolled_back_is_forgotten(site: Site) -> None:
    """A later commit of the same request must not report it."""
    with site.app.app_context():
        alice = db.session.get_one(User, 1)
        alice.email, alice.fs_uniquifier = NEW_ADDRESS, "another"
        db.session.flush()
        db.session.rollback()
        site.change(email=NEW_ADDRESS, fs_uniquifier="another")  # a script's, of which nothing is told
        outbox.enqueue("operator_alert", address="op@example.com", what="x", account=1)
        db.session.commit()
    assert events(site) == []


def test_webhook_works_without_mail(make_site: Any, receiver: Receiver) -> None:
    site: Site = make_site(**receiver.settings, MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT="+1 555 0100")
    assert problems(site) == ["no_worker"]
    change_in_an_extension(site)
    with at_work(site):
        wait_for(lambda: receiver.types() == [ENDED, ADDRESS, CHANGED])


def test_site_without_a_webhook_keeps_no_event(make_site: Any, site: Site, receiver: Receiver) -> None:
    force_reset(site)
    without: Site = make_site(SQLALCHEMY_DATABASE_URI=site.app.config["SQLALCHEMY_DATABASE_URI"])
    force_reset(without, "bob")
    without.post_events()
    reasons = [(row["state"], row["reason"]) for row in events(without)]
    assert reasons == [("dropped", "the feature is off (RECOVERY_WEBHOOK_URL)")] * 2
    assert receiver.calls == []


# --- Delivery ---


def test_receiver_that_is_down_for_an_hour_gets_every_event_with_its_id(make_site: Any) -> None:
    """Each attempt has its own time: the scheme's library refuses a timestamp that is five minutes old."""
    receiver = Receiver()
    with receiving(receiver):
        site: Site = make_site(**receiver.settings)
        receiver.status = 503
        force_reset(site)
        assert site.post_events() == 2
    first = {call.id: call for call in receiver.calls}
    for _ in range(3):  # refused connections
        shift(site, -HOUR / 3)
        force_reset(site, "bob")
        site.post_events()
    assert all("Connection refused" in row["reason"] for row in events(site))
    receiver.status = 204
    time.sleep(1.1)  # a timestamp counts seconds
    with receiving(receiver):
        shift(site, -HOUR * 1.25)  # the longest pause
        assert site.post_events() == 2 + 3 * 2
    assert events(site, "waiting") == []
    last = {call.id: call for call in receiver.calls}
    assert len(last) == 8
    for name, call in first.items():
        assert (last[name].event, last[name].signature == call.signature) == (call.event, False)


@pytest.mark.parametrize("status", [302, 307, 400, 410, 503])
def test_answer_other_than_2xx_is_retried_not_followed(site: Site, receiver: Receiver, status: int) -> None:
    with receiving() as other:
        receiver.status, receiver.headers = status, {"Location": other.url}
        force_reset(site)
        site.post_events()
        assert other.calls == []
    assert [row["attempts"] for row in events(site, "waiting")] == [1] * 2
    assert {f"HTTP Error {status}" in row["reason"] for row in events(site)} == {True}
    receiver.status, receiver.headers = 202, {}
    make_due(site)
    site.post_events()
    assert events(site, "waiting") == []


def test_call_ends_at_its_deadline(site: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "WAIT_SECONDS", 0.4)
    receiver.hangs.set()
    began = time.monotonic()
    with site.app.app_context(), pytest.raises(TimeoutError, match="took too long"):
        webhook.post("an id", webhook.new_event("webhook.test", "1"))
    assert 0.3 < time.monotonic() - began < 2
    receiver.hangs.clear()
    for receiver.status in (500, 204):
        force_reset(site)
        assert site.post_events() == 2
    wait_for(lambda: not any(thread.name.startswith("call to") for thread in threading.enumerate()), 2)


def test_send_test_posts_a_signed_event_over_trusted_tls_and_shows_refusals(
    make_site: Any, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    assert "RECOVERY_WEBHOOK_URL is empty" in run(make_site(), "webhook", "send-test", fails=True).output
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    with receiving(tls=tls) as receiver:
        url = f"https://localhost:{receiver.port}/"
        site: Site = make_site(**receiver.settings | {"RECOVERY_WEBHOOK_URL": url})
        assert "CERTIFICATE_VERIFY_FAILED" in run(site, "webhook", "send-test", fails=True).output
        assert receiver.calls == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))  # as docs/webhook.md says
        assert f"{url} accepted it." in run(site, "webhook", "send-test").output
        [call] = receiver.calls
        assert (call.type, call.event["data"]) == ("webhook.test", {"account_id": "0"})
        receiver.status = 401
        refusal = run(site, "webhook", "send-test", fails=True).output
        assert "did not accept it: HTTPError: HTTP Error 401" in refusal
    assert states(site) == []


# --- Beside the mail ---


@BOTH
def test_receiver_that_hangs_delays_no_mail(make_site: Any, mailbox: Mailbox, receiver: Receiver) -> None:
    """The worker has one thread for mail, and 150 events are due before the mail, each for 15 seconds."""
    site: Site = make_site(**receiver.settings)
    receiver.hangs.set()
    enqueue_events(site, 150)
    with at_work(site) as stop:
        wait_for(lambda: receiver.calls)
        began = time.monotonic()
        for identity in ("alice", "bob"):
            site.ask(identity)
        mailbox.wait_for(2)
        assert time.monotonic() - began < 5
        assert len(receiver.calls) == 1
        stop.set()
        receiver.hangs.clear()
    assert {row["attempts"] for row in events(site)} <= {0, 1}


def test_mail_that_is_held_delays_no_event(make_site: Any, receiver: Receiver) -> None:
    site: Site = make_site(**receiver.settings, MAIL_PORT=free_port())
    force_reset(site)
    assert "all mail is held" in run(site, "worker", "--once", fails=True).output
    assert receiver.types() == [ENDED, CHANGED]
    beat(site, trouble="MAIL_SERVER: away")
    force_reset(site, "alice", "--without-mail")
    table = run(site, "outbox", "list", "--state", "waiting").output
    assert len(re.findall(r"webhook .* waiting", table)) == 2
    assert re.search(r"reset instructions .* held", table)


def test_worker_once_counts_mails_and_events(site: Site, receiver: Receiver) -> None:
    force_reset(site)
    assert "3 processed" in run(site, "worker", "--once").output


def test_waiting_events_neither_fill_the_outbox_nor_delay_mail(make_site: Any, receiver: Receiver) -> None:
    token = {"RECOVERY_METRICS_TOKEN": "cQ7vX2mK9tR4wL8pJ5hG3fD6sZ1x"}
    site: Site = make_site(**receiver.settings, **token, RECOVERY_MAIL_WAITING_MAX=2)
    enqueue_events(site, 10)
    beat(site)
    assert problems(site) == []
    site.change(OutboxMessage, OutboxMessage.id > 0, created_at=LONG_AGO, attempts=1)
    answer: Any = site.visitor().open("/readyz")
    assert (answer.status_code, answer.json["problems"], answer.json["mail"]) == (503, ["webhook_late"], True)
    bearer = {"Authorization": f"Bearer {token['RECOVERY_METRICS_TOKEN']}"}
    metrics = site.visitor().open("/metrics", headers=bearer).text
    for line in ("webhooks", "mails"), ("oldest_webhook_seconds", "oldest_mail_seconds"):
        values = [
            re.search(rf'^sparekey_{name}\{{state="retried"\}} (\S+)', metrics, re.M)[1] for name in line
        ]
        assert (float(values[0]) >= 10, float(values[1])) == (True, 0)
    assert 'sparekey_problem{problem="webhook_late"} 1.0' in metrics
    site.new_link("alice")


def test_lanes_of_mail_hold_no_event(site: Site) -> None:
    enqueue_events(site, 1)
    with site.app.app_context():
        assert queue.claim() is None
        assert queue.claim([outbox.EXEMPT]) is None
        message = queue.claim([outbox.EVENTS])
        assert message is not None
        assert message.kind == "webhook"


# --- For operators ---


def test_event_is_listed_shown_discarded_retried_and_purged(make_site: Any, receiver: Receiver) -> None:
    site: Site = make_site(**receiver.settings, RECOVERY_MAIL_ATTEMPTS=1)
    receiver.status = 500
    force_reset(site)
    site.post_events()
    first, second = (row["id"] for row in events(site, "given_up"))
    listed = json.loads(run(site, "outbox", "list", "--identity", "alice", "--format", "json").output)
    assert [row["mail"] for row in listed["messages"]].count("webhook") == 2
    shown = json.loads(run(site, "outbox", "show", str(first), "--format", "json").output)
    account = {"account_id": site.rows(User)[0]["fs_webauthn_user_handle"]}
    assert (shown["event"]["type"], shown["event"]["data"]) == (CHANGED, account)
    assert "HTTP Error 500" in shown["reason"]
    assert SECRET not in str(shown)
    run(site, "outbox", "discard", str(first))
    receiver.status = 200
    run(site, "outbox", "retry", str(second))
    site.post_events()
    assert receiver.types() == [ENDED, CHANGED]
    assert [row["state"] for row in events(site)] == ["dropped", "sent"]
    old = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=32)
    settled = {"created_at": old, "due_at": old, "settled_at": old}
    site.change(OutboxMessage, OutboxMessage.kind == "webhook", **settled)
    deleted = json.loads(run(site, "purge", "--format", "json").output)["deleted"]
    assert (deleted["mails"], deleted["mails_not_sent"]) == (1, 1)
    report = json.loads(run(site, "users", "show", "alice", "--format", "json").output)
    assert {mail["mail"] for mail in report["mails"]} == {"reset_instructions"}


def test_restored_backup_sends_no_old_event(site: Site, receiver: Receiver) -> None:
    force_reset(site)
    run(site, "after-restore", "--yes")
    site.post_events()
    assert receiver.calls == []
