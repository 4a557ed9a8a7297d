"""The reset code (RECOVERY_CODE): eight digits in the email beside the link, for the browser that asked.

A code is exchanged for its link's token, and one of both is redeemed, once. It is stored as a keyed hash with
each identity of its account. Every answer to a request for a link holds a request id, and every id gets the
same records, whatever the identity. So an entry is compared only with the codes of identities that its
request id asked for, and a wrong one takes as long if they have no account.
"""

import hmac
import re
import secrets
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from flask import after_this_request, current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _, lazy_gettext as _l
from flask_security.utils import do_flash
from itsdangerous import BadData
from sqlalchemy import ForeignKey, Index, Integer, String, cast, delete, func, insert, select
from sqlalchemy.orm import Mapped, joinedload, mapped_column

from ..accounts.guess_limits import identity_hashes
from ..accounts.models import User
from ..accounts.pasted import plain
from ..db import audit
from ..db.audit import ENTERED, RecoveryEvent
from ..db.clock import utcnow
from ..db.engine import Model, change, db
from ..mail.outbox import OutboxMessage
from ..mail.quota import BY_ADMIN
from ..settings import current
from ..web.errors import RequestError
from ..web.rate_limits import count_key
from ..web.responses import json_response, keep_cookie, wants_json
from ..web.tokens import TimedToken
from . import landing, link as links
from .link import ResetLink

COOKIE = "RECOVERY_REQUEST_COOKIE"  # the setting of its name
ID_KEPT = timedelta(hours=1)  # so long, asking again keeps the id
REQUESTERS_MAX = 10  # in which the codes of one account work
ENTRIES_MAX, ENTRIES_OF_ALL_MAX = 5, 50  # of codes with one id, and since a code was issued
IDENTITIES_MAX = 3  # the last that an id asked for; each entry is a guess at the codes of all of them


class CodeRequest(Model):
    """A request for a link, by its id."""

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utcnow(), index=True)
    requester: Mapped[str] = mapped_column(String(32))  # the id
    identity: Mapped[str] = mapped_column(String(32))  # a keyed hash
    is_known: Mapped[bool]  # the account has signed in there before

    __table_args__ = (
        Index("ix_code_request_requester_id", "requester", "id"),
        Index("ix_code_request_identity_at", "identity", "at"),
    )


class ResetCode(Model):
    """A link's code with one identity of its account."""

    id: Mapped[int] = mapped_column(primary_key=True)
    link_id: Mapped[int] = mapped_column(ForeignKey("reset_link.id", ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(String(64), index=True)


class CodeInvalid(RequestError):
    """A wrong code. Any other answer to it would tell that there is an account."""

    code = "code_invalid"
    message = _l(
        "This code doesn't work in this browser. Check for typos, or open the link in the email. After "
        "five attempts, only the link works."
    )


def issue_request_id() -> str:
    """Return the signed id of this browser or program, and put it into a cookie. It is new after a while."""
    signed, seconds = _sent(), int(ID_KEPT.total_seconds())
    try:
        _signer().loads(signed, max_age=seconds)
    except BadData:
        signed = str(_signer().dumps(secrets.token_hex(16)))
    seconds = max(seconds, int(current().SECURITY_RESET_PASSWORD_WITHIN.total_seconds()))
    after_this_request(partial(keep_cookie, current_app.config[COOKIE], signed, seconds=seconds))
    return signed


def record_request(signed: str, key: str, is_known: bool) -> None:
    """Record in the current transaction that an id asked for an identity, by its key."""
    row = {"requester": _signer().loads(signed), "identity": count_key(key)}
    db.session.execute(insert(CodeRequest).values(**row, is_known=is_known))


def derive(message: OutboxMessage, token: str) -> str | None:
    """Return the code beside a message's link, or None. No browser asked for a message of an admin."""
    if not current().RECOVERY_CODE or message.quota == BY_ADMIN:
        return None
    number = int.from_bytes(hmac.digest(token.encode(), b"reset code", "sha256"))
    return f"{number % 10**8:08}"


def store(message: OutboxMessage, user: User, code: str) -> None:
    """Store the code of a message's link in place of an earlier attempt's, because keys rotate."""
    link = select(ResetLink.id).where(ResetLink.message_id == message.id).scalar_subquery()
    change(delete(ResetCode).where(ResetCode.link_id == link))
    for identity in identity_hashes(user, by_each_key=True):
        code_hash = links.token_hashes(f"{identity} {code}")[0]
        db.session.execute(insert(ResetCode).values(link_id=link, code_hash=code_hash))


def enter_code() -> ResponseReturnValue:
    """Answer GET and POST of `/reset/code`."""
    if request.method != "POST":
        return redirect(url_for("pages.check_mail"), 303)
    try:
        token = _exchange((request.get_json() if request.is_json else request.form).get("code"))
    except CodeInvalid as error:
        if wants_json(request):
            raise
        do_flash(str(error.message), "error")
        return redirect(url_for("pages.check_mail"), 303)
    return json_response({"token": token}) if wants_json(request) else landing.keep(token)


def _exchange(typed: object) -> str:
    """Return the token for a code. Raises CodeInvalid, or the LinkError of a right code."""
    code = re.sub(r"\W", "", plain(typed)) if isinstance(typed, str) else ""
    if not re.fullmatch("[0-9]{8}", code):
        raise CodeInvalid(_("Enter the eight-digit code from the email."))
    with suppress(BadData):  # of a request id that is missing, or was not signed here
        requester, identities = _count_entry()
        hashes = [hashed for identity in identities for hashed in links.token_hashes(f"{identity} {code}")]
        ids = select(ResetCode.link_id).where(ResetCode.code_hash.in_(hashes))
        rows = select(ResetLink, OutboxMessage.nonce).where(OutboxMessage.id == ResetLink.message_id)
        with_account = rows.options(joinedload(ResetLink.user, innerjoin=True))
        for link, nonce in db.session.execute(with_account.where(ResetLink.id.in_(ids))):
            for token in links.derive_tokens(nonce):
                if link.token_hash in links.token_hashes(token) and _may_use(requester, link):
                    landing.record_opening(links.resolve(token), by="code")
                    return token
    raise CodeInvalid


def _count_entry() -> tuple[str, list[str]]:
    """Record the entry of a code, and commit. Return the id, and the hashes of identities that it is for.

    Raises BadData for an id that was not signed here.
    """
    requester = str(_signer().loads(_sent()))
    audit.record("code_entered", about=requester)
    db.session.commit()  # before it is counted and compared, so that entries at once see each other
    own = select(func.count()).where(ENTERED, RecoveryEvent.request_id == requester)
    asked = select(CodeRequest.identity).where(CodeRequest.requester == requester)
    identities = db.session.scalars(asked.order_by(CodeRequest.id.desc()).limit(IDENTITIES_MAX)).all()
    return requester, list(identities) if db.session.scalars(own).one() <= ENTRIES_MAX else []


def _may_use(requester: str, link: ResetLink) -> bool:
    """True if the id is among the account's first, known browsers before others, and entries are left."""
    identities = identity_hashes(link.user, by_each_key=True)
    ids = select(CodeRequest.requester).where(CodeRequest.identity.in_(identities))
    entries = (ENTERED, RecoveryEvent.request_id.in_(ids), RecoveryEvent.at >= link.issued_at)
    counts = db.session.scalars(select(func.count()).where(*entries).group_by(RecoveryEvent.request_id)).all()
    count = sum(min(entered, ENTRIES_MAX) for entered in counts)  # no other was compared
    since = link.issued_at - ID_KEPT - current().SECURITY_RESET_PASSWORD_WITHIN
    order = (func.max(cast(CodeRequest.is_known, Integer)).desc(), func.min(CodeRequest.id))
    first = ids.where(CodeRequest.at >= since).group_by(CodeRequest.requester).order_by(*order)
    return count <= ENTRIES_OF_ALL_MAX and requester in db.session.scalars(first.limit(REQUESTERS_MAX)).all()


def _sent() -> str:
    body = request.get_json() if request.is_json else request.form
    return str(body.get("request_id") or request.cookies.get(current_app.config[COOKIE]))


def _signer() -> TimedToken:
    return TimedToken.signed_for("request id", "request id")
