"""The audit trail: one event for each thing that happens, in the table and in the log, and bursts that somebody hears of."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import sqlite3
from contextlib import closing
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from click.testing import Result
from sqlalchemy.exc import OperationalError
from support.admin import Admin
from support.mailbox import Mailbox, link_in
from support.redemption import redeem
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, ROOT, Site, fill

from app.cli import Commands, admin, events, users
from app.db import audit
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.web import logging as web_logging

BY = admin.actor()


def trail(site: Site, since: int = 0) -> list[tuple[Any, ...]]:
    return [
        (row["kind"], row["reason"], row["user_id"], row["source"], row["client"])
        for row in site.rows(RecoveryEvent)[since:]
    ]


@BOTH
@pytest.mark.requirement("R8", "R60")
@pytest.mark.parametrize("by", ["form", "json"])
def test_each_thing_that_happens_is_one_event(make_site: Any, by: str) -> None:
    site: Site = make_site()
    here, client = "127.0.0.1", {"form": "browser", "json": "default"}[by]

    def ask(identity: str) -> None:
        site.visitor().submit("/reset", identity=identity) if by == "form" else site.ask(identity)

    ask("alice")
    ask("nobody")
    site.work()
    link = site.last_link()
    site.visitor().open(link)
    assert not redeem(site, by, link, "too short")
    assert not redeem(site, by, link, "passwordpassword")
    assert redeem(site, by, link)
    assert not redeem(site, by, link)
    asked = ("requested", "reset_instructions", None, here, client)
    expected = [
        asked,
        asked,
        ("mail_sent", "reset_instructions", 1, None, None),
        ("mail_dropped", "no account has this identity", None, None, None),
        ("opened", None, 1, here, client),
        ("password_refused", "password_too_short", 1, here, client),
        ("password_refused", "password_common", 1, here, client),
        ("redeemed", None, 1, here, client),
    ]
    # A browser that opens a used link has no form to post; a program posts at once.
    expected += [] if by == "form" else [("refused", "link_used", 1, here, client)]
    assert trail(site) == expected
    requests = [row["request_id"] for row in site.rows(RecoveryEvent)]
    assert all(requests)
    assert len(set(requests)) == len(requests)


@pytest.mark.requirement("R8", "R60")
@pytest.mark.parametrize("by", ["form", "json"])
def test_a_signed_in_change_leaves_the_same_events(site: Site, by: str) -> None:
    alice = site.visitor()
    alice.sign_in()
    for password in ("too short", NEW_PASSWORD):
        fields = {"password": OLD_PASSWORD, "new_password": password, "new_password_confirm": password}
        alice.submit("/change", **fields) if by == "form" else alice.post_json("/change", json=fields)
    assert trail(site) == [
        ("password_refused", "password_too_short", 1, "127.0.0.1", None),
        ("password_changed", None, 1, "127.0.0.1", None),
    ]


def types(site: Site, *words: str) -> Result:
    return site.app.test_cli_runner().invoke(Commands(create_app=lambda: site.app), words)


@pytest.mark.requirement("R8", "R43", "R60")
def test_what_an_admin_does_is_an_event(site: Site) -> None:
    assert users.users.commands["send-reset"]
    for words in (
        ("users", "deactivate", "alice"),
        ("users", "activate", "alice"),
        ("users", "send-reset", "alice"),
        ("users", "change_password", "bob", "--password", NEW_PASSWORD),
        ("roles", "create", "helper"),
    ):
        done = types(site, *words)
        assert done.exit_code == 0, done.output
    assert [(kind, reason, user) for kind, reason, user, _, _ in trail(site)] == [
        ("admin", f"users deactivate {BY}", 1),
        ("admin", f"users activate {BY}", 1),
        ("admin", f"users send-reset {BY}", 1),
        ("password_changed", None, 2),
        ("admin", f"users change_password {BY}", 2),
        ("admin", f"roles create {BY}", None),
    ]
    assert types(site, "users", "deactivate", "nobody").exit_code != 0
    assert len(trail(site)) == 6  # nothing was done


@pytest.mark.requirement("R43")
def test_an_admin_starts_a_reset_without_seeing_the_link(site: Site) -> None:
    done = types(site, "users", "send-reset", "alice")
    site.work()
    assert site.mailbox.envelopes == [["alice@example.com"]]
    assert site.last_link()[-43:] not in done.output
    assert "/reset/" not in done.output
    assert redeem(site, "json", site.last_link())
    assert types(site, "users", "send-reset", "nobody").exit_code == 1


# --- the log ----------------------------------------------------------------------------------------


@pytest.mark.requirement("R60", "R62")
def test_an_event_is_logged_if_and_only_if_it_is_kept(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "app.db.audit")
    with monkeypatch.context() as broken:
        broken.setattr(db.session, "commit", lambda: 1 / 0)
        assert site.ask().status_code == 500
    assert [record for record in caplog.records if record.message == "requested"] == []
    site.ask()
    [record] = [record for record in caplog.records if record.message == "requested"]
    [row] = site.rows(RecoveryEvent)
    said: Any = record
    assert (said.outcome, said.source, said.client, said.request_id, said.reason) == (
        "success",
        "127.0.0.1",
        "default",
        row["request_id"],
        "reset_instructions",
    )
    visitor = site.visitor()
    visitor.sign_in(password="wrong")
    visitor.sign_in()
    kinds = [record.message for record in caplog.records]
    assert kinds[-2:] == ["sign_in_refused", "signed_in"]
    assert len(site.rows(RecoveryEvent)) == 1  # these stand in the log alone


@pytest.mark.requirement("R60", "R61", "R62")
def test_the_log_of_a_real_process_is_json_without_secrets(tmp_path: Any, mailbox: Mailbox) -> None:
    """The whole flow through gunicorn and a worker, with forged input and errors that nobody foresaw."""
    environ = {"FLASK_RECOVERY_LOG_FORMAT": "json", "FLASK_SECURITY_TRACKABLE": "false"}
    admin = Admin(fill(f"sqlite:///{tmp_path}/a.db"), mailbox.port, **environ)
    try:
        admin.serves()
        admin.starts("manage.py", "worker")
        forged = {"User-Agent": "x\u2028evil".encode()}
        with httpx.Client(base_url=admin.base, headers=forged) as program:
            program.post("/reset", json={"identity": "alice@example.com"})
            link = link_in(mailbox.wait_for(1))
            program.get(link)
            program.get('/reset/x%0d%0a{"event":"forged"}%1b[2J')
            program.post(link, json={"password": "too short"})
            program.post("/login", json={"identity": "alice@example.com\u2028{}", "password": OLD_PASSWORD})
            program.post("/login", json={"identity": "alice@example.com", "password": "wrong"})
            assert program.post(link, json={"password": NEW_PASSWORD}).status_code == 200
            mailbox.wait_for(2)
            with closing(sqlite3.connect(tmp_path / "a.db")) as database:
                database.execute("DROP TABLE reset_link")
            failed = program.get(link)
            assert failed.status_code in (500, 503)
        with closing(socket.create_connection(("127.0.0.1", admin.port), timeout=10)) as line_:
            line_.sendall(f"GET {urlsplit(link).path}".encode() + b"\xff HTTP/1.1\r\n\r\n")
            assert line_.recv(100).startswith(b"HTTP/1.1 400")
    finally:
        written = admin.stops()
    for said in ("Invalid request from", "Worker exiting"):  # gunicorn's own lines
        assert said in written
    assert "Logging error" not in written
    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    by_kind = {line["event"]: line for line in lines if line.get("audit")}
    assert {
        "requested",
        "mail_sent",
        "opened",
        "password_refused",
        "redeemed",
        "sign_in_refused",
    } <= by_kind.keys()
    for line in by_kind.values():
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None
        assert line["outcome"] in ("success", "failure")
    assert by_kind["redeemed"]["user_id"] == 1
    assert by_kind["requested"]["source"] == "127.0.0.1"
    assert "forged" not in {line.get("event") for line in lines}
    for secret in (link[-43:], NEW_PASSWORD, OLD_PASSWORD, "alice@example.com", "\x1b", "\u2028"):
        assert secret not in written, secret


# --- the log ---


def test_the_number_on_the_page_leads_to_the_log(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(web_logging.JsonFormatter())
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr("app.mail.outbox.enqueue", lambda *_, **__: 1 / 0)
    try:
        page = site.visitor().submit("/reset", identity="alice").text
    finally:
        logging.getLogger().removeHandler(handler)
    number = re.search(r"say this number: (\w{16})", page)
    assert number
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    [failed] = [line for line in lines if "ZeroDivisionError" in line.get("exception", "")]
    assert failed["request_id"] == number[1]


def test_whoever_has_no_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ceo\nforged")
    monkeypatch.setattr("os.getuid", lambda: 987654)
    assert admin.actor() == "by uid 987654"


def test_a_refused_password_is_told_though_it_can_not_be_noted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = site.new_link()
    site.visitor().open(link)

    def be_locked(*_: Any, **__: Any) -> None:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    monkeypatch.setattr(audit, "record", be_locked)
    answer = site.visitor().post_json(link, json={"password": "too short"})
    assert (answer.json or {})["response"]["error_code"] == "password_too_short"


# --- manage.py events -------------------------------------------------------------------------------


def listed(site: Site, *words: str) -> list[dict[str, Any]]:
    done = site.app.test_cli_runner().invoke(events.events, [*words, "--format", "json"])
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.output)
    return rows


@BOTH
def test_events_are_found_by_account_kind_source_request_and_time(make_site: Any) -> None:
    site: Site = make_site()
    site.new_link("alice")
    site.new_link("bob")
    everything = listed(site)
    assert [row["kind"] for row in everything] == ["requested", "mail_sent"] * 2
    assert {row["outcome"] for row in everything} == {"success"}
    assert [row["account"] for row in listed(site, "--identity", "bob")] == [2]
    assert len(listed(site, "--kind", "requested", "--kind", "redeemed")) == 2
    assert len(listed(site, "--source", "127.0.0.1")) == 2
    assert listed(site, "--request", everything[0]["request"]) == everything[:1]
    assert listed(site, "--limit", "1") == everything[-1:]
    site.change(RecoveryEvent, RecoveryEvent.id <= 2, at=datetime(2020, 1, 1))
    assert len(listed(site, "--since", "1 hour")) == 2
    runner = site.app.test_cli_runner()
    table = runner.invoke(events.events, ["--kind", "mail_sent"]).output
    assert table.splitlines()[0].split()[:3] == ["at", "kind", "outcome"]
    assert "no matching events" in runner.invoke(events.events, ["--kind", "revoked"]).output
    assert runner.invoke(events.events, ["--identity", "nobody"]).exit_code == 1
    assert "give a number and a unit" in runner.invoke(events.events, ["--since", "a while"]).output
    assert runner.invoke(events.events, ["--kind", "opend"]).exit_code == 2


@pytest.mark.requirement("R62")
def test_events_are_only_ever_added() -> None:
    """What the table says happened is written by one INSERT, and changed by nothing else in the app; only
    purge.py deletes, by age."""
    for path in (ROOT / "app").rglob("*.py"):
        source = path.read_text()
        assert "update(RecoveryEvent" not in source, path
        assert "delete(RecoveryEvent" not in source, path
    assert set(audit.LOG_ONLY) <= audit.OUTCOMES.keys()
