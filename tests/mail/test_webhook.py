"""The webhook: which changes it tells of, the signature, retries, and that its failures delay no mail."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
from flask_security import hash_password, signals
from sqlalchemy import event
from standardwebhooks import Webhook, WebhookVerificationError
from support.commands import run
from support.foreign_hashes import FLASK_SECURITY_HASHES
from support.mailbox import Mailbox, text_of
from support.outbox import HOUR, LONG_AGO, make_due, shift, states
from support.raw_server import raw_server, send_forever
from support.receiver import SECRET, Receiver, receiving
from support.recovery import code_of, object_to
from support.servers import free_port
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, at_work, wait_for

from app.accounts.models import User
from app.cli import database_checks
from app.db.engine import db
from app.mail import outbox, queue, webhook
from app.mail.heartbeat import Heartbeat, WorkerHeartbeat
from app.mail.outbox import OutboxMessage
from app.pages import health
from app.settings import current

RESET, CHANGED, ADDRESS, ENDED = (
    "password.reset",
    "password.changed",
    "email.changed",
    "account.sessions_ended",
)
NEW_ADDRESS = "alice@new.example.com"
METRICS_TOKEN = "cQ7vX2mK9tR4wL8pJ5hG3fD6sZ1x"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def site(make_site: Any, receiver: Receiver) -> Site:
    built: Site = make_site(
        **receiver.settings, SECURITY_CHANGE_EMAIL=True, RECOVERY_METRICS_TOKEN=METRICS_TOKEN
    )
    return built


def waiting(site: Site) -> list[dict[str, Any]]:
    return [row for row in site.messages() if row["kind"] == "webhook" and row["state"] == "waiting"]


def alices_id(site: Site) -> str:
    """Return the id that GET /me and Remote-User have."""
    return str(site.rows(User)[0]["fs_webauthn_user_handle"])


def force_reset(site: Site, identity: str = "alice", *options: str) -> None:
    run(site, "users", "force-reset", identity, "--quiet", *options)


# --- Which changes ---


def reset(site: Site) -> None:
    site.visitor().set_password(site.new_link())


def reset_by_handed_link(site: Site) -> None:
    output = run(site, "users", "reset-link", "alice", "--reason", "called back").output
    link = re.search(r"http://\S+/reset/\S+", output)
    assert link
    assert code_of(site, link[0]) == "redeemed"


def change_password(site: Site) -> None:
    alice = site.visitor()
    alice.sign_in()
    fields = {"new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    alice.submit("/change", password=OLD_PASSWORD, **fields)


def change_address(site: Site) -> None:
    alice = site.visitor()
    alice.post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
    alice.post_json("/change-email", json={"email": NEW_ADDRESS})
    site.work()
    [link] = {
        link for mail in site.mailbox.mails for link in re.findall(r"http\S+/change-email/\S+", text_of(mail))
    }
    alice.submit(link)


def object_to_reset(site: Site) -> None:
    reset(site)
    site.work()
    site.post_events()
    object_to(site, site.mailbox.mails[-1])


def give_address_back(site: Site) -> None:
    change_address(site)
    site.work()
    site.post_events()
    contested = {"contested_email": "alice@example.com", "contested_at": datetime(2026, 2, 28)}
    site.change(User, User.id == 1, **contested)
    run(site, "users", "settle-address", "alice", "--keep", "old")


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
    "reset by a link that an admin handed over": (reset_by_handed_link, [RESET, ENDED]),
    "change at /change": (change_password, [CHANGED, ENDED]),
    "change of address": (change_address, [ADDRESS, ENDED]),
    "objection to a reset": (object_to_reset, [RESET, ENDED, CHANGED, ENDED]),
    "address given back": (give_address_back, [ADDRESS, ENDED, CHANGED, ADDRESS, ENDED]),
    "users force-reset": (force_reset, [CHANGED, ENDED]),
    "users change_password": (
        lambda site: run(site, "users", "change_password", "alice", "--password", NEW_PASSWORD),
        [CHANGED, ENDED],
    ),
    "users reset_access": (lambda site: run(site, "users", "reset_access", "alice"), [ENDED]),
    "users deactivate": (lambda site: run(site, "users", "deactivate", "alice"), [ENDED]),
    "an extension": (change_in_an_extension, [CHANGED, ADDRESS, ENDED]),
}


@BOTH
@pytest.mark.parametrize("name", CHANGES)
def test_webhook_tells_of_each_way_to_change_an_account(site: Site, receiver: Receiver, name: str) -> None:
    change, types = CHANGES[name]
    began = datetime.now(UTC)
    change(site)
    site.post_events()
    assert receiver.types() == sorted(types)
    assert len({call.id for call in receiver.calls}) == len(types)
    for call in receiver.calls:
        assert call.event["data"] == {"account_id": alices_id(site)}
        assert began <= datetime.fromisoformat(call.event["timestamp"]) <= datetime.now(UTC)
        assert call.event.keys() == {"type", "timestamp", "data"}


def test_account_id_is_that_of_me(site: Site, receiver: Receiver) -> None:
    alice = site.visitor()
    assert alice.sign_in()
    fields = {"new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    alice.submit("/change", password=OLD_PASSWORD, **fields)
    account = alice.open("/me").json["response"]["user"]["id"]
    site.post_events()
    assert [call.event["data"] for call in receiver.calls] == [{"account_id": account}] * 2


@BOTH
def test_webhook_sends_nothing_secret(site: Site, receiver: Receiver) -> None:
    change_address(site)
    site.work()
    link = site.new_link(NEW_ADDRESS)
    site.visitor().set_password(link)
    site.post_events()
    account = site.rows(User)[0]
    texts = " ".join(call.text for call in receiver.calls)
    assert len(receiver.calls) == 4
    assert texts.startswith("POST /hooks/sparekey/ HTTP/1.1\n")
    for secret in (
        link[-43:],
        NEW_PASSWORD,
        SECRET,
        "alice",
        "example.com",
        account["password"],
        account["fs_uniquifier"],
    ):
        assert secret not in texts


@BOTH
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
    assert [row for row in site.messages() if row["kind"] == "webhook"] == []
    assert site.post_events() == 0
    assert receiver.calls == []


def test_webhook_of_a_redemption_that_fails_is_rolled_back_with_it(site: Site) -> None:
    def fail(_app: Any, **_: Any) -> None:
        db.session.flush()
        raise RuntimeError("a receiver of the signal fails")

    link = site.new_link()
    with signals.password_reset.connected_to(fail):
        assert site.visitor().post_json(link, json={"password": NEW_PASSWORD}).status_code == 500
    assert waiting(site) == []
    assert code_of(site, link) == "redeemed"
    assert len(waiting(site)) == 2


def test_note_of_a_change_that_is_rolled_back_is_forgotten(site: Site) -> None:
    """A later commit of the same request must not report it."""
    with site.app.app_context():
        alice = db.session.get_one(User, 1)
        alice.email, alice.fs_uniquifier = NEW_ADDRESS, "another"
        db.session.flush()
        db.session.rollback()
        outbox.enqueue("operator_alert", address="op@example.com", what="x", account=1)
        db.session.commit()
    assert waiting(site) == []


def test_site_without_a_webhook_keeps_no_event(make_site: Any) -> None:
    site: Site = make_site()
    link = site.new_link()
    assert code_of(site, link) == "redeemed"
    assert {row["kind"] for row in site.messages()} == {"reset_instructions", "reset_notice"}


def test_webhook_works_without_mail(make_site: Any, receiver: Receiver) -> None:
    site: Site = make_site(**receiver.settings, MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT="+1 555 0100")
    assert site.visitor().open("/readyz").json["problems"] == ["no_worker"]
    reset_by_handed_link(site)
    with at_work(site):
        wait_for(lambda: receiver.types() == [ENDED, RESET])


# --- Delivery ---


def test_signature_of_another_secret_or_body_is_refused(site: Site, receiver: Receiver) -> None:
    """The receiver of these tests verifies with the scheme's own library."""
    force_reset(site)
    site.post_events()
    call = receiver.calls[0]
    headers = dict(re.findall(r"^(webhook-\S+): (\S+)$", call.text, re.MULTILINE | re.IGNORECASE))
    body = call.text.rpartition("\n")[2]
    assert Webhook(SECRET).verify(body, headers) == call.event
    for secret, text in ((SECRET[:-1] + "h", body), (SECRET, body.replace("account", "Account"))):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(text, headers)


@BOTH
def test_receiver_that_is_down_for_an_hour_gets_every_event_with_its_id(make_site: Any) -> None:
    receiver = Receiver()
    with receiving(receiver):
        site: Site = make_site(**receiver.settings)
        receiver.status = 503
        force_reset(site)
        assert site.post_events() == 2
    first = {call.id: call for call in receiver.calls}
    for _ in range(7):  # refused connections, until the back-off is longer than an hour
        shift(site, -HOUR / 7)
        force_reset(site, "bob")
        site.post_events()
    assert {row["state"] for row in waiting(site)} == {"waiting"}
    assert all("Connection refused" in row["reason"] for row in waiting(site))
    receiver.status = 204
    with receiving(receiver):
        shift(site, -HOUR * 1.25)  # the longest pause
        assert site.post_events() == 2 + 7 * 2
    assert waiting(site) == []
    last = {call.id: call for call in receiver.calls}
    assert len(last) == 16
    assert {name: last[name].event for name in first} == {name: call.event for name, call in first.items()}


def test_each_attempt_is_signed_with_its_own_time(site: Site, receiver: Receiver) -> None:
    """Against replay, the scheme's library refuses a timestamp that is five minutes old."""
    receiver.status = 500
    force_reset(site)
    site.post_events()
    time.sleep(1.1)
    make_due(site)
    site.post_events()
    assert receiver.types() == [ENDED, CHANGED]
    assert len({call.id for call in receiver.calls}) == 2
    assert len({call.signature for call in receiver.calls}) == 4


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 410, 429, 500, 503])
def test_answer_other_than_2xx_is_retried_and_no_redirect_is_followed(
    site: Site, receiver: Receiver, status: int
) -> None:
    with receiving() as other:
        receiver.status, receiver.headers = status, {"Location": other.url}
        force_reset(site)
        site.post_events()
        assert other.calls == []
    assert [(row["state"], row["attempts"]) for row in waiting(site)] == [("waiting", 1)] * 2
    assert {f"HTTP Error {status}" in row["reason"] for row in waiting(site)} == {True}
    receiver.status, receiver.headers = 202, {}
    make_due(site)
    site.post_events()
    assert waiting(site) == []


def test_event_is_given_up_after_the_last_attempt_and_sent_by_outbox_retry(
    make_site: Any, receiver: Receiver
) -> None:
    site: Site = make_site(**receiver.settings, RECOVERY_MAIL_ATTEMPTS=2)
    receiver.status = 500
    force_reset(site)
    for _ in range(2):
        make_due(site)
        site.post_events()
    dead = [row for row in site.messages() if row["state"] == "given_up"]
    assert len(dead) == 2
    receiver.status = 200
    run(site, "outbox", "retry", *(str(row["id"]) for row in dead))
    site.post_events()
    assert {row["state"] for row in site.messages() if row["kind"] == "webhook"} == {"sent"}
    assert len({call.id for call in receiver.calls}) == 2


def stay_silent(connection: socket.socket) -> None:
    while connection.recv(65_536):  # until the caller hangs up
        pass


HANGING = {
    "silent": stay_silent,
    "a status line that does not end": send_forever(b"HTTP/1.1 200 ", b"x", 0.05),
    "headers that do not end": send_forever(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", 0.05),
}


@pytest.mark.parametrize("name", HANGING)
def test_call_ends_at_its_deadline_and_its_thread_with_the_answer(
    make_site: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(webhook, "WAIT_SECONDS", 0.4)
    threads = threading.active_count()
    with raw_server(HANGING[name]) as server:
        site: Site = make_site(RECOVERY_WEBHOOK_URL=f"http://{server}", RECOVERY_WEBHOOK_SECRET=SECRET)
        with site.app.app_context():
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(TimeoutError, match="took too long"):
                    webhook.post("an id", webhook.new_event("webhook.test", "1"))
                assert 0.3 < time.monotonic() - began < 2
    wait_for(lambda: threading.active_count() <= threads)


def test_call_that_is_over_keeps_no_thread(site: Site, receiver: Receiver) -> None:
    force_reset(site)
    site.post_events()
    receiver.status = 500
    force_reset(site)
    site.post_events()
    assert len(receiver.calls) == 4
    wait_for(lambda: not any(thread.name.startswith("call to") for thread in threading.enumerate()), 2)


def test_receiver_whose_certificate_is_not_trusted_gets_no_event(
    make_site: Any, authority: trustme.CA
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    with receiving(tls=tls) as receiver:
        url = f"https://localhost:{receiver.port}/"
        site: Site = make_site(**receiver.settings | {"RECOVERY_WEBHOOK_URL": url})
        assert "CERTIFICATE_VERIFY_FAILED" in run(site, "webhook", "send-test", fails=True).output
    assert receiver.calls == []


def test_receiver_is_called_over_tls(
    make_site: Any, authority: trustme.CA, monkeypatch: Any, tmp_path: Any
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))  # as docs/webhook.md says
    with receiving(tls=tls) as receiver:
        url = f"https://localhost:{receiver.port}/"
        site: Site = make_site(**receiver.settings | {"RECOVERY_WEBHOOK_URL": url})
        assert "accepted it" in run(site, "webhook", "send-test").output
    assert len(receiver.calls) == 1


# --- Beside the mail ---


@BOTH
def test_receiver_that_hangs_delays_no_mail(make_site: Any, mailbox: Mailbox, receiver: Receiver) -> None:
    """The worker has one thread for mail, and 150 events are due before the mail, each for 15 seconds."""
    site: Site = make_site(**receiver.settings)
    receiver.hangs.set()
    with site.app.app_context():
        for number in range(150):
            outbox.enqueue("webhook", user_id=1, event=webhook.new_event(ENDED, str(number)))
        db.session.commit()
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
    assert {row["attempts"] for row in site.messages() if row["kind"] == "webhook"} <= {0, 1}


def test_mail_that_is_held_delays_no_event(make_site: Any, receiver: Receiver) -> None:
    site: Site = make_site(**receiver.settings, MAIL_PORT=free_port())
    force_reset(site)
    result = run(site, "worker", "--once", fails=True)
    assert "all mail is held" in result.output
    assert receiver.types() == [ENDED, CHANGED]
    with site.app.app_context():
        beating = Heartbeat()
        beating.beat()
    site.change(WorkerHeartbeat, WorkerHeartbeat.name == beating.name, trouble="MAIL_SERVER: away")
    force_reset(site, "alice", "--without-mail")
    table = run(site, "outbox", "list", "--state", "waiting").output
    assert len(re.findall(r"webhook .* waiting", table)) == 2
    assert re.search(r"reset instructions .* held", table)


@BOTH
def test_answers_of_the_receiver_are_no_news_of_the_relay(site: Site, receiver: Receiver) -> None:
    """An event that arrives or is refused changes no mail, such as one that the relay has refused."""
    force_reset(site)
    site.mailbox.refuse["DATA"] = "554 no"
    site.work()

    def mails() -> list[dict[str, Any]]:
        return [row for row in site.messages() if row["kind"] != "webhook"]

    before = mails()
    assert before[0]["reason"]
    for status in (500, 204):
        receiver.status = status
        site.change(OutboxMessage, OutboxMessage.kind == "webhook", due_at=LONG_AGO)
        assert site.post_events() == 2
        assert mails() == before
        assert not any(row.get("refused_at") for row in site.messages() if row["kind"] == "webhook")


def test_worker_once_counts_mails_and_events(site: Site, receiver: Receiver) -> None:
    force_reset(site)
    assert "3 processed" in run(site, "worker", "--once").output
    assert "0 processed" in run(site, "worker", "--once").output


def test_events_count_as_no_mail(make_site: Any, receiver: Receiver) -> None:
    """Many that wait neither fill the outbox, nor make mail late."""
    site: Site = make_site(**receiver.settings, RECOVERY_MAIL_WAITING_MAX=2)
    with site.app.app_context():
        for number in range(10):
            outbox.enqueue("webhook", user_id=1, event=webhook.new_event(ENDED, str(number)))
        db.session.commit()
        Heartbeat().beat()
    site.change(OutboxMessage, OutboxMessage.id > 0, created_at=LONG_AGO)
    answer = site.visitor().open("/readyz")
    assert (answer.status_code, answer.json["problems"], answer.json["mail"]) == (503, ["webhook_late"], True)
    site.ask("alice")
    assert site.messages()[-1]["kind"] == "reset_instructions"
    site.work()
    assert len(site.mailbox.mails) == 1


def test_no_event_runs_in_a_thread_of_mail(site: Site, receiver: Receiver) -> None:
    force_reset(site)
    site.work()
    assert [row["kind"] for row in waiting(site)] == ["webhook"] * 2
    assert [row["attempts"] for row in waiting(site)] == [0, 0]
    assert receiver.calls == []


# --- For operators ---


def test_event_is_listed_shown_discarded_and_purged(site: Site, receiver: Receiver) -> None:
    receiver.status = 500
    force_reset(site)
    site.post_events()
    first, second = (row["id"] for row in waiting(site))
    listed = json.loads(run(site, "outbox", "list", "--identity", "alice", "--format", "json").output)[
        "messages"
    ]
    assert [(row["mail"], row["status"]) for row in listed if row["mail"] == "webhook"] == [
        ("webhook", "waiting")
    ] * 2
    shown = json.loads(run(site, "outbox", "show", str(first), "--format", "json").output)
    assert (shown["event"]["type"], shown["event"]["data"]) == (CHANGED, {"account_id": alices_id(site)})
    assert "HTTP Error 500" in shown["reason"]
    assert SECRET not in str(shown)
    run(site, "outbox", "discard", str(first))
    receiver.status = 200
    run(site, "outbox", "retry", str(second))
    site.post_events()
    assert receiver.types() == [ENDED, CHANGED]
    assert waiting(site) == []
    old = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=32)
    settled = {"created_at": old, "due_at": old, "settled_at": old}
    site.change(OutboxMessage, OutboxMessage.kind == "webhook", **settled)
    deleted = json.loads(run(site, "purge", "--format", "json").output)["deleted"]
    assert (deleted["mails"], deleted["mails_not_sent"]) == (1, 1)
    report = json.loads(run(site, "users", "show", "alice", "--format", "json").output)
    assert {mail["mail"] for mail in report["mails"]} == {"reset_instructions"}


def test_late_events_are_a_problem_a_finding_and_a_metric(site: Site, receiver: Receiver) -> None:
    with site.app.app_context():
        Heartbeat().beat()
    receiver.status = 500
    force_reset(site)
    site.work()
    site.post_events()
    age = current_age(site)
    assert health.WEBHOOK_LATE not in site.visitor().open("/readyz").json["problems"]
    at = datetime.now(UTC).replace(tzinfo=None) - age
    site.change(OutboxMessage, OutboxMessage.kind == "webhook", created_at=at)
    assert site.visitor().open("/readyz").json["problems"] == ["webhook_late"]
    with site.app.app_context():
        assert [finding.id for finding in database_checks.run()] == ["webhook-late"]
    metrics = site.visitor().open("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}).text
    assert 'sparekey_webhooks{state="retried"} 2.0' in metrics
    assert 'sparekey_mails{state="retried"} 0.0' in metrics
    assert 'sparekey_problem{problem="webhook_late"} 1.0' in metrics
    assert re.search(r'sparekey_oldest_webhook_seconds\{state="retried"\} 9\d\d\.', metrics)


def current_age(site: Site) -> timedelta:
    with site.app.app_context():
        return current().RECOVERY_READY_MAIL_AGE


def test_events_that_wait_when_the_url_is_removed_are_dropped(
    database: Callable[[], str], make_site: Any, receiver: Receiver
) -> None:
    uri = database()
    force_reset(make_site(**receiver.settings, SQLALCHEMY_DATABASE_URI=uri))
    site: Site = make_site(SQLALCHEMY_DATABASE_URI=uri)
    site.post_events()
    events = [row for row in site.messages() if row["kind"] == "webhook"]
    assert {(row["state"], row["reason"]) for row in events} == {("dropped", "RECOVERY_WEBHOOK_URL is empty")}


def test_restored_backup_sends_no_old_event(site: Site, receiver: Receiver) -> None:
    force_reset(site)
    run(site, "after-restore", "--yes")
    site.post_events()
    assert receiver.calls == []


def test_account_that_is_deleted_meanwhile_is_still_told_of(site: Site, receiver: Receiver) -> None:
    reset(site)

    def delete() -> None:
        receiver.on_call = lambda: None
        with site.app.app_context():
            db.session.delete(db.session.get_one(User, 1))
            db.session.commit()

    receiver.on_call = delete
    site.post_events()
    assert receiver.types() == [ENDED, RESET]
    assert waiting(site) == []


def test_send_test_posts_a_signed_event_and_shows_refusals(
    make_site: Any, site: Site, receiver: Receiver
) -> None:
    assert f"{receiver.url} accepted it." in run(site, "webhook", "send-test").output
    [call] = receiver.calls
    assert (call.type, call.event["data"]) == ("webhook.test", {"account_id": "0"})
    receiver.status = 401
    refusal = run(site, "webhook", "send-test", fails=True).output
    assert "did not accept it: HTTPError: HTTP Error 401" in refusal
    assert "RECOVERY_WEBHOOK_URL is empty" in run(make_site(), "webhook", "send-test", fails=True).output
    assert states(site) == []


def test_lanes_of_mail_hold_no_event(site: Site) -> None:
    with site.app.app_context():
        outbox.enqueue("webhook", user_id=1, event=webhook.new_event(ENDED, "1"))
        db.session.commit()
        assert queue.claim() is None
        assert queue.claim([outbox.EXEMPT]) is None
        message = queue.claim([outbox.EVENTS])
        assert message is not None
        assert message.kind == "webhook"
        assert queue.claim([outbox.EVENTS]) is None


def test_events_are_written_in_the_transaction_of_the_change(site: Site) -> None:
    commits: list[int] = []

    def count(_session: Any) -> None:
        with db.engine.connect() as other:
            rows = other.exec_driver_sql("SELECT count(*) FROM outbox_message WHERE kind = 'webhook'")
            commits.append(rows.scalar_one())

    link = site.new_link()
    event.listen(db.session, "after_commit", count)
    try:
        assert code_of(site, link) == "redeemed"
    finally:
        event.remove(db.session, "after_commit", count)
    assert set(commits) <= {0, 2}
    assert 2 in commits
