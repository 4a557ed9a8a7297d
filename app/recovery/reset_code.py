"""The reset code (RECOVERY_CODE): eight digits in the email beside the link, for the browser that asked.

A code is exchanged for its link's token, and one of both is redeemed, once. It is stored as a keyed hash with
each identity of its account. So an entry is compared only with the codes of identities that its request id
asked for, and a wrong one takes as long if they have no account.
"""

import hmac
import re
from contextlib import suppress

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _, lazy_gettext as _l
from flask_security.utils import do_flash
from itsdangerous import BadData
from sqlalchemy import ForeignKey, String, delete, insert, select
from sqlalchemy.orm import Mapped, joinedload, mapped_column

from ..accounts.guess_limits import identity_hashes
from ..accounts.models import User
from ..accounts.pasted import plain
from ..db.engine import Model, change, db
from ..mail.outbox import OutboxMessage
from ..mail.quota import BY_ADMIN
from ..settings import current
from ..web.errors import RequestError
from ..web.responses import json_response, wants_json
from . import landing, link as links, requesters
from .link import ResetLink


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


def derive(message: OutboxMessage, token: str) -> str | None:
    """Return the code beside a message's link, or None. No browser asked for a message of an admin."""
    if not current().RECOVERY_CODE or message.quota == BY_ADMIN:
        return None
    number = int.from_bytes(hmac.digest(token.encode(), b"reset code", "sha256"))
    return f"{number % 10**8:08}"


def store(message: OutboxMessage, user: User, code: str | None) -> None:
    """Store the code of a message's link in place of an earlier attempt's, because keys rotate."""
    link = select(ResetLink.id).where(ResetLink.message_id == message.id).scalar_subquery()
    change(delete(ResetCode).where(ResetCode.link_id == link))
    for identity in identity_hashes(user, by_each_key=True) if code else ():
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
        requester, identities = requesters.count_entry()
        hashes = [hashed for identity in identities for hashed in links.token_hashes(f"{identity} {code}")]
        ids = select(ResetCode.link_id).where(ResetCode.code_hash.in_(hashes))
        rows = select(ResetLink, OutboxMessage.nonce).where(OutboxMessage.id == ResetLink.message_id)
        with_account = rows.options(joinedload(ResetLink.user, innerjoin=True))
        for link, nonce in db.session.execute(with_account.where(ResetLink.id.in_(ids))):
            for token in links.derive_tokens(nonce):
                if link.token_hash in links.token_hashes(token) and requesters.may_use(requester, link):
                    landing.record_opening(links.resolve(token), by="code")
                    return token
    raise CodeInvalid
