"""Redeem a link: password rules, one hash, one winner, one commit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import current_app, redirect, render_template, request, session, url_for
from flask_babel import lazy_gettext as _l
from flask_security import (
    current_user,
    hash_password,
    logout_user,
    password_reset,
    unauth_csrf,
    verify_password,
)
from flask_security.confirmable import requires_confirmation
from flask_security.forms import EqualToLocalize, IsString, ResetPasswordForm, password_required
from flask_security.proxies import _security
from flask_security.utils import base_render_json
from wtforms import PasswordField, SubmitField

from ..accounts import limits
from ..accounts.identities import masked
from ..accounts.known_browsers import marks_of, remember_browser
from ..accounts.passwords import record_refused_password
from ..db import audit
from ..db.encryption import keyed_hash
from ..db.engine import db
from ..mail import outbox
from ..web.responses import Refusal, code_of, json_answer, wants_json
from . import link as links
from . import opened_links
from .link import LinkUsed
from .notices import request_metadata

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from ..accounts.models import User
    from .link import ResetLink


class NewPasswordForm(ResetPasswordForm):
    """Flask-Security's reset form, in our words."""

    password = PasswordField(
        _l("New password"), [IsString(), password_required], render_kw={"autocomplete": "new-password"}
    )
    password_confirm = PasswordField(
        _l("New password again"),
        [IsString(), EqualToLocalize("password", message="RETYPE_PASSWORD_MISMATCH"), password_required],
        render_kw={"autocomplete": "new-password"},
    )
    submit = SubmitField(_l("Set new password"))

    def validate(self, **kwargs: Any) -> bool:
        if request and request.is_json and "password_confirm" not in request.get_json():
            self.password_confirm.data = self.password.data  # a program does not mistype
        valid = super().validate(**kwargs)
        if not self.password.errors:
            wrong = [Refusal(str(error), "password_mismatch") for error in self.password_confirm.errors]
            self.password_confirm.errors = wrong
        return valid


@unauth_csrf()
def redeem(token: str) -> ResponseReturnValue:
    """The POST of `/reset/<token>`. The token is that of a program, or the handle of a link opened here."""
    form, is_signed_in = NewPasswordForm(), current_user.is_authenticated
    try:
        link, user = links.resolve(opened_links.token_behind(token))
        form.user = user
        if not form.validate():
            return _refuse_password(form, link, user, token)
        client = _write_password(link, user, str(form.password.data), token)
    except LinkUsed:
        if not _is_repeated_click(token, form.password.data):
            raise
        client = links.find(links.has_token(opened_links.token_behind(token))).link.client
    if is_signed_in:  # nobody is left in doubt whose account they are in
        logout_user()
    if wants_json(request):
        return json_answer({})
    session["reset_done"] = client
    return redirect(url_for("pages.reset_done"))


def show_form(form: NewPasswordForm, user: User, handle: str) -> str:
    """Return the page with the form. It names the account, and who else is signed in in this browser."""
    other = current_user.is_authenticated and current_user.id != user.id
    return render_template(
        "security/reset_password.html",
        reset_password_form=form,
        reset_password_token=handle,
        account=masked(user.email),
        other=masked(current_user.email) if other else None,
    )


def _write_password(link: ResetLink, user: User, password: str, token: str) -> str:
    """Redeem the link and write the password in one transaction. Return the link's client.

    Raises the LinkError of a link that has ended since it was resolved.
    """
    password_hash, client = hash_password(password), link.client
    links.redeem(link, user, password_hash, token if opened_links.is_handle(token) else None)
    user.password, user.withdrawn_password = password_hash, None
    _security.datastore.set_uniquifier(user)  # ends every session of the account
    if link.message_id and requires_confirmation(user):  # the link came by mail, so the address is theirs
        user.confirmed_at = _security.datetime_factory()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    outbox.enqueue("reset_notice", user_id=user.id, address=user.email, changed_at=now, **request_metadata())
    audit.record("redeemed", user_id=user.id, client=client)
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # signals are sent by the app itself
    password_reset.send(app, _async_wrapper=app.ensure_sync, user=user)
    marks = marks_of(user)  # read now, because nothing after the commit may need the database
    db.session.commit()
    limits.forget(marks)
    if opened_links.is_handle(token):
        remember_browser(marks)
    return client


def _is_repeated_click(handle: str, password: object) -> bool:
    """True if this browser redeemed the link a moment ago with this very password: two clicks are one. Never
    for anybody else, so that a used link is no oracle for passwords.
    """
    if not opened_links.is_handle(handle) or not isinstance(password, str):
        return False
    link, user, _, is_repeatable = links.find(links.has_token(opened_links.token_behind(handle)))
    is_ours = is_repeatable and link.redeemed_by == keyed_hash(handle)
    if not is_ours or link.password_written != links.fingerprint(user.password):
        return False
    return bool(verify_password(_security.password_util.normalize(password), user.password or ""))


def _refuse_password(form: NewPasswordForm, link: ResetLink, user: User, token: str) -> ResponseReturnValue:
    """Say what is wrong with the password; a refusal by the password rules is an event."""
    answer = base_render_json(form) if wants_json(request) else show_form(form, user, token)
    if code := code_of(form.password.errors):
        record_refused_password(code, link.user_id, link.client)
    return answer
