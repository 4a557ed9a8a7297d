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
from ..mail.outbox import OutboxMessage
from ..mail.quota import DAY_SECONDS
from ..recovery.link import ResetLink
from ..settings import current
from . import events, limits, mail_report
from .admin import find
from .output import KIND_NAMES, Row, as_time, write_fields, write_table

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
# What became of the mail, after "A link was asked for at ...".
MAILS = {
    "sent": ", and the relay took the mail. Is it in the spam folder? The relay's log knows it by its"
    " Message-ID (manage.py outbox show {id}).",
    "untried": ", and the mail waits for its first attempt.",
    "waiting": "; the mail was tried {attempts} times and waits for the next: {reason}",
    "held": ". All mail is held: {reason}",
    "being sent": ", and the mail is being sent right now.",
    "given_up": ", and the mail was given up: {reason}. To send it now: manage.py outbox retry {id}",
    "dropped": ", and no mail was sent: {reason}.",
}


def story_of(identity: str) -> dict[str, Any]:
    """Return all that is known about an identity, the answers first."""
    user, held = find(identity), mail_report.held()
    story: dict[str, Any] = {"problems": mail_report.problems(held), "answers": [], "account": None}
    try:
        story["limits"] = limits.counts(identity)
    except limits.NotSeen as error:
        story |= {"limits": None, "why_no_limits": str(error)}
    if user is None:
        return story | {"answers": [_why_nobody(identity)]}
    story["account"] = _account(user)
    story["links"] = [_link(link) for link in _newest(ResetLink, *_mailed_to(user))]
    story["mails"] = [mail_report.row(mail, held) for mail in _newest(OutboxMessage, mail_report.of(user))]
    of_user = RecoveryEvent.user_id == user.id
    story["events"] = [events.row(event) for event in _newest(RecoveryEvent, of_user)]
    return story | {"answers": list(_answers(user, story))}


def write(story: dict[str, Any]) -> None:
    """Write it for people."""
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
    consequence = "requests for it get the usual answer, and no mail."
    if known := identities.map_identity(identity):
        kind, form = KIND_NAMES[known[0]], known[1]
        return f"No account has the {kind} {form}: {consequence}"
    return f"No account can have that as an identity: {consequence}"


def _answers(user: User, story: dict[str, Any]) -> Iterator[str]:
    """Yield what to tell the person who asks, in the order in which it matters."""
    if why_not := user.reason_not_recoverable():
        yield f"No reset mail goes to this account: {why_not}."
    else:
        yield from _of_budget(user)
    if not current().sends_mail:
        yield "No mail is sent (MAIL_SERVER is empty): hand over a link with manage.py users reset-link."
    instructions = [mail for mail in story["mails"] if mail["mail"] == "reset_instructions"]
    if instructions:
        yield _of_mail(instructions[0])
    elif current().sends_mail:
        yield "Nobody asked for a link for this account, or it is long ago."
    for link in story["links"][:1]:
        yield ENDS[link["state"]].format(at=as_time(link["until"]))
    if any(row["is_over"] for row in story["limits"] or ()):
        yield "Requests with its identities are refused right now, since there were too many (Limits, below)."


def _of_mail(mail: Row) -> str:
    fate = "untried" if mail["fate"] == "waiting" and not mail["attempts"] else mail["fate"]
    return f"A link was asked for at {as_time(mail['asked_for'])}" + MAILS[fate].format_map(mail)


def _of_budget(user: User) -> Iterator[str]:
    """Yield why a request right now would get no mail."""
    settings = current()
    now = db.session.scalars(select(utcnow())).one()
    since = now - max(timedelta(seconds=DAY_SECONDS), settings.RECOVERY_MAIL_COOLDOWN)
    counted = (*_mailed_to(user), ResetLink.issued_at > since, ResetLink.message_id.is_not(None))
    issued = db.session.scalars(select(ResetLink).where(*counted).order_by(ResetLink.issued_at)).all()
    lately = [link.issued_at + settings.RECOVERY_MAIL_COOLDOWN - now for link in issued if link.is_usable()]
    if lately and lately[-1] > timedelta():
        pause = _span(lately[-1])
        yield f"A reset mail went out a moment ago; the next can in {pause} (RECOVERY_MAIL_COOLDOWN)."
    if len(issued) >= settings.RECOVERY_MAIL_DAILY_CAP:
        pause = issued[-settings.RECOVERY_MAIL_DAILY_CAP].issued_at + timedelta(seconds=DAY_SECONDS) - now
        yield (
            f"The account had its {settings.RECOVERY_MAIL_DAILY_CAP} reset mails of 24 hours;"
            f" the next one can go out in {_span(pause)} (RECOVERY_MAIL_DAILY_CAP)."
        )


def _account(user: User) -> Row:
    security = current_app.extensions["security"]
    names = (user.email, user.username, user.us_phone_number)
    scheme = security.pwd_context.identify(user.password) if user.password else None
    if scheme and (source := imported_hashes.imported_format(user.password or "")):
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


def _link(link: ResetLink) -> Row:
    state, until = _state_of(link)
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


def _state_of(link: ResetLink) -> tuple[str, datetime]:
    """Return the link's state, and when it ended or will end."""
    ends = {"used": link.redeemed_at, "superseded": link.superseded_at, "revoked": link.revoked_at}
    for state, at in ends.items():
        if at:
            return state, at
    if link.is_expired:
        return "expired", link.expires_at
    if not link.is_usable():
        return "void", link.expires_at
    return ("open" if link.message_id else "handed over"), link.expires_at


def _mailed_to(user: User) -> tuple[Any, ...]:
    """Select an account's links, without those whose mail was given up."""
    mail = select(OutboxMessage.id).where(OutboxMessage.id == ResetLink.message_id)
    return ResetLink.user_id == user.id, ~mail.where(
        OutboxMessage.state.in_(("given_up", "dropped"))
    ).exists()


def _newest(model: Any, *which: Any) -> Any:
    return db.session.scalars(select(model).where(*which).order_by(model.id.desc()).limit(SHOWN))


def _without_account(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("account", "outcome", "request")}


def _span(pause: timedelta) -> str:
    return humanize.precisedelta(max(pause, timedelta(seconds=1)), minimum_unit="seconds", format="%0.0f")
