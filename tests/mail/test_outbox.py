"""The outbox: deduplication, claims and leases, back-off, and the outcome of a message."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, text
from support.concurrency import in_another_thread
from support.database import database_uri
from support.mailbox import html_of
from support.outbox import HOUR, claim, enqueue_requests, make_due, shift, states
from support.site import BOTH, SECRETS, Site, at_work

from app.accounts.identities import identity_key, map_identity
from app.accounts.models import User
from app.db.engine import db
from app.mail import outbox, queue, worker
from app.mail.outbox import OutboxMessage
from app.recovery.link import ResetLink

POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


# --- Requests ---


@BOTH
@pytest.mark.requirement("R59")
def test_outbox_pending_requests_for_one_identity_share_a_message_of_the_last(make_site: Any) -> None:
    views = {"reset_view": "https://app.example.com/new", "reset_error_view": "https://app.example.com/x"}
    site: Site = make_site(RECOVERY_CLIENTS={"web": views})
    for identity in ("alice@example.com", " Alice@EXAMPLE.com "):
        site.ask(identity)
    for identity in ("nobody@example.com", "NOBODY@example.com", "nobody", "nobody"):
        site.ask(identity)
    shift(site, by=-timedelta(seconds=outbox.REPEAT_SECONDS + 1))
    body = {"identity": "alice@example.com", "client": "web"}
    site.visitor().post_json("/reset", json=body, headers={"Accept-Language": "de"})
    assert len(site.messages()) == 3
    assert site.events() == ["requested"] * 7
    site.work()
    [mail] = site.mailbox.mails
    assert '<html lang="de"' in html_of(mail)
    assert [link["client"] for link in site.links()] == ["web"]


@pytest.mark.requirement("R59")
def test_outbox_unrecognized_input_never_replaces_a_request(site: Site) -> None:
    with site.app.app_context():
        imitation = str(map_identity("alice@example.com"))
        assert identity_key(imitation) != identity_key("alice@example.com")
    site.ask("alice@example.com")
    site.ask(imitation)
    assert len(site.messages()) == 1
    site.work()
    assert site.mailbox.envelopes == [["alice@example.com"]]


@BOTH
def test_outbox_request_after_an_attempt_gets_its_own_message(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask()
    site.work()
    site.ask()
    site.ask()
    assert states(site) == [("waiting", 1), ("waiting", 0)]


@BOTH
def test_outbox_flood_for_one_identity_prevents_no_claim_and_fails_no_request(site: Site) -> None:
    is_over = threading.Event()

    def flood() -> set[int]:
        answers = set()
        while not is_over.is_set():
            answers.add(site.ask("alice").status_code)
        return answers

    with ThreadPoolExecutor(2) as pool:
        floods = [pool.submit(flood) for _ in range(2)]
        try:
            with at_work(site):
                site.mailbox.wait_for(5)
        finally:
            is_over.set()
    assert [future.result() for future in floods] == [{200}] * 2


@POSTGRESQL
def test_outbox_locked_message_delays_its_own_request_by_seconds_and_no_other(site: Site) -> None:
    """A frozen process, or an admin, holds the row of the message that is due longest."""
    lock = text("SELECT * FROM outbox_message WHERE id = 1 FOR UPDATE")
    site.ask("alice")
    with site.app.app_context():
        engine = db.engine
    with engine.connect() as frozen:
        frozen.execute(lock)
        assert site.ask("alice").status_code == 200  # a recent request is not updated
        frozen.rollback()
        shift(site, by=-timedelta(seconds=outbox.REPEAT_SECONDS + 1))
        frozen.execute(lock)
        began = time.monotonic()
        assert site.ask("alice").status_code == 503
        assert time.monotonic() - began < 5
        assert site.ask("bob").status_code == 200
        with at_work(site):
            site.mailbox.wait_for(1)
        assert site.mailbox.envelopes == [["bob@example.com"]]


@pytest.mark.requirement("R1", "R35", "R59")
def test_outbox_full_answers_alike_and_takes_notices(
    make_site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site: Site = make_site(RECOVERY_MAIL_WAITING_MAX=2)
    link = site.new_link()
    answers = [site.ask(f"nobody{number}@example.com") for number in range(4)]
    assert len({(answer.status_code, answer.text) for answer in answers}) == 1
    assert len(site.messages()) == 1 + 2
    assert "RECOVERY_MAIL_WAITING_MAX" in caplog.text
    site.visitor().set_password(link)
    site.work()
    assert "new password" in site.mailbox.mails[-1]["Subject"]
    site.new_link()


@pytest.mark.requirement("R61")
def test_outbox_input_is_encrypted_and_erased_when_settled(site: Site) -> None:
    site.ask("nobody-here@example.com")
    assert "nobody-here" not in str(site.messages())
    assert site.messages()[0]["sealed"]
    site.work()
    assert site.messages()[0]["sealed"] is None


# --- Claims ---


@BOTH
def test_outbox_parallel_claims_take_each_message_once(site: Site) -> None:
    """First of a crowd, which are taken at random, and then in order."""
    count = queue.CROWD + 20
    enqueue_requests(site, count)

    def claim_all(_: int) -> list[int]:
        claimed = []
        with site.app.app_context():
            while (message := queue.claim()) is not None:
                claimed.append(message.id)
        return claimed

    with ThreadPoolExecutor(4) as pool:
        claimed = [number for numbers in pool.map(claim_all, range(4)) for number in numbers]
    assert sorted(claimed) == list(range(1, count + 1))


@BOTH
def test_outbox_lost_lease_settles_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.ask()
    attempt = worker.attempt

    def lose_the_lease(message: OutboxMessage, relay: Any) -> tuple[str, str]:
        monkeypatch.setattr(worker, "attempt", attempt)
        make_due(site)
        in_another_thread(site.work)
        return "dropped", "too late"

    monkeypatch.setattr(worker, "attempt", lose_the_lease)
    site.work()
    assert site.events() == ["requested", "mail_sent"]
    assert states(site) == [("sent", 2)]


def test_outbox_lease_that_ends_while_a_mail_is_composed_issues_no_link(site: Site) -> None:
    site.ask()
    late = claim(site)
    make_due(site)
    in_another_thread(site.work)
    with site.app.app_context(), pytest.raises(TimeoutError, match="its lease ended"):
        queue.compose_and_commit(late)
    assert len(site.rows(ResetLink)) == len(site.mailbox.mails) == 1


@pytest.mark.requirement("R59")
def test_outbox_message_that_kills_its_workers_is_given_up(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_ATTEMPTS=2)
    site.ask()
    for _ in range(2):
        claim(site)
        make_due(site)
    site.work()
    [message] = site.messages()
    assert (message["state"], message["reason"]) == ("given_up", "every attempt was cut short")
    assert site.mailbox.mails == []


# --- Outcomes ---


@BOTH
@pytest.mark.requirement("R59")
def test_outbox_backoff_doubles(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "451 greylisted, try later"
    site.ask()
    for shortest in (10, 20, 40):
        make_due(site)
        with site.app.app_context():
            now = datetime.fromisoformat(str(db.session.scalar(db.select(outbox.utcnow()))))
        site.work()
        pause = (site.messages()[0]["due_at"] - now).total_seconds()
        assert shortest <= pause <= shortest * 1.25 + 2
    assert "451" in site.messages()[0]["reason"]


@pytest.mark.requirement("R59")
def test_outbox_unsent_mail_counts_for_no_quota(make_site: Any) -> None:
    """Neither a message that is given up after its last attempt nor one that is dropped."""
    site: Site = make_site(
        RECOVERY_MAIL_ATTEMPTS=2, RECOVERY_MAIL_DAILY_CAP=1, RECOVERY_MAIL_COOLDOWN="5 minutes"
    )
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask()
    site.work()
    make_due(site)
    site.work()
    assert states(site) == [("given_up", 2)]
    site.ask()
    site.work()
    shift(site, by=-(HOUR + timedelta(seconds=5)))
    site.work()
    assert states(site) == [("given_up", 2), ("dropped", 2)]
    site.mailbox.refuse.clear()
    site.new_link()


@pytest.mark.requirement("R59")
def test_outbox_request_older_than_link_lifetime_is_dropped_unless_repeated(site: Site) -> None:
    site.ask("alice")
    site.ask("bob")
    shift(site, by=-(HOUR + timedelta(seconds=5)))
    site.ask("bob")
    site.work()
    assert site.mailbox.envelopes == [["bob@example.com"]]
    assert states(site) == [("dropped", 1), ("sent", 1)]
    assert "SECURITY_RESET_PASSWORD_WITHIN" in site.messages()[0]["reason"]
    assert site.events().count("mail_dropped") == 1


@pytest.mark.requirement("R59")
def test_outbox_mail_is_dropped_when_its_link_ended_meanwhile(site: Site) -> None:
    site.mailbox.refuse["DATA"] = "451 later"
    site.ask()
    site.work()
    site.mailbox.refuse.clear()
    site.visitor().set_password(site.new_link())
    make_due(site)
    site.work()
    assert sum("/reset/" in str(mail) for mail in site.mailbox.mails) == 1
    assert site.messages()[0]["state"] == "dropped"


@BOTH
def test_outbox_account_deleted_during_delivery(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    release = outbox.release

    def delete_first(message: Any, *outcome: Any) -> Any:
        db.session.execute(delete(User).where(User.id == message.user_id))
        db.session.commit()
        return release(message, *outcome)

    monkeypatch.setattr(outbox, "release", delete_first)
    site.ask()
    site.work()
    [message] = site.messages()
    assert (message["state"], message["user_id"], len(site.mailbox.mails)) == ("sent", None, 1)


@pytest.mark.requirement("R64")
def test_outbox_message_waits_for_a_key_that_the_worker_lacks(make_site: Any) -> None:
    """During a rotation, a web process may have the new key before the worker has it."""
    worker_site: Site = make_site()
    keys = {
        "SECRET_KEY": "another-key-another-key-another",
        "SECRET_KEY_FALLBACKS": [SECRETS["FLASK_SECRET_KEY"]],
    }
    web_site: Site = make_site(SQLALCHEMY_DATABASE_URI=database_uri(worker_site), **keys)
    web_site.ask()
    worker_site.work()
    assert (states(web_site), "SECRET_KEY" in web_site.messages()[0]["reason"]) == ([("waiting", 1)], True)
    make_due(web_site)
    web_site.work()
    assert len(web_site.mailbox.mails) == 1


@BOTH
def test_outbox_dead_workers_message_is_sent_again_when_its_lease_ends(site: Site) -> None:
    """By the clock alone: RECOVERY_MAIL_LEASE is four minutes."""
    site.ask()
    claim(site)
    shift(site, by=-timedelta(minutes=3, seconds=45))
    assert site.work() == 0
    shift(site, by=-timedelta(seconds=20))
    site.work()
    assert states(site) == [("sent", 2)]
