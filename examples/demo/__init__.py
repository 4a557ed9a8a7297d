"""The demo: Sparekey with an inbox beside it. `python -m examples.demo` runs all its parts."""

from __future__ import annotations

from flask import Flask

import app
from app.settings.schema import Settings

from . import inbox


def create_app(settings: Settings | None = None, *, checked: bool = True) -> Flask:
    """Return Sparekey's own application, with the inbox pages while RECOVERY_INBOX is on."""
    sparekey = app.create_app(settings, checked=checked)
    if sparekey.config["RECOVERY_INBOX"]:
        sparekey.register_blueprint(inbox.pages)
    return sparekey
