"""This wasn't me: the page behind a link in each mail, for an owner who did not do what the mail reports.

Opening it changes nothing, because mail programs open links. Its button revokes every link of the account.
After a change it also ends all sessions and alerts the operator. A password that was set by a link is
withdrawn. A factor that was added is removed with the account's password. After a change of address recovery
is frozen (`address_change.py`). Each mail's button works once.
"""

from datetime import timedelta
from email.utils import parseaddr

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext, lazy_gettext as _l
from flask_security.proxies import _security
from itsdangerous import BadData
from sqlalchemy import select
from werkzeug.exceptions import TooManyRequests

from ..accounts import changes
from ..accounts.datastore import end_access
from ..accounts.guess_limits import OBJECTING, may_guess
from ..accounts.hashing import password_matches
from ..accounts.models import User
from ..db import audit
from ..db.audit import RecoveryEvent
from ..db.clock import CLOCK_SLACK_SECONDS, utcnow
from ..db.engine import db
from ..mail.outbox import KEPT, OutboxMessage, enqueue
from ..settings import current
from ..web import clients, i18n
from ..web.responses import json_response, wants_json
from ..web.tokens import UncompressedToken
from . import address_change, link as links
from .link import ResetLink
from .link_errors import LinkExpired, LinkInvalid

VALID, CONTEST = timedelta(days=30), timedelta(hours=72)  # after a mail, and after one of a new address

EXPIRED = _l("This link is too old to use. If something looks wrong with your account, reset your password.")

objections = Blueprint("objections", __name__)


def token_for(message: OutboxMessage) -> str:
    """Return the token of a mail's "This wasn't me" link. It holds the places of what it may remove."""
    listed = message.content.get("changes", ())
    added = [place for action, place, *_ in listed if action == "added" and changes.is_factor(place)]
    added += [place for action, place, *_ in listed if action != "removed" and place == changes.SECOND]
    # Its Message-ID is random and in the mail already; a number would tell how many mails there were.
    return _serializer().dumps([message.message_id, *added])


@objections.route("/not-me/<token>", methods=["GET", "POST"])
def land(token: str) -> ResponseReturnValue:
    """Move the token out of the address bar into the session. A program may POST here."""
    if request.method == "POST":
        return _answer(token)
    _find_message(token)
    if request.method == "GET":
        session["objection"] = token
    return redirect(url_for("objections.not_me"), 303)


@objections.route("/not-me", methods=["GET", "POST"])
def not_me() -> ResponseReturnValue:
    """Answer GET and POST of the page."""
    # The form's first, because another tab may have opened another mail's link since.
    return _answer(request.form.get("objection") or session.get("objection", ""))


def _answer(token: str) -> ResponseReturnValue:
    message, added = _find_message(token)
    state = _apply_objection(message, added) if request.method == "POST" else "asked"
    status = 400 if state == "wrong_password" else 200
    if wants_json(request):
        return json_response({"state": state}, status)
    context = {"kind": message.kind, "has_happened": _has_happened(message)}
    context |= {"has_added": any(map(changes.is_factor, added)), "has_second": changes.SECOND in added}
    return render_template("security/not_me.html", state=state, objection=token, **context), status


def _has_happened(message: OutboxMessage) -> bool:
    """True if the mail reports a change: a notice does, and instructions do once their link was redeemed."""
    redeemed_at = select(ResetLink.redeemed_at).where(ResetLink.message_id == message.id)
    return message.kind != "reset_instructions" or db.session.scalar(redeemed_at) is not None


def _apply_objection(message: OutboxMessage, added: list[str]) -> str:
    """Revoke the account's links, after a change its access, and remove factors. Return the page's state."""
    # The account is written on the message after its mail went out, and on its link before.
    owner = select(ResetLink.user_id).where(ResetLink.message_id == message.id)
    user_id = message.user_id or db.session.scalar(owner)
    if user_id is None:
        return "known"
    state = "removed" if added else "done"  # a second address without a password, because it is no factor
    state = _verify_password(message) if any(map(changes.is_factor, added)) else state
    if state == "wrong_password":
        return state
    reason = state if state == "removed" else message.kind
    links.revoke_all_of(user_id)  # takes the lock, so two clicks take turns
    earlier = select(RecoveryEvent.id).filter_by(user_id=user_id, kind="not_me", request_id=message.name)
    # A removal may follow an objection without a password.
    counted = RecoveryEvent.reason.in_((reason, "removed", "frozen"))
    is_settled = message.kind in KEPT and message.sealed is None
    if is_settled or db.session.scalar(earlier.where(counted).limit(1)) is not None:
        db.session.rollback()
        return "known"
    with_password = message.kind != "account_notice"
    if message.kind == "address_notice":
        state, with_password = address_change.contest(db.session.get_one(User, user_id), message)
    if _has_happened(message):  # reads again: a redemption may have come first
        end_access(user_id, with_password=with_password)
        for place in added if state == "removed" else ():
            changes.remove(user_id, place)
        alert_operator(user_id, state)
    audit.record("not_me", reason=reason if state != "frozen" else state, user_id=user_id, about=message.name)
    db.session.commit()
    return state


def _verify_password(notice: OutboxMessage) -> str:
    """Return "removed" for the account's password, "wrong_password" for another, "done" if none counts."""
    body = (request.get_json(silent=True) or {}) if request.is_json else request.form
    typed, user = body.get("password"), db.session.get(User, notice.user_id)
    # A mailbox alone must not strip a factor. Redeemed links may be purged earlier than notices.
    reset = (OutboxMessage.user_id == notice.user_id, OutboxMessage.kind == "reset_notice")
    since = select(OutboxMessage.id).where(*reset, OutboxMessage.created_at >= notice.created_at)
    if not typed or user is None or db.session.scalar(since.limit(1)) is not None:
        return "done"
    if not may_guess(OBJECTING, user.id):
        raise TooManyRequests(retry_after=3_600)  # the period of GUESSES_MAX
    normal = _security.password_util.normalize(str(typed))
    return "removed" if password_matches(normal, user.password) else "wrong_password"


def alert_operator(user_id: int, state: str = "done") -> None:
    """Mail the operator in BABEL_DEFAULT_LOCALE, if RECOVERY_OPERATOR is set."""
    if address := parseaddr(current().RECOVERY_OPERATOR)[1]:
        with i18n.use_language():
            sentence = gettext("A user reported a change to their account that they didn't make.")
            if state == "frozen":
                sentence += " " + gettext(
                    "Password resets for the account are paused until you determine who owns it."
                )
            enqueue("operator_alert", address=address, what=sentence, account=user_id)


def _find_message(token: str) -> tuple[OutboxMessage, list[str]]:
    """Return a token's message and factors. Raises LinkInvalid, or LinkExpired when it is too old."""
    try:
        message_id, *added = _serializer().loads(token)
    except BadData:
        raise LinkInvalid(client=clients.BROWSER) from None
    this = OutboxMessage.message_id == message_id
    row = db.session.execute(select(OutboxMessage, utcnow(-CLOCK_SLACK_SECONDS)).where(this)).first()
    if row is None:
        raise LinkInvalid(client=clients.BROWSER)
    valid = CONTEST if row[0].kind in KEPT else VALID
    if (row[0].settled_at or row[0].created_at) + valid < row[1]:  # it may have waited
        raise LinkExpired(EXPIRED, client=clients.BROWSER)
    return row[0], added


def _serializer() -> UncompressedToken:
    return UncompressedToken.signed_for("objection", "not me")
