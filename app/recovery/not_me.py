"""This wasn't me: the page behind a link in our mails, for an owner who did not do what the mail is about.

Opening it changes nothing, since mail programs open links. The button
    in the instructions: revokes every link of the account,
    in the notice of a change: does so, signs the account out everywhere, withdraws the password that was set
        by the link, and tells the operator;
    in instructions whose link was used: the same.
Each mail's button does it once.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from flask import Blueprint, Flask, current_app, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import select

from ..accounts.hashing import of_nobody
from ..accounts.models import User
from ..db import audit
from ..db.audit import RecoveryEvent
from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import db
from ..mail import outbox
from ..mail.outbox import OutboxMessage
from ..settings import current
from ..web import clients, i18n
from ..web.responses import json_answer, wants_json
from . import link as links
from .link import LinkExpired, LinkInvalid, ResetLink

VALID_SECONDS = 30 * 86_400
KINDS = ("reset_instructions", "reset_notice", "address_notice")  # the mails that have this link

objections = Blueprint("objections", __name__)


def init_app(app: Flask) -> None:
    app.register_blueprint(objections)


def token_for(message: OutboxMessage) -> str:
    """Return the token in the link of this mail."""
    # With a part of the nonce, because SQLite may give the number of a purged message to another.
    return _serializer().dumps([message.id, message.nonce.hex()[:16]])


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
    state = "asked"
    if request.method == "POST":
        state = "done" if _object(message) else "known"
    if wants_json(request):
        return json_answer({"state": state})
    return render_template(
        "security/not_me.html",
        has_happened=_has_happened(message),
        state=state,
        kind=message.kind,
        objection=token_for(message),
    )


def _has_happened(message: OutboxMessage) -> bool:
    """True if what the mail tells of is done: for instructions, if their link was used."""
    used = select(ResetLink.redeemed_at).where(ResetLink.message_id == message.id)
    return message.kind != "reset_instructions" or db.session.scalar(used) is not None


def _object(message: OutboxMessage) -> bool:
    """End what this mail is about. False if that was done before."""
    # The message learns whose it is when it is settled; its link knew before the mail went out.
    owner = select(ResetLink.user_id).where(ResetLink.message_id == message.id)
    user_id = message.user_id or db.session.scalar(owner)
    if user_id is None:
        return False
    links.revoke_all_of(user_id)  # two clicks take turns here
    if _was_said_before(message, user_id):
        db.session.rollback()
        return False
    if _has_happened(message):  # a redemption that came first is seen now
        end_access(user_id, with_password=message.kind != "address_notice")
        alert_operator(user_id)
    audit.record("not_me", reason=message.kind, user_id=user_id, about=message.name)
    db.session.commit()
    return True


def alert_operator(user_id: int) -> None:
    """Mail the operator in BABEL_DEFAULT_LOCALE, if RECOVERY_OPERATOR is set."""
    if address := current().RECOVERY_OPERATOR:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with i18n.speaking():
            what = gettext("Somebody says that a change of their account was not theirs.")
            outbox.enqueue("operator_alert", address=address, what=what, changed_at=now, account=user_id)


def end_access(user_id: int, *, with_password: bool) -> None:
    """End every session and token of an account, and withdraw its password if asked. The account keeps a hash
    that no password has, so that its owner can recover it.
    """
    datastore = current_app.extensions["security"].datastore
    user = db.session.get_one(User, user_id)
    if with_password:
        # Refused at the next redemption. What was withdrawn before is still the thief's.
        user.withdrawn_password = user.withdrawn_password or user.password
        user.password = of_nobody()
    datastore.set_uniquifier(user)
    datastore.refresh_tracker_reset(user)


def _was_said_before(message: OutboxMessage, user_id: int) -> bool:
    said = select(RecoveryEvent.id).where(
        RecoveryEvent.user_id == user_id,
        RecoveryEvent.kind == "not_me",
        RecoveryEvent.request_id == message.name,
    )
    return db.session.scalar(said.limit(1)) is not None


def _message_behind(token: str) -> OutboxMessage:
    """Raises LinkInvalid, and LinkExpired for a mail of long ago."""
    try:
        number, nonce = _serializer().loads(token)
    except BadData:
        raise LinkInvalid().about(None, clients.BROWSER) from None
    message = db.session.get(OutboxMessage, number)
    if message is None or message.kind not in KINDS or not message.nonce.hex().startswith(nonce):
        raise LinkInvalid().about(None, clients.BROWSER)
    oldest = db.session.scalars(select(utcnow(-VALID_SECONDS - CLOCK_SLACK_SECONDS))).one()
    if message.created_at < oldest:
        raise LinkExpired().about(None, clients.BROWSER)
    return message


def _serializer() -> URLSafeSerializer:
    keys = current().derive_keys("objection")[::-1]  # the newest last: it signs
    return URLSafeSerializer(keys, "not me", signer_kwargs={"digest_method": hashlib.sha256})
