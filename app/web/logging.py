"""Logging without secrets, as text or JSON (RECOVERY_LOG_FORMAT)."""

import logging
import re
import time
from typing import Any

from flask import Flask, has_request_context
from pythonjsonlogger import json
from pythonjsonlogger.core import RESERVED_ATTRS, merge_record_extra

from ..db.audit import request_id
from ..settings.schema import Settings

# A token, recognized by its shape, also if some of its characters are encoded. A handle (~...) is no secret.
_TOKEN = re.compile(r"(?<![\w-])(?:[\w-]|%[0-9A-Fa-f]{2}){43,}")
# Matches only at the start of a word, because attempts at each letter would take quadratic time.
_ADDRESS = re.compile(r"(?<![^\s<>'\"(,;:])[^\s<>'\"(,;:]+?(?:@|%40)[^\s<>'\"),;:\\]+")
_LOGGERS = ("", "app", "werkzeug", "gunicorn.access", "gunicorn.error")
_TEXT = "%(asctime)s.%(msecs)03dZ [%(levelname)-8s] %(message)s [%(name)s]"
_JSON_NAMES = {"message": "event", "levelname": "level", "name": "logger", "exc_info": "exception"}


def init_app(app: Flask, settings: Settings) -> None:
    """Log to stderr from INFO on, unless a handler is already set up (by a test), and redact every record."""
    root = logging.getLogger()
    if not root.handlers:  # before Flask adds a handler of its own
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter() if settings.RECOVERY_LOG_FORMAT == "json" else TextFormatter())
        root.addHandler(handler)
    app.logger.setLevel(logging.INFO)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    # Handlers, too, because they also receive the records of other loggers.
    for target in (*loggers, *(handler for logger in loggers for handler in logger.handlers)):
        if not any(isinstance(present, SecretsFilter) for present in target.filters):
            target.addFilter(SecretsFilter())


def redact(text: str) -> str:
    """Replace tokens and email addresses, for logs and for reasons that are stored in the database."""
    return _ADDRESS.sub("[address]", _TOKEN.sub("[token]", text))


def redact_line(text: str) -> str:
    """Redact, and replace control characters, which move a cursor or which PostgreSQL cannot store."""
    return redact("".join(letter if letter.isprintable() else " " for letter in text))


class SecretsFilter(logging.Filter):
    """A filter that adds the request id, and redacts the message, the extra fields and the traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if has_request_context() and not hasattr(record, "request_id"):
            record.request_id = request_id()  # leads from an error page to its traceback
        record.msg, record.args = redact_line(record.getMessage()), None
        for name, value in merge_record_extra(record, {}, RESERVED_ATTRS).items():
            if isinstance(value, str):
                setattr(record, name, redact_line(value))
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None  # or formatters would write it unredacted
        return True


class TextFormatter(logging.Formatter):
    """A line: time (UTC), level, message and logger, then every extra field as name=value."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(_TEXT, "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        line = super().formatMessage(record)
        for name, value in sorted(merge_record_extra(record, {}, RESERVED_ATTRS).items()):
            is_one_word = re.fullmatch(r"[^\s=\"']+", str(value))  # others are quoted
            line += f" {name}={value if is_one_word else repr(str(value))}"
        return line


class JsonFormatter(json.JsonFormatter):
    """One JSON object a line."""

    def __init__(self) -> None:
        super().__init__(["message", "levelname", "name"], rename_fields=_JSON_NAMES, timestamp=True)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Write levels in lower case, as programs expect."""
        return {**log_data, "level": log_data["level"].lower()}
