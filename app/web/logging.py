"""What the log looks like: a line for people, or a line of JSON for programs (RECOVERY_LOG_FORMAT).

Written here, since each request has a line: structlog takes 130 µs for one, a tenth of the request, this 30.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from flask import Flask, has_request_context

from ..db.audit import request_id
from ..settings.schema import Settings

# A token by its shape, wherever it stands, also behind an encoded slash. A handle (~...) is no secret.
_TOKEN = re.compile(r"(?:(?<![\w-])|(?<=%[0-9A-Fa-f]{2})|(?<=%25[0-9A-Fa-f]{2}))[\w-]{43,}")
# It starts where a word starts: tried at each letter of a long path, it would take quadratic time.
_ADDRESS = re.compile(r"(?<![^\s<>'\"(,;:])[^\s<>'\"(,;:]+?(?:@|%40)[^\s<>'\"),;:\\]+")
_LOGGERS = ("", "app", "werkzeug", "gunicorn.access", "gunicorn.error", "flask.app")


class SecretsFilter(logging.Filter):
    """Takes reset tokens and addresses out of what is about to be written, and what moves a cursor."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = redact_line(text)
        if clean != text:
            record.msg, record.args = clean, None
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True


def redact(text: str) -> str:
    """The text without tokens and addresses: for logs, and for reasons that rest in the database."""
    text = _TOKEN.sub("[token]", text)
    return _ADDRESS.sub("[address]", text) if "@" in text or "%40" in text else text


def redact_line(text: str) -> str:
    """The same, without what moves a cursor or what PostgreSQL can not store: a relay says what it likes."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return redact(text)


def filter_secrets(app: Flask) -> None:
    """Filter loggers, and their handlers for what comes from loggers below them; and Python's handler of
    last resort, which writes what no other does."""
    loggers = [logging.getLogger(name) for name in (*_LOGGERS, app.logger.name)]
    handlers = [handler for logger in loggers for handler in logger.handlers]
    for place in (*loggers, *handlers, logging.lastResort):
        if place and not any(isinstance(present, SecretsFilter) for present in place.filters):
            place.addFilter(SecretsFilter())


# What every record has; the rest was given with it.
_ALWAYS = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def init_app(app: Flask, settings: Settings) -> None:
    """Write what the app says from INFO on to stderr, unless logging is set up already (by a test)."""
    root = logging.getLogger()
    if not root.handlers:  # before Flask looks, which would add one of its own
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter(as_json=settings.RECOVERY_LOG_FORMAT == "json"))
        root.addHandler(handler)
        # Our lines name neither, and gunicorn's only the process.
        logging.logThreads = logging.logMultiprocessing = False
    app.logger.setLevel(logging.INFO)


def only_warnings(app: Flask) -> None:
    """For commands whose output is somebody's to read. What they do is an event all the same."""
    app.logger.setLevel(logging.WARNING)


class _Formatter(logging.Formatter):
    """For whatever any library logs. Every line of a request carries its name, so that the number on a page
    leads to its traceback. The whole is looked through at its end: tracebacks, too."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.line = _for_programs if as_json else _for_people

    def format(self, record: logging.LogRecord) -> str:
        said = {name: value for name, value in vars(record).items() if name not in _ALWAYS}
        if has_request_context():
            said.setdefault("request_id", request_id())
        trace = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else "")
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
        return redact(self.line(record, at, said, trace))


def _for_programs(record: logging.LogRecord, at: str, said: dict[str, Any], trace: str) -> str:
    facts = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
    line = {**said, **facts, "timestamp": at, **({"exception": trace} if trace else {})}
    return json.dumps(line, default=repr)


def _for_people(record: logging.LogRecord, at: str, said: dict[str, Any], trace: str) -> str:
    pairs = "".join(f" {name}={_shown(value)}" for name, value in sorted(said.items()))
    line = f"{at} [{record.levelname.lower():<9}] {record.getMessage()} [{record.name}]{pairs}"
    return f"{line}\n{trace}" if trace else line


def _shown(value: object) -> str:
    """As it is; in quotes, with escapes, where it would pass for something else."""
    text = str(value)
    is_plain = text.isprintable() and text and not set(text) & set(" =\"'")
    return text if is_plain or not isinstance(value, str) else repr(value)
