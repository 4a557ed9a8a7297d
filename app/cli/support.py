"""`manage.py users show`: the whole answer to "why did I not get the mail?", on one screen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import click
import humanize
from flask import current_app
from sqlalchemy import select

from ..accounts import identities, imported_hashes
from ..accounts.models import User
from ..db.audit import RecoveryEvent
from ..db.clock import utcnow
from ..db.engine import db
from ..mail.budget import DAY_SECONDS
from ..mail.outbox import OutboxMessage
from ..recovery.link import ResetLink
from ..settings import current
from . import events, limits, mail_report
from .lookup import find
from .output import Row, write_fields, write_table

SHOWN = 10  # of links, mails and events each, the newest
# The ends of a link, and what the person should hear.
ENDS = {
    "used": "The newest link was used at {at}: the password was set then.",
    "superseded": "The newest link ended at {at}, when another was used.",
    "revoked": "The newest link was cancelled at {at}.",
    "expired": "The newest link expired at {at}.",
    "void": "The newest link works no longer: the account's address or password has changed since.",
    "open": "The newest link works until {at}.",
    "handed over": "The newest link was handed over by an admin, and works until {at}.",
}


def story_of(identity: str) -> dict[str, Any]:
    """All that is known about what somebody typed: the answers first."""
    user, held = find(identity), mail_report.held()
    story: dict[str, Any] = {"problems": mail_report.problems(held), "answers": [], "account": None}
    try:
        story["limits"] = limits.counts(identity)
    except limits.NotSeen as error:
        story |= {"limits": None, "why_no_limits": str(error)}
    if user is None:
        return {**story, "answers": [_why_nobody(identity)]}
    found = {
        "links": [_link(link, user) for link in _newest(ResetLink, *_mailed_to(user))],
        "mails": [mail_report.row(message, held) for message in _newest(OutboxMessage, mail_report.of(user))],
        "events": [events.row(event) for event in _newest(RecoveryEvent, RecoveryEvent.user_id == user.id)],
    }
    return {
        **story,
        "account": _account(user),
        **found,
        "answers": list(_answers(user, found, story["limits"])),
    }


def write(story: dict[str, Any]) -> None:
    """For people."""
    for line in (*story["problems"], *story["answers"]):
        click.echo(line)
    if story["account"] is None:
        return
    click.echo()
    write_fields(story["account"])
    for name in ("links", "mails", "limits", "events"):
        if story.get(name):
            click.echo(f"\n{click.style(name.capitalize(), bold=True)}")
            write_table([_without_account(row) for row in story[name]])
    if story["limits"] is None:
        click.echo(f"\n{story['why_no_limits']}")


def _why_nobody(identity: str) -> str:
    known = identities.known_as(identity)
    if known is None:
        return "No account can have that as an identity: requests for it get the usual answer, and no mail."
    column, form = known
    kind = {"email": "address", "username": "username"}.get(column, "phone number")
    return f"No account has the {kind} {form}: requests for it get the usual answer, and no mail."


def _answers(user: User, found: dict[str, list[Row]], counted: list[Row] | None) -> Iterator[str]:
    """What to tell the person who asks, in the order in which it matters."""
    if why_not := user.why_not_recoverable():
        yield f"No reset mail goes to this account: {why_not}."
    else:
        yield from _of_budget(user)
    if not current().sends_mail:
        yield "No mail is sent (MAIL_SERVER is empty): hand over a link with manage.py users reset-link."
    instructions = [mail for mail in found["mails"] if mail["mail"] == "reset_instructions"]
    if instructions:
        yield _of_mail(instructions[0])
    elif current().sends_mail:
        yield "Nobody asked for a link for this account, or it is long ago."
    for link in found["links"][:1]:
        yield ENDS[link["state"]].format(at=_time(link["until"]))
    if any(row["is_over"] for row in counted or ()):
        yield "Requests with its identities are refused right now, since there were too many (Limits, below)."


def _of_mail(mail: Row) -> str:
    asked, why = f"A link was asked for at {_time(mail['asked_for'])}", mail["reason"]
    said = {
        "sent": f"{asked}, and the relay took the mail. Is it in the spam folder? The relay's log knows it by"
        f" its Message-ID (manage.py outbox show {mail['id']}).",
        "waiting": f"{asked}, and the mail waits for its first attempt."
        if not mail["attempts"]
        else f"{asked}; the mail was tried {mail['attempts']} times and waits for the next: {why}",
        "held": f"{asked}. All mail is held: {why}",
        "being sent": f"{asked}, and the mail is being sent right now.",
        "given_up": f"{asked}, and the mail was given up: {why}."
        f" To send it now: manage.py outbox retry {mail['id']}",
        "dropped": f"{asked}, and no mail was sent: {why}.",
    }
    return said[mail["fate"]]


def _of_budget(user: User) -> Iterator[str]:
    """Why a request right now would get no mail."""
    settings = current()
    now = db.session.scalars(select(utcnow())).one()
    since = now - max(timedelta(seconds=DAY_SECONDS), settings.RECOVERY_MAIL_COOLDOWN)
    counted = (*_mailed_to(user), ResetLink.issued_at > since, ResetLink.message_id.is_not(None))
    issued = db.session.execute(
        select(ResetLink.issued_at, ResetLink.revoked_at).where(*counted).order_by(ResetLink.issued_at)
    ).all()
    lately = [at + settings.RECOVERY_MAIL_COOLDOWN - now for at, revoked in issued if not revoked]
    if lately and lately[-1] > timedelta():
        pause = _span(lately[-1])
        yield f"A reset mail went out a moment ago; the next can in {pause} (RECOVERY_MAIL_COOLDOWN)."
    if len(issued) >= settings.RECOVERY_MAIL_DAILY_CAP:
        pause = issued[-settings.RECOVERY_MAIL_DAILY_CAP][0] + timedelta(seconds=DAY_SECONDS) - now
        yield (
            f"The account had its {settings.RECOVERY_MAIL_DAILY_CAP} reset mails of 24 hours;"
            f" the next one can go out in {_span(pause)} (RECOVERY_MAIL_DAILY_CAP)."
        )


def _account(user: User) -> Row:
    security = current_app.extensions["security"]
    names = (user.email, user.username, user.us_phone_number)
    scheme = security.pwd_context.identify(user.password) if user.password else None
    if scheme and (source := imported_hashes.source_of(user.password or "")):
        scheme = f"{source}, until the next sign-in"
    return {
        "account": user.id,
        "identities": ", ".join(str(name) for name in names if name),
        "state": "active" if user.is_active else "not active",
        "confirmed_at": user.confirmed_at,
        "language": user.language,
        "password": scheme or ("of an unknown kind" if user.password else "none"),
        "second_factor": user.tf_primary_method,
        "roles": ", ".join(str(role.name) for role in user.roles),
        "created_at": user.create_datetime,
        "last_sign_in": user.last_login_at,
    }


def _link(link: ResetLink, user: User) -> Row:
    state, until = _state_of(link, user)
    return {
        "id": link.id,
        "mail": link.message_id,
        "issued_at": link.issued_at,
        "sent_to": link.email,
        "client": link.client,
        "opened_at": link.opened_at,
        "state": state,
        "until": until,
    }


def _state_of(link: ResetLink, user: User) -> tuple[str, datetime]:
    for state, at in (
        ("used", link.redeemed_at),
        ("superseded", link.superseded_at),
        ("revoked", link.revoked_at),
    ):
        if at:
            return state, at
    is_over = db.session.scalar(select(ResetLink.expires_at <= utcnow()).where(ResetLink.id == link.id))
    if is_over:
        return "expired", link.expires_at
    if not link.is_usable(user):
        return "void", link.expires_at
    return ("open" if link.message_id else "handed over"), link.expires_at


def _mailed_to(user: User) -> tuple[Any, ...]:
    """An account's links, without those whose mail was given up."""
    return ResetLink.user_id == user.id, ResetLink.undelivered_at.is_(None)


def _newest(model: Any, *which: Any) -> Any:
    return db.session.scalars(select(model).where(*which).order_by(model.id.desc()).limit(SHOWN))


def _without_account(row: Row) -> Row:
    """On this screen everything is of one account."""
    return {name: value for name, value in row.items() if name not in ("account", "outcome", "request")}


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"


def _span(pause: timedelta) -> str:
    return humanize.precisedelta(max(pause, timedelta(seconds=1)), minimum_unit="seconds", format="%0.0f")
