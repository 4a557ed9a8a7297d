"""Sign-in with a password or a code in one box: Flask-Security's unified sign-in. Off by default.

Nothing tells which accounts exist. Every attempt runs the same statements and the same verifications, and a
request for a code only queues a message.
"""

import json
from typing import Any

from flask import current_app, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _, lazy_gettext as _l
from flask_security import UnifiedSigninForm
from flask_security.forms import Form
from flask_security.proxies import _security
from flask_security.utils import do_flash, get_message
from wtforms import PasswordField, StringField

from ..accounts.guess_limits import CODES, SIGNING_IN, by_identity, may_guess
from ..accounts.hashing import password_matches
from ..accounts.identities import IDENTITY_LABEL, IdentityKey, posted_identity
from ..accounts.models import User
from ..accounts.one_time_codes import is_code
from ..accounts.sign_in import load_credentials, may_sign_in, refuse
from ..db.engine import db
from ..settings import current
from ..web.errors import InvalidRequest
from ..web.rate_limits import limit
from ..web.responses import context_of, json_response, new_form, wants_json
from .request import store_request


class UnifiedForm(UnifiedSigninForm):
    """Flask-Security's form, except that it verifies every method, whether or not the account has it."""

    identity = StringField(IDENTITY_LABEL, render_kw={"autocomplete": "username"})
    passcode = PasswordField(_l("Password or code"), render_kw={"autocomplete": "current-password"})
    chosen_method = None  # codes are sent by mail alone

    user: User | None  # type: ignore[assignment]  # as Flask-Security's, or None after a failure
    authn_via: str

    def validate(self, **kwargs: Any) -> bool:
        if not Form.validate(self, **kwargs):
            return False
        try:
            key = posted_identity().key
        except InvalidRequest as error:
            self.identity.errors = [error.message]
            return False
        if not self.passcode.data:
            self.passcode.errors = [_("Enter your password or a code.")]
            return False
        number, self.user, self.authn_via = _authenticate(key, str(self.passcode.data))
        if self.user is None:
            refuse(self, number, "passcode")
        return self.user is not None


def _authenticate(key: IdentityKey, passcode: str) -> tuple[int | None, User | None, str]:
    """Return the account's id, the account if it may sign in, and the method that the passcode proves."""
    number, stored, codes = load_credentials(key, User.password, User.us_totp_secrets)
    secrets = json.loads(codes or "{}")
    proofs = {"password": password_matches(_security.password_util.normalize(passcode), stored)}
    may_be_code = is_code(passcode) and may_guess(CODES, number, key)
    for method in current().SECURITY_US_ENABLED_METHODS:
        if method != "password":
            secret = secrets.get(method) or current_app.extensions["dummy_totp"]
            window = current_app.config["SECURITY_US_TOKEN_VALIDITY"]
            is_right = _security.totp_factory.verify_totp(passcode, secret, User(), window)
            proofs[method] = is_right and may_be_code and method in secrets  # never by the dummy
    via = next((method for method, is_proven in proofs.items() if is_proven), "")
    user = db.session.get(User, number) if via and number else None
    if user is None or not may_sign_in(user) or (via == "password" and user.password != stored):
        return number, None, via
    return number, user, via


def send_code() -> ResponseReturnValue:
    """Queue a mail with a code. The answer is the same for every identity."""
    identity = posted_identity()
    store_request("us_instructions", identity)
    if wants_json(request):
        return json_response({})
    form = new_form("us_signin_form", formdata=None)
    form.identity.data = identity.typed
    do_flash(*get_message("GENERIC_US_SIGNIN"))
    context = {"us_signin_form": form, "code_methods": ["email"], **context_of("us_signin")}
    return render_template("security/us_signin.html", **context)


limit("security.us_signin", SIGNING_IN, "RECOVERY_LIMIT_IDENTITY", by_identity)
