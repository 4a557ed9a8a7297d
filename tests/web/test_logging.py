"""Every logger redacts tokens and addresses."""

import logging
from typing import Any
from urllib.parse import unquote

import pytest
from support.application import Application
from support.site import Site

from app.web.logging import redact


@pytest.mark.requirement("R61")
def test_every_logger_redacts_tokens(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    token = site.new_link().rsplit("/", 1)[1]
    encoded = "".join(f"%{ord(letter):02X}" for letter in token)
    lines = (
        '"GET /auth/reset/{token} HTTP/1.1" 303',
        '"GET /reset//{token} HTTP/1.1" 308',
        '"GET /%72eset/{token}" 404',
        '"GET /" "https://safelinks.example?url=https%3A%2F%2Fid.example.com%2Freset%2F{token}"',
        f'"GET /reset/{encoded}"',
        f'"GET /reset/{encoded.lower()}"',
        f'"GET /reset/{encoded.replace("%", "%25")}"',
        f'"GET /reset?token={token[:20]}{encoded[60:63]}{token[21:]}"',
    )
    for line in lines:
        caplog.clear()
        for name in ("werkzeug", "gunicorn.access", site.app.logger.name):
            logging.getLogger(name).warning("%s", line.format(token=token))
        decoded = unquote(unquote(caplog.text))
        assert not {piece for piece in (token[:8], token[22:30], token[-8:]) if piece in decoded}, line
        assert caplog.text.count("[token]") == 3, line


def test_redact_keeps_handles_and_masks_addresses() -> None:
    assert redact("/reset/~handle and 1234") == "/reset/~handle and 1234"
    assert redact("to <alice@example.com>: 450") == "to <[address]>: 450"


def test_outage_is_one_line_of_the_log_and_a_defect_is_a_traceback(
    application: Application,
    make_site: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site: Site = make_site(**application.deployment())
    link = site.new_link()
    application.execute("ALTER TABLE users RENAME TO away")
    caplog.clear()
    assert site.visitor().open(link).status_code == 503
    [record] = caplog.records
    assert "[GET]: the application's accounts cannot be used. RECOVERY_ACCOUNTS: no such table" in caplog.text
    assert (record.levelname, record.exc_info, record.getMessage().count("\n")) == ("ERROR", None, 0)
    monkeypatch.setattr("app.recovery.landing.links.resolve", lambda _token: 1 / 0)
    assert site.visitor().open(link).status_code == 500
    assert "ZeroDivisionError" in caplog.text
