"""Time for the outbox: tests move the stored times instead of waiting."""

from datetime import datetime, timedelta
from typing import Any

from app.db.engine import db
from app.mail import outbox, queue
from app.mail.heartbeat import Heartbeat, WorkerHeartbeat
from app.mail.outbox import OutboxMessage

from .site import Site

HOUR = timedelta(hours=1)
LONG_AGO = datetime(2020, 1, 1)


def enqueue_requests(site: Site, count: int) -> None:
    """Request reset instructions for so many made-up identities."""
    with site.app.app_context():
        for number in range(count):
            outbox.enqueue("reset_instructions", identity=f"nobody{number}@example.com", client="browser")
        db.session.commit()


def enqueue_mails(site: Site, *recipients: str) -> None:
    """Add a mail to each of these addresses, of no account."""
    with site.app.app_context():
        for recipient in recipients:
            outbox.enqueue("flask_security", recipient=recipient, subject="s", text="text", html="")
        db.session.commit()


def claim(site: Site) -> OutboxMessage:
    """Claim a message, as a worker does that dies at once."""
    with site.app.app_context():
        message = queue.claim()
    assert message is not None
    return message


def problems(site: Site) -> list[str]:
    """Return the problems of /readyz."""
    return list(site.visitor().open("/readyz").json["problems"])  # type: ignore[index]


def make_due(site: Site) -> None:
    """Make every waiting message due, and end its lease."""
    site.change(OutboxMessage, OutboxMessage.state == "waiting", due_at=LONG_AGO)


def shift(site: Site, by: timedelta) -> None:
    """Move all times as if the database's clock were set back by this (forward, if negative)."""
    times = {OutboxMessage: ("created_at", "due_at", "refused_at"), WorkerHeartbeat: ("seen_at",)}
    for model, columns in times.items():
        with site.app.app_context():
            for row in db.session.query(model):
                for column in columns:
                    if time := getattr(row, column):
                        setattr(row, column, time + by)
            db.session.commit()


def states(site: Site) -> list[tuple[str, int]]:
    """Return the state and the number of attempts of each message."""
    return [(row["state"], row["attempts"]) for row in site.messages()]


def beat(site: Site, **values: Any) -> None:
    """Let a worker report, with these values in its row."""
    with site.app.app_context():
        Heartbeat().beat()
    if values:
        site.change(WorkerHeartbeat, **values)
