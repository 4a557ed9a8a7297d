"""The database: no look-up scans a table, and the migration makes what the models say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, event, insert, inspect, text
from support.mailbox import Mailbox, text_of
from support.site import BOTH, NEW_PASSWORD, Site, load_settings

from app import create_app
from app.cli import retention
from app.cli.import_users import import_users
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.db.migrations import VERSION_TABLE
from app.mail import heartbeat, outbox
from app.mail.outbox import OutboxMessage
from app.mail.smtp_failures import MailHeld
from app.pages import health
from app.recovery.link import ResetLink

METRICS_TOKEN = "cQ7vX2mK9tR4wL8pJ5hG3fD6sZ1x"
EPOCH = datetime(2020, 1, 1)  # long ago


# They have a row for each worker, and for each kind of event.
SMALL = ("worker_sign",)

Seen = dict[str, Any]


@contextmanager
def watched(site: Site) -> Iterator[Seen]:
    """Each statement that looks something up, with what it was given."""
    seen: Seen = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            seen.setdefault(statement, parameters)

    with site.app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def assert_none_scans(site: Site, seen: Seen) -> None:
    """No table is read from end to end, and no index is."""
    with site.app.app_context(), db.engine.connect() as connection:
        scans = scans_on_sqlite if connection.dialect.name == "sqlite" else scans_on_postgresql
        for statement, parameters in seen.items():
            plan, tables = scans(connection, statement, parameters)
            assert not set(tables) - set(SMALL), (statement, plan)


def scans_on_sqlite(connection: Connection, statement: str, parameters: Any) -> tuple[Any, list[str]]:
    found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    plan = [str(row[-1]) for row in found]
    scanned = [line.split()[1] for line in plan if line.startswith("SCAN")]
    return plan, [table for table in scanned if table not in ("CONSTANT", "one_row")]


def scans_on_postgresql(connection: Connection, statement: str, parameters: Any) -> tuple[Any, list[str]]:
    # Small tables are scanned whatever the indexes: ask what could not be avoided.
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
    """`lower((email)::text)` and `email` alike."""
    return re.sub(r"^lower\(\(?|\)?::text\)$|\)$", "", column)


@BOTH
def test_no_statement_of_the_journey_scans_a_table(site: Site) -> None:
    with watched(site) as seen:
        for identity in ("alice@example.com", "alice", "+14155550123", "nobody"):
            site.ask(identity)
            site.work()
        visitor = site.visitor()
        visitor.set_password(site.last_link())
        site.work()
        visitor.sign_in("alice", NEW_PASSWORD)
        visitor.open("/")
    assert len(seen) > 12
    assert_none_scans(site, seen)


@BOTH
def test_no_statement_of_an_objection_scans_a_table(site: Site) -> None:
    site.visitor().set_password(site.new_link())
    site.work()
    [not_me] = set(re.findall(r"https?://\S+/not-me/\S+", text_of(site.mailbox.mails[-1])))
    with watched(site) as seen:
        assert site.visitor().submit(not_me).status_code == 200
    assert "not_me" in site.events()
    assert_none_scans(site, seen)


@BOTH
def test_no_statement_of_a_mail_that_is_not_sent_scans_a_table(make_site: Any, mailbox: Mailbox) -> None:
    """Refused for now and for good, held, over the budget of all, and within the cool-down."""
    site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes", RECOVERY_MAIL_HOURLY_MAX=3)
    with watched(site) as seen:
        site.ask()
        for reply in ("450 later", "550 never"):
            mailbox.refuse = {"RCPT": reply}
            site.work()
            site.change(OutboxMessage, OutboxMessage.state == "waiting", due_at=EPOCH)
        site.ask()
        mailbox.refuse = {"MAIL": "530 who are you?"}
        with pytest.raises(MailHeld):
            site.work()
        mailbox.refuse = {}
        for identity in ("alice@example.com", "alice", "bob", "nobody"):  # the last one is over the budget
            site.work()
            site.ask(identity)
        with site.app.app_context():
            assert outbox.is_due()
            assert not outbox.is_due(True)
            assert outbox.claim(True) is None
    assert {"dropped", "given_up", "waiting"} == {row["state"] for row in site.messages()} - {"sent"}
    assert_none_scans(site, seen)


@BOTH
def test_no_statement_of_what_looks_on_scans_a_table(make_site: Any) -> None:
    """Health, the worker's sign, and the numbers."""
    site = make_site(RECOVERY_METRICS_TOKEN=METRICS_TOKEN)
    site.ask()
    with watched(site) as seen, site.app.app_context():
        with closing(heartbeat.Heartbeat()) as beating:
            beating.beat()
            assert health.check().worker
        assert site.visitor().open("/readyz").status_code == 503  # the worker is gone
        numbers = site.visitor().open("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        assert "sparekey_database_up 1.0" in numbers.text
    assert len(seen) >= 8
    assert_none_scans(site, seen)


@BOTH
@pytest.mark.parametrize(
    ("look", "index"),
    [
        (lambda: outbox.is_due(exempt_only=True), "ix_outbox_message_uncounted"),
        (health.is_mail_late, "ix_outbox_message_untried"),
    ],
)
def test_however_many_mails_wait_a_look_reads_few_of_them(site: Site, look: Any, index: str) -> None:
    """A range of an index that is read for what is in no index is no scan, and takes as long."""
    mail = {"kind": "reset_instructions", "nonce": b"-", "state": "waiting", "attempts": 0}
    with site.app.app_context():
        mails = [{**mail, "message_id": f"<{number}@here>"} for number in range(5000)]
        db.session.execute(insert(OutboxMessage), mails)
        db.session.commit()
        db.session.execute(text("ANALYZE"))
        db.session.commit()
        with watched(site) as seen:
            assert not look()
        [(statement, parameters)] = [one for one in seen.items() if "FROM outbox_message" in one[0]]
        with db.engine.connect() as connection:
            scans = scans_on_sqlite if connection.dialect.name == "sqlite" else scans_on_postgresql
            plan, _ = scans(connection, statement, parameters)
    assert index in str(plan)


@BOTH
def test_no_statement_of_a_purge_scans_a_table(site: Site) -> None:
    site.new_link()
    long_ago = {"issued_at": EPOCH, "expires_at": EPOCH}
    site.change(ResetLink, ResetLink.id > 0, **long_ago)
    site.change(OutboxMessage, OutboxMessage.id > 0, created_at=EPOCH, due_at=EPOCH, settled_at=EPOCH)
    site.change(RecoveryEvent, RecoveryEvent.id > 0, at=EPOCH)
    with watched(site) as seen, site.app.app_context():
        assert retention.run(dry_run=True)["links"] == 1
        gone = retention.run()
    assert gone["links"] == gone["mails"] == 1
    assert gone["events"] > 0
    assert_none_scans(site, seen)


@BOTH
def test_no_statement_of_an_import_scans_a_table(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    rows = [
        f"{name}@example.com,{name},+1415555{number}" for number, name in enumerate(("carol", "dave"), 1000)
    ]
    file.write_text("\n".join(["email,username,us_phone_number", *rows]))
    with watched(site) as seen:
        ended = site.app.test_cli_runner().invoke(import_users, [str(file)])
        assert ended.output == "2 accounts imported\n"
    assert len(seen) == 3
    assert_none_scans(site, seen)


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_what_refers_to_a_deleted_mail_is_found_by_key(site: Site) -> None:
    """Whatever refers to a mail that a purge deletes is found by an index."""
    with site.app.app_context():
        found = inspect(db.engine)
        for table in found.get_table_names():
            keys = [
                key["constrained_columns"]
                for key in found.get_foreign_keys(table)
                if key["referred_table"] == "outbox_message"
            ]
            first = [index["column_names"][:1] for index in found.get_indexes(table)]
            first += [unique["column_names"][:1] for unique in found.get_unique_constraints(table)]
            assert all(columns in first for columns in keys), table


def test_the_roles_of_an_account_are_found_by_key(site: Site) -> None:
    with site.app.app_context():
        of_one = "SELECT * FROM role JOIN roles_users ON role.id = role_id WHERE user_id = 1"
        plan = db.session.execute(text(f"EXPLAIN QUERY PLAN {of_one}")).all()
    assert all(row.detail.startswith("SEARCH") for row in plan)


@pytest.fixture
def empty(tmp_path: Any, request: pytest.FixtureRequest) -> dict[str, str]:
    """An empty database of each engine."""
    server = request.getfixturevalue("postgresql")
    return {"sqlite": f"sqlite:///{tmp_path}/empty.db", "postgresql": server.create()}


def schema_of(engine: Engine) -> dict[str, Any]:
    """Tables, columns, keys and indexes, in words that both engines share."""
    found: dict[str, Any] = {}
    seen = inspect(engine)
    for table in seen.get_table_names():
        if table == "sparekey_version":
            continue
        key = seen.get_pk_constraint(table)
        found[table] = {
            "columns": {
                column["name"]: (kind_of(column["type"]), column["nullable"])
                for column in seen.get_columns(table)
            },
            "key": (key["name"], key["constrained_columns"]),
            "unique": sorted(
                (unique["name"], unique["column_names"]) for unique in seen.get_unique_constraints(table)
            ),
            "foreign": sorted(
                (
                    key["name"],
                    key["constrained_columns"],
                    key["referred_table"],
                    key["options"].get("ondelete"),
                )
                for key in seen.get_foreign_keys(table)
            ),
        }
    return found


def kind_of(column: Any) -> str:
    text = str(column).upper().replace("TIMESTAMP", "DATETIME").replace("BYTEA", "BLOB")
    text = text.replace("DOUBLE PRECISION", "DOUBLE")
    return text.split("(")[0] if text.startswith("BLOB") else text


def index_names(engine: Engine) -> set[str]:
    sqlite = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    postgresql = """SELECT indexname FROM pg_indexes WHERE schemaname = 'public'
        AND indexname NOT IN (SELECT conname FROM pg_constraint) AND tablename <> 'sparekey_version'"""
    with engine.connect() as connection:
        return set(connection.scalars(text(sqlite if engine.dialect.name == "sqlite" else postgresql)))


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:Did not recognize type")
@pytest.mark.requirement("R39")
def test_the_migrations_make_the_same_of_both_engines_and_go_back_to_nothing(empty: dict[str, str]) -> None:
    schemas, indexes = {}, {}
    for name, uri in empty.items():
        app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=uri))
        with app.app_context():
            flask_migrate.upgrade()
            schemas[name], indexes[name] = schema_of(db.engine), index_names(db.engine)
            flask_migrate.downgrade(revision="base")
            assert inspect(db.engine).get_table_names() == ["sparekey_version"]
            db.engine.dispose()
    assert schemas["sqlite"] == schemas["postgresql"]
    assert indexes["sqlite"] == indexes["postgresql"]
    assert {"uq_user_email_lower", "uq_user_username_lower"} <= indexes["sqlite"]


@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_migration_makes_what_the_models_say(empty: dict[str, str]) -> None:
    for uri in empty.values():
        app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=uri))
        with app.app_context():
            flask_migrate.upgrade()
            with db.engine.connect() as connection:
                context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
                assert compare_metadata(context, db.metadata) == []
            db.engine.dispose()


def test_sqlite_is_set_up_to_lose_nothing(site: Site) -> None:
    with site.app.app_context():
        wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        assert {name: db.session.scalar(text(f"PRAGMA {name}")) for name in wanted} == wanted


@pytest.mark.requirement("R61")
def test_an_error_of_the_database_does_not_show_parameters(site: Site) -> None:
    with site.app.app_context(), pytest.raises(Exception, match="hidden due to hide_parameters"):
        db.session.execute(text("SELECT :secret FROM nowhere"), {"secret": "alice@example.com"})
