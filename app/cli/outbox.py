"""`manage.py outbox`: mails and events, their status and its reason. Shows no token and no text of a mail."""

from itertools import product
from typing import Any

import click
from flask.cli import AppGroup
from sqlalchemy import ColumnElement, and_, null, or_, select, update

from ..accounts.identities import identity_key
from ..accounts.models import User
from ..db import audit
from ..db.clock import utcnow
from ..db.encryption import DecryptionError, keyed_hash
from ..db.engine import AccountsAway, change, db
from ..mail import heartbeat
from ..mail.outbox import REFUSED, UNTRIED, WEBHOOK, OutboxMessage
from ..mail.quota import BY_ADMIN, KNOWN_BROWSER
from ..pages import health
from ..recovery.link import ResetLink
from ..recovery.request import MAIL_REQUESTS, deduplication_key
from ..settings import current
from . import admin
from .database_checks import finding_of_problem
from .output import Row, format_option, write_fields, write_json, write_rows

CONTENT_SHOWN = ("identity", "client", "language", "source", "user_agent", "address", "recipient", "sealed")
LINK_TIMES = ("expires_at", "redeemed_at", "superseded_at", "revoked_at")
UNSETTLED = ("waiting", "given_up")

group = AppGroup("outbox", help="Inspect, retry and discard messages.")
NUMBER = click.IntRange(1, 2**31 - 1)
numbers_argument = click.argument("numbers", type=NUMBER, nargs=-1, required=True)


@group.command("list")
@click.option("--identity", help="Only messages to the account with this identity.")
@click.option("--state", type=click.Choice([*UNSETTLED, "sent", "dropped"]), help="Only in this state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@format_option
def list_messages(identity: str | None, state: str | None, limit: int, form: str) -> None:
    """List messages, newest first, after any problem that stops all mail."""
    conditions = [OutboxMessage.state == state] if state else []
    if identity is not None:
        conditions.append(is_to(admin.get_account(identity), identity))
    rows = newest(*conditions, limit=limit)
    if form == "json":
        write_json({"problems": problems(), "messages": rows})
        return
    for line in problems():
        click.echo(line)
    write_rows([_spaced(row) for row in rows], form, "no messages")


@group.command()
@click.argument("number", type=NUMBER)
@format_option
def show(number: int, form: str) -> None:
    """Show everything about one message except its text."""
    message = _get_message(number)
    row = {**newest(OutboxMessage.id == number)[0], **_details(message)}
    if form == "json":
        write_json(row)
    else:
        write_fields(_spaced(row))


def _details(message: OutboxMessage) -> Row:
    link = db.session.scalar(select(ResetLink).where(ResetLink.message_id == message.id))
    try:
        content = message.content if message.sealed else {}
    except DecryptionError as error:
        content = {"sealed": str(error)}
    return {
        "message_id": message.message_id,
        "settled": message.settled_at,
        "next_attempt": message.due_at if message.state == "waiting" else None,
        **{name: content.get(name) for name in ("event", *CONTENT_SHOWN)},
        "link_sent_to": link.email if link else None,
        **{f"link_{name}": getattr(link, name, None) for name in LINK_TIMES},
    }


@group.command()
@numbers_argument
def retry(numbers: tuple[int, ...]) -> None:
    """Send waiting or given-up messages now, ignoring cool-down and cap. Their attempts start over."""
    due = {"state": "waiting", "attempts": 0, "reason": None, "settled_at": None, "claim": None, "same": None}
    times = {"created_at": utcnow(), "due_at": utcnow()}
    _update(numbers, "mail_retried", "is due now", **due, **times, quota=BY_ADMIN)


@group.command()
@numbers_argument
def discard(numbers: tuple[int, ...]) -> None:
    """Discard waiting or given-up messages without sending them. Of a dropped one, end the problem."""
    ended = {"state": "dropped", "reason": "discarded by an admin", "sealed": None, "same": None}
    _update(numbers, "mail_discarded", "will not be sent", **ended, settled_at=utcnow(), claim=None)


def _update(numbers: tuple[int, ...], event: str, outcome: str, **values: Any) -> None:
    """Update each message that is unsettled and not being sent. Exits 1 if another was among them.

    Of a message that was refused and dropped, only end the problem that /readyz reports.
    """
    unrefused = {"refused_at": None, "refused_domain": None, "refusals": 0}
    was_dropped = and_(REFUSED, OutboxMessage.state == "dropped")
    is_open = and_(OutboxMessage.state.in_(UNSETTLED), OutboxMessage.sealed.is_not(None), ~is_being_sent())
    exit_code = 0
    for number in numbers:
        message = _get_message(number)
        this = update(OutboxMessage).where(OutboxMessage.id == number)
        if change(this.where(is_open).values(**values, **unrefused)) or (
            event == "mail_discarded" and change(this.where(was_dropped).values(unrefused))
        ):
            audit.record(event, reason=admin.actor(), user_id=message.user_id)
            click.echo(f"message {number} {outcome}")
        else:
            exit_code = 1
            state = newest(OutboxMessage.id == number)[0]["status"]
            click.echo(f"message {number} cannot be changed: {state}", err=True)
        db.session.commit()
    raise click.exceptions.Exit(exit_code)


def _get_message(number: int) -> OutboxMessage:
    message = db.session.get(OutboxMessage, number)
    if message is None:
        raise click.ClickException(f"there is no message {number}")
    return message


def _spaced(row: Row) -> Row:
    return row | {name: row[name].replace("_", " ") for name in ("mail", "status")}


def newest(*conditions: ColumnElement[bool], limit: int = 1) -> list[Row]:
    """Return the newest messages that meet the conditions, as rows."""
    held, rows = reason_all_held(), []
    # Without a reason, the clock was set back.
    is_postponed = and_(UNTRIED, OutboxMessage.reason.is_not(None), OutboxMessage.created_at > utcnow())
    query = select(OutboxMessage, is_being_sent(), is_postponed)
    query = query.outerjoin(User, User.id == OutboxMessage.user_id)
    query = query.where(*conditions).order_by(OutboxMessage.id.desc()).limit(limit)
    try:
        loaded = db.session.execute(query.add_columns(User)).all()
    except AccountsAway:  # only the column `account` needs them
        db.session.rollback()
        loaded = db.session.execute(query.add_columns(null())).all()
    for message, is_sending, is_later, user in loaded:
        is_due = message.state == "waiting" and not is_sending and not is_later
        is_held = is_due and held and message.kind != WEBHOOK
        asked_for = None if is_later else message.created_at
        row = {"id": message.id, "mail": message.kind, "account": user and user.email, "asked_for": asked_for}
        is_aside = message.state == "waiting" and message.refused_domain
        state = "postponed" if is_later else "set_aside" if is_aside else message.state
        row["status"] = "being sent" if is_sending else "held" if is_held else state
        rows.append({**row, "attempts": message.attempts, "reason": held if is_held else message.reason})
    return rows


def is_to(user: User, typed: str) -> ColumnElement[bool]:
    """Select an account's messages, including untried requests with one of its identities.

    Of an application's account, only those in its stored spelling or as the admin has typed it.
    """
    names = [getattr(user, attribute) for attribute in current().SECURITY_USER_IDENTITY_ATTRIBUTES] + [typed]
    kinds = [page.kind for page in MAIL_REQUESTS.values()]
    keys = product(kinds, map(identity_key, filter(None, names)), ("", KNOWN_BROWSER))
    untried = [keyed_hash(deduplication_key(*key)) for key in keys]
    by_link = select(ResetLink.message_id).where(ResetLink.user_id == user.id)
    return or_(
        OutboxMessage.user_id == user.id, OutboxMessage.same.in_(untried), OutboxMessage.id.in_(by_link)
    )


def is_being_sent() -> ColumnElement[bool]:
    """Select messages that a worker is sending now."""
    longest = utcnow(current().RECOVERY_MAIL_LEASE.total_seconds())  # further only if the clock was set back
    return and_(OutboxMessage.claim.is_not(None), OutboxMessage.due_at.between(utcnow(), longest))


def problems() -> list[str]:
    """Return the problems of /readyz in sentences."""
    held, state, lines = reason_all_held(), health.check(), []
    for problem in state["problems"]:
        finding = finding_of_problem(problem, state["reason"])
        is_all_held = held and problem == health.MAIL_HELD
        lines.append(f"All mail is held: {held}." if is_all_held else f"{finding.what} {finding.why}")
    return lines


def reason_all_held() -> str | None:
    """Return why no running worker can send, or None."""
    troubles = heartbeat.worker_troubles()
    return troubles[0] if troubles and all(troubles) else None
