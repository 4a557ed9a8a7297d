"""Flask-Security's unified sign-in, where it is switched on: a password or a code, in one box.

As with the password alone, nothing tells who has an account: the same statements and the same verifications
run for everybody, and who wants a code by mail only leaves a message; the worker finds out for whom.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from flask import abort, current_app, flash, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_security import UnifiedSigninForm, unauth_csrf
from flask_security.forms import Form
from flask_security.proxies import _security
from flask_security.utils import get_message
from wtforms import PasswordField, RadioField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import Optional

from ..accounts.hashing import password_matches
from ..accounts.identities import IDENTITY_LABEL, posted_identity
from ..accounts.limits import ASKING, SIGNING_IN, by_identity, may_try_code
from ..accounts.models import User
from ..accounts.one_time_codes import is_code
from ..accounts.sign_in import credentials, may_come_in
from ..db import audit
from ..db.engine import db
from ..mail import composing, outbox
from ..mail.composing import composer
from ..mail.errors import Undeliverable
from ..mail.outbox import OutboxMessage
from ..settings import current
from ..web import clients
from ..web.errors import InvalidRequest
from ..web.i18n import duration
from ..web.rate_limits import limit
from ..web.responses import Refusal, json_answer, wants_json
from .other_requests import who_asked
from .request import store_request

MAIL = "us_instructions"


class UnifiedForm(UnifiedSigninForm):
    """Flask-Security's form, which would stop at the first thing that does not fit."""

    identity = StringField(IDENTITY_LABEL, render_kw={"autocomplete": "username"})
    chosen_method = RadioField(
        _l("Send a code"), [Optional()], choices=[SelectChoice("email", _l("By mail"))]
    )
    passcode = PasswordField(_l("Password or code"), render_kw={"autocomplete": "current-password"})

    user: User | None  # type: ignore[assignment]  # Flask-Security fills it in before it is asked for
    authn_via: str

    def validate(self, **kwargs: Any) -> bool:
        if not Form.validate(self, **kwargs):
            return False
        try:
            identity = posted_identity()
        except InvalidRequest as error:
            self.identity.errors = [error.message]
            return False
        if not self.passcode.data:
            self.passcode.errors = [_("Type your password, or a code.")]
            return False
        number, self.user, self.authn_via = _who(identity, str(self.passcode.data))
        if self.user is None:
            self.form_errors.append(Refusal(get_message("GENERIC_AUTHN_FAILED")[0], "sign_in_failed"))
            audit.record("sign_in_refused", user_id=number)
        return self.user is not None


def _who(identity: str, passcode: str) -> tuple[int | None, User | None, str]:
    """The account's number, the account if it may come in, and by which method. Each method is tried, whoever
    it is, and whatever the one before said."""
    number, stored, codes = credentials(identity, User.password, User.us_totp_secrets)
    secrets = json.loads(codes or "{}")
    proofs = {"password": password_matches(_security.password_util.normalize(passcode), stored)}
    may_be_code = is_code(passcode) and may_try_code(number, identity)
    for method in current().SECURITY_US_ENABLED_METHODS:
        if method != "password":
            secret = secrets.get(method) or current_app.extensions["dummy_totp"]
            window = current_app.config["SECURITY_US_TOKEN_VALIDITY"]
            is_right = _security.totp_factory.verify_totp(passcode, secret, User(), window)
            proofs[method] = is_right and may_be_code and method in secrets  # nobody comes in by the dummy
    via = next((method for method, is_proven in proofs.items() if is_proven), "")
    user = db.session.get(User, number) if via and number else None
    if user is None or not may_come_in(user) or (via == "password" and user.password != stored):
        return number, None, via
    return number, user, via


@unauth_csrf()
def send_code() -> ResponseReturnValue:
    """The view behind `security.us_signin_send_code`: the same answer for everybody."""
    is_json = wants_json(request)
    identity = posted_identity()
    store_request(MAIL, {"identity": identity, "client": clients.name_in_request()})
    if is_json:
        return json_answer({})
    form = UnifiedForm(formdata=None)
    form.identity.data = identity
    flash(*get_message("GENERIC_US_SIGNIN"))
    return render_template("security/us_signin.html", us_signin_form=form, code_methods=["email"])


def no_link(**_: Any) -> ResponseReturnValue:
    """Flask-Security's link that signs in: a mailed link must not."""
    abort(404)


@composer(MAIL)
def compose(message: OutboxMessage) -> composing.Mail:
    """The mail with a code, for the worker. Raises Undeliverable."""
    valid = current_app.config["SECURITY_US_TOKEN_VALIDITY"]
    if outbox.age_of(message) > timedelta(seconds=valid):
        raise Undeliverable("a code was asked for longer ago than one works (SECURITY_US_TOKEN_VALIDITY)")
    user = who_asked(message, pause=valid)
    secret = _security.datastore.us_get_totp_secrets(user).get("email")
    if secret is None:
        raise Undeliverable("the account has not chosen to sign in with codes by mail", user.id)
    if not may_come_in(user):
        raise Undeliverable("the address is not confirmed", user.id)
    within = LazyString(duration, timedelta(seconds=valid))  # in the language of the mail
    code = _security.totp_factory.generate_totp_password(secret)
    return composing.write(message, MAIL, user.email, login_token=code, within=within)


limit("security.us_signin", SIGNING_IN, "RECOVERY_LIMIT_IDENTITY", by_identity)
limit("security.us_signin_send_code", ASKING, "RECOVERY_LIMIT_IDENTITY", by_identity)
