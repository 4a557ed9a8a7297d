"""Land: the link's token leaves the address bar, and the form or the client's view is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import redirect, request, url_for
from sqlalchemy import update
from werkzeug.exceptions import TooManyRequests

from ..db import audit
from ..db.clock import utcnow
from ..db.engine import DATABASE_AWAY, change, db
from ..web import clients, errors
from ..web.responses import json_answer, wants_json
from . import link as links
from . import opened_links
from .link import LinkError, LinkInvalid, ResetLink
from .redemption import NewPasswordForm, show_form

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


def land(token: str) -> ResponseReturnValue:
    """GET and HEAD of a reset link: consumes nothing, and takes the token out of the address bar."""
    if opened_links.is_handle(token):
        _, user = links.resolve(opened_links.token_behind(token))
        return show_form(NewPasswordForm(formdata=None), user, token)
    link, _ = links.resolve(token)
    if request.method != "HEAD":
        _note_opening(link)
    if wants_json(request):
        return json_answer({"expires_at": f"{link.expires_at:%Y-%m-%dT%H:%M:%SZ}"})
    if target := clients.landing_url(link.client, token):
        return redirect(target)
    if request.method == "HEAD":
        return ""
    return redirect(url_for("security.reset_password", token=opened_links.remember(token)), 303)


def refuse_link(error: LinkError) -> ResponseReturnValue:
    """Answer a link that cannot be used, on the page or view of the client that it belongs to."""
    if isinstance(error, LinkInvalid) and not opened_links.may_try_another_bad_link():
        return errors.http_error(TooManyRequests())
    if request.endpoint == "security.reset_password" and request.method == "POST":
        _record(error)
    if not wants_json(request) and (target := clients.error_url(error.client, error)):
        return redirect(target)
    return errors.refuse(error)


def _record(error: LinkError) -> None:
    """A link that was refused when a password came with it. Nothing else is in the transaction."""
    db.session.rollback()
    audit.record("refused", reason=error.code, user_id=error.user_id, client=error.client)
    db.session.commit()


def _note_opening(link: ResetLink) -> None:
    """For the audit trail. A database that can not be written to must not keep anybody from the form."""
    name, user_id = link.client, link.user_id
    if link.opened_at is not None:
        return
    try:
        first = update(ResetLink).where(ResetLink.id == link.id, ResetLink.opened_at.is_(None))
        if change(first.values(opened_at=utcnow())):
            audit.record("opened", user_id=user_id, client=name)
        db.session.commit()
    except DATABASE_AWAY:
        db.session.rollback()
