"""The web half of recovery: the request for a link, the landing of a link, and its redemption.

    POST /reset          what was typed goes into the outbox; everybody gets the same answer
    GET  /reset/<token>  the token moves into the session, the browser to /reset/~<handle>
    GET  /reset/~<handle>  the form
    POST                 Flask-Security's view; its `password_reset` signal spends the link

No account is looked up and no mail is sent while anybody waits for `POST /reset`.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import after_this_request, g, redirect, render_template, request, session, url_for
from flask_security import unauth_csrf
from sqlalchemy import inspect

from . import audit, clients, health, links, outbox
from .db import db
from .errors import InvalidRequest, LinkInvalid
from .forms import AskForm, NewPasswordForm, posted_identity
from .identities import known_as, masked

if TYPE_CHECKING:
    from flask import Flask, Response
    from flask.typing import ResponseReturnValue

    from .models import User

HANDLES_MAX = 4  # links that may be open in one browser at once; the oldest goes first
USER_AGENT_LENGTH_MAX = 300

UNKNOWN_HANDLE = (
    "Either your password is already changed, or the link was opened in another browser. "
    "To go on here, open the link in the mail again, and allow cookies for this site."
)
_HANDLE = "~"  # no token starts with it: tokens are base64url


@unauth_csrf()
def ask() -> ResponseReturnValue:
    """The view behind `security.forgot_password`: somebody forgot a password."""
    if request.method != "POST":
        return clients.json_answer(clients.what_to_know()) if clients.wants_json(request) else _ask_page()
    try:
        identity, client = posted_identity(), clients.name_in_request()
    except InvalidRequest as error:
        if clients.wants_json(request):
            raise
        return _ask_page(error.message), error.status
    if not health.is_full():
        same = str(known_as(identity) or identity)  # whoever asks again at once adds no mail
        outbox.enqueue("reset_instructions", same=same, identity=identity, client=client, **_who_asks())
    audit.record("requested", client=client)
    db.session.commit()
    return (
        clients.json_answer({}) if clients.wants_json(request) else redirect(url_for("pages.check_mail"), 303)
    )


def land(token: str) -> ResponseReturnValue:
    """GET and HEAD of a reset link: consumes nothing, and takes the token out of the address bar."""
    if token.startswith(_HANDLE):
        _, user = links.resolve(_token_behind(token))
        form = NewPasswordForm(formdata=None)
        return render_template(
            "security/reset_password.html",
            reset_password_form=form,
            reset_password_token=token,
            account=masked(user.email),
        )
    link, _ = links.resolve(token)
    if clients.wants_json(request):
        return clients.json_answer({"expires_at": f"{link.expires_at:%Y-%m-%dT%H:%M:%SZ}"})
    if target := clients.named(link.client).landing(token):
        return redirect(target)
    if request.method == "HEAD":
        return ""
    return redirect(url_for("security.reset_password", token=_remember(token)), 303)


class LinkSerializer:
    """Stands behind `security.reset_serializer`, so that Flask-Security's own view reads our links."""

    def loads(self, token: str, max_age: float | None = None) -> list[str]:
        """The account's uniquifier. Raises the LinkError that says why the link can not be used."""
        link, user = links.resolve(_token_behind(token))
        g.reset_link, g.reset_user, g.reset_handle = link, user, token
        return [user.fs_uniquifier]


def account_on_the_page() -> dict[str, Any]:
    """For Flask-Security's reset page when it shows an error: whose password this is."""
    return {"account": masked(g.reset_link.email)} if "reset_link" in g else {}


def on_password_reset(_app: Flask, user: User, **_: Any) -> None:
    """Spend the link and say so, in the transaction that writes the new password.

    Flask-Security commits after the request whatever the session holds, also when this raises:
    so everything is rolled back first.
    """
    try:
        password: Any = inspect(user).attrs.password
        links.redeem(g.reset_link, password_before=password.history.deleted[0])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        outbox.enqueue("reset_notice", user_id=user.id, address=user.email, changed_at=now, **_who_asks())
        client = g.reset_link.client  # read now: after the commit, reading would be one more statement
        audit.record("redeemed", user_id=user.id, client=client)
        db.session.flush()
    except BaseException:
        db.session.rollback()
        raise
    after_this_request(partial(_forget, g.reset_handle, client))


def _ask_page(problem: str | None = None) -> str:
    form = AskForm(formdata=None)
    form.email.errors = [problem] if problem else []
    return render_template("security/forgot_password.html", forgot_password_form=form)


def _who_asks() -> dict[str, Any]:
    """What a mail may tell its reader about the request."""
    return {
        "source": request.remote_addr or "",
        "user_agent": (request.user_agent.string or "")[:USER_AGENT_LENGTH_MAX],
    }


def _remember(token: str) -> str:
    """Keep the token in this browser's session, and return the handle that stands for it."""
    handle = _HANDLE + secrets.token_urlsafe(9)
    session["reset_links"] = [*_kept(), [handle, token]][-HANDLES_MAX:]
    return handle


def _kept() -> list[list[str]]:
    """Handles with their tokens, oldest first (a list: the session's JSON would sort a table)."""
    kept: list[list[str]] = session.get("reset_links", [])
    return kept


def _token_behind(handle_or_token: str) -> str:
    if not handle_or_token.startswith(_HANDLE):
        return handle_or_token
    token = dict(_kept()).get(handle_or_token)
    if token is None:
        raise LinkInvalid(UNKNOWN_HANDLE).about(None, clients.BROWSER)
    return token


def _forget(handle: str, client: str, response: Response) -> Response:
    """Once its link is spent. A commit that failed keeps the handle: the link still works."""
    if response.status_code < 400 and handle.startswith(_HANDLE):
        session["reset_links"] = [pair for pair in _kept() if pair[0] != handle]
        session["reset_done"] = client
    return response
