"""`manage.py users show`: the whole answer to "why did I not get the mail?", on one screen."""

from collections.abc import Iterator
from typing import Any

import click
from flask import current_app
from sqlalchemy import select

from ..accounts import identities, imported_hashes
from ..accounts.models import NO_PASSWORD, User
from ..db.audit import RecoveryEvent
from ..db.engine import db
from ..mail.composing import Undeliverable
from ..mail.outbox import WEBHOOK, OutboxMessage
from ..mail.quota import INVITATION, RESET
from ..recovery.instructions import is_explained, refuse_excess_links
from ..recovery.link import ResetLink
from ..settings import current
from . import events, limits, outbox
from .admin import find_account
from .output import Row, as_time, write_fields, write_table

SHOWN = 10  # of links, mails and events each, the newest
NOT_IN_TABLES = ("account", "outcome", "request")  # columns
# The newest link, by its state.
ENDS = {
    "used": "The newest link was used at {at} to set the password.",
    "superseded": "The newest link ended at {at}, when another was used.",
    "revoked": "The newest link was revoked at {at}.",
    "expired": "The newest link expired at {at}.",
    "void": "The newest link no longer works, because the account's address or password has changed.",
    "refused": "The newest link does not work now: {why_not}.",
    "open": "The newest link works until {at}.",
    "handed over": "The newest link was handed over by an admin, and works until {at}.",
}
# The newest reset mail, by its status, after "A link was requested at ...".
MAILS = {
    "sent": ", and the relay accepted the email. Is it in the spam folder? The relay's log lists it by its"
    " Message-ID (manage.py outbox show {id}).",
    "untried": ", and the email is waiting for its first attempt.",
    "waiting": "; sending was attempted {attempts} times and will be attempted again: {reason}",
    "set_aside": "; the email is set aside, because the relay refused it and may refuse all mail: {reason}",
    "held": ". All mail is held: {reason}",
    "being sent": ", and the email is being sent right now.",
    "given_up": ", and the email was given up: {reason}. If the address is right, send it again: manage.py"
    " outbox retry {id}",
    "dropped": ", and no email was sent: {reason}.",
}


def report(identity: str) -> dict[str, Any]:
    """Return everything known about an identity: the answers first, then the rows behind them."""
    user = find_account(identity)
    facts: dict[str, Any] = {"problems": outbox.problems(), "answers": [], "account": None}
    try:
        facts["limits"] = limits.counts(identity)
    except limits.CountsUnavailable as error:
        facts |= {"limits": None, "why_no_limits": str(error)}
    if user is None:
        return facts | {"answers": [_reason_no_account(identity)]}
    own_events = RecoveryEvent.user_id == user.id
    facts["account"] = _account(user)
    given_up = OutboxMessage.id == ResetLink.message_id, OutboxMessage.state.in_(("given_up", "dropped"))
    own_links = ResetLink.user_id == user.id, ~select(OutboxMessage.id).where(*given_up).exists()
    facts["links"] = [_link(link) for link in _newest(ResetLink, *own_links)]
    facts["mails"] = outbox.newest(outbox.is_to(user, identity), OutboxMessage.kind != WEBHOOK, limit=SHOWN)
    facts["events"] = [events.row(event) for event in _newest(RecoveryEvent, own_events)]
    return facts | {"answers": list(_answers(user, identity, facts))}


def write(report: dict[str, Any]) -> None:
    """Write the report for people."""
    for line in (*report["problems"], *report["answers"]):
        click.echo(line)
    if report["account"] is None:
        return
    click.echo()
    write_fields(report["account"])
    for name in ("links", "mails", "limits", "events"):
        if report.get(name):
            click.echo(f"\n{click.style(name.capitalize(), bold=True)}")
            write_table([{key: row[key] for key in row if key not in NOT_IN_TABLES} for row in report[name]])
    if report["limits"] is None:
        click.echo(f"\n{report['why_no_limits']}")


def _reason_no_account(identity: str) -> str:
    consequence = "requests for it get the usual answer and no email."
    if current().RECOVERY_ACCOUNTS:  # where it may be of any kind
        return f"No account has the identity {identity}: {consequence}"
    if known := identities.map_identity(identity):
        return f"No account has the {known.column} {known.value}: {consequence}"
    return f"That cannot be an account's identity: {consequence}"


def _answers(user: User, identity: str, facts: dict[str, Any]) -> Iterator[str]:
    """Yield sentences for the requester, the most important first."""
    yield from _obstacles(user)
    if not current().sends_mail:
        yield "No mail is sent (MAIL_SERVER is empty): hand over a link with manage.py users reset-link."
    of_link = OutboxMessage.kind.in_((RESET, INVITATION))  # behind any number of notices
    instructions = outbox.newest(outbox.is_to(user, identity), of_link, limit=SHOWN)
    if instructions:
        newest = next((mail for mail in instructions if mail["status"] == "postponed"), instructions[0])
        status = "untried" if newest["status"] == "waiting" and not newest["attempts"] else newest["status"]
        if status == "postponed":
            yield f"A link was requested, and its email is postponed {newest['reason']}."
        else:
            yield f"A link was requested at {as_time(newest['asked_for'])}" + MAILS[status].format_map(newest)
    elif current().sends_mail:
        yield "No link was requested for this account, or the request has been purged."
    why_not = user.reason_not_recoverable(confirmed=True)  # as its link is judged
    for link in facts["links"][: why_not != NO_PASSWORD]:
        is_open = link["state"] in ("open", "handed over")
        answer = ENDS["refused" if why_not and is_open else link["state"]]
        yield answer.format(at=as_time(link["until"]), why_not=why_not)
    if any(row["is_over"] for row in facts["limits"] or ()):
        yield "Sign-ins with its identities are refused right now, after too many attempts (Limits, below)."


def _obstacles(user: User) -> Iterator[str]:
    """Yield why a request right now would bring no link."""
    why_not = user.reason_not_recoverable()
    if is_explained(why_not):
        yield f"A request sends an email that says how to sign in, without a link: {why_not}."
    elif why_not:
        yield f"This account gets no reset email: {why_not}."
        return
    try:
        refuse_excess_links(user, OutboxMessage(kind=RESET, quota="", user_id=user.id))
    except Undeliverable as error:
        yield f"A reset email cannot go out {'' if error.until else 'now: '}{error}."


def _account(user: User) -> Row:
    names = [getattr(user, kind) for kind in identities.identity_columns()]
    scheme = current_app.extensions["security"].pwd_context.identify(user.password or "")
    if source := imported_hashes.imported_format(user.password or ""):
        scheme = source if user.external_id else f"{source}, until the next sign-in"
    return {
        "account": user.id,
        "account_of_the_application": user.external_id,
        "identities": ", ".join(str(name) for name in names if name),
        "state": "active" if user.is_active else "not active",
        "confirmed_at": user.confirmed_at,
        "invited_at": user.invited_at,
        "second_address": user.second_email,
        "contested_by": user.contested_email,
        "language": user.language,
        "password": scheme or ("of an unknown kind" if user.password else "none"),
        "second_factor": user.tf_primary_method,
        "roles": ", ".join(str(role.name) for role in user.roles),
        "created_at": user.create_datetime,
        "last_sign_in": user.current_login_at or user.last_login_at,  # the latter is the one before
        "last_sign_in_from": user.current_login_ip,
    }


def _link(link: ResetLink) -> Row:
    ends = {"used": link.redeemed_at, "superseded": link.superseded_at, "revoked": link.revoked_at}
    state, until = next(((end, at) for end, at in ends.items() if at), ("", link.expires_at))
    if not state and link.is_expired:
        state = "expired"
    elif not state:
        opening = "open" if link.message_id else "handed over"
        state = opening if link.is_current() else "void"
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


def _newest(model: Any, *conditions: Any) -> Any:
    return db.session.scalars(select(model).where(*conditions).order_by(model.id.desc()).limit(SHOWN))
