"""Logs hold no token, password or address, and no line that a request has forged."""

import logging
import time

import pytest
from sqlalchemy import text
from support.database import dump
from support.redemption import redeem
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.db.engine import db
from app.recovery import link as links
from app.web import logging as web_logging

TOKEN = "c29tZSB0b2tlbiB0aGF0IGlzIGxvbmcgZW5vdWdoIGl0"[:43]


@pytest.mark.requirement("R61")
def test_secrets_reach_neither_log_nor_database(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    link, visitor = site.new_link(), site.visitor()
    with monkeypatch.context() as broken:
        broken.setattr(links, "resolve", lambda token: {}[f"no {token} of alice@example.com"])
        assert visitor.open(link).status_code == 500
        assert visitor.post_json(link, json={"password": NEW_PASSWORD}).status_code == 500
    assert visitor.post_json(link, json={"password": "short"}).status_code == 400
    assert redeem(site, "form", link)
    site.work()
    assert visitor.post_json(link, json={"password": NEW_PASSWORD}).status_code == 400
    visitor.sign_in(password=NEW_PASSWORD)
    assert all(text in caplog.text for text in ("Traceback", "[token]", "[address]"))
    session = visitor.client.get_cookie("sparekey_session", domain="127.0.0.1")
    assert session is not None
    secrets = (link[-43:], NEW_PASSWORD, OLD_PASSWORD, session.value)
    assert [secret for secret in (*secrets, "alice@example.com") if secret in caplog.text] == []
    assert [secret for secret in secrets if secret in dump(site)] == []


@pytest.mark.requirement("R62")
def test_request_cannot_forge_a_log_line(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with site.app.app_context():
        db.session.execute(text("DROP TABLE reset_link"))
        db.session.commit()
    answer = site.visitor().open("/reset/x%0d%0a2026-01-01%20INFO%20all%20is%20well%1b[2J")
    assert answer.status_code == 503
    lines = [record.getMessage() for record in caplog.records]
    assert lines
    assert [line for line in lines if not line.isprintable()] == []


@pytest.mark.requirement("R32")
def test_no_line_keeps_the_log_filter_busy() -> None:
    marks = ("a", "@", "a@", "a,", " a", "a)", "%2f", f"{TOKEN}-", f"{TOKEN[1:]} ", "<")
    for line in (*(mark * (100_000 // len(mark)) for mark in marks), "<" * 100_000 + "@"):
        record = logging.LogRecord("app", logging.INFO, "", 0, line, None, None)
        began = time.perf_counter()
        web_logging.SecretsFilter().filter(record)
        assert time.perf_counter() - began < 1.5, line[:4]
