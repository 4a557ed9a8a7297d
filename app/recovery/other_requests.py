"""The mails beside the instructions: what each needs to know, and when it must not be sent."""

from __future__ import annotations

import math

from flask import url_for
from flask_security.confirmable import generate_confirmation_token, requires_confirmation

from ..accounts.datastore import find_account
from ..accounts.models import User
from ..mail import budget, composing
from ..mail.composing import composer
from ..mail.errors import Undeliverable
from ..mail.outbox import OutboxMessage


@composer("confirmation_instructions")
def _confirmation(message: OutboxMessage) -> composing.Mail:
    user = who_asked(message)
    if user.confirmed_at:
        raise Undeliverable("the address is confirmed already", user.id)
    link = url_for("security.confirm_email", token=generate_confirmation_token(user), _external=True)
    return composing.write(message, "confirmation_instructions", user.email, confirmation_link=link)


@composer("username_recovery")
def _username(message: OutboxMessage) -> composing.Mail:
    user = who_asked(message)
    if not user.username:
        raise Undeliverable("the account has no username", user.id)
    if requires_confirmation(user):
        raise Undeliverable("the address is not confirmed", user.id)
    return composing.write(message, "username_recovery", user.email, username=user.username)


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
