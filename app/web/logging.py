"""Log lines without secrets: text for people, or JSON for programs (RECOVERY_LOG_FORMAT)."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from flask import Flask, has_request_context
from pythonjsonlogger import json
from pythonjsonlogger.core import RESERVED_ATTRS, merge_record_extra

from ..db.audit import request_id
from ..settings.schema import Settings

# A token by its shape, wherever it stands, also behind an encoded slash. A handle (~...) is no secret.
_TOKEN = re.compile(r"(?:(?<![\w-])|(?<=%[0-9A-Fa-f]{2})|(?<=%25[0-9A-Fa-f]{2}))[\w-]{43,}")
# Starts only where a word starts: tried at each letter of a long path, it would take quadratic time.
_ADDRESS = re.compile(r"(?<![^\s<>'\"(,;:])[^\s<>'\"(,;:]+?(?:@|%40)[^\s<>'\"),;:\\]+")
_LOGGERS = ("", "app", "werkzeug", "gunicorn.access", "gunicorn.error")
_TEXT = "%(asctime)s.%(msecs)03dZ [%(levelname)-8s] %(message)s [%(name)s]"
_JSON_NAMES = {"message": "event", "levelname": "level", "name": "logger", "exc_info": "exception"}


def init_app(app: Flask, settings: Settings) -> None:
    """Log to stderr from INFO on, unless logging is set up already (by a test), and filter every logger."""
    root = logging.getLogger()
    if not root.handlers:  # before Flask looks, which would add one of its own
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter() if settings.RECOVERY_LOG_FORMAT == "json" else TextFormatter())
        root.addHandler(handler)
    app.logger.setLevel(logging.INFO)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    # Handlers, too, because they also get records of loggers below.
    for place in (*loggers, *(handler for logger in loggers for handler in logger.handlers)):
        if not any(isinstance(present, SecretsFilter) for present in place.filters):
            place.addFilter(SecretsFilter())


def only_warnings(app: Flask) -> None:
    """Silence INFO, for commands whose output a person reads. The audit trail keeps what they do."""
    app.logger.setLevel(logging.WARNING)


def redact(text: str) -> str:
    """Replace tokens and addresses: for logs, and for reasons that rest in the database."""
    return _ADDRESS.sub("[address]", _TOKEN.sub("[token]", text))


def redact_line(text: str) -> str:
    """Redact, and replace what moves a cursor or cannot be stored by PostgreSQL."""
    return redact("".join(letter if letter.isprintable() else " " for letter in text))


class SecretsFilter(logging.Filter):
    """Names the request in every record, and redacts the message, its extra fields and the traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if has_request_context() and not hasattr(record, "request_id"):
            record.request_id = request_id()  # so that the number on an error page leads to its traceback
        record.msg, record.args = redact_line(record.getMessage()), None
        for name, value in merge_record_extra(record, {}, RESERVED_ATTRS).items():
            if isinstance(value, str):
                setattr(record, name, redact_line(value))
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None  # formatters would write it again
        return True


class TextFormatter(logging.Formatter):
    """Time (UTC), level, message and logger, then every extra field as name=value."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(_TEXT, "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        line = super().formatMessage(record)
        for name, value in sorted(merge_record_extra(record, {}, RESERVED_ATTRS).items()):
            is_one_word = re.fullmatch(r"[^\s=\"']+", str(value))  # or it could pass for something else
            line += f" {name}={value if is_one_word else repr(str(value))}"
        return line


class JsonFormatter(json.JsonFormatter):
    """One JSON object a line."""

    def __init__(self) -> None:
        super().__init__(["message", "levelname", "name"], rename_fields=_JSON_NAMES, timestamp=True)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Write levels in lower case, as programs that read this log expect."""
        return {**log_data, "level": log_data["level"].lower()}
