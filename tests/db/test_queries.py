"""Queries: no statement scans a table, on either database."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, inspect, text
from support.commands import run
from support.mailbox import Mailbox, code_in
from support.outbox import LONG_AGO, enqueue_requests, make_due
from support.recovery import objection_in
from support.site import BOTH, NEW_PASSWORD, Site

from app.cli import purge
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.mail import heartbeat, outbox, queue, quota
from app.mail.outbox import OutboxMessage
from app.mail.smtp_failures import MailHeld
from app.pages import health
from app.recovery.link import ResetLink

METRICS_TOKEN = "cQ7vX2mK9tR4wL8pJ5hG3fD6sZ1x"
SMALL_TABLES = {"worker_heartbeat"}  # one row for each worker

Statements = dict[str, Any]


@contextmanager
def recorded(site: Site) -> Iterator[Statements]:
    """Record each statement that looks something up, with its parameters."""
    statements: Statements = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            statements.setdefault(statement, parameters)

    with site.app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


def assert_no_scans(site: Site, statements: Statements) -> str:
    """Fail if a statement reads a table or an index from end to end. Return all plans."""
    plans = []
    with site.app.app_context(), db.engine.connect() as connection:
        for statement, parameters in statements.items():
            plan, tables = scans(connection, statement, parameters)
            assert not set(tables) - SMALL_TABLES, (statement, plan)
            plans.append(plan)
    return str(plans)


def scans(connection: Connection, statement: str, parameters: Any) -> tuple[Any, list[str]]:
    """Return a statement's plan, and the tables or indexes that it scans."""
    if connection.dialect.name == "postgresql":
        return scans_on_postgresql(connection, statement, parameters)
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    plan = [str(row[-1]) for row in rows]
    scanned = [line.split()[1] for line in plan if line.startswith("SCAN")]
    return plan, [table for table in scanned if table not in ("CONSTANT", "one_row")]


def scans_on_postgresql(connection: Connection, statement: str, parameters: Any) -> tuple[Any, list[str]]:
    # PostgreSQL scans small tables whatever the indexes, so show the scans that cannot be avoided.
    connection.exec_driver_sql("SET enable_seqscan = off")
    [plan] = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalars()
    key = """SELECT pg_get_indexdef(indexrelid, 1, false) FROM pg_index
        WHERE indexrelid = CAST(:name AS regclass) AND (indpred IS NULL OR indnatts > 1)"""
    tables = []
    for node in nodes(plan[0]["Plan"]):
        name = node.get("Index Name")
        first = name and connection.scalar(text(key), {"name": name})
        if node["Node Type"] == "Seq Scan" or (first and bare(first) not in node.get("Index Cond", "")):
            tables.append(node.get("Relation Name") or name)
    return plan, tables


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def bare(column: str) -> str:
    """Return the same for `lower((email)::text)` and `email`."""
    return re.sub(r"^lower\(\(?|\)?::text\)$|\)$", "", column)


def fill(site: Site, **values: Any) -> None:
    """Add 5,000 messages that are alike, which the planner knows."""
    row = {"kind": "reset_instructions", "nonce": b"-", **values}
    with site.app.app_context():
        rows = [{**row, "message_id": f"<{number}@here>"} for number in range(5000)]
        db.session.execute(insert(OutboxMessage), rows)
        db.session.execute(text("ANALYZE"))
        db.session.commit()


@BOTH
def test_queries_of_the_journey_scan_no_table(make_site: Any) -> None:
    site = make_site(RECOVERY_CODE=True)
    with recorded(site) as statements:
        for identity in ("alice@example.com", "alice", "+14155550123", "nobody"):
            body = {"request_id": site.ask(identity).json["response"]["request_id"]}
            site.work()
            body["code"] = code_in(site.mailbox.mails[-1])
            entered = site.visitor().post_json("/reset/code", json=body)
            assert (entered.status_code == 200) is (identity != "nobody")
        visitor = site.visitor()
        visitor.set_password(site.last_link())
        site.work()
        visitor.sign_in("alice", NEW_PASSWORD)
        visitor.submit("/", "/logout")
        assert visitor.submit(objection_in(site.mailbox.mails[-1])).status_code == 200
    assert "not_me" in site.events()
    assert len(statements) > 12
    assert_no_scans(site, statements)


@BOTH
def test_queries_of_mail_that_is_not_sent_scan_no_table(make_site: Any, mailbox: Mailbox) -> None:
    """Refused for now and for good, held, over the hourly quota, and within the cool-down."""
    site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes", RECOVERY_MAIL_HOURLY_MAX=3)
    with recorded(site) as statements:
        site.ask()
        for reply in ("450 later", "554 set aside", "550 5.1.1 never"):
            mailbox.refuse = {"RCPT": reply}
            site.work()
            make_due(site)
        site.ask()
        mailbox.refuse = {"MAIL": "530 who are you?"}
        with pytest.raises(MailHeld):
            site.work()
        mailbox.refuse = {}
        for identity in ("alice@example.com", "alice", "bob", "nobody"):  # the last one is over the quota
            site.work()
            site.ask(identity)
        with site.app.app_context():
            assert queue.is_due()
            assert not queue.is_due(quota.open_lanes())
            assert queue.claim(quota.open_lanes()) is None
            enqueue_requests(site, queue.CROWD + 1)
            assert queue.claim() is not None
    assert {"dropped", "given_up", "waiting"} == {row["state"] for row in site.messages()} - {"sent"}
    assert_no_scans(site, statements)


@BOTH
def test_queries_of_health_heartbeat_and_metrics_scan_no_table(make_site: Any) -> None:
    site = make_site(RECOVERY_METRICS_TOKEN=METRICS_TOKEN)
    site.ask()
    fill(site, state="sent", attempts=1, settled_at=LONG_AGO)
    with recorded(site) as statements, site.app.app_context():
        with closing(heartbeat.Heartbeat()) as beating:
            beating.beat()
            assert queue.is_due()
            assert health.check()["worker"]
        assert site.visitor().open("/readyz").status_code == 503  # the worker is gone
        metrics = site.visitor().open("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        assert "sparekey_database_up 1.0" in metrics.text
    assert len(statements) >= 8
    assert_no_scans(site, statements)


@BOTH
def test_queries_of_forward_authentication_are_one_look_up(make_site: Any) -> None:
    """With the roles. A forged cookie or token costs none."""
    site = make_site(RECOVERY_AUTH="id")
    for role in ("editor", "printer"):
        run(site, "roles", "create", role)
        run(site, "roles", "add", "alice@example.com", role)
    visitor, stranger, executed = site.visitor(), site.visitor(), []
    assert visitor.sign_in()
    with site.app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *arguments: executed.append(arguments[2]))
    for cookie in ("sparekey_session", "sparekey_remember"):
        stranger.client.set_cookie(cookie, "forged.a|b", domain="127.0.0.1")
    with recorded(site) as statements:
        assert stranger.open("/auth", headers={"Authentication-Token": "forged"}).status_code == 401
        assert executed == []
        assert visitor.open("/auth").headers["Remote-Groups"] == "editor,printer"
    assert len(executed) == len(statements) == 1
    assert_no_scans(site, statements)


@BOTH
def test_queries_of_waiting_mail_read_few_of_many_messages(site: Site) -> None:
    """A range of an index that is filtered by other columns is no scan, and takes as long."""
    fill(site, state="waiting", attempts=0)

    def plans(query: Any) -> dict[str, str]:
        with recorded(site) as statements:
            query()
        with db.engine.connect() as connection:
            return {
                statement: str(scans(connection, statement, values)[0])
                for statement, values in statements.items()
            }

    with site.app.app_context():
        for index, query in {
            "exempt": lambda: queue.is_due([outbox.EXEMPT]),
            "sign_up": lambda: queue.is_due([outbox.SIGN_UP]),
            "invited": lambda: queue.is_due([outbox.INVITED]),
            "events": lambda: queue.is_due([outbox.EVENTS]),
            "untried": lambda: health.is_late(*health.UNTRIED_MAIL),
            "refused_at": health.reason_refused,
        }.items():
            [plan] = [plan for statement, plan in plans(query).items() if "FROM outbox_message" in statement]
            assert f"ix_outbox_message_{index}" in plan
        oldest, claim = plans(queue.claim).values()  # in a crowd
    assert "ix_outbox_message_urgent" in oldest
    assert "ix_outbox_message" not in claim  # the primary key alone


@BOTH
def test_queries_of_a_purge_and_an_import_scan_no_table(site: Site, tmp_path: Path) -> None:
    site.new_link()
    site.change(ResetLink, ResetLink.id > 0, issued_at=LONG_AGO, expires_at=LONG_AGO)
    times = {"created_at": LONG_AGO, "due_at": LONG_AGO, "settled_at": LONG_AGO}
    site.change(OutboxMessage, OutboxMessage.id > 0, **times)
    site.change(RecoveryEvent, RecoveryEvent.id > 0, at=LONG_AGO)
    with recorded(site) as statements, site.app.app_context():
        assert purge.run(dry_run=True)["links"] == 1
        deleted = purge.run()
    assert (deleted["links"], deleted["mails"], deleted["events"] > 0) == (1, 1, True)
    assert "TEMP B-TREE" not in assert_no_scans(site, statements)  # the oldest rows come first by an index
    file = tmp_path / "users.csv"
    rows = ["carol@example.com,carol,+14155551000", "dave@example.com,dave,+14155551001"]
    file.write_text("\n".join(["email,username,us_phone_number", *rows]))
    with recorded(site) as statements:
        assert run(site, "users", "import", str(file)).output == "2 accounts imported\n"
    assert len(statements) == 3
    assert_no_scans(site, statements)


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_index_exists_for_each_reference_to_a_message(site: Site) -> None:
    """A purge deletes messages, and each reference to one must be found."""
    with site.app.app_context():
        tables = inspect(db.engine)
        for table in tables.get_table_names():
            keys = [
                key for key in tables.get_foreign_keys(table) if key["referred_table"] == "outbox_message"
            ]
            indexes = [*tables.get_indexes(table), *tables.get_unique_constraints(table)]
            first = [index["column_names"][:1] for index in indexes]
            assert all(key["constrained_columns"] in first for key in keys), table
