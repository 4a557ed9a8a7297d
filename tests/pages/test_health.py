"""/healthz and /readyz."""

from typing import Any

import pytest
from sqlalchemy import event, text
from support.application import EVERYWHERE, Application
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


# --- The application's table (RECOVERY_ACCOUNTS) ---


def readiness(site: Site) -> tuple[int, list[str], str]:
    """Return the status of /readyz, its problems, and the reason."""
    answer = site.visitor().open("/readyz")
    return answer.status_code, answer.json["problems"], answer.json["reason"] or ""


@EVERYWHERE
def test_readyz_is_red_while_the_applications_table_does_not_fit(
    application: Application, make_site: Any
) -> None:
    """Also while no mail is due, and no worker has looked."""
    site: Site = make_site(**application.deployment())
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
    assert readiness(site) == (200, [], "")
    application.execute("ALTER TABLE users RENAME COLUMN password TO secret")
    status, problems, reason = readiness(site)
    assert (status, problems) == (503, ["accounts_away"])
    assert "RECOVERY_ACCOUNTS" in reason
    assert "password" in reason
    assert "The table users cannot be used: RECOVERY_ACCOUNTS" in run(site, "outbox", "list").output
    application.execute("ALTER TABLE users RENAME COLUMN secret TO password")
    assert readiness(site) == (200, [], "")


@pytest.mark.parametrize("application", ["postgresql"], indirect=True)
def test_readyz_is_red_and_mail_waits_while_no_password_can_be_written(
    application: Application, make_site: Any
) -> None:
    """Or each mailed link would end with an error."""
    application.execute(
        "DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT ALL ON SCHEMA sparekey TO reader",
        "GRANT ALL ON ALL TABLES IN SCHEMA sparekey TO reader",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA sparekey TO reader",
        "GRANT SELECT, UPDATE (password) ON users TO reader",
    )
    settings = application.deployment(changed_at="changed_at")
    settings["SQLALCHEMY_DATABASE_URI"] = application.uri.replace("tests@", "reader@")
    site: Site = make_site(**settings)
    with site.app.app_context():
        heartbeat.Heartbeat().beat()
    site.ask()
    refused = (503, ["accounts_away"], "RECOVERY_ACCOUNTS: permission denied for table users")
    assert readiness(site) == refused
    with pytest.raises(Exception, match="permission denied"):
        site.work()
    assert site.messages()[-1]["state"] == "waiting"
    application.execute("GRANT UPDATE (changed_at) ON users TO reader")
    assert readiness(site) == (200, [], "")
    assert site.work() == 1


@pytest.mark.parametrize("application", ["postgresql"], indirect=True)
def test_readyz_waits_only_briefly_for_a_table_that_the_application_has_locked(
    application: Application, make_site: Any
) -> None:
    site: Site = make_site(**application.deployment())
    with application.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE users")
        assert "lock timeout" in readiness(site)[2]
    assert readiness(site)[1] == ["no_worker"]
