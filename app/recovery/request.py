"""Request a mail: store the identity that was typed, and give every requester the same answer.

A web request looks up no account and sends no mail. The worker does both later.
"""

from typing import Any, NamedTuple

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l
from flask_security.forms import Form
from flask_security.utils import base_render_json, do_flash, get_message
from wtforms import StringField, SubmitField

from ..accounts.guess_limits import known_browser
from ..accounts.identities import IDENTITY_LABEL, PostedIdentity, identity_key, posted_identity
from ..db import audit
from ..db.engine import db, limit_lock_wait
from ..mail import outbox
from ..mail.quota import KNOWN_BROWSER, is_full
from ..settings import current
from ..web import challenge, clients, user_agents
from ..web.errors import InvalidRequest, NoMail, RequestError
from ..web.headers import policy
from ..web.responses import context_of, json_response, new_form, wants_json
from ..web.return_to import asking_client
from ..web.typed_identity import remember
from . import reset_code


class MailRequest(NamedTuple):
    """A page on which a visitor who is not signed in requests a mail. The endpoint names its template."""

    kind: str  # of the message
    form: str  # its name in the template
    flashed: str | None = None  # Flask-Security's message after the POST; None: a page of its own follows


# By endpoint.
MAIL_REQUESTS = {
    "security.forgot_password": MailRequest("reset_instructions", "forgot_password_form"),
    "security.send_confirmation": MailRequest(
        "confirmation_instructions", "send_confirmation_form", "CONFIRMATION_REQUEST"
    ),
    "security.recover_username": MailRequest(
        "username_recovery", "username_recovery_form", "USERNAME_RECOVERY_REQUEST"
    ),
}


def deduplication_key(kind: str, key: str, quota: str = "") -> str:
    """Return the key under which requests for one mail of one identity become one message."""
    return f"{kind} {key} {quota}"


def store_request(
    kind: str, identity: PostedIdentity, quota: str = "", signed_id: str = "", **content: Any
) -> None:
    """Queue a message for the worker, which looks the account up, and commit.

    Raises NoMail, and InvalidRequest for a client that is not configured.
    """
    settings, client = current(), clients.posted_client() if request.is_json else asking_client()
    if not settings.sends_mail:
        raise NoMail(settings.RECOVERY_SUPPORT_CONTACT)
    limit_lock_wait()
    if not is_full(kind):
        key = str(identity.key)
        is_known = known_browser(key) is not None
        quota = quota or (KNOWN_BROWSER if is_known else "")
        content |= {"identity": identity.typed, "client": client, **user_agents.requester()}
        same = deduplication_key(kind, identity_key(*identity), quota)
        outbox.enqueue(kind, same=same, quota=quota, **content)
        if signed_id:
            reset_code.record_request(signed_id, key, is_known)
    audit.record("requested", reason=kind, client=client)
    db.session.commit()


class IdentityForm(Form):
    """The form with the identity box. The view reads the body through `posted_identity`."""

    email = StringField(IDENTITY_LABEL, name="identity", render_kw={"autocomplete": "username"})
    submit = SubmitField(_l("Email me a link"))


def request_mail() -> ResponseReturnValue:
    """Answer GET and POST of the MAIL_REQUESTS."""
    page, is_json = MAIL_REQUESTS[request.endpoint or ""], wants_json(request)
    if request.method != "POST":
        return json_response(clients.public_policy()) if is_json else _render(page)
    try:
        identity = posted_identity()
        challenge.require()
    except (InvalidRequest, challenge.ChallengeRequired) as error:
        if is_json:
            raise
        return _render(page, error)
    # Only a class in RECOVERY_CLASSES has anything to validate. JSON gets no cookie for a CSRF token.
    form = new_form("forgot_password_form", meta={"csrf": not is_json})
    if not form.validate():
        return base_render_json(form, include_user=False) if is_json else _render(page, form=form)
    signed_id = reset_code.issue_request_id() if current().RECOVERY_CODE and page.flashed is None else ""
    store_request(page.kind, identity, signed_id=signed_id)
    if is_json:
        return json_response({"request_id": signed_id} if signed_id else {})
    if page.flashed is None:
        remember(identity.typed)
        return redirect(url_for("pages.check_mail"), 303)
    do_flash(*get_message(page.flashed))
    return redirect(url_for("security.login"), 303)


def _render(page: MailRequest, error: RequestError | None = None, form: Any = None) -> ResponseReturnValue:
    """Return the page, with the errors of a form that was sent, and the challenge if one is due."""
    status = 400 if error or form else 200
    form = form or new_form("forgot_password_form", formdata=request.form or None)
    name = (request.endpoint or "").removeprefix("security.")
    if isinstance(error, InvalidRequest):
        form.email.errors = [error.message]
    elif error:
        form.form_errors = [error.message]
    context = {page.form: form, "challenge": challenge.is_due(), **context_of(name)}
    text = render_template(f"security/{name}.html", **context)
    # The widget works in a worker.
    widget = {"Content-Security-Policy": policy({"worker-src": "'self'"})} if context["challenge"] else {}
    return text, status, widget
