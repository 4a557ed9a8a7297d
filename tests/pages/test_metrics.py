"""/metrics: the same from every process, about no account, and for no reader without the token."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert
from support.admin import Admin
from support.mailbox import Mailbox, link_in
from support.site import BOTH, NEW_PASSWORD, ROOT, Site, at_work, load_settings, wait_for

from app.db import audit
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.mail.outbox import OutboxMessage
from app.pages import health, metrics
from app.settings.problems import SettingsError

TOKEN = "wR7tY2uI9oP4aS6dF1gH8jK3lZ5xC0vB"
WAITING = ("untried", "retried", "given_up")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
Numbers = dict[tuple[str, ...], float]


def parsed(exposition: str) -> Numbers:
    """By name and the values of the labels, in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def numbers(site: Site) -> Numbers:
    answer = site.visitor().open("/metrics", headers=BEARER)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    return parsed(answer.text)


def events(found: Numbers) -> dict[str, float]:
    """Those that happened."""
    return {
        " ".join(label[1:]).strip(): value
        for label, value in found.items()
        if label[0] == "sparekey_events_last_hour" and value
    }


@pytest.fixture
def site(make_site: Any) -> Site:
    made: Site = make_site(RECOVERY_METRICS_TOKEN=TOKEN)
    return made


def test_without_a_token_there_is_no_such_page(make_site: Any) -> None:
    without: Site = make_site()
    for headers in ({}, BEARER, {"Authorization": "Bearer "}):
        answer = without.visitor().open("/metrics", headers=headers)
        assert answer.status_code == 404
        assert answer.text == without.visitor().open("/nowhere", headers=headers).text


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"]
)
def test_whoever_has_another_token_sees_nothing(site: Site, given: str) -> None:
    answer = site.visitor().open("/metrics", headers={"Authorization": given} if given else {})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "sparekey_" not in answer.text


def test_it_answers_to_any_host_and_keeps_nothing(site: Site) -> None:
    answer = site.visitor().open("/metrics", headers={**BEARER, "Host": "10.0.0.7:8000"})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers


def test_a_weak_token_stops_the_start() -> None:
    with pytest.raises(SettingsError, match=r"RECOVERY_METRICS_TOKEN.*at least 22"):
        load_settings(RECOVERY_METRICS_TOKEN="short")
    with pytest.raises(SettingsError, match="must not be the same as another secret"):
        load_settings(RECOVERY_METRICS_TOKEN=load_settings().SECRET_KEY)


@BOTH
def test_the_funnel_and_the_refusals(site: Site) -> None:
    site.ask("nobody")
    link = site.new_link()
    site.visitor().open(link)
    site.visitor().open(link)
    visitor = site.visitor()
    for password in ("too short", NEW_PASSWORD, NEW_PASSWORD):
        visitor.post_json(link, json={"password": password})
    site.work()
    found = numbers(site)
    assert events(found) == {
        "requested reset_instructions": 2,
        "mail_sent reset_instructions": 1,
        "mail_dropped": 1,
        "opened": 1,
        "password_refused password_too_short": 1,
        "redeemed": 1,
        "refused link_used": 1,
        "mail_sent reset_notice": 1,
    }
    # A kind that did not happen is 0, so that a sum by kind is never missing.
    told = {label[1] for label in found if label[0] == "sparekey_events_last_hour"}
    assert told == audit.OUTCOMES.keys() - {*audit.LOG_ONLY}
    assert found["sparekey_events_last_hour", "mail_given_up", ""] == 0


@BOTH
def test_what_happened_over_an_hour_ago_is_not_counted(site: Site) -> None:
    long_ago = {"kind": "mail_sent", "reason": "reset_instructions", "seconds": 1.0}
    with site.app.app_context():
        db.session.execute(insert(RecoveryEvent), [{**long_ago, "at": ago(s)} for s in (3500, 3700, 86_400)])
        db.session.commit()
    found = numbers(site)
    assert found["sparekey_events_last_hour", "mail_sent", "reset_instructions"] == 1
    assert found["sparekey_deliveries_last_hour", "+Inf", "reset_instructions"] == 1


@BOTH
def test_how_long_mail_takes(site: Site) -> None:
    for waited in (0, 20):
        site.ask()
        site.change(OutboxMessage, OutboxMessage.state == "waiting", created_at=ago(waited))
        site.work()
    with site.app.app_context():
        late = {"kind": "mail_sent", "reason": "reset_instructions", "seconds": 10_000}
        db.session.execute(insert(RecoveryEvent), [late])
        db.session.commit()
    found = numbers(site)

    def within(bound: str) -> float:
        return found["sparekey_deliveries_last_hour", bound, "reset_instructions"]

    assert [within(bound) for bound in ("1.0", "10.0", "30.0", "3600.0", "+Inf")] == [1, 1, 2, 2, 3]


def ago(seconds: float) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)


@BOTH
def test_what_waits_and_for_how_long(site: Site) -> None:
    found = numbers(site)
    assert {found["sparekey_mails", state] for state in WAITING} == {0}
    site.mailbox.refuse_only["alice@example.com"] = "451 later"
    site.ask("alice")
    site.work()
    site.ask("bob")
    site.change(OutboxMessage, OutboxMessage.id == 1, created_at=ago(100))
    found = numbers(site)
    assert [found["sparekey_mails", state] for state in WAITING] == [1, 1, 0]
    assert found["sparekey_oldest_mail_seconds", "untried"] < 5
    assert 100 <= found["sparekey_oldest_mail_seconds", "retried"] < 105
    site.change(OutboxMessage, OutboxMessage.id == 1, state="given_up")
    found = numbers(site)
    assert [found["sparekey_mails", state] for state in WAITING] == [1, 0, 1]


def test_workers_and_what_is_wrong(site: Site) -> None:
    found = numbers(site)
    assert (found["sparekey_workers",], found["sparekey_database_up",]) == (0, 1)
    problems = {label[1]: value for label, value in found.items() if label[0] == "sparekey_problem"}
    assert problems == {problem: problem == health.NO_WORKER for problem in health.PROBLEMS}
    with at_work(site):
        wait_for(lambda: numbers(site)["sparekey_workers",] == 1)
        assert numbers(site)["sparekey_problem", health.NO_WORKER] == 0


def test_while_the_database_is_away_it_says_that(make_site: Any, tmp_path: Any) -> None:
    away: Site = make_site(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/nowhere/x.db", RECOVERY_METRICS_TOKEN=TOKEN
    )
    assert numbers(away) == {("sparekey_database_up",): 0}


@pytest.mark.requirement("R61")
def test_it_holds_nothing_of_anybody(site: Site) -> None:
    link = site.new_link()
    site.visitor().set_password(link)
    site.mailbox.refuse["RCPT"] = "550 alice@example.com is unknown here"
    site.ask("bob")
    site.work()
    shown = site.visitor().open("/metrics", headers=BEARER).text
    for secret in ("alice", "bob", "example.com", "127.0.0.1", "unknown here", link[-43:], TOKEN):
        assert secret not in shown, secret
    labels = {part for label in parsed(shown) for part in label[1:]}
    assert not [
        label
        for label in labels
        if not label.replace("_", "").replace(".", "").replace("+", "").isalnum() and label
    ]


# --- Alert rules ---

RULES = yaml.safe_load((ROOT / "docs/alerts.yml").read_text())["groups"]
ALERTS = [rule for group in RULES for rule in group["rules"]]


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_an_alert_asks_for_what_there_is(site: Site, alert: dict[str, Any]) -> None:
    site.ask()
    site.work()  # or no delivery would be counted
    found = numbers(site)
    selectors = re.findall(r"(sparekey_\w+)(?:\{(.*?)\})?", alert["expr"])
    assert selectors
    for name, matchers in selectors:
        exposed = [label[1:] for label in found if label[0] == name]
        assert exposed, name
        for value in re.findall(r'"(.*?)"', matchers):
            assert any(value in values for values in exposed), (name, value)
    assert alert.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"].keys() == {"summary", "description"}


def test_every_problem_and_every_metric_has_an_alert() -> None:
    asked = " ".join(alert["expr"] for alert in ALERTS)
    assert [problem for problem in health.PROBLEMS if f'"{problem}"' not in asked] == [health.NO_DATABASE]
    # The age of a mail is alarming as mail_late.
    unasked = {name for name in metrics.METRICS if name not in asked}
    assert unasked == {"sparekey_workers", "sparekey_oldest_mail_seconds"}


@BOTH
def test_several_processes_tell_the_same(database: Callable[[], str], mailbox: Mailbox) -> None:
    admin = Admin(database(), mailbox.port, FLASK_RECOVERY_METRICS_TOKEN=TOKEN)
    try:
        admin.serves(workers=2, threads=2)
        for _ in range(2):
            admin.starts("manage.py", "worker")
        for number in range(6):
            httpx.post(f"{admin.base}/reset", json={"identity": "alice" if number % 2 else "bob"})
            mailbox.wait_for(number + 1)
        httpx.get(link_in(mailbox.mails[-1]))
        time.sleep(0.5)  # the last mail's end is written down
        seen = []
        for _ in range(12):
            with httpx.Client() as client:  # a connection each: whichever process takes it
                seen.append(parsed(client.get(f"{admin.base}/metrics", headers=BEARER).text))
        told = {"requested reset_instructions": 6, "mail_sent reset_instructions": 6, "opened": 1}
        assert [events(each) for each in seen] == [told] * 12
        assert {each["sparekey_workers",] for each in seen} == {2}
        assert {each["sparekey_deliveries_last_hour", "+Inf", "reset_instructions"] for each in seen} == {6}
    finally:
        admin.stops()
