"""The audit trail: one event for each thing that happens to an account's recovery, and a log filter
that keeps reset tokens out of every log line.
"""

from __future__ import annotations

import logging
import re

from flask import Flask, has_request_context, request

from .db import db
from .models import RecoveryEvent

# A token in a path. A handle (~...) is no secret outside its browser and stays readable.
_TOKEN_IN_PATH = re.compile(r"(/reset/)(?!~)[^\s/?\"']{16,}")

_LOGGERS = ("app", "werkzeug", "gunicorn.access", "gunicorn.error", "flask.app")


def record(
    kind: str, *, reason: str | None = None, user_id: int | None = None, client: str | None = None
) -> None:
    """Add an event to the current transaction. It is kept if and only if that commits."""
    source = request.remote_addr if has_request_context() else None
    db.session.add(RecoveryEvent(kind=kind, reason=reason, user_id=user_id, source=source, client=client))


class TokenFilter(logging.Filter):
    """Replaces reset tokens in what a logger is about to write."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = without_tokens(text)
        if clean != text:
            record.msg, record.args = clean, None
        return True


def without_tokens(text: str) -> str:
    return _TOKEN_IN_PATH.sub(r"\1[token]", text)


def init_app(app: Flask) -> None:
    for name in (*_LOGGERS, app.logger.name):
        logger = logging.getLogger(name)
        if not any(isinstance(present, TokenFilter) for present in logger.filters):
            logger.addFilter(TokenFilter())
