"""The set-up of Flask-Security: its classes, forms, messages and views that Sparekey replaces."""

import inspect
from typing import Any

from flask import Flask, abort
from flask_security import Security, WebauthnUtil, current_user
from itsdangerous import Serializer, Signer

from .accounts import guess_limits, hashing, identities, identity_mappers, one_time_codes, passwords, sessions
from .accounts.datastore import AccountDatastore
from .accounts.models import FsRefreshTracker, Role, User, WebAuthn, map_identity_kind
from .accounts.sign_in import SignInForm
from .db.engine import db
from .mail import flask_security_mails, webhook  # noqa: F401  # listens to the database session
from .pages.views import land_first, lead_to_application, show_sign_out
from .recovery import code_sign_in, landing, new_password, registration, reset_code, second_address
from .recovery.link_errors import LinkError
from .recovery.request import MAIL_REQUESTS, IdentityForm, request_mail
from .settings.extensions import blamed_on, resolve
from .settings.forced import default_values
from .settings.schema import Settings
from .web import origin
from .web.clients import ClientSerializer
from .web.messages import MESSAGES, SECOND_FACTORS, identity_label, identity_names
from .web.responses import json_response, wants_json
from .web.tokens import SHA_256, TimedToken

# Of the tokens between the steps of a set-up, of which only the first needs a recent password.
SET_UPS = ("tf_setup_serializer", "us_setup_serializer", "wan_serializer")
# By view of a mailed link: the part of its serializer's and settings' names.
MAILED_LINKS = {"security.confirm_email": "confirm", "security.change_email_confirm": "change_email"}
MAILED_LINKS |= {"security.second_address_confirm": "change_email"}
# The endpoints that work also if an application has the accounts.
RECOVERY = ("security.forgot_password", "security.reset_password", "security.reset_code", "security.static")


def init_app(app: Flask, settings: Settings) -> None:
    for kind, texts in MESSAGES.items():
        app.config.update({f"SECURITY_MSG_{name}": (text, kind) for name, text in texts.items()})
    # Its views of mailed links put the message into a redirect for clients.send_on; others stay on this site.
    app.config.update(SECURITY_REDIRECT_BEHAVIOR="spa", SECURITY_REDIRECT_HOST=None)
    app.config.update({name: "/" for name in default_values(settings) if name.endswith("_VIEW")})
    sessions.init_app(app)
    one_time_codes.init_app(app, settings)
    identity_mappers.init_app(app, settings)
    for kind in settings.SECURITY_USER_IDENTITY_ATTRIBUTES:
        with blamed_on(settings, "SECURITY_USER_IDENTITY_ATTRIBUTES", kind, "cannot be an identity kind"):
            map_identity_kind(kind)
    origin.init_app(app, settings)
    security = Security(
        app,
        AccountDatastore(db, User, Role, WebAuthn, FsRefreshTracker),
        render_template=flask_security_mails.render_template,
        **_classes(settings),
    )
    # From here on, it only says if a half-finished sign-in is forgotten: passkeys are second factors, too.
    app.config["SECURITY_TWO_FACTOR"] = security.support_mfa
    if settings.SECURITY_UNIFIED_SIGNIN:
        app.extensions["dummy_totp"] = security.totp_factory.generate_totp_secret()
    security.i18n_domain = app.extensions["babel"].instance.domain_instance
    app.jinja_env.globals.update(_fsdomain=security.i18n_domain.gettext, METHODS=SECOND_FACTORS)
    app.jinja_env.globals.update(identity_label=identity_label, identity_names=identity_names)
    hashing.init_app(app, settings)
    security.login_manager.user_loader(sessions.load_user)
    _sign_with_the_newest_key(security, settings)
    security.render_json(json_response)
    security.want_json(wants_json)
    guess_limits.init_app(app)
    app.register_error_handler(LinkError, landing.refuse_link)
    _mount_views(app, settings)
    if settings.RECOVERY_ACCOUNTS:
        off = [name for name in app.view_functions if name.startswith("security.") and name not in RECOVERY]
        app.view_functions.update(dict.fromkeys(off, lead_to_application))


def _classes(settings: Settings) -> dict[str, Any]:
    """Return Flask-Security's classes: the admin's, or else ours, or else its own. Raises SettingsError."""
    parameters = inspect.signature(Security).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    classes = {name: value for name, value in defaults.items() if inspect.isclass(value)} | CLASSES
    for name, reference in settings.RECOVERY_CLASSES.items():
        with blamed_on(settings, "RECOVERY_CLASSES", name, "is no class that can be replaced"):
            base = {form: cls for form, cls in classes.items() if form not in UNUSED_FORMS}[name]
        classes[name] = resolve(settings, "RECOVERY_CLASSES", reference, base)
    return classes


def _sign_with_the_newest_key(security: Security, settings: Settings) -> None:
    """Replace Flask-Security's serializers: itsdangerous signs with the last key, which is its oldest."""
    for name, serializer in list(vars(security).items()):
        if isinstance(serializer, Serializer):
            is_link = name.removesuffix("_serializer") in MAILED_LINKS.values()
            kind = AccountSerializer if name in SET_UPS else ClientSerializer if is_link else type(serializer)
            replacement = kind(settings.signing_keys, salt=serializer.salt, signer_kwargs=SHA_256)
            setattr(security, name, replacement)


class AccountSerializer(TimedToken):
    """Signs for the account that is signed in, so that its set-up can be finished for no other account."""

    def make_signer(self, salt: str | bytes | None = None) -> Signer:
        account = getattr(current_user, "fs_uniquifier", "")
        return super().make_signer((self.salt or b"") + account.encode())


class AnyPasskey(WebauthnUtil):
    """Passkeys of every kind. For sign-in, Flask-Security allows only those on a separate device."""

    def authenticator_selection(self, user: Any, usage: str) -> Any:
        criteria = super().authenticator_selection(user, usage)
        criteria.authenticator_attachment = None
        return criteria


CLASSES = {
    "login_form": SignInForm,
    "us_signin_form": code_sign_in.UnifiedForm,
    "us_setup_form": one_time_codes.SignInCodesForm,
    "mf_recovery_form": one_time_codes.RecoveryCodeForm,
    "two_factor_rescue_form": one_time_codes.RescueForm,
    "wan_signin_response_form": one_time_codes.PasskeyForm,
    "forgot_password_form": IdentityForm,
    "reset_password_form": new_password.NewPasswordForm,
    "change_email_form": identities.AddressForm,
    "change_password_form": passwords.ChangeForm,
    "mail_util_cls": flask_security_mails.QueuedMailUtil,
    "password_util_cls": passwords.RecoveryPasswordUtil,
    "phone_util_cls": identity_mappers.RecoveryPhoneUtil,
    "username_util_cls": identity_mappers.RecoveryUsernameUtil,
    "totp_cls": one_time_codes.ReplayProtectedTotp,
    "webauthn_util_cls": AnyPasskey,
}  # that replace Flask-Security's; RECOVERY_CLASSES replaces them in turn
# Forms of Flask-Security's that no view of ours uses.
UNUSED_FORMS = {
    "change_username_form",
    "passwordless_login_form",
    "register_form",
    "send_confirmation_form",
    "username_recovery_form",
}


def _mount_views(app: Flask, settings: Settings) -> None:
    """Replace views of Flask-Security."""
    replacements: dict[str, Any] = {
        **dict.fromkeys(MAIL_REQUESTS, request_mail),
        "security.register": registration.register,
        "security.us_signin_send_code": code_sign_in.send_code,
        "security.us_verify_link": lambda **_: abort(404),  # an emailed link must not sign anyone in
        "security.reset_password": new_password.reset_password,
    }
    views = app.view_functions
    if settings.RECOVERY_SECOND_ADDRESS:
        rule, name = "/second-address", "security.second_address"
        app.add_url_rule(rule, name, second_address.manage, methods=["GET", "POST"])
        app.add_url_rule(f"{rule}/<token>", f"{name}_confirm", second_address.confirm, methods=["GET"])
    views.update({name: view for name, view in replacements.items() if name in views})
    for name in {"security.two_factor_setup", "security.two_factor_token_validation"} & views.keys():
        views[name] = one_time_codes.guard_factor_setup(views[name])
    if app.config["RECOVERY_CODE"]:
        path = next(app.url_map.iter_rules("security.forgot_password")).rule
        app.add_url_rule(
            f"{path}/code", "security.reset_code", reset_code.enter_code, methods=["GET", "POST"]
        )
    sign_out = next(app.url_map.iter_rules("security.logout")).rule
    app.add_url_rule(sign_out, "pages.sign_out", show_sign_out, methods=["GET"])
    for name in MAILED_LINKS.keys() & views.keys():
        views[name] = land_first(views[name], MAILED_LINKS[name])
        app.add_url_rule(next(app.url_map.iter_rules(name)).rule, name, methods=["POST"])
