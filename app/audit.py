"""The audit trail: one event for each thing that happens to an account's recovery, and a log filter
that keeps reset tokens out of every log line.
"""

from __future__ import annotations

import logging
import re

from flask import Flask, has_request_context, request
from sqlalchemy import insert

from .db import db
from .models import RecoveryEvent

# A token by its shape, wherever it stands, also behind an encoded slash. A handle (~...) is no secret.
_TOKEN = re.compile(r"(?:(?<![\w-])|(?<=%2[Ff]))[\w-]{43}(?![\w-])")
# It starts where a word starts: tried at each letter of a long path, it would take quadratic time.
_ADDRESS = re.compile(r"(?<![^\s<>'\"(,;:])[^\s<>'\"(,;:]+@[^\s<>'\"),;:]+")

_INSERT = insert(RecoveryEvent.__table__)  # type: ignore[arg-type]  # a table, whatever its type says

_LOGGERS = ("", "app", "werkzeug", "gunicorn.access", "gunicorn.error", "flask.app")


def record(
    kind: str, *, reason: str | None = None, user_id: int | None = None, client: str | None = None
) -> None:
    """Add an event to the current transaction. It is kept if and only if that commits."""
    source = request.remote_addr if has_request_context() else None
    event = {"kind": kind, "reason": reason, "user_id": user_id, "source": source, "client": client}
    db.session.execute(_INSERT, event)


class SecretsFilter(logging.Filter):
    """Takes reset tokens and addresses out of what is about to be written."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = without_secrets(text)
        if clean != text:
            record.msg, record.args = clean, None
        if record.exc_info and not record.exc_text:
            record.exc_text = without_secrets(logging.Formatter().formatException(record.exc_info))
        return True


def without_secrets(text: str) -> str:
    """The text without tokens and addresses: for logs, and for reasons that rest in the database."""
    return _ADDRESS.sub("[address]", _TOKEN.sub("[token]", text))


def in_one_line(text: str) -> str:
    """The same, without what moves a cursor or what PostgreSQL can not store: a relay says what it likes."""
    return without_secrets("".join(letter if letter.isprintable() else " " for letter in text))


def init_app(app: Flask) -> None:
    """Filter loggers, and their handlers for what comes from loggers below them."""
    for name in (*_LOGGERS, app.logger.name):
        logger = logging.getLogger(name)
        for place in (logger, *logger.handlers):
            if not any(isinstance(present, SecretsFilter) for present in place.filters):
                place.addFilter(SecretsFilter())
