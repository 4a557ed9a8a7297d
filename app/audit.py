"""The audit trail: one event for each thing that happens to an account's recovery, in the database and in the
log; and a log filter that keeps reset tokens out of every line.

An event is a fact: what, when (UTC), how it ended, whose account, from where, through which client, in which
request. No address of a person, no token, nothing that was typed. Rows are added here and never changed, and
deleted by age alone (purge.py).
"""

from __future__ import annotations

import logging
import os
import pwd
import random
import re
from typing import Any, NamedTuple

from flask import Flask, g, has_request_context, request
from sqlalchemy import event as events
from sqlalchemy import insert
from sqlalchemy.orm import Session

from .db import db
from .models import RecoveryEvent

# Every kind of event, and how that ended for whoever wanted something.
OUTCOMES = {
    "requested": "success",  # somebody asked for a mail; whether there is an account is not known then
    "mail_sent": "success",
    "mail_dropped": "failure",  # it must not be sent: why
    "mail_given_up": "failure",  # it could not be: why
    "mail_retried": "success",  # by an admin
    "mail_discarded": "success",  # by an admin
    "opened": "success",  # a link, for the first time; mail scanners open links, too
    "refused": "failure",  # a link, when a password came with it: why
    "password_refused": "failure",  # why
    "redeemed": "success",
    "registered": "success",  # an account was made by somebody who signed up
    "password_changed": "success",  # by somebody who knew the old one
    "address_changed": "success",
    "revoked": "success",  # a link
    "not_me": "success",  # the owner says that it was somebody else
    "admin": "success",  # did something on the command line: what
    "burst": "failure",  # more of something than is usual
    "signed_in": "success",  # in the log only
    "sign_in_refused": "failure",  # in the log only
}
LOG_ONLY = ("signed_in", "sign_in_refused")
LOUD = ("burst", "not_me")  # warnings in the log

# A token by its shape, wherever it stands, also behind an encoded slash. A handle (~...) is no secret.
_TOKEN = re.compile(r"(?:(?<![\w-])|(?<=%[0-9A-Fa-f]{2})|(?<=%25[0-9A-Fa-f]{2}))[\w-]{43,}")
# It starts where a word starts: tried at each letter of a long path, it would take quadratic time.
_ADDRESS = re.compile(r"(?<![^\s<>'\"(,;:])[^\s<>'\"(,;:]+?(?:@|%40)[^\s<>'\"),;:\\]+")

INSERT = insert(RecoveryEvent.__table__)  # type: ignore[arg-type]  # a table, whatever its type says

_LOGGERS = ("", "app", "werkzeug", "gunicorn.access", "gunicorn.error", "flask.app")

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """An event on its way into the database and the log."""

    kind: str
    outcome: str
    values: dict[str, Any]

    @property
    def row(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.values}


def entry(
    kind: str,
    *,
    reason: str | None = None,
    user_id: int | None = None,
    client: str | None = None,
    about: str | None = None,
    seconds: float | None = None,
) -> Entry:
    """An event, of this request. `about` stands for that where there is none: the name of the mail that it is
    about."""
    here = has_request_context()
    values = {
        "reason": reason,
        "user_id": user_id,
        "source": request.remote_addr if here else None,
        "client": client,
        "request_id": about or (request_id() if here else None),
        "seconds": seconds,
    }
    return Entry(kind, OUTCOMES[kind], values)


def record(kind: str, **what: Any) -> None:
    """Add an event to the current transaction. It is kept, and logged, if and only if that commits. (Those
    that stand in the log alone are written at once.)"""
    new = entry(kind, **what)
    if kind in LOG_ONLY:
        say(new)
        return
    db.session.execute(INSERT, new.row)
    db.session().info.setdefault("events", []).append(new)


def whoever() -> str:
    """Who types on this command line, by the system's word: names in the environment can be made up."""
    number = os.getuid()
    try:
        return f"by {pwd.getpwuid(number).pw_name}"
    except KeyError:  # usual in containers
        return f"by uid {number}"


def request_id() -> str:
    """What this request is called in events, in the log, and on the page of an error that is ours."""
    if "request_id" not in g:
        g.request_id = f"{random.getrandbits(64):016x}"  # a name, and no secret
    name: str = g.request_id
    return name


class SecretsFilter(logging.Filter):
    """Takes reset tokens and addresses out of what is about to be written, and what moves a cursor."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = in_one_line(text)
        if clean != text:
            record.msg, record.args = clean, None
        if record.exc_info and not record.exc_text:
            record.exc_text = without_secrets(logging.Formatter().formatException(record.exc_info))
        return True


def without_secrets(text: str) -> str:
    """The text without tokens and addresses: for logs, and for reasons that rest in the database."""
    text = _TOKEN.sub("[token]", text)
    return _ADDRESS.sub("[address]", text) if "@" in text or "%40" in text else text


def in_one_line(text: str) -> str:
    """The same, without what moves a cursor or what PostgreSQL can not store: a relay says what it likes."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return without_secrets(text)


def init_app(app: Flask) -> None:
    """Filter loggers, and their handlers for what comes from loggers below them; and Python's handler of
    last resort, which writes what no other does."""
    loggers = [logging.getLogger(name) for name in (*_LOGGERS, app.logger.name)]
    handlers = [handler for logger in loggers for handler in logger.handlers]
    for place in (*loggers, *handlers, logging.lastResort):
        if place and not any(isinstance(present, SecretsFilter) for present in place.filters):
            place.addFilter(SecretsFilter())


@events.listens_for(Session, "after_commit")
def _say_what_is_kept(session: Session) -> None:
    """After the commit: a log that blocks must not hold the database's write lock."""
    if session.in_nested_transaction():
        return  # a savepoint: not kept yet
    for each in session.info.pop("events", []):
        say(each)


@events.listens_for(Session, "after_soft_rollback")
def _forget_what_is_not(session: Session, _previous: Any) -> None:
    session.info.pop("events", None)


def say(event: Entry) -> None:
    """To the log, once it is kept."""
    said = {name: value for name, value in event.values.items() if value is not None}
    level = logging.WARNING if event.kind in LOUD else logging.INFO
    log.log(level, "%s", event.kind, extra={"audit": True, "outcome": event.outcome, **said})
