"""This was not me: the page behind a link in our mails, for whoever did not do what the mail is about.

Opening it changes nothing, since mail programs open links. The button
    in the instructions: revokes every link of the account,
    in the notice of a change: does so, signs the account out everywhere, withdraws the password that was set
        by the link, and tells the operator;
    in instructions whose link was used: the same.
Each mail's button does it once. A stranger can not make the link: it is an HMAC.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from flask import Blueprint, Flask, current_app, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from ..accounts.hashing import of_nobody
from ..accounts.models import User
from ..db import audit
from ..db.audit import RecoveryEvent
from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import db
from ..mail import operator as operator_mail
from ..mail.outbox import OutboxMessage
from ..settings import current
from ..web import clients
from ..web.i18n import N_
from ..web.responses import json_answer, wants_json
from . import link as links
from .link import LinkExpired, LinkInvalid, ResetLink

VALID_SECONDS = 30 * 86_400
_ID_BYTES, _MAC_BYTES = 8, 24  # 32 together: as long as a reset token, so whatever hides those hides these
KINDS = ("reset_instructions", "reset_notice", "address_notice")  # the mails that may be objected to
objections = Blueprint("objections", __name__)


def init_app(app: Flask) -> None:
    app.register_blueprint(objections)


def token_for(message: OutboxMessage) -> str:
    """What stands in the link of this mail."""
    return _token(current().keys("objection")[0], message)


@objections.route("/not-me/<token>", methods=["GET", "POST"])
def land(token: str) -> ResponseReturnValue:
    """The token leaves the address bar at once, as a reset token does. A program may post right here."""
    message = _message_behind(token)
    if request.method == "POST":
        return _answer(message)
    if request.method == "GET":
        session["objection"] = token
    return redirect(url_for("objections.not_me"), 303)


@objections.route("/not-me", methods=["GET", "POST"])
def not_me() -> ResponseReturnValue:
    # From the form first: another tab may have opened another mail's link meanwhile.
    return _answer(_message_behind(request.form.get("objection") or session.get("objection", "")))


def _answer(message: OutboxMessage) -> ResponseReturnValue:
    has_happened, state = _has_happened(message), "asked"
    if request.method == "POST":
        state = "done" if _object(message, has_happened) else "known"
    if wants_json(request):
        return json_answer({"state": state})
    return render_template(
        "security/not_me.html",
        has_happened=has_happened,
        state=state,
        kind=message.kind,
        objection=token_for(message),
    )


def _has_happened(message: OutboxMessage) -> bool:
    """Whether what the mail tells of is done: for instructions, whether their link was used."""
    used = select(ResetLink.redeemed_at).where(ResetLink.message_id == message.id)
    return message.kind != "reset_instructions" or db.session.scalar(used) is not None


def _object(message: OutboxMessage, has_happened: bool) -> bool:
    """End what this mail is about. False when that was done before."""
    # The message learns whose it is when it is settled; its link knew before the mail went out.
    owner = select(ResetLink.user_id).where(ResetLink.message_id == message.id)
    user_id = message.user_id or db.session.scalar(owner)
    # Who presses twice takes turns here (PostgreSQL), or at the first write (SQLite).
    db.session.execute(select(OutboxMessage.id).where(OutboxMessage.id == message.id).with_for_update())
    links.revoke(ResetLink.user_id == user_id)
    if user_id is None or _is_known(message, user_id):
        db.session.rollback()
        return False
    if has_happened:
        end_access(user_id, with_password=message.kind != "address_notice")
        operator_mail.tell(
            N_("Somebody says that a change of their account was not theirs."), user_id=user_id
        )
    audit.record("not_me", reason=message.kind, user_id=user_id, about=message.name)
    db.session.commit()
    return True


def end_access(user_id: int, *, with_password: bool) -> None:
    """Cookies, "stay signed in", auth tokens and refresh tokens; and the password that was set. The account
    keeps one that nobody knows, so that its owner can recover it as ever."""
    datastore = current_app.extensions["security"].datastore
    user = db.session.get(User, user_id)
    assert user is not None
    if with_password:
        user.withdrawn_password = user.password  # refused at the next redemption
        user.password = of_nobody(current().SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS)
    datastore.set_uniquifier(user)
    datastore.refresh_tracker_reset(user)


def _is_known(message: OutboxMessage, user_id: int) -> bool:
    said = select(RecoveryEvent.id).where(
        RecoveryEvent.user_id == user_id,
        RecoveryEvent.kind == "not_me",
        RecoveryEvent.request_id == message.name,
    )
    return db.session.scalar(said.limit(1)) is not None


def _message_behind(token: str) -> OutboxMessage:
    """Raises LinkInvalid, and LinkExpired for a mail of long ago."""
    number = _number_in(token)
    message = db.session.get(OutboxMessage, number) if number is not None else None
    if message is None or message.kind not in KINDS or not _is_token_of(message, token):
        raise LinkInvalid().about(None, clients.BROWSER)
    oldest = select(utcnow(-VALID_SECONDS - CLOCK_SLACK_SECONDS))
    if message.created_at < db.session.scalars(oldest).one():
        raise LinkExpired().about(None, clients.BROWSER)
    return message


def _number_in(token: str) -> int | None:
    try:
        number = int.from_bytes(base64.urlsafe_b64decode(token + "=")[:_ID_BYTES])
    except (binascii.Error, ValueError):
        return None
    return number if number < 2**31 else None


def _is_token_of(message: OutboxMessage, token: str) -> bool:
    keys = current().keys("objection")
    return any(hmac.compare_digest(_token(key, message).encode(), token.encode()) for key in keys)


def _token(key: bytes, message: OutboxMessage) -> str:
    number = message.id.to_bytes(_ID_BYTES)
    mac = hmac.digest(key, number + message.nonce, "sha256")[:_MAC_BYTES]  # a number may come again
    return base64.urlsafe_b64encode(number + mac).rstrip(b"=").decode()
