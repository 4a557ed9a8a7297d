"""`manage.py outbox`: what became of each mail, and why. Shows no token and no mail's text."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import with_appcontext
from sqlalchemy import ColumnElement, and_, false, or_, select, update

from .. import audit, health, links, outbox
from ..askings import ASKINGS, same_as
from ..db import change, db, utcnow
from ..errors import Unreadable
from ..identities import find_account
from ..models import OutboxMessage, ResetLink, User
from ..settings import current
from .listing import Row, format_option, write_fields, write_json, write_table

LISTED_MAX = 50

UNSETTLED = ("waiting", "given_up")
STATES = (*UNSETTLED, "sent", "dropped")

# What /readyz calls by one word.
PROBLEMS = {
    health.NO_DATABASE: "The database does not answer.",
    health.MAIL_HELD: "Some workers can send no mail: their log says why.",
    health.NO_WORKER: "No worker was seen in the last minute, so no mail goes out: manage.py worker",
    health.MAIL_LATE: "Some mail waits longer than RECOVERY_READY_MAIL_AGE.",
    health.OUTBOX_FULL: "As many mails wait as RECOVERY_MAIL_WAITING_MAX allows: new requests are not kept.",
    health.BUDGET_SPENT: "RECOVERY_MAIL_HOURLY_MAX mails went out within an hour: reset mail waits.",
}


@click.group("outbox")
def group() -> None:
    """What became of each mail, and why."""


@group.command("list")
@click.option("--identity", help="Only mail of the account that this stands for: why did they not get it?")
@click.option("--state", type=click.Choice(STATES), help="Only mail in this state.")
@click.option("--limit", type=click.IntRange(1), default=LISTED_MAX, show_default=True)
@format_option
@with_appcontext
def list_messages(identity: str | None, state: str | None, limit: int, form: str) -> None:
    """Mails, the newest first, with what became of them and why; and what stops all mail."""
    user = find_account(identity) if identity else None
    answers, which = _about(user) if identity else ([], [])
    if state:
        which.append(OutboxMessage.state == state)
    query = select(OutboxMessage).where(*which).order_by(OutboxMessage.id.desc()).limit(limit)
    held = _held()
    rows = [_row(message, held) for message in db.session.scalars(query)]
    if user and not rows:
        answers.append("There is no mail to it: nobody asked for one, or it is long ago.")
    problems = _problems(held)
    if form == "json":
        write_json({"problems": problems, "answers": answers, "messages": rows})
        return
    for line in (*problems, *answers):
        click.echo(line)
    write_table([_in_words(row) for row in rows])


@group.command()
@click.argument("number", type=int)
@format_option
@with_appcontext
def show(number: int, form: str) -> None:
    """Everything about one mail but its text."""
    message = _found(number)
    row = {**_row(message, _held()), **_details(message)}
    if form == "json":
        write_json(row)
    else:
        write_fields(_in_words(row))


@group.command()
@click.argument("numbers", type=int, nargs=-1, required=True)
@with_appcontext
def retry(numbers: tuple[int, ...]) -> None:
    """Send mail now that waits or was given up. Its attempts start anew."""
    due = {"state": "waiting", "attempts": 0, "reason": None, "settled_at": None, "claim": None, "same": None}
    _decide(numbers, "mail_retried", "is due now", **due, created_at=utcnow(), due_at=utcnow())


@group.command()
@click.argument("numbers", type=int, nargs=-1, required=True)
@with_appcontext
def discard(numbers: tuple[int, ...]) -> None:
    """Never send mail that waits or was given up."""
    ended = {"state": "dropped", "reason": "discarded by an admin", "sealed": None, "same": None}
    _decide(numbers, "mail_discarded", "will not be sent", **ended, settled_at=utcnow(), claim=None)


def _decide(numbers: tuple[int, ...], event: str, said: str, **values: Any) -> None:
    """Change each mail that is not settled and in no worker's hand. Exits 1 when there was another."""
    refused = False
    for number in numbers:
        message = _found(number)
        unsettled = (OutboxMessage.state.in_(UNSETTLED), OutboxMessage.sealed.is_not(None), ~_in_hand())
        if change(update(OutboxMessage).where(OutboxMessage.id == number, *unsettled).values(**values)):
            if event == "mail_discarded":
                links.undelivered(message)
            audit.record(event, reason=audit.whoever(), user_id=message.user_id)
            click.echo(f"mail {number} {said}")
        else:
            refused = True
            click.echo(f"mail {number} can not be changed: {_row(message, None)['fate']}", err=True)
        db.session.commit()
    if refused:
        raise click.exceptions.Exit(1)


def _about(user: User | None) -> tuple[list[str], list[ColumnElement[bool]]]:
    """What can be said at once about an account that was asked for, and which mail is its own."""
    if user is None:
        said = "No account has this identity: requests for it get the usual answer, and no mail."
        return [said], [false()]
    why_not = links.why_not_recoverable(user)
    answers = [f"It stands for account {user.id}, {user.email}."]
    if why_not:
        answers.append(f"No reset mail goes to it: {why_not}.")
    names = [getattr(user, attribute) for attribute in current().SECURITY_USER_IDENTITY_ATTRIBUTES]
    mails = [asking.mail for asking in ASKINGS.values()]
    untried = [outbox.fingerprint(same_as(mail, name)) for mail in mails for name in names if name]
    by_link = select(ResetLink.message_id).where(ResetLink.user_id == user.id)
    of_account = or_(
        OutboxMessage.user_id == user.id, OutboxMessage.same.in_(untried), OutboxMessage.id.in_(by_link)
    )
    return answers, [of_account]


def _row(message: OutboxMessage, held: str | None) -> Row:
    fate = message.state
    if message.state == "waiting" and held:
        fate = "held"
    if db.session.scalar(select(OutboxMessage.id).where(OutboxMessage.id == message.id, _in_hand())):
        fate = "being sent"
    user = message.user_id and db.session.get(User, message.user_id)
    return {
        "id": message.id,
        "mail": message.kind,
        "account": user.email if user else None,
        "asked_for": message.created_at,
        "fate": fate,
        "attempts": message.attempts,
        "reason": held if fate == "held" else message.reason,
    }


def _in_words(row: Row) -> Row:
    """For people: no word of theirs has an underscore."""
    words = {name: row[name].replace("_", " ") for name in ("mail", "fate")}
    return {**row, **words}


def _details(message: OutboxMessage) -> Row:
    details: Row = {"message_id": message.message_id}
    if message.settled_at:
        details["settled"] = message.settled_at
    elif message.state == "waiting":
        details["next_attempt"] = message.due_at
    if message.sealed:
        try:
            said = outbox.content_of(message)
        except Unreadable as error:
            said = {"sealed": str(error)}
        shown = ("identity", "client", "source", "user_agent", "address", "recipient", "sealed")
        details |= {name: said[name] for name in shown if name in said}
    link = db.session.scalar(select(ResetLink).where(ResetLink.message_id == message.id))
    if link is not None:
        details["link_sent_to"] = link.email
        ends = ("expires_at", "redeemed_at", "superseded_at", "revoked_at")
        details |= {f"link_{end}": getattr(link, end) for end in ends if getattr(link, end)}
    return details


def _found(number: int) -> OutboxMessage:
    message = db.session.get(OutboxMessage, number)
    if message is None:
        raise click.ClickException(f"there is no mail {number}")
    return message


def _in_hand() -> ColumnElement[bool]:
    """A worker is trying it now."""
    return and_(OutboxMessage.claim.is_not(None), OutboxMessage.due_at > utcnow())


def _held() -> str | None:
    """Why no mail can go out, if every worker that was seen says so."""
    troubles = health.workers()
    return troubles[0] if troubles and all(troubles) else None


def _problems(held: str | None) -> list[str]:
    words = {**PROBLEMS, health.MAIL_HELD: f"All mail is held: {held}."} if held else PROBLEMS
    return [words[problem] for problem in health.look().problems]
