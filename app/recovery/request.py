"""Ask: store what was typed and answer everyone alike.

No account is looked up and no mail is sent while somebody waits. The worker finds out whether the request is
for anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flask import flash, redirect, render_template, request, url_for
from flask_babel import lazy_gettext as _l
from flask_security import unauth_csrf
from flask_security.forms import Form
from flask_security.utils import get_message
from wtforms import StringField, SubmitField

from ..accounts.identities import IDENTITY_LABEL, identity_key, posted_identity
from ..accounts.limits import ASKING, by_identity
from ..db import audit
from ..db.engine import db, limit_lock_wait
from ..mail import outbox
from ..settings import current
from ..web import clients
from ..web.errors import InvalidRequest, NoMail
from ..web.rate_limits import limit
from ..web.responses import json_answer, wants_json
from . import notices

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


class Asking(NamedTuple):
    """A page where somebody who is not known asks for a mail: its mail, its template and form."""

    mail: str
    template: str
    form: str
    said: str | None = None  # Flask-Security's message on the page that follows; None: a page of its own


# By endpoint.
ASKINGS = {
    "security.forgot_password": Asking(
        "reset_instructions", "security/forgot_password.html", "forgot_password_form"
    ),
    "security.send_confirmation": Asking(
        "confirmation_instructions",
        "security/send_confirmation.html",
        "send_confirmation_form",
        "CONFIRMATION_REQUEST",
    ),
    "security.recover_username": Asking(
        "username_recovery",
        "security/recover_username.html",
        "username_recovery_form",
        "USERNAME_RECOVERY_REQUEST",
    ),
}


def deduplication_key(mail: str, identity: str) -> str:
    """What is asked for, in one text: whoever asks for the same at once adds no mail."""
    return f"{mail} {identity_key(identity)}"


def store_request(mail: str, content: dict[str, Any], about: str = "identity") -> None:
    """Leave a message for the worker, who finds out whether it is for anybody. Commits. Raises NoMail.

    `about`: what of the content says for whom. Whoever asks for the same for the same adds no message.
    """
    if not current().sends_mail:
        raise NoMail(current().RECOVERY_SUPPORT_CONTACT)
    limit_lock_wait()
    if not outbox.is_full():
        outbox.enqueue(mail, same=deduplication_key(mail, content[about]), **content)
    audit.record("requested", reason=mail, client=content["client"])
    db.session.commit()


class AskForm(Form):
    """Forgot: one box. The view reads the body through `posted_identity`."""

    email = StringField(IDENTITY_LABEL, name="identity", render_kw={"autocomplete": "username"})
    submit = SubmitField(_l("Send me a link"))


@unauth_csrf()
def ask() -> ResponseReturnValue:
    """The view behind ASKINGS: somebody forgot a password, ..."""
    asking = ASKINGS[request.endpoint or ""]
    if request.method != "POST":
        return json_answer(clients.what_to_know()) if wants_json(request) else _ask_page()
    try:
        identity, client = posted_identity(), clients.name_in_request()
    except InvalidRequest as error:
        if wants_json(request):
            raise
        return _ask_page(error.message), error.status
    what = {"identity": identity, "client": client, **notices.request_metadata()}
    store_request(asking.mail, what)
    if wants_json(request):
        return json_answer({})
    if asking.said is None:
        return redirect(url_for("pages.check_mail"), 303)
    flash(*get_message(asking.said))
    return redirect(url_for("security.login"), 303)


def _ask_page(problem: str | None = None) -> str:
    form, asking = AskForm(formdata=None), ASKINGS[request.endpoint or ""]
    form.email.errors = [problem] if problem else []
    return render_template(asking.template, **{asking.form: form})


for _endpoint in ASKINGS:
    limit(_endpoint, ASKING, "RECOVERY_LIMIT_IDENTITY", by_identity)
