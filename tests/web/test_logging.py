"""Every logger redacts tokens and addresses."""

import logging
from urllib.parse import unquote

import pytest
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
