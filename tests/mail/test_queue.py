"""The queue: neither the order nor the times of an attacker's own mails tell who has an account."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from support.mailbox import Mailbox
from support.outbox import enqueue_mails, enqueue_requests, states
from support.site import BOTH, Site, at_work, wait_for

from app.mail import outbox, queue, worker
from app.mail.queue import CROWD, OLDEST, Pace

DELIVERY_SECONDS = 0.3
HOUR_SECONDS = 3600.0  # longer than any test


@contextmanager
def at_work_with(site: Site, pace: Pace) -> Iterator[None]:
    """Run one thread of a worker with this pace. It must stop at once."""
    stop = threading.Event()

    def work() -> None:
        with site.app.app_context():
            worker.work_until_done(stop, pace=pace)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()


def slow_pace() -> Pace:
    """Return the pace of a worker whose last delivery took longer than any test."""
    pace = Pace()
    for deliveries in pace.deliveries.values():
        deliveries.append((HOUR_SECONDS, 0.0))
    return pace


@pytest.mark.requirement("R1", "R2")
@pytest.mark.parametrize("identity", ["nobody", "inactive@example.com", "alice@example.com", "bob"])
def test_queue_takes_as_long_if_no_mail_goes_out(make_site: Any, mailbox: Mailbox, identity: str) -> None:
    """An attacker requests its own mail, another's, and its own. The other has no account, or gets no mail.

    alice is within the cool-down, and the relay refuses bob, whose mail is set aside.
    """
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes")
    mailbox.delay["DATA"] = DELIVERY_SECONDS
    mailbox.refuse_only["bob@example.com"] = "550 no such user"
    site.ask("alice")
    site.ask(identity)
    enqueue_mails(site, "b@example.com")
    with at_work(site):
        mailbox.wait_for(2)
    assert mailbox.envelopes == [["alice@example.com"], ["b@example.com"]]
    first, second = mailbox.times
    assert second - first > 1.95 * DELIVERY_SECONDS  # 0.05: the event loop's clock


def test_queue_keeps_the_pace_of_recent_deliveries_alone() -> None:
    """On the clock, and of the CPU, because other workers share it."""
    pace = slow_pace()
    message, stop = outbox.OutboxMessage(), threading.Event()
    for _ in range(20):
        pace.keep(message, "sent", 1.0, 0.06, stop)
    began, cpu_began = time.monotonic(), time.thread_time()
    pace.keep(message, "dropped", 0.4, 0.01, stop)
    assert 0.6 <= time.monotonic() - began < HOUR_SECONDS
    assert 0.04 <= time.thread_time() - cpu_began < 0.15
    pace.keep(message, "dropped", HOUR_SECONDS, HOUR_SECONDS, stop)  # it took longer than a delivery


def test_queue_keeps_the_pace_of_the_connection_before_the_first_delivery(site: Site) -> None:
    pace = Pace()
    site.ask("nobody")
    with at_work_with(site, pace):
        wait_for(lambda: states(site) == [("dropped", 1)])
    assert pace.connection > 0
    assert not any(pace.deliveries.values())


@BOTH
@pytest.mark.requirement("R58", "R59")
def test_queue_in_a_crowd_takes_no_time_over_requests_that_lead_to_no_mail(site: Site) -> None:
    """A flood of made-up identities cannot occupy the workers. A worker that keeps the pace stops at once."""
    enqueue_requests(site, CROWD + 10)
    with at_work_with(site, slow_pace()):
        # The last one is claimed when as many as CROWD are due, and waits.
        wait_for(lambda: states(site).count(("dropped", 1)) == 10)
        time.sleep(0.3)
        assert states(site).count(("waiting", 1)) == 1
    assert states(site).count(("waiting", 0)) == CROWD - 1


@BOTH
@pytest.mark.requirement("R1")
def test_queue_in_a_crowd_takes_one_of_the_oldest_at_random(site: Site) -> None:
    enqueue_requests(site, OLDEST + 60)
    with site.app.app_context():
        claimed = [message.id for _ in range(50) if (message := queue.claim())]
    assert len(set(claimed)) == 50
    assert all(number <= OLDEST + place for place, number in enumerate(claimed))
    assert max(claimed) > OLDEST / 2
    falls = sum(later < earlier for earlier, later in pairwise(claimed))
    assert 10 < falls < 40  # 24.5 on average, 2.1 standard deviation
