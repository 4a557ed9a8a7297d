"""The mails beside the instructions: what each needs to know, and when it must not be sent."""

from __future__ import annotations

import math
from datetime import datetime

from flask import url_for
from flask_security.confirmable import generate_confirmation_token, requires_confirmation

from . import budget, letters, objections, outbox
from .errors import Undeliverable
from .identities import find_account
from .letters import composer
from .models import OutboxMessage, User


@composer("confirmation_instructions")
def _confirmation(message: OutboxMessage) -> letters.Mail:
    user = who_asked(message)
    if user.confirmed_at:
        raise Undeliverable("the address is confirmed already", user.id)
    link = url_for("security.confirm_email", token=generate_confirmation_token(user), _external=True)
    return letters.write(message, "confirmation_instructions", user.email, confirmation_link=link)


@composer("username_recovery")
def _username(message: OutboxMessage) -> letters.Mail:
    user = who_asked(message)
    if not user.username:
        raise Undeliverable("the account has no username", user.id)
    if requires_confirmation(user):
        raise Undeliverable("the address is not confirmed", user.id)
    return letters.write(message, "username_recovery", user.email, username=user.username)


@composer("reset_notice")
@composer("address_notice")
@composer("operator_alert")
def _notice(message: OutboxMessage) -> letters.Mail:
    """That something has happened. Where it goes, and what its template says, rest in the message."""
    # In a template, `language` is the one that is spoken.
    said = {name: value for name, value in message.content.items() if name != "language"}
    said["changed_at"] = datetime.fromisoformat(said["changed_at"])
    objection = objections.token_for(message)
    return letters.write(message, message.kind, said["address"], objection=objection, **said)


@composer(outbox.WRITTEN)
def _by_flask_security(message: OutboxMessage) -> letters.Mail:
    """A mail that Flask-Security has written itself: change of address, a code, ..."""
    return letters.as_mail(letters.finished(**message.content), message.message_id)


def who_asked(message: OutboxMessage, pause: float = math.inf) -> User:
    """The account. Raises Undeliverable when there is none that may have this mail now; `pause`: see
    `budget.why_no_other`."""
    user = find_account(message.content["identity"])
    if user is None:
        raise Undeliverable("no account has this identity")
    message.user_id = user.id
    reason = "the account is not active" if not user.is_active or user.is_locked() else None
    if reason := reason or budget.why_no_other(message.kind, user, pause):
        raise Undeliverable(reason, user.id)
    return user
