"""This wasn't me: the page behind a link in each mail, for an owner who did not do what the mail reports.

Opening it changes nothing, because mail programs open links. Its button revokes every link of the account.
After a reset or a change of address it also signs the account out everywhere and alerts the operator. A
password that was set by a link is withdrawn. Each mail's button works once.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_security.proxies import _datastore
from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import select

from ..accounts.hashing import unusable_hash
from ..accounts.models import User
from ..db import audit
from ..db.audit import RecoveryEvent
from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import db
from ..mail import outbox
from ..mail.outbox import OutboxMessage
from ..settings import current
from ..web import clients, i18n
from ..web.responses import json_response, wants_json
from . import link as links
from .link import ResetLink
from .link_errors import LinkExpired, LinkInvalid

VALID_SECONDS = 30 * 86_400

objections = Blueprint("objections", __name__)


def token_for(message: OutboxMessage) -> str:
    """Return the token of a mail's "This wasn't me" link."""
    # Its Message-ID is random and in the mail already; a number would tell how many mails there were.
    return _serializer().dumps(message.message_id)


@objections.route("/not-me/<token>", methods=["GET", "POST"])
def land(token: str) -> ResponseReturnValue:
    """Move the token out of the address bar into the session. A program may POST here."""
    message = _find_message(token)
    if request.method == "POST":
        return _answer(message)
    if request.method == "GET":
        session["objection"] = token
    return redirect(url_for("objections.not_me"), 303)


@objections.route("/not-me", methods=["GET", "POST"])
def not_me() -> ResponseReturnValue:
    """Answer GET and POST of the page."""
    # The form's first, because another tab may have opened another mail's link since.
    return _answer(_find_message(request.form.get("objection") or session.get("objection", "")))


def _answer(message: OutboxMessage) -> ResponseReturnValue:
    state = "asked"
    if request.method == "POST":
        state = "done" if _apply_objection(message) else "known"
    if wants_json(request):
        return json_response({"state": state})
    return render_template(
        "security/not_me.html",
        has_happened=_has_happened(message),
        state=state,
        kind=message.kind,
        objection=token_for(message),
    )


def _has_happened(message: OutboxMessage) -> bool:
    """True if the mail reports a change: a notice does, and instructions do once their link was redeemed."""
    redeemed_at = select(ResetLink.redeemed_at).where(ResetLink.message_id == message.id)
    return message.kind != "reset_instructions" or db.session.scalar(redeemed_at) is not None


def _apply_objection(message: OutboxMessage) -> bool:
    """Revoke the account's links, and after a change its access. False if this was done before."""
    # A message knows its account only once it is settled; its link knows it before the mail goes out.
    owner = select(ResetLink.user_id).where(ResetLink.message_id == message.id)
    user_id = message.user_id or db.session.scalar(owner)
    if user_id is None:
        return False
    links.revoke_all_of(user_id)  # takes the lock, so two clicks take turns
    earlier = select(RecoveryEvent.id).where(
        RecoveryEvent.user_id == user_id,
        RecoveryEvent.kind == "not_me",
        RecoveryEvent.request_id == message.name,
    )
    if db.session.scalar(earlier.limit(1)) is not None:
        db.session.rollback()
        return False
    if _has_happened(message):  # reads again: a redemption may have come first
        end_access(user_id, with_password=message.kind != "address_notice")
        alert_operator(user_id)
    audit.record("not_me", reason=message.kind, user_id=user_id, about=message.name)
    db.session.commit()
    return True


def alert_operator(user_id: int) -> None:
    """Mail the operator in BABEL_DEFAULT_LOCALE, if RECOVERY_OPERATOR is set."""
    if address := current().RECOVERY_OPERATOR:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with i18n.use_language():
            sentence = gettext("Somebody says that a change of their account was not theirs.")
            outbox.enqueue("operator_alert", address=address, what=sentence, changed_at=now, account=user_id)


def end_access(user_id: int, *, with_password: bool) -> None:
    """End every session and token of an account, and with `with_password` withdraw its password.

    The account keeps a hash that matches no password, so that its owner can recover it.
    """
    user = db.session.get_one(User, user_id)
    if with_password:
        # Refused at the next redemption. One that was withdrawn before stays, because a thief knows it.
        user.withdrawn_password = user.withdrawn_password or user.password
        user.password = unusable_hash()
    _datastore.set_uniquifier(user)
    _datastore.refresh_tracker_reset(user)


def _find_message(token: str) -> OutboxMessage:
    """Return the message of a token. Raises LinkInvalid, or LinkExpired after VALID_SECONDS."""
    try:
        message_id = str(_serializer().loads(token))
    except BadData:
        raise LinkInvalid(client=clients.BROWSER) from None
    is_old = OutboxMessage.created_at < utcnow(-VALID_SECONDS - CLOCK_SLACK_SECONDS)
    this = OutboxMessage.message_id == message_id
    row = db.session.execute(select(OutboxMessage, is_old).where(this)).first()
    if row is None:
        raise LinkInvalid(client=clients.BROWSER)
    if row[1]:
        raise LinkExpired(client=clients.BROWSER)
    message: OutboxMessage = row[0]
    return message


def _serializer() -> URLSafeSerializer:
    keys = current().derive_keys("objection")[::-1]  # the newest last: it signs
    return URLSafeSerializer(keys, "not me", signer_kwargs={"digest_method": hashlib.sha256})
