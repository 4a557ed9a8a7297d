"""/healthz and /readyz."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import event, text
from support.commands import run
from support.outbox import LONG_AGO
from support.site import BOTH, Site

from app.cli import database_checks
from app.db.engine import db
from app.mail import heartbeat
from app.mail.heartbeat import WorkerHeartbeat
from app.mail.outbox import OutboxMessage


@pytest.mark.requirement("R66")
def test_healthz_tells_no_version(site: Site) -> None:
    answer = site.visitor().open("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


@pytest.mark.requirement("R59")
def test_readyz_reports_each_problem(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_WAITING_MAX=2)
    visitor = site.visitor()

    def readyz(**headers: str) -> tuple[int, Any]:
        answer = visitor.open("/readyz", headers=headers)
        return answer.status_code, answer.json

    def report(
        *problems: str, worker: bool = True, mail: bool = True, reason: str | None = None
    ) -> tuple[int, Any]:
        body = {"database": True, "worker": worker, "mail": mail, "problems": list(problems)}
        return 503 if problems else 200, {**body, "reason": reason}

    workers = [heartbeat.Heartbeat() for _ in range(2)]

    def change_heartbeats(first: int = 0, trouble: str | None = None, **values: datetime) -> None:
        names = [worker.name for worker in workers[first:]]
        site.change(WorkerHeartbeat, WorkerHeartbeat.name.in_(names), trouble=trouble, **values)

    assert readyz() == report("no_worker", worker=False)
    with site.app.app_context():
        for worker in workers:
            worker.beat()
    assert readyz(Host="10.0.0.7:8000") == report()
    site.ask()
    site.change(OutboxMessage, OutboxMessage.state == "waiting", created_at=LONG_AGO)
    assert readyz() == report("mail_late", mail=False)
    site.work()
    assert readyz() == report()
    for first in (0, 1):  # both workers, and one alone
        change_heartbeats(first, trouble="MAIL_PASSWORD: wrong")
        assert readyz() == report("mail_held", mail=False, reason="MAIL_PASSWORD: wrong")
        change_heartbeats()
    site.ask("alice")
    site.ask("bob")
    assert readyz() == report("outbox_full", mail=False)
    change_heartbeats(seen_at=LONG_AGO)
    assert readyz()[1]["worker"] is False
    with site.app.app_context():
        db.session.execute(text("DROP TABLE worker_sign"))
        db.session.commit()
    unknown = {"database": False, "worker": None, "mail": None, "problems": ["database_away"], "reason": None}
    assert readyz() == (503, unknown)


@BOTH
@pytest.mark.requirement("R59")
def test_readyz_is_red_while_the_database_is_read_only(make_site: Any) -> None:
    """The worker may write to another machine's, or reported less than a minute ago."""
    site: Site = make_site()
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
        engine = db.engine
    visitor = site.visitor()
    assert visitor.open("/readyz").status_code == 200

    def read_only(connection: Any, *_: Any) -> None:
        if engine.dialect.name == "sqlite":
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.read_only = True

    event.listen(engine, "checkout", read_only)
    engine.dispose()
    assert visitor.post_json("/reset", json={"identity": "alice"}).status_code == 503
    answer = visitor.open("/readyz")
    assert (answer.status_code, answer.json["problems"]) == (503, ["database_read_only"])
    assert "The database is read-only" in run(site, "outbox", "list").output
    with site.app.app_context():
        assert "database-read-only" in {finding.id for finding in database_checks.run()}
    event.remove(engine, "checkout", read_only)
    engine.dispose()
    assert visitor.open("/readyz").status_code == 200
