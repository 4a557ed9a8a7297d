"""The mail that holds a reset link: find the account, decide, issue the link."""

from __future__ import annotations

from ..accounts.datastore import find_account
from ..mail import composing, outbox
from ..mail.composing import composer
from ..mail.errors import Undeliverable
from ..mail.outbox import OutboxMessage
from ..settings import current
from . import issuing, not_me


@composer("reset_instructions", on_settled=issuing.on_settled)
def compose(message: OutboxMessage) -> composing.Mail:
    asked = message.content
    if outbox.age_of(message) > current().SECURITY_RESET_PASSWORD_WITHIN:
        raise Undeliverable("it was asked for longer ago than a link works (SECURITY_RESET_PASSWORD_WITHIN)")
    user = find_account(asked["identity"])
    if user is None:
        raise Undeliverable("no account has this identity")
    message.user_id = user.id
    if reason := user.why_not_recoverable():
        raise Undeliverable(reason, user.id)
    token = issuing.token_of(message)
    objection = not_me.token_for(message)
    mail = composing.write(message, "reset_instructions", user.email, reset_token=token, objection=objection)
    issuing.issue(message, user, asked["client"], token)  # last: on SQLite it takes the write lock
    return mail
