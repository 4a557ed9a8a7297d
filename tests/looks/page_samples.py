"""Every page with sample data, in each state."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from flask import current_app
from flask_babel import gettext as _
from flask_security import (
    ChangeEmailForm,
    MfRecoveryCodesForm,
    MfRecoveryForm,
    TwoFactorSelectForm,
    TwoFactorSetupForm,
    TwoFactorVerifyCodeForm,
    UnifiedSigninSetupForm,
    UnifiedSigninSetupValidateForm,
    UnifiedVerifyForm,
    VerifyForm,
    WebAuthnDeleteForm,
    WebAuthnRegisterForm,
    WebAuthnRegisterResponseForm,
    WebAuthnSigninForm,
    WebAuthnSigninResponseForm,
    WebAuthnVerifyForm,
)
from flask_security.forms import Form
from flask_security.proxies import _security
from wtforms import HiddenField, SubmitField

from app.accounts.one_time_codes import RescueForm
from app.accounts.passwords import ChangeForm
from app.accounts.sign_in import SignInForm
from app.pages.samples import OBJECTION, RECIPIENT, TOKEN, sample_user
from app.recovery.code_sign_in import UnifiedForm
from app.recovery.redemption import NewPasswordForm
from app.recovery.registration import RegistrationForm
from app.recovery.request import IdentityForm
from app.settings import current

IDENTITY = ("csrf_token", "identity")
PASSWORD = ("csrf_token", "password")
METHODS = ["authenticator", "email"]
LAST = {"url": "/reset", "field": "identity", "typed": RECIPIENT, "wait": 0}
KEY = "MFRG-GZDF-MZTW-Q2LK-NNWG-23TP-OBYX-E43U"
CODES = [
    f"{number:04d}-{number * 7919 % 10000:04d}-{number * 104729 % 10000:04d}" for number in range(1234, 1239)
]
# The options for creating a passkey, and for asking for one.
PASSKEY = """{
  "challenge": "c2FtcGxl", "allowCredentials": [], "excludeCredentials": [], "rp": {"name": "Sample"},
  "user": {"id": "c2FtcGxl", "name": "alice", "displayName": "alice"},
  "pubKeyCredParams": [{"type": "public-key", "alg": -7}]
}"""
PASSKEYS = [
    {"name": "My phone", "usage": "first", "lastuse": "2026-02-28T14:05:00+00:00"},
    {
        "name": "The security key on the ring of the office keys, beside the blue one",
        "usage": "secondary",
        "lastuse": "2026-02-27T09:30:00+00:00",
    },
]


@dataclass(frozen=True)
class Page:
    """One state of a page. `fields` are the names of the fields that its form must have."""

    template: str
    context: dict[str, Any]
    fields: tuple[str, ...] = ()
    state: str = ""

    @property
    def name(self) -> str:
        return f"{self.template}-{self.state}" if self.state else self.template


def pages() -> list[Page]:
    """Return the pages in their states. Needs a request context, but no database."""
    problem = {"title": "Sorry", "text": "That didn't work."}
    problems = (("not_found", None), ("link_expired", None), ("internal_error", "sample"))
    fresh = {"link_expired": ("security.forgot_password", "Request a new link")}
    pages = [
        Page("home", {"current_user": sample_user()}, state="signed-in"),
        Page("home", {"current_user": sample_user(contested_email="alice@old.example.com")}, state="frozen"),
        Page("check_mail", {"to_confirm": True, "last": LAST}, state="after-sign-up"),
        Page("reset_done", {"onward": None}),
        Page("reset_done", {"onward": None, "is_first": True}, state="first"),
        Page("reset_done", {"onward": "https://app.example.com/"}, state="onward"),
        *(
            Page("problem", {**problem, "code": code, "request_id": id, "again": fresh.get(code)}, state=code)
            for code, id in problems
        ),
        *_not_me("reset_instructions"),
        *_not_me("reset_instructions", "late-"),
        *_not_me("reset_notice"),
        *_not_me("address_notice"),
        *_not_me("account_notice"),
        *_not_me("account_notice", states=("asked", "wrong_password", "removed"), of="added", has_added=True),
        *_not_me("account_notice", states=("asked",), of="second", has_second=True),
        Page("not_me", {"kind": "address_notice", "state": "frozen"}, state="address_notice-frozen"),
        Page("confirm_address", {"action": "/"}),
        *(
            Page(
                "second_address",
                {"change_email_form": ChangeEmailForm(formdata=None), "current_user": user},
                ("csrf_token", "email"),
                state,
            )
            for state, user in (
                ("none", sample_user()),
                ("set", sample_user(second_email="alice@home.example.com")),
            )
        ),
    ]
    return [*pages, *_forms(), *_forms(with_errors=True)]


def _not_me(
    kind: str,
    late: str = "",
    *,
    states: Iterable[str] = ("asked", "done", "known"),
    of: str = "",
    **more: Any,
) -> Iterator[Page]:
    """Yield the states of "This wasn't me" in a kind of mail. Only instructions come before the event."""
    has_happened = bool(late) or kind != "reset_instructions"
    for state in states:
        context = {"kind": kind, "objection": OBJECTION, "has_happened": has_happened, "state": state, **more}
        fields = ("csrf_token", "objection") if state in ("asked", "wrong_password") else ()
        yield Page("not_me", context, fields, "-".join(filter(None, (kind, of, f"{late}{state}"))))


def _forms(*, with_errors: bool = False) -> list[Page]:
    kinds = current().SECURITY_USER_IDENTITY_ATTRIBUTES
    signing_in = {"login_user_form": SignInForm(formdata=None), "identity_attributes": kinds}
    asking = {"forgot_password_form": IdentityForm(formdata=None)}
    reading = {"to_confirm": False, "reset_code_form": TwoFactorVerifyCodeForm(formdata=None)}
    resetting = {
        "reset_password_form": NewPasswordForm(formdata=None),
        "reset_password_token": "~sample",
        "account": "a•••@example.com",
        "username": RECIPIENT,
        "other": "b•••@example.com" if with_errors else None,
    }
    pages = [
        Page("login_user", signing_in, (*IDENTITY, "password")),
        Page("check_mail", {**reading, "last": None}, state="without-cookies"),
        Page("check_mail", {**reading, "last": {**LAST, "wait": 30}}),
        Page("forgot_password", asking, IDENTITY if current().sends_mail else ()),
        Page("reset_password", resetting, (*PASSWORD, "password_confirm")),
        Page(
            "reset_password",
            {**resetting, "is_invited": True, "is_first": True},
            (*PASSWORD, "password_confirm"),
            "invited",
        ),
    ]
    if current().SECURITY_REGISTERABLE:
        signing_up = {"register_user_form": RegistrationForm(formdata=None)}
        pages.append(Page("register_user", signing_up, ("csrf_token", "email")))
    if current().SECURITY_CHANGEABLE:
        change = {"change_password_form": ChangeForm(formdata=None), "current_user": sample_user()}
        fields = ("csrf_token", "new_password", "new_password_confirm")
        pages.append(Page("change_password", {**change, "active_password": True}, (*fields, "password")))
        pages.append(Page("change_password", {**change, "active_password": False}, fields, "first"))
    pages += (
        _of_code_sign_in() + _of_second_factors() + _of_recovery_codes() + _of_passkeys() + _of_accounts()
    )
    if not with_errors:
        return [*pages, *_after_posts()]
    for page in pages:
        _refuse(next(value for value in page.context.values() if isinstance(value, Form)))
    return [replace(page, state=f"{page.state}-with-errors".lstrip("-")) for page in pages]


def _after_posts() -> list[Page]:
    """Return the pages that show a form's success at its own URL."""
    posted = current_app.request_class({"REQUEST_METHOD": "POST"})
    known = {"request": posted, "current_user": sample_user()}
    sent = {"change_email_form": ChangeEmailForm(formdata=None), "current_email": RECIPIENT}
    made = {"mf_recovery_codes_form": MfRecoveryCodesForm(formdata=None), "recovery_codes": CODES}
    return [
        *_if("SECURITY_CHANGE_EMAIL", Page("change_email", {**sent, **known}, state="sent")),
        *_if(
            "SECURITY_MULTI_FACTOR_RECOVERY_CODES", Page("mf_recovery_codes", {**made, **known}, state="made")
        ),
    ]


def _if(setting: str, *samples: Page) -> list[Page]:
    return list(samples) if getattr(current(), setting) else []


def _of_accounts() -> list[Page]:
    me = {"current_user": sample_user(), "current_email": RECIPIENT}
    again = {
        "verify_form": VerifyForm(formdata=None, user=sample_user()),
        "wan_verify_form": WebAuthnVerifyForm(formdata=None),
        "has_webauthn_verify_credential": False,
        **me,
    }
    or_passkey = {**again, "has_webauthn_verify_credential": True}
    address = {"change_email_form": ChangeEmailForm(formdata=None), **me}
    username = {"username_recovery_form": IdentityForm(formdata=None)}
    confirmation = {"send_confirmation_form": IdentityForm(formdata=None)}
    return [
        Page("verify", again, PASSWORD),
        *_if("SECURITY_WEBAUTHN", Page("verify", or_passkey, PASSWORD, "or-passkey")),
        *_if("SECURITY_CHANGE_EMAIL", Page("change_email", address, ("csrf_token", "email"))),
        *_if("SECURITY_USERNAME_RECOVERY", Page("recover_username", username, IDENTITY)),
        *_if("SECURITY_CONFIRMABLE", Page("send_confirmation", confirmation, IDENTITY)),
    ]


def _of_code_sign_in() -> list[Page]:
    if not current().SECURITY_UNIFIED_SIGNIN:
        return []
    me, setting_up = {"current_user": sample_user()}, UnifiedSigninSetupForm(formdata=None)
    setting_up.chosen_method.choices = setting_up.setup_choices[:2]
    setting_up.delete_method.choices = setting_up.delete_choices[:2]
    signing_in, again = UnifiedForm(formdata=None), UnifiedVerifyForm(formdata=None)
    proving = {"us_setup_validate_form": UnifiedSigninSetupValidateForm(formdata=None)}
    key: dict[str, Any] = {"authr_qrcode": _qr_code(), "authr_key": KEY, "state": TOKEN}
    offered = {"available_methods": METHODS, "setup_methods": METHODS, "active_methods": METHODS}
    key |= {"chosen_method": "authenticator", "current_methods_msg": "", **offered}
    mailed = {"code_methods": ["email"], "code_sent": False}
    passkey = {"has_webauthn_verify_credential": True, "wan_verify_form": WebAuthnVerifyForm(formdata=None)}
    asked = UnifiedForm(formdata=None)
    asked.identity.data = RECIPIENT
    sent = ("csrf_token", "identity", "passcode")
    by_mail = {"authr_qrcode": "", "chosen_method": "email"}
    return [
        Page("us_signin", {"us_signin_form": signing_in, **mailed}, sent),
        Page("us_signin", {"us_signin_form": asked, **mailed}, sent, "code-sent"),
        Page("us_signin", {"us_signin_form": signing_in, "code_methods": []}, sent, "by-app"),
        Page("us_verify", {"us_verify_form": again, **mailed, **passkey, **me}, ("csrf_token", "passcode")),
        Page(
            "us_setup",
            {"us_setup_form": setting_up, **proving, **key, "state": ""},
            ("csrf_token", "chosen_method", "delete_method"),
        ),
        Page("us_setup", {**proving, "us_setup_form": setting_up, **key}, ("csrf_token", "passcode"), "key"),
        Page(
            "us_setup",
            {**proving, "us_setup_form": setting_up, **key, **by_mail},
            ("csrf_token", "passcode"),
            "code-by-mail",
        ),
    ]


def _of_second_factors() -> list[Page]:
    if not current().SECURITY_TWO_FACTOR:
        return []
    choosing = TwoFactorSelectForm(formdata=None)
    choosing.which.choices = [("authenticator", "authenticator"), ("webauthn", "passkey")]
    return [
        *_of_second_factor_setup(),
        *_of_second_factor_codes(),
        Page("two_factor_select", {"two_factor_select_form": choosing}, ("csrf_token", "which")),
    ]


def _of_second_factor_setup() -> list[Page]:
    setting_up, replacing, chosen = (TwoFactorSetupForm(formdata=None) for _ in range(3))
    setting_up.user, replacing.user = sample_user(), sample_user(tf_primary_method="authenticator")
    chosen.phone.data = "+14155550123"
    code = {"two_factor_verify_code_form": TwoFactorVerifyCodeForm(formdata=None)}
    key = {"authr_qrcode": _qr_code(), "authr_key": KEY, "state_token": TOKEN}
    offered = [*current().SECURITY_TWO_FACTOR_ENABLED_METHODS]
    known = {"changing": True, "current_user": sample_user(), "two_factor_required": False, **key}
    known |= {"choices": offered, "primary_method": "none", "chosen_method": None}
    first = {"two_factor_setup_form": setting_up, **code, **known}
    asked = {**code, "two_factor_setup_form": chosen, **known}
    other = {"two_factor_setup_form": replacing, **code, **known, "choices": [*offered, "disable"]}
    sent = ("csrf_token", "setup")
    return [
        Page("two_factor_setup", first, sent),
        Page("two_factor_setup", {**first, "changing": False, "two_factor_required": True}, sent, "required"),
        Page("two_factor_setup", other, sent, "in-use"),
        *(
            Page("two_factor_setup", {**asked, "chosen_method": method}, ("csrf_token", "code"), state)
            for method, state in (("authenticator", "key"), ("sms", "code-by-sms"), ("email", "code-by-mail"))
        ),
    ]


def _of_second_factor_codes() -> list[Page]:
    code = {"two_factor_verify_code_form": TwoFactorVerifyCodeForm(formdata=None), "problem": None}
    rescue, rescued = RescueForm(formdata=None), RescueForm(formdata=None)
    rescue.help_setup.choices = []
    rescued.help_setup.choices = [("help", "Ask support for help"), ("recovery_code", "")]
    alone, lost = {**code, "two_factor_rescue_form": rescue}, {**code, "two_factor_rescue_form": rescued}
    sent = ("csrf_token", "code")
    return [
        Page("two_factor_verify_code", {**alone, "chosen_method": "authenticator"}, sent),
        Page("two_factor_verify_code", {**lost, "chosen_method": "email"}, sent, "code-by-mail"),
        Page(
            "two_factor_verify_code",
            {**lost, "chosen_method": "SMS", "problem": "help"},
            sent,
            "help-requested",
        ),
    ]


def _qr_code() -> str:
    known = f"otpauth://totp/Sample:alice?issuer=Sample&secret={KEY.replace('-', '')}"
    drawn: str = _security.totp_factory.generate_qrcode("alice", known)
    return drawn


def _of_recovery_codes() -> list[Page]:
    lost = {"mf_recovery_form": MfRecoveryForm(formdata=None)}
    making = {"mf_recovery_codes_form": MfRecoveryCodesForm(formdata=None), "recovery_codes": []}
    owner = sample_user(mf_recovery_codes=CODES)
    return _if(
        "SECURITY_MULTI_FACTOR_RECOVERY_CODES",
        Page("mf_recovery", lost, ("csrf_token", "code")),
        Page("mf_recovery_codes", {**making, "current_user": sample_user()}, ("csrf_token",)),
        Page("mf_recovery_codes", {**making, "current_user": owner}, ("csrf_token",), "some-left"),
    )


def _of_passkeys() -> list[Page]:
    if not current().SECURITY_WEBAUTHN:
        return []
    new = {"wan_register_form": WebAuthnRegisterForm(formdata=None), "registered_credentials": []}
    new |= {"wan_delete_form": WebAuthnDeleteForm(formdata=None)}
    made = {"wan_register_response_form": WebAuthnRegisterResponseForm(formdata=None)}
    signing_in = {"wan_signin_form": WebAuthnSigninForm(formdata=None), "is_secondary": False}
    shown = {"wan_signin_response_form": WebAuthnSigninResponseForm(formdata=None)}
    again = {"wan_verify_form": WebAuthnVerifyForm(formdata=None)}
    first, asked = ({"credential_options": text, "wan_state": text and TOKEN} for text in ("", PASSKEY))
    second, sent = {"is_secondary": True}, ("csrf_token", "credential")
    return [
        Page("wan_register", {**new, **made, **first}, ("csrf_token", "name")),
        Page(
            "wan_register",
            {**new, **made, **first, "registered_credentials": PASSKEYS},
            ("csrf_token", "name"),
            "some",
        ),
        Page("wan_register", {**made, **new, **asked}, sent, "asked"),
        Page("wan_signin", {**signing_in, **shown, **first}, ("csrf_token",)),
        Page("wan_signin", {**signing_in, **shown, **asked}, sent, "asked"),
        Page("wan_signin", {**signing_in, **shown, **first, **second}, ("csrf_token",), "second-factor"),
        Page("wan_signin", {**signing_in, **shown, **asked, **second}, sent, "second-factor-asked"),
        Page("wan_verify", {**again, **shown, **first}, ("csrf_token",)),
        Page("wan_verify", {**again, **shown, **asked}, sent, "asked"),
    ]


def _refuse(form: Any) -> None:
    form.form_errors = [_("We couldn't sign you in with those details. Check them and try again.")]
    for field_ in form:
        if not isinstance(field_, HiddenField | SubmitField):
            field_.errors = [
                _("Use at least %(length)s characters. Try a short phrase of several words.", length=15)
            ]
