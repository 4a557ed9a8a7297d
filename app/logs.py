"""What the log looks like: a line for people, or a line of JSON for programs (RECOVERY_LOG_FORMAT)."""

from __future__ import annotations

import logging
from typing import Any

import structlog
from flask import Flask, has_request_context
from structlog.stdlib import ProcessorFormatter

from .audit import request_id, without_secrets
from .settings import Settings


def init_app(app: Flask, settings: Settings) -> None:
    """Write what the app says from INFO on to stderr, unless logging is set up already (by a test)."""
    root = logging.getLogger()
    if not root.handlers:  # before Flask looks, which would add one of its own
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter(as_json=settings.RECOVERY_LOG_FORMAT == "json"))
        root.addHandler(handler)
    app.logger.setLevel(logging.INFO)


def only_warnings(app: Flask) -> None:
    """For commands whose output is somebody's to read. What they do is an event all the same."""
    app.logger.setLevel(logging.WARNING)


class _Formatter(ProcessorFormatter):
    """structlog's, for whatever any library logs. What it made is looked through: tracebacks, too."""

    def __init__(self, *, as_json: bool) -> None:
        every: list[Any] = [
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            _name_the_request,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ]
        last: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if not as_json:
            last = [_for_people()]
        super().__init__(
            foreign_pre_chain=every, processors=[ProcessorFormatter.remove_processors_meta, *last]
        )

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _name_the_request(_logger: Any, _method: str, said: Any) -> Any:
    """Every line of a request carries its name, so that the number on a page leads to its traceback."""
    if has_request_context():
        said.setdefault("request_id", request_id())
    return said


def _for_people() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )
