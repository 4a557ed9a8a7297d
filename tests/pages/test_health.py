"""/healthz and /readyz."""

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

    def check(status: int, **expected: Any) -> None:
        answer = visitor.open("/readyz", headers={"Host": "10.0.0.7:8000"})
        fine = {"database": True, "worker": True, "mail": True, "problems": [], "reason": None}
        assert (answer.status_code, answer.json) == (status, {**fine, **expected})

    check(503, worker=False, problems=["no_worker"])
    workers = [heartbeat.Heartbeat() for _ in range(2)]
    with site.app.app_context():
        for worker in workers:
            worker.beat()
    check(200)
    site.ask()
    site.change(OutboxMessage, OutboxMessage.state == "waiting", created_at=LONG_AGO)
    check(503, mail=False, problems=["mail_late"])
    site.work()
    check(200)
    for first in (0, 1):  # both workers, and one alone
        some = WorkerHeartbeat.name.in_([worker.name for worker in workers[first:]])
        site.change(WorkerHeartbeat, some, trouble="MAIL_PASSWORD: wrong")
        check(503, mail=False, problems=["mail_held"], reason="MAIL_PASSWORD: wrong")
        site.change(WorkerHeartbeat, trouble=None)
    site.ask("alice")
    site.ask("bob")
    check(503, mail=False, problems=["outbox_full"])
    site.change(WorkerHeartbeat, seen_at=LONG_AGO)
    check(503, worker=False, mail=False, problems=["no_worker", "outbox_full"])
    with site.app.app_context():
        db.session.execute(text("DROP TABLE worker_heartbeat"))
        db.session.commit()
    check(503, database=False, worker=None, mail=None, problems=["database_away"])


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
    assert "alice@example.com" in run(site, "users", "show", "alice").output
    with site.app.app_context():
        assert "database-read-only" in {finding.id for finding in database_checks.run()}
    event.remove(engine, "checkout", read_only)
    engine.dispose()
    assert visitor.open("/readyz").status_code == 200
