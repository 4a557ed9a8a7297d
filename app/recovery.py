"""The web half of recovery: the request for a link, the landing of a link, and its redemption.

    POST /reset          what was typed goes into the outbox; everybody gets the same answer
    GET  /reset/<token>  the token moves into the session, the browser to /reset/~<handle>
    GET  /reset/~<handle>  the form
    POST                 Flask-Security's view; its `password_reset` signal spends the link

No account is looked up and no mail is sent while anybody waits for `POST /reset`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import after_this_request, flash, g, redirect, render_template, request, url_for
from flask_security import current_user, logout_user, unauth_csrf
from flask_security.utils import get_message
from sqlalchemy import inspect
from werkzeug.exceptions import TooManyRequests

from . import audit, clients, handles, intents, limits, links, outbox, problems, signals
from .askings import ASKINGS
from .db import DATABASE_AWAY, db
from .errors import InvalidRequest, LinkError, LinkInvalid
from .forms import AskForm, NewPasswordForm, posted_identity
from .identities import masked

if TYPE_CHECKING:
    from flask import Flask, Response
    from flask.typing import ResponseReturnValue

    from .models import ResetLink, User


@unauth_csrf()
def ask() -> ResponseReturnValue:
    """The view behind ASKINGS: somebody forgot a password, ..."""
    asking = ASKINGS[request.endpoint or ""]
    if request.method != "POST":
        return clients.json_answer(clients.what_to_know()) if clients.wants_json(request) else _ask_page()
    try:
        identity, client = posted_identity(), clients.name_in_request()
    except InvalidRequest as error:
        if clients.wants_json(request):
            raise
        return _ask_page(error.message), error.status
    what = {"identity": identity, "client": client, **signals.who_asks()}
    intents.leave(asking.mail, what)
    if clients.wants_json(request):
        return clients.json_answer({})
    if asking.said is None:
        return redirect(url_for("pages.check_mail"), 303)
    flash(*get_message(asking.said))
    return redirect(url_for("security.login"), 303)


def land(token: str) -> ResponseReturnValue:
    """GET and HEAD of a reset link: consumes nothing, and takes the token out of the address bar."""
    if token.startswith(handles.MARK):
        _, user = links.resolve(handles.token_behind(token))
        form = NewPasswordForm(formdata=None)
        return render_template(
            "security/reset_password.html",
            reset_password_form=form,
            reset_password_token=token,
            **_names(user),
        )
    link, _ = links.resolve(token)
    if request.method != "HEAD":
        _note_opening(link)
    if clients.wants_json(request):
        return clients.json_answer({"expires_at": f"{link.expires_at:%Y-%m-%dT%H:%M:%SZ}"})
    if target := clients.named(link.client).landing(token):
        return redirect(target)
    if request.method == "HEAD":
        return ""
    return redirect(url_for("security.reset_password", token=handles.remember(token)), 303)


def refuse_link(error: LinkError) -> ResponseReturnValue:
    """Answer a link that cannot be used, on the page or view of the client that it belongs to."""
    if isinstance(error, LinkInvalid) and not limits.may_have_bad_link():
        return problems.http_error(TooManyRequests())
    if request.endpoint == "security.reset_password" and request.method == "POST":
        _record(error)
    if not clients.wants_json(request) and (target := clients.named(error.client).problem(error)):
        return redirect(target)
    return problems.refuse(error)


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
        if links.open_first(link):
            audit.record("opened", user_id=user_id, client=name)
        db.session.commit()
    except DATABASE_AWAY:
        db.session.rollback()


class LinkSerializer:
    """Stands behind `security.reset_serializer`, so that Flask-Security's own view reads our links."""

    def loads(self, token: str, max_age: float | None = None) -> list[str]:
        """The account's uniquifier. Raises the LinkError that says why the link can not be used."""
        link, user = links.resolve(handles.token_behind(token))
        g.reset_link, g.reset_user, g.reset_handle = link, user, token
        g.before_hashing = partial(links.look_again, link)
        return [user.fs_uniquifier]


def account_on_the_page() -> dict[str, Any]:
    """For Flask-Security's reset page when it shows an error: whose password this is."""
    return _names(g.reset_user) if "reset_link" in g else {}


def _names(user: User) -> dict[str, str | None]:
    """Whose password it is, and who else is signed in in this browser."""
    other = current_user.is_authenticated and current_user.id != user.id
    return {"account": masked(user.email), "other": masked(current_user.email) if other else None}


def on_password_reset(_app: Flask, user: User, **_: Any) -> None:
    """Spend the link and say so, in the transaction that writes the new password.

    Flask-Security commits after the request whatever the session holds, also when this raises:
    so everything is rolled back first.
    """
    try:
        password: Any = inspect(user).attrs.password
        links.redeem(g.reset_link, password_before=password.history.deleted[0])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        outbox.enqueue(
            "reset_notice", user_id=user.id, address=user.email, changed_at=now, **signals.who_asks()
        )
        client = g.reset_link.client  # read now: after the commit, reading would be one more statement
        audit.record("redeemed", user_id=user.id, client=client)
        db.session.flush()
    except BaseException:
        db.session.rollback()
        raise
    limits.forget(user)
    if g.reset_handle.startswith(handles.MARK):
        limits.know_this_browser(user)
    after_this_request(partial(handles.forget, g.reset_handle, client))
    after_this_request(_sign_out)


def _ask_page(problem: str | None = None) -> str:
    form, asking = AskForm(formdata=None), ASKINGS[request.endpoint or ""]
    form.email.errors = [problem] if problem else []
    return render_template(asking.template, **{asking.form: form})


def _sign_out(response: Response) -> Response:
    """Whoever is signed in in this browser, as this account or another, is so no more: the next page must not
    leave anybody in doubt whose account they are in."""
    if response.status_code < 400 and current_user.is_authenticated:
        logout_user()
    return response
