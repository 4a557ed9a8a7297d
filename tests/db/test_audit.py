"""The audit trail: one event for each thing that happens, in the table and in the log."""

import json
import logging
import re
from datetime import datetime
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from support.admin import Admin
from support.commands import run
from support.mailbox import Mailbox, link_in
from support.redemption import redeem
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, ROOT, Site, fill

from app.cli import admin
from app.db import audit
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.web import logging as web_logging

HERE = "127.0.0.1"


def trail(site: Site) -> list[tuple[Any, ...]]:
    columns = ("kind", "reason", "user_id", "source", "client")
    return [tuple(row[column] for column in columns) for row in site.rows(RecoveryEvent)]


@pytest.mark.requirement("R8", "R60")
@pytest.mark.parametrize("by", ["form", "json"])
def test_events_of_a_reset(site: Site, by: str) -> None:
    client = {"form": "browser", "json": "default"}[by]
    for identity in ("alice", "nobody"):
        site.visitor().submit("/reset", identity=identity) if by == "form" else site.ask(identity)
    site.work()
    link = site.last_link()
    site.visitor().open(link)
    assert not redeem(site, by, link, "too short")
    assert not redeem(site, by, link, "passwordpassword")
    assert redeem(site, by, link)
    assert not redeem(site, by, link)
    expected = [
        *[("requested", "reset_instructions", None, HERE, client)] * 2,
        ("mail_sent", "reset_instructions", 1, None, None),
        ("mail_dropped", "no account has this identity", None, None, None),
        ("opened", None, 1, HERE, client),
        ("password_refused", "password_too_short", 1, HERE, client),
        ("password_refused", "password_common", 1, HERE, client),
        ("redeemed", None, 1, HERE, client),
        ("password_changed", "changed password", 1, HERE, None),
    ]
    # A browser that opens a used link gets no form to post, but a program posts at once.
    expected += [] if by == "form" else [("refused", "link_used", 1, HERE, client)]
    assert trail(site) == expected
    request_ids = [row["request_id"] for row in site.rows(RecoveryEvent)]
    assert all(request_ids)
    assert len(set(request_ids)) == len(request_ids) - 1  # "redeemed" and "password_changed" are of one


@pytest.mark.requirement("R8", "R60")
def test_events_of_a_password_change(site: Site) -> None:
    alice = site.visitor()
    alice.sign_in()
    for password in ("too short", NEW_PASSWORD):
        fields = {"password": OLD_PASSWORD, "new_password": password, "new_password_confirm": password}
        alice.submit("/change", **fields)
    assert trail(site) == [
        ("password_refused", "password_too_short", 1, HERE, None),
        ("password_changed", "changed password", 1, HERE, None),
    ]


@pytest.mark.requirement("R8", "R43", "R60")
def test_events_of_commands_name_the_admin(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ("users deactivate alice", "users activate alice", "roles create helper"):
        run(site, *words.split())
    run(site, "users", "change_password", "bob", "--password", NEW_PASSWORD)
    output = run(site, "users", "send-reset", "alice").output
    by = admin.actor()
    expected = [
        ("account_changed", "removed active", 1),
        ("admin", f"users deactivate {by}", 1),
        ("account_changed", "added active", 1),
        ("admin", f"users activate {by}", 1),
        ("admin", f"roles create {by}", None),
        ("password_changed", "changed password", 2),
        ("admin", f"users change_password {by}", 2),
        ("admin", f"users send-reset {by}", 1),
    ]
    assert [event[:3] for event in trail(site)] == expected
    run(site, "users", "deactivate", "nobody", fails=True)
    assert len(trail(site)) == len(expected)
    site.work()
    assert site.last_link()[-43:] not in output  # the admin does not see it
    assert "/reset/" not in output
    monkeypatch.setenv("LOGNAME", "ceo\nforged")
    monkeypatch.setattr("os.getuid", lambda: 987654)
    assert admin.actor() == "by uid 987654"


def test_refused_password_that_cannot_be_recorded_is_unavailable(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = site.new_link()
    site.visitor().open(link)
    locked = OperationalError("INSERT", {}, Exception("database is locked"))
    with monkeypatch.context() as broken:
        broken.setattr(audit, "record", Mock(side_effect=locked))
        answer: Any = site.visitor().post_json(link, json={"password": "too short"})
    assert (answer.status_code, answer.json["response"]["error_code"]) == (503, "unavailable")
    assert redeem(site, "json", link)


@pytest.mark.requirement("R62")
def test_events_are_never_changed() -> None:
    """Retention alone deletes them, by age."""
    source = "".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    assert re.findall(r"(?:update|delete)\(RecoveryEvent", source) == []


@pytest.mark.requirement("R60", "R62")
def test_log_holds_an_event_if_and_only_if_it_is_committed(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "app.db.audit")
    with monkeypatch.context() as broken:
        broken.setattr(db.session, "commit", lambda: 1 / 0)
        assert site.ask().status_code == 500
    with site.app.app_context():  # in a worker, the session goes on after a rollback
        audit.record("requested")
        db.session.rollback()
        db.session.commit()
    assert [record for record in caplog.records if record.message == "requested"] == []
    site.ask()
    [record] = [record for record in caplog.records if record.message == "requested"]
    [row] = site.rows(RecoveryEvent)
    logged = vars(record)
    expected = {"outcome": "success", "source": HERE, "client": "default", "reason": "reset_instructions"}
    assert expected.items() <= logged.items()
    assert logged["request_id"] == row["request_id"]
    visitor = site.visitor()
    visitor.sign_in(password="wrong")
    visitor.sign_in()
    assert [record.message for record in caplog.records][-2:] == ["sign_in_refused", "signed_in"]
    assert len(site.rows(RecoveryEvent)) == 1  # these are in the log alone


def test_log_has_the_reference_of_the_error_page(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mail.outbox.enqueue", lambda *_, **__: 1 / 0)
    page = site.visitor().submit("/reset", identity="alice").text
    lines = [json.loads(web_logging.JsonFormatter().format(record)) for record in caplog.records]
    [failed] = [line for line in lines if "ZeroDivisionError" in line.get("exception", "")]
    assert re.search(r"quote this reference: (\w{16})", page)[1] == failed["request_id"]


@pytest.mark.requirement("R60", "R61", "R62")
def test_log_of_a_deployment_is_json_without_secrets(tmp_path: Any, mailbox: Mailbox) -> None:
    """The journey through gunicorn and a worker, with forged input."""
    admin = Admin(fill(f"sqlite:///{tmp_path}/a.db"), mailbox.port, FLASK_RECOVERY_LOG_FORMAT="json")
    try:
        admin.serves()
        admin.starts("manage.py", "worker")
        with httpx.Client(base_url=admin.base, headers={"User-Agent": "x\u2028evil".encode()}) as program:
            program.post("/reset", json={"identity": "alice@example.com"})
            link = link_in(mailbox.wait_for(1))
            program.get(link)
            program.get('/reset/x%0d%0a{"event":"forged"}%1b[2J')
            program.post(link, json={"password": "too short"})
            for identity, password in (
                ("alice@example.com\u2028{}x", OLD_PASSWORD),
                ("alice@example.com", "no"),
            ):
                program.post("/login", json={"identity": identity, "password": password})
            assert program.post(link, json={"password": NEW_PASSWORD}).status_code == 200
            mailbox.wait_for(2)
    finally:
        written = admin.stops()
    assert "Starting gunicorn" in written
    assert "Logging error" not in written
    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    by_kind = {line["event"]: line for line in lines if line.get("audit")}
    kinds = {"requested", "mail_sent", "opened", "password_refused", "redeemed", "sign_in_refused"}
    assert kinds <= by_kind.keys()
    for line in by_kind.values():
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None
        assert line["outcome"] in ("success", "failure")
    assert (by_kind["redeemed"]["user_id"], by_kind["requested"]["source"]) == (1, HERE)
    assert "forged" not in {line.get("event") for line in lines}
    secrets = (link[-43:], NEW_PASSWORD, OLD_PASSWORD, "alice@example.com", "\x1b", "\u2028")
    assert [secret for secret in secrets if secret in written] == []


@BOTH
def test_events_command_filters_by_account_kind_source_request_and_time(site: Site) -> None:
    def rows(*words: str) -> list[dict[str, Any]]:
        return list(json.loads(run(site, "events", *words, "--format", "json").output))

    site.new_link("alice")
    site.new_link("bob")
    everything = rows()
    assert [row["kind"] for row in everything] == ["requested", "mail_sent"] * 2
    assert {row["outcome"] for row in everything} == {"success"}
    assert [row["account"] for row in rows("--identity", "bob")] == [2]
    assert len(rows("--kind", "requested", "--kind", "redeemed")) == 2
    assert len(rows("--source", HERE)) == 2
    assert rows("--request", everything[0]["request"]) == everything[:1]
    assert rows("--limit", "1") == everything[-1:]
    site.change(RecoveryEvent, RecoveryEvent.id <= 2, at=datetime(2020, 1, 1))
    assert len(rows("--since", "1 hour")) == 2
    for since in ("2h", "90 min", "1d", "2026-11-01", "2026-11-01T12:00+02:00"):
        assert len(rows("--since", since)) == 2, since
    for since in ("2019-12-31", "2019-12-31 23:59", "20191231T235900Z", "2020-01-01T00:00:00-01:00"):
        assert len(rows("--since", since)) == (2 if since.endswith("-01:00") else 4), since
    assert run(site, "events").output.split()[:3] == ["at", "kind", "outcome"]
    assert "no matching events" in run(site, "events", "--kind", "revoked").output
    for words, problem in {
        ("--identity", "nobody"): "no account has this identity",
        ("--since", "a while"): "give a number and a unit",
        ("--since", "2026-13-01"): "or a date (UTC), such as 2026-01-31",
        ("--since", "0001-01-01T00:00+14:00"): "or a date (UTC)",
        ("--since", "400 days"): "at most 366 days",
        ("--kind", "opend"): "is not one of",
    }.items():
        assert problem in run(site, "events", *words, fails=True).output
