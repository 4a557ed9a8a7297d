"""/metrics: the same from every process, without personal data, and only with its token. And the alert rules."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import insert
from support.admin import Admin
from support.database import database_uri
from support.mailbox import Mailbox
from support.metrics import Metrics, parse_metrics
from support.servers import NO_TLS
from support.site import BOTH, NEW_PASSWORD, ROOT, Site, at_work, wait_for

from app.db import audit
from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.mail.outbox import OutboxMessage
from app.pages import health, metrics

TOKEN = "wR7tY2uI9oP4aS6dF1gH8jK3lZ5xC0vB"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
STATES = ("untried", "retried", "given_up")
RULES = yaml.safe_load((ROOT / "docs/alerts.yml").read_text())["groups"]
ALERTS = [rule for group in RULES for rule in group["rules"]]


@pytest.fixture
def site(make_site: Any) -> Site:
    return make_site(RECOVERY_METRICS_TOKEN=TOKEN)


def scrape(site: Site) -> Metrics:
    answer = site.visitor().open("/metrics", headers=BEARER)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    return parse_metrics(answer.text)


def nonzero_events(metrics: Metrics) -> dict[str, float]:
    events = {label[1:]: value for label, value in metrics.items() if label[0] == "sparekey_events_last_hour"}
    return {" ".join(label).strip(): value for label, value in events.items() if value}


def seconds_ago(seconds: float) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)


def add_deliveries(site: Site, *deliveries: dict[str, Any]) -> None:
    sent = {"kind": "mail_sent", "reason": "reset_instructions", "seconds": 1.0}
    with site.app.app_context():
        db.session.execute(insert(RecoveryEvent), [{**sent, **delivery} for delivery in deliveries])
        db.session.commit()


# --- Access ---


def test_metrics_need_the_token_and_may_be_read_by_any_host_name(site: Site, make_site: Any) -> None:
    visitor = site.visitor()
    for value in ("", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"):
        answer = visitor.open("/metrics", headers={"Authorization": value} if value else {})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), value
        assert "sparekey_" not in answer.text, value
    answer = visitor.open("/metrics", headers={**BEARER, "Host": "10.0.0.7:8000"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert "Set-Cookie" not in answer.headers
    without = make_site().visitor()
    for headers in ({}, BEARER, {"Authorization": "Bearer "}):
        answer = without.open("/metrics", headers=headers)
        assert (answer.status_code, answer.text) == (404, without.open("/nowhere").text)


@pytest.mark.requirement("R61")
def test_metrics_contain_no_personal_data(site: Site) -> None:
    link = site.new_link()
    site.visitor().set_password(link)
    site.mailbox.refuse["RCPT"] = "550 5.1.1 alice@example.com is unknown here"
    site.ask("bob")
    site.work()
    exposition = site.visitor().open("/metrics", headers=BEARER).text
    for secret in ("alice", "bob", "example.com", "127.0.0.1", "unknown here", link[-43:], TOKEN):
        assert secret not in exposition, secret
    labels = {part for label in parse_metrics(exposition) for part in label[1:]}
    assert [label for label in labels if not re.fullmatch(r"[\w.+]*", label)] == []


# --- Values ---


@BOTH
def test_metrics_count_the_steps_and_refusals_of_recovery(site: Site) -> None:
    site.ask("nobody")
    link = site.new_link()
    site.visitor().open(link)
    site.visitor().open(link)
    visitor = site.visitor()
    for password in ("too short", NEW_PASSWORD, NEW_PASSWORD):
        visitor.post_json(link, json={"password": password})
    site.work()
    scraped = scrape(site)
    assert nonzero_events(scraped) == {
        "requested reset_instructions": 2,
        "mail_sent reset_instructions": 1,
        "mail_dropped": 1,
        "opened": 1,
        "password_refused password_too_short": 1,
        "redeemed": 1,
        "password_changed": 1,
        "refused link_used": 1,
        "mail_sent reset_notice": 1,
    }
    # A kind without events is 0, so that a sum by kind is never missing.
    kinds = {label[1] for label in scraped if label[0] == "sparekey_events_last_hour"}
    assert kinds == audit.OUTCOMES.keys() - {*audit.LOG_ONLY}
    assert scraped["sparekey_events_last_hour", "mail_given_up", ""] == 0


def test_metrics_tell_openings_by_a_code_from_others(site: Site) -> None:
    with site.app.app_context():
        for reason in ("code", None):
            audit.record("opened", reason=reason)
        db.session.commit()
    assert nonzero_events(scrape(site)) == {"opened": 1, "opened code": 1}


@BOTH
def test_metrics_count_deliveries_of_the_last_hour_by_duration(site: Site) -> None:
    add_deliveries(site, *({"at": seconds_ago(age)} for age in (3500, 3700, 86_400)))
    assert scrape(site)["sparekey_events_last_hour", "mail_sent", "reset_instructions"] == 1
    for waited in (0, 20):
        site.ask()
        site.change(OutboxMessage, OutboxMessage.state == "waiting", created_at=seconds_ago(waited))
        site.work()
    add_deliveries(site, {"seconds": 10_000})
    scraped = scrape(site)
    bounds = ("5.0", "10.0", "30.0", "3600.0", "+Inf")
    within = [scraped["sparekey_deliveries_last_hour", bound, "reset_instructions"] for bound in bounds]
    assert within == [2, 2, 3, 3, 4]


@BOTH
def test_metrics_count_waiting_mail_and_its_age(site: Site) -> None:
    def mails() -> dict[str, float]:
        counts = {label[1]: count for label, count in scrape(site).items() if label[0] == "sparekey_mails"}
        return {state: count for state, count in counts.items() if count}

    def age(state: str) -> float:
        return scrape(site)["sparekey_oldest_mail_seconds", state]

    assert {state: scrape(site)["sparekey_mails", state] for state in STATES} == dict.fromkeys(STATES, 0)
    site.mailbox.refuse_only["alice@example.com"] = "451 later"
    site.ask("alice")
    site.work()
    site.ask("bob")
    first, second = (OutboxMessage.id == number for number in (1, 2))
    site.change(OutboxMessage, first, created_at=seconds_ago(100))
    assert mails() == {"untried": 1, "retried": 1}
    assert age("untried") < 5
    assert 100 <= age("retried") < 105
    site.change(OutboxMessage, first, attempts=0, refused_domain="example.com")
    assert mails() == {"untried": 1, "set_aside": 1}
    site.change(OutboxMessage, first, state="given_up")
    assert mails() == {"untried": 1, "given_up": 1}
    site.change(OutboxMessage, second, created_at=seconds_ago(-600))
    assert mails() == {"given_up": 1, "postponed": 1}
    assert age("postponed") == 0


def test_metrics_report_workers_and_problems(site: Site) -> None:
    scraped = scrape(site)
    assert (scraped["sparekey_workers",], scraped["sparekey_database_up",]) == (0, 1)
    problems = {label[1]: value for label, value in scraped.items() if label[0] == "sparekey_problem"}
    assert problems == {problem: problem == health.NO_WORKER for problem in health.PROBLEMS}
    with at_work(site):
        wait_for(lambda: scrape(site)["sparekey_workers",] == 1)
        assert scrape(site)["sparekey_problem", health.NO_WORKER] == 0


def test_metrics_without_a_database_say_so(make_site: Any, tmp_path: Any) -> None:
    uri = f"sqlite:///{tmp_path}/nowhere/x.db"
    site: Site = make_site(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_METRICS_TOKEN=TOKEN)
    assert scrape(site) == {("sparekey_database_up",): 0}


def test_metrics_tell_what_another_process_did(site: Site, mailbox: Mailbox) -> None:
    with Admin(database_uri(site), mailbox.port) as admin:
        admin.serves()
        httpx.post(f"{admin.base}/reset", json={"identity": "alice"}, verify=NO_TLS)
    assert nonzero_events(scrape(site)) == {"requested reset_instructions": 1}


# --- Alert rules ---


def test_alerts_use_existing_metrics_and_labels(site: Site) -> None:
    site.ask()
    site.work()  # without a delivery, its metric has no samples
    scraped = scrape(site)
    for alert in ALERTS:
        selectors = re.findall(r"(sparekey_\w+)(?:\{(.*?)\})?", alert["expr"])
        assert selectors, alert
        for name, matchers in selectors:
            exposed = [label[1:] for label in scraped if label[0] == name]
            assert exposed, name
            for value in re.findall(r'"(.*?)"', matchers):
                assert any(value in values for values in exposed), (name, value)
        assert alert.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert alert["labels"]["severity"] in ("critical", "warning"), alert
        assert alert["annotations"].keys() == {"summary", "description"}, alert


def test_every_problem_and_every_metric_has_an_alert() -> None:
    expressions = " ".join(alert["expr"] for alert in ALERTS)
    unalerted = [problem for problem in health.PROBLEMS if f'"{problem}"' not in expressions]
    assert unalerted == [health.NO_DATABASE]
    # The problems mail_late and webhook_late stand for the age of a message.
    unused = {name for name in metrics.METRICS if name not in expressions}
    ages = {"sparekey_oldest_mail_seconds", "sparekey_oldest_webhook_seconds"}
    assert unused == {"sparekey_workers", *ages}
