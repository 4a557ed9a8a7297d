"""Everything we tell Flask-Security, and where our parts are plugged into it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, g, request, session
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l
from flask_security import (
    Security,
    SQLAlchemyUserDatastore,
    WebauthnUtil,
    current_user,
    password_reset,
)
from flask_security.proxies import _security
from flask_security.tf_plugin import tf_clean_session
from sqlalchemy import Integer, Text, bindparam, column, func, select, table, update
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from . import (
    clients,
    codes,
    foreign,
    hashing,
    identities,
    instructions,  # noqa: F401  # registers its composer
    other_mails,  # noqa: F401  # registers its composers
    passwords,
    recovery,
    registration,
    sessions,
    signals,
    stock_mails,
    unified,
)
from .askings import ASKINGS
from .db import change, db
from .errors import IdentityError, LinkError
from .forms import ChangeForm, NewPasswordForm
from .models import FsRefreshTracker, Role, User, WebAuthn
from .settings import Settings
from .sign_in import SignInForm
from .unified import UnifiedForm
from .words import N_

if TYPE_CHECKING:
    from itsdangerous import URLSafeTimedSerializer

MESSAGES = {
    "GENERIC_AUTHN_FAILED": N_("That did not match. Check what you typed and try again."),
    "RETYPE_PASSWORD_MISMATCH": N_("The two passwords are not the same."),
    "PASSWORD_NOT_PROVIDED": N_("Type a password."),
    "INVALID_PASSWORD": N_("That is not your current password."),
    "INVALID_REDIRECT": N_("After signing in you can only go on to a page of this site."),
    "PHONE_INVALID": N_("That is no phone number. Begin with + and the country code."),
    "INVALID_EMAIL_ADDRESS": N_("That is no email address."),
    "INVALID_CODE": N_("That code does not work. Codes are soon too old, and each works once."),
    "TWO_FACTOR_INVALID_TOKEN": N_("That code does not work. Codes are soon too old, and each works once."),
    "INVALID_PASSWORD_CODE": N_("That did not match. Codes are soon too old, and each works once."),
    "INVALID_RECOVERY_CODE": N_("That is none of your recovery codes, or it was used already."),
    "TWO_FACTOR_PERMISSION_DENIED": N_("Please sign in again."),
    "TWO_FACTOR_METHOD_NOT_AVAILABLE": N_("Choose one of these."),
    "US_METHOD_NOT_AVAILABLE": N_("Choose one of these."),
    "TWO_FACTOR_SETUP_EXPIRED": N_("That took too long. Please start again."),
    "US_SETUP_EXPIRED": N_("That took too long. Please start again."),
    "WEBAUTHN_EXPIRED": N_("That took too long. Please start again."),
    "WEBAUTHN_NAME_REQUIRED": N_("Give the passkey a name."),
    "WEBAUTHN_NAME_INUSE": N_("You have a passkey of that name already."),
    "WEBAUTHN_NAME_DISALLOWED_CHARACTERS": N_("Use only letters, digits, spaces, - and _."),
    "WEBAUTHN_UNKNOWN_CREDENTIAL_ID": N_("That passkey is not known here. Perhaps it was removed."),
    "WEBAUTHN_CREDENTIAL_WRONG_USAGE": N_("That passkey is not for this. Sign in with your password."),
    "WEBAUTHN_NO_VERIFY": N_("That passkey did not work."),
    "CHANGE_EMAIL_EXPIRED": N_("That link is too old. Please start again."),
    "API_ERROR": N_("That did not work. Please start again."),
    **passwords.MESSAGES,
}
# Said when all is well.
NOTICES = {
    "CONFIRMATION_REQUEST": N_(
        "If there is an account to be confirmed for what you typed, a mail is on its way."
    ),
    "USERNAME_RECOVERY_REQUEST": N_(
        "If there is an account with a username for what you typed, a mail is on its way."
    ),
    "REAUTHENTICATION_SUCCESSFUL": N_("Thank you. You can go on."),
    "PASSWORD_CHANGE": N_("Your password is changed."),
    "CHANGE_EMAIL_SENT": N_("A mail is on its way to %(email)s."),
    "CHANGE_EMAIL_CONFIRMED": N_("Your email address is changed."),
    "EMAIL_CONFIRMED": N_("Your address is confirmed. You can sign in now."),
    "CODE_HAS_BEEN_SENT": N_("A code is on its way to you."),
    "GENERIC_US_SIGNIN": N_("If the account that you typed has codes by mail, one is on its way."),
    "TWO_FACTOR_LOGIN_SUCCESSFUL": N_("You are signed in."),
    "TWO_FACTOR_CHANGE_METHOD_SUCCESSFUL": N_("Your second factor is set up."),
    "TWO_FACTOR_DISABLED": N_("Your second factor is removed."),
    "US_SETUP_SUCCESSFUL": N_("You can sign in with a code now."),
    "WEBAUTHN_REGISTER_SUCCESSFUL": N_("The passkey is added."),
    "WEBAUTHN_CREDENTIAL_DELETED": N_("The passkey is removed."),
    "USE_CODE": N_("Your code: %(code)s"),
}
FIRST = {
    "UNAUTHENTICATED": N_("Please sign in first."),
    "REAUTHENTICATION_REQUIRED": N_("Please confirm first that it is you."),
}
# Ways to a code, by Flask-Security's names for them.
METHODS = {
    "authenticator": _l("Codes from an app"),
    "email": _l("Codes by mail"),
    "sms": _l("Codes by text message"),
    "webauthn": _l("A passkey"),
}
SAID = {"error": MESSAGES, "success": NOTICES, "info": FIRST}


def init_app(app: Flask, settings: Settings) -> None:
    for kind, texts in SAID.items():
        app.config.update({f"SECURITY_MSG_{name}": (text, kind) for name, text in texts.items()})
    app.config.update(stock_mails.subjects(settings))
    name, operator = settings.RECOVERY_SITE_NAME, settings.RECOVERY_OPERATOR
    app.config["SECURITY_TOTP_ISSUER"] = (settings.SECURITY_TOTP_ISSUER or name).replace(":", " ")
    app.config["SECURITY_TWO_FACTOR_RESCUE_MAIL"] = operator
    if "SECURITY_WAN_RP_NAME" not in settings.handed_on:
        app.config["SECURITY_WAN_RP_NAME"] = name
    sessions.prepare(app, settings)
    foreign.init()
    codes.init_app(app, settings)
    identities.init_app(app, settings)
    clients.init_app(app, settings)
    security = Security(
        app,
        Accounts(db, User, Role, WebAuthn, FsRefreshTracker),
        login_form=SignInForm,
        us_signin_form=UnifiedForm,
        two_factor_rescue_form=codes.RescueForm,
        reset_password_form=NewPasswordForm,
        change_password_form=ChangeForm,
        mail_util_cls=stock_mails.QueuedMailUtil,
        password_util_cls=passwords.RecoveryPasswordUtil,
        totp_cls=codes.OnceOnly,
        webauthn_util_cls=AnyPasskey,
    )
    if settings.SECURITY_TOTP_SECRETS:
        app.extensions["dummy_totp"] = security.totp_factory.generate_totp_secret()
    security.i18n_domain = app.extensions["recovery_words"]
    app.jinja_env.globals.update(_fsdomain=security.i18n_domain.gettext, METHODS=METHODS)
    hashing.init_app(app, settings)
    sessions.init_app(app, settings)
    security.reset_serializer = cast("URLSafeTimedSerializer", recovery.LinkSerializer())
    security.render_json(clients.json_answer)
    security.want_json(clients.wants_json)
    security.reset_password_context_processor(recovery.account_on_the_page)
    password_reset.connect(recovery.on_password_reset, app)
    password_reset.connect(registration.on_password_reset, app)
    signals.init_app(app)
    app.register_error_handler(LinkError, recovery.refuse_link)
    _mount_views(app)


# Recovery codes as the database holds them: Flask-Security's type for them can not be compared.
_CODES = table("user", column("id", Integer), column("mf_recovery_codes", Text))


@cache  # Flask-Security's statement, made once: that takes longer than to run it
def _account_by(column: str, case_insensitive: bool) -> Any:
    stored, value = getattr(User, column), bindparam("value", type_=getattr(User, column).type)
    is_it = func.lower(stored) == func.lower(value) if case_insensitive else stored == value
    return select(User).where(is_it)


class Accounts(SQLAlchemyUserDatastore):
    """Flask-Security's datastore; a taken identity is said at once, not at the end of the request."""

    def find_user(self, case_insensitive: bool = False, **which: Any) -> Any:
        """As Flask-Security's. The account of this request's reset link is at hand already: looked up
        again, it may have a new uniquifier, and who lost a race would hear of an invalid link (seen).
        """
        at_hand = g.get("reset_user")
        if at_hand is not None and which == {"fs_uniquifier": at_hand.fs_uniquifier}:
            return at_hand
        [(column, value)] = which.items()
        return db.session.scalar(_account_by(column, case_insensitive), {"value": value})

    def create_user(self, **attributes: Any) -> Any:
        """As Flask-Security's. Raises IdentityError when another account has one of the identities."""
        user = super().create_user(**attributes)
        try:
            db.session.flush()
        except (IntegrityError, DataError):
            db.session.rollback()
            raise IdentityError("another account has one of these identities, or one is too long") from None
        return user

    def mf_delete_recovery_code(self, user: Any, idx: int) -> bool:
        """As Flask-Security's; of two who type one code at once, one comes in, and the other gets 409."""
        codes = list(user.mf_recovery_codes or ())
        if idx >= len(codes):
            return False
        left = ",".join(codes[:idx] + codes[idx + 1 :])
        mine = (_CODES.c.id == user.id, _CODES.c.mf_recovery_codes == ",".join(codes))
        if not change(update(_CODES).where(*mine).values(mf_recovery_codes=left)):
            raise StaleDataError
        return True


class AnyPasskey(WebauthnUtil):
    """Flask-Security's passkeys. To sign in with, it takes those to plug in, but no device's own."""

    def authenticator_selection(self, user: Any, usage: str) -> Any:
        criteria = super().authenticator_selection(user, usage)
        criteria.authenticator_attachment = None
        return criteria


def _only_the_first_factor(view: Any) -> Any:
    """Who is half in sets up a factor only where there is none: no old session replaces the owner's."""

    def guarded(*args: Any, **kwargs: Any) -> ResponseReturnValue:
        if not current_user.is_authenticated and session.get("tf_state") != "ready":
            user = _security.datastore.find_user(fs_uniquifier=session.get("tf_user_id", ""))
            if user is not None and user.tf_primary_method:
                tf_clean_session()
        answer: ResponseReturnValue = view(*args, **kwargs)
        return answer

    return guarded


def _mount_views(app: Flask) -> None:
    """Ours for asking and landing; the POST of the reset view stays Flask-Security's."""
    redeem: Any = app.view_functions["security.reset_password"]

    def reset_password(token: str) -> ResponseReturnValue:
        if request.method == "POST":
            answer: ResponseReturnValue = redeem(token)
            return answer
        return recovery.land(token)

    ours = {
        **dict.fromkeys(ASKINGS, recovery.ask),
        "security.register": registration.register,
        "security.us_signin_send_code": unified.send_code,
        "security.us_verify_link": unified.no_link,
        "security.reset_password": reset_password,
    }
    views = app.view_functions
    views.update({name: view for name, view in ours.items() if name in views})
    for name in {"security.two_factor_setup", "security.two_factor_token_validation"} & views.keys():
        views[name] = _only_the_first_factor(views[name])
