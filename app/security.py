"""Everything we tell Flask-Security, and where our parts are plugged into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from flask import Flask, request
from flask.typing import ResponseReturnValue
from flask_security import Security, WebauthnUtil, password_reset

from .accounts import (
    hashing,
    identities,
    imported_hashes,
    known_browsers,
    one_time_codes,
    passwords,
    sessions,
)
from .accounts.datastore import Accounts
from .accounts.models import FsRefreshTracker, Role, User, WebAuthn
from .accounts.one_time_codes import only_the_first_factor
from .accounts.passwords import ChangeForm
from .accounts.sign_in import SignInForm
from .db.engine import db
from .mail import flask_security_mails
from .recovery import (  # instructions and other_requests register their composers
    code_sign_in,
    instructions,  # noqa: F401
    landing,
    notices,
    other_requests,  # noqa: F401
    redemption,
    registration,
)
from .recovery.code_sign_in import UnifiedForm
from .recovery.link import LinkError
from .recovery.redemption import NewPasswordForm
from .recovery.request import ASKINGS, ask
from .settings.schema import Settings
from .web import origin
from .web.messages import METHODS, SAID
from .web.responses import json_answer, wants_json

if TYPE_CHECKING:
    from itsdangerous import URLSafeTimedSerializer


def init_app(app: Flask, settings: Settings) -> None:
    for kind, texts in {**SAID, "error": {**SAID["error"], **passwords.MESSAGES}}.items():
        app.config.update({f"SECURITY_MSG_{name}": (text, kind) for name, text in texts.items()})
    app.config.update(flask_security_mails.subjects(settings))
    sessions.prepare(app)
    imported_hashes.init()
    one_time_codes.init_app(app, settings)
    identities.init_app(app, settings)
    origin.init_app(app, settings)
    security = Security(
        app,
        Accounts(db, User, Role, WebAuthn, FsRefreshTracker),
        login_form=SignInForm,
        us_signin_form=UnifiedForm,
        two_factor_rescue_form=one_time_codes.RescueForm,
        reset_password_form=NewPasswordForm,
        change_password_form=ChangeForm,
        mail_util_cls=flask_security_mails.QueuedMailUtil,
        render_template=flask_security_mails.render_template,
        password_util_cls=passwords.RecoveryPasswordUtil,
        totp_cls=one_time_codes.OnceOnly,
        webauthn_util_cls=AnyPasskey,
    )
    if settings.SECURITY_TOTP_SECRETS:
        app.extensions["dummy_totp"] = security.totp_factory.generate_totp_secret()
    security.i18n_domain = app.extensions["recovery_words"]
    app.jinja_env.globals.update(_fsdomain=security.i18n_domain.gettext, METHODS=METHODS)
    hashing.init_app(app, settings)
    sessions.init_app(app, settings)
    security.reset_serializer = cast("URLSafeTimedSerializer", redemption.LinkSerializer())
    security.render_json(json_answer)
    security.want_json(wants_json)
    security.reset_password_context_processor(redemption.account_on_the_page)
    password_reset.connect(redemption.on_password_reset, app)
    password_reset.connect(registration.on_password_reset, app)
    notices.init_app(app)
    known_browsers.init_app(app)
    app.register_error_handler(LinkError, landing.refuse_link)
    _mount_views(app)


class AnyPasskey(WebauthnUtil):
    """Flask-Security's passkeys. To sign in with, it takes those to plug in, but no device's own."""

    def authenticator_selection(self, user: Any, usage: str) -> Any:
        criteria = super().authenticator_selection(user, usage)
        criteria.authenticator_attachment = None
        return criteria


def _mount_views(app: Flask) -> None:
    """Ours for asking and landing; the POST of the reset view stays Flask-Security's."""
    redeem: Any = app.view_functions["security.reset_password"]

    def reset_password(token: str) -> ResponseReturnValue:
        if request.method == "POST":
            answer: ResponseReturnValue = redeem(token)
            return answer
        return landing.land(token)

    ours = {
        **dict.fromkeys(ASKINGS, ask),
        "security.register": registration.register,
        "security.us_signin_send_code": code_sign_in.send_code,
        "security.us_verify_link": code_sign_in.no_link,
        "security.reset_password": reset_password,
    }
    views = app.view_functions
    views.update({name: view for name, view in ours.items() if name in views})
    for name in {"security.two_factor_setup", "security.two_factor_token_validation"} & views.keys():
        views[name] = only_the_first_factor(views[name])
