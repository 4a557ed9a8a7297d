"""Request ids: the browsers and programs in which a reset code works.

Every answer to a request for a link holds an id, and every id gets the same records, whatever the identity.
"""

import secrets
from datetime import datetime, timedelta
from functools import partial

from flask import after_this_request, current_app, request
from itsdangerous import BadData
from sqlalchemy import Index, Integer, String, cast, func, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from ..accounts.guess_limits import identity_hashes
from ..db import audit
from ..db.audit import ENTERED, RecoveryEvent
from ..db.clock import utcnow
from ..db.engine import Model, db
from ..settings import current
from ..web.rate_limits import count_key
from ..web.responses import keep_cookie
from ..web.tokens import TimedToken
from .link import ResetLink

COOKIE = "RECOVERY_REQUEST_COOKIE"  # the setting of its name
KEPT = timedelta(hours=1)  # so long, asking again keeps the id
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


def issue_id() -> str:
    """Return the signed id of this browser or program, and put it into a cookie. It is new after a while."""
    signed, seconds = _sent(), int(KEPT.total_seconds())
    try:
        _signer().loads(signed, max_age=seconds)
    except BadData:
        signed = str(_signer().dumps(secrets.token_hex(16)))
    seconds = max(seconds, int(current().SECURITY_RESET_PASSWORD_WITHIN.total_seconds()))
    after_this_request(partial(keep_cookie, current_app.config[COOKIE], signed, seconds=seconds))
    return signed


def record(signed: str, key: str, is_known: bool) -> None:
    """Record in the current transaction that an id asked for an identity_key()."""
    row = {"requester": _signer().loads(signed), "identity": count_key(key)}
    db.session.execute(insert(CodeRequest).values(**row, is_known=is_known))


def count_entry() -> tuple[str, list[str]]:
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


def may_use(requester: str, link: ResetLink) -> bool:
    """True if the id is among the account's first, known browsers before others, and entries are left."""
    identities = identity_hashes(link.user, by_each_key=True)
    ids = select(CodeRequest.requester).where(CodeRequest.identity.in_(identities))
    entries = (ENTERED, RecoveryEvent.request_id.in_(ids), RecoveryEvent.at >= link.issued_at)
    counts = db.session.scalars(select(func.count()).where(*entries).group_by(RecoveryEvent.request_id)).all()
    count = sum(min(entered, ENTRIES_MAX) for entered in counts)  # no other was compared
    since = link.issued_at - KEPT - current().SECURITY_RESET_PASSWORD_WITHIN
    order = (func.max(cast(CodeRequest.is_known, Integer)).desc(), func.min(CodeRequest.id))
    first = ids.where(CodeRequest.at >= since).group_by(CodeRequest.requester).order_by(*order)
    return count <= ENTRIES_OF_ALL_MAX and requester in db.session.scalars(first.limit(REQUESTERS_MAX)).all()


def _sent() -> str:
    body = request.get_json() if request.is_json else request.form
    return str(body.get("request_id") or request.cookies.get(current_app.config[COOKIE]))


def _signer() -> TimedToken:
    return TimedToken.signed_for("request id", "request id")
