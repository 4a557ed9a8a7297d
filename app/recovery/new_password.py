"""The page on which a link sets a new password: its rules, one hash, link.redeem(), one commit."""

from typing import Any

from flask import current_app, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_security import current_user, logout_user, password_reset, verify_password
from flask_security.confirmable import confirm_user, requires_confirmation
from flask_security.forms import ResetPasswordForm
from flask_security.proxies import _datastore, _security
from flask_security.utils import base_render_json, is_user_authenticated
from sqlalchemy import select

from ..accounts import guess_limits
from ..accounts.hashing import new_hash
from ..accounts.identities import mask_address
from ..accounts.models import User
from ..accounts.passwords import record_refused_password, report_mismatch
from ..db import audit
from ..db.clock import utcnow
from ..db.encryption import keyed_hash
from ..db.engine import db
from ..web.origin import csrf
from ..web.responses import code_of, context_of, json_response, new_form, wants_json
from . import landing, link as links
from .link import ResetLink
from .link_errors import LinkUsed


class NewPasswordForm(ResetPasswordForm):
    """Flask-Security's reset form. JSON may omit the confirmation."""

    def validate(self, **kwargs: Any) -> bool:
        if request and request.is_json and "password_confirm" not in request.get_json():
            self.password_confirm.data = self.password.data
        valid = super().validate(**kwargs)
        report_mismatch(self.password, self.password_confirm)
        return valid


def reset_password(token: str) -> ResponseReturnValue:
    """Answer `/reset/<token>`. The browser that opened the link has a handle in place of the token."""
    if request.method == "POST":
        landing.check_form(token)
        return set_password(token)
    if landing.is_handle(token):
        user = links.resolve(landing.resolve_handle(token)).user
        return _render(new_form("reset_password_form"), user, token)
    return landing.land(token)


csrf.exempt(reset_password)  # check_form() knows its token


def _render(form: NewPasswordForm, user: User, handle: str) -> str:
    """Return the page with the form. It names the account, and another that is signed in here."""
    if landing.is_handle(handle):
        form.csrf_token.current_token = landing.form_token(handle)
    other = is_user_authenticated(current_user) and current_user.id != user.id
    return render_template(
        "security/reset_password.html",
        reset_password_form=form,
        reset_password_token=handle,
        account=mask_address(user.email),
        username=user.calc_username(),
        is_invited=user.is_invited,
        is_first=_is_first(user),
        other=mask_address(current_user.email) if other else None,
        **context_of("reset_password"),
    )


def set_password(handle: str) -> ResponseReturnValue:
    """Set the new password in the transaction that redeems the link. Raises LinkError."""
    form, is_signed_in = new_form("reset_password_form"), is_user_authenticated(current_user)
    token, is_in_browser = landing.resolve_handle(handle), landing.is_handle(handle)
    try:
        link = links.resolve(token)
        user, client, is_first = link.user, link.client, _is_first(link.user)
        form.user = user
        if not form.validate():
            return _refuse_password(form, link, handle)
        password_hash = new_hash(form.password.data, user.password)
        links.redeem(link, password_hash, landing.cookie_of(handle) or None)  # raises for all but one
        user.password, user.withdrawn_password = password_hash, None
        _datastore.set_uniquifier(user)  # ends every session of the account
        if link.message_id and requires_confirmation(user):  # the link has proved the address
            confirm_user(user)
        audit.record("redeemed", user_id=user.id, client=client)
        app = current_app._get_current_object()  # type: ignore[attr-defined]  # signals are sent by the app itself
        password_reset.send(app, _async_wrapper=app.ensure_sync, user=user)
        # Before the commit, because nothing after it may need the database.
        hashes = guess_limits.identity_hashes(user)
        if is_signed_in:  # as another account, or in a session that ends now
            logout_user()
        db.session.commit()
        guess_limits.clear_guesses(hashes)
        if is_in_browser:
            guess_limits.remember_browser(hashes)
    except LinkUsed as error:
        if not (is_in_browser and _is_repeated_click(handle, token, form.password.data)):
            raise
        client, is_first = error.client, False
    if wants_json(request):
        return json_response({})
    session["reset_done"] = client, is_first
    return redirect(url_for("pages.reset_done"))


def _is_first(user: User) -> bool:
    """True if the account has no password, or is a sign-up that its owner has not confirmed yet."""
    return not user.password or requires_confirmation(user)


def _is_repeated_click(handle: str, token: str, password: object) -> bool:
    """True if this browser redeemed the link a moment ago with the same password: a second click.

    No other browser gets True, so that a used link is no oracle for passwords.
    """
    by_this_browser = ResetLink.redeemed_by == keyed_hash(landing.cookie_of(handle))
    just_now = ResetLink.redeemed_at > utcnow(-links.DOUBLE_CLICK_SECONDS)
    this = ResetLink.token_hash.in_(links.token_hashes(token))
    link = db.session.scalar(select(ResetLink).where(this, by_this_browser, just_now))
    if link is None or not isinstance(password, str):
        return False
    if link.password_written != links.fingerprint(link.user.password):
        return False
    return bool(verify_password(_security.password_util.normalize(password), link.user.password or ""))


def _refuse_password(form: NewPasswordForm, link: ResetLink, handle: str) -> ResponseReturnValue:
    """Return the form with its errors, and record a refusal by the password rules."""
    answer = base_render_json(form) if wants_json(request) else _render(form, link.user, handle)
    if code := code_of(form.password.errors):
        record_refused_password(code, link.user_id, link.client)
    return answer
