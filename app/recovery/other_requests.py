"""Composers of the other requested mails: confirmation, forgotten username, sign-in code."""

import math
from datetime import timedelta

from flask import current_app, url_for
from flask_security import confirm_instructions_sent, us_security_token_sent, username_recovery_email_sent
from flask_security.confirmable import requires_confirmation
from flask_security.proxies import _datastore, _security
from flask_security.utils import hash_data

from ..accounts.models import User
from ..accounts.sign_in import may_sign_in
from ..mail import composing, quota
from ..mail.composing import Undeliverable, composer
from ..mail.outbox import OutboxMessage
from .instructions import find_requester


@composer("confirmation_instructions", needs="SECURITY_CONFIRMABLE")
def _confirmation(message: OutboxMessage) -> composing.Mail:
    user = _requester(message)
    if user.confirmed_at:
        raise Undeliverable("the address is already confirmed")
    # As Flask-Security's generate_confirmation_token, with the client that asked.
    data = [str(user.fs_uniquifier), hash_data(user.email)]
    token = _security.confirm_serializer.dumps(data, client=message.content["client"])  # type: ignore[call-arg]  # of ours
    context = {
        "confirmation_link": url_for("security.confirm_email", token=token, _external=True),
        "confirmation_token": token,
        "within": current_app.config["SECURITY_CONFIRM_EMAIL_WITHIN"],
    }
    mail = composing.write(message, "confirmation_instructions", user.email, **context)
    values = {"user": user, "token": token, "confirmation_token": token}
    mail.signal = (confirm_instructions_sent, values)
    return mail


@composer("username_recovery", needs="SECURITY_USERNAME_RECOVERY")
def _username(message: OutboxMessage) -> composing.Mail:
    user = _requester(message)
    if not user.username:
        raise Undeliverable("the account has no username")
    if requires_confirmation(user):
        raise Undeliverable("the address is not confirmed")
    mail = composing.write(message, "username_recovery", user.email, username=user.username)
    mail.signal = (username_recovery_email_sent, {"user": user})
    return mail


@composer("us_instructions", needs="SECURITY_UNIFIED_SIGNIN")
def _code(message: OutboxMessage) -> composing.Mail:
    valid = timedelta(seconds=current_app.config["SECURITY_US_TOKEN_VALIDITY"])
    if message.age > valid:
        raise Undeliverable("the request is older than a code's lifetime (SECURITY_US_TOKEN_VALIDITY)")
    user = _requester(message, cooldown_max=valid.total_seconds())
    secret = _datastore.us_get_totp_secrets(user).get("email")
    if secret is None:
        raise Undeliverable("the account does not use sign-in codes by email")
    if not may_sign_in(user):
        raise Undeliverable("the address is not confirmed")
    code = _security.totp_factory.generate_totp_password(secret)
    codes = {"token": code, "login_token": code}
    context = {"username": user.calc_username(), "login_link": None, "within": valid, **codes}
    mail = composing.write(message, "us_instructions", user.email, **context)
    values = {"method": "email", "phone_number": None, "send_magic_link": False, **codes}
    mail.signal = (us_security_token_sent, {"user": user, **values})
    return mail


def _requester(message: OutboxMessage, cooldown_max: float = math.inf) -> User:
    """Return the account. Raises Undeliverable if it may not have this mail now."""
    user = find_requester(message)
    if not user.is_active or user.is_locked() or user.contested_email:
        raise Undeliverable("the account is not active or is frozen")
    quota.refuse_excess(message, cooldown_max=cooldown_max)
    return user
