"""Every page with sample data, in each state."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from flask import current_app
from flask_babel import gettext as _
from flask_security.forms import Form
from flask_security.proxies import _security
from wtforms import HiddenField, SubmitField

from app.pages.samples import OBJECTION, RECIPIENT, TOKEN, sample_user
from app.recovery.registration import RegistrationForm
from app.settings import current
from app.web.responses import new_form

METHODS = ["authenticator", "email"]
LAST = {"url": "/reset", "field": "identity", "typed": RECIPIENT, "wait": 0}
KEY = "MFRG-GZDF-MZTW-Q2LK-NNWG-23TP-OBYX-E43U"
CODES = [f"{n:04d}-{n * 7919 % 10000:04d}-{n * 104729 % 10000:04d}" for n in range(1234, 1239)]
# The options for creating a passkey, and for asking for one.
PASSKEY = """{
  "challenge": "c2FtcGxl", "allowCredentials": [], "excludeCredentials": [], "rp": {"name": "Sample"},
  "user": {"id": "c2FtcGxl", "name": "alice", "displayName": "alice"},
  "pubKeyCredParams": [{"type": "public-key", "alg": -7}]
}"""
LONG_NAME = "The security key on the ring of the office keys, beside the blue one"
PASSKEYS = [
    {"name": "My phone", "usage": "first", "lastuse": "2026-02-28T14:05:00+00:00"},
    {"name": LONG_NAME, "usage": "secondary", "lastuse": "2026-02-27T09:30:00+00:00"},
]


@dataclass(frozen=True)
class Page:
    """One state of a page."""

    template: str
    context: dict[str, Any]
    state: str = ""

    @property
    def name(self) -> str:
        return f"{self.template}-{self.state}" if self.state else self.template


def form(name: str, **options: Any) -> Any:
    return new_form(name, formdata=None, **options)


def forms(*names: str) -> dict[str, Any]:
    return {name: form(name) for name in names}


def pages() -> list[Page]:
    """Return the pages in their states. Needs a request context, but no database."""
    user, frozen = sample_user(), sample_user(contested_email="alice@old.example.com")
    owner = sample_user(second_email="alice@home.example.com")
    second, added = forms("change_email_form"), {"of": "added", "has_added": True}
    pages = [
        Page("home", {"current_user": user}, "signed-in"),
        Page("home", {"current_user": frozen}, "frozen"),
        Page("check_mail", {"to_confirm": True, "last": LAST}, "after-sign-up"),
        Page("reset_done", {"onward": None}),
        Page("reset_done", {"onward": None, "is_first": True}, "first"),
        Page("reset_done", {"onward": "https://app.example.com/"}, "onward"),
        *_not_me("reset_instructions"),
        *_not_me("reset_instructions", "late-"),
        *_not_me("reset_notice"),
        *_not_me("address_notice"),
        *_not_me("account_notice"),
        *_not_me("account_notice", states=("asked", "wrong_password", "removed"), **added),
        *_not_me("account_notice", states=("asked",), of="second", has_second=True),
        Page("not_me", {"kind": "address_notice", "state": "frozen"}, "address_notice-frozen"),
        Page("confirm_address", {"action": "/"}),
        Page("second_address", {**second, "current_user": user}, "none"),
        Page("second_address", {**second, "current_user": owner}, "set"),
    ]
    return [*pages, *_forms(), *_forms(with_errors=True)]


def _not_me(
    kind: str, late: str = "", states: Iterable[str] = ("asked", "done", "known"), of: str = "", **more: Any
) -> Iterator[Page]:
    """Yield the states of "This wasn't me" in a kind of mail. Only instructions come before the event."""
    known = {"kind": kind, "objection": OBJECTION, **more}
    known["has_happened"] = late or kind != "reset_instructions"
    for state in states:
        yield Page("not_me", {**known, "state": state}, "-".join(filter(None, (kind, of, f"{late}{state}"))))


def _forms(*, with_errors: bool = False) -> list[Page]:
    me = {"current_user": sample_user(), "current_email": RECIPIENT}
    signing_in = {"identity_attributes": current().SECURITY_USER_IDENTITY_ATTRIBUTES}
    reading = {"to_confirm": False, "reset_code_form": form("two_factor_verify_code_form")}
    resetting = {
        **forms("reset_password_form"), "reset_password_token": "~sample",
        "account": "a•••@example.com", "username": RECIPIENT, "other": "b•••@example.com" if with_errors else None,
    }  # fmt: skip
    change = {**forms("change_password_form"), **me}
    again = {"verify_form": form("verify_form", user=sample_user()), **forms("wan_verify_form"), **me}
    pages = [
        Page("login_user", {"login_user_form": form("login_form"), **signing_in}),
        Page("check_mail", {**reading, "last": None}, "without-cookies"),
        Page("check_mail", {**reading, "last": {**LAST, "wait": 30}}),
        Page("forgot_password", forms("forgot_password_form")),
        Page("reset_password", resetting),
        Page("reset_password", {**resetting, "is_invited": True, "is_first": True}, "invited"),
        Page("change_password", {**change, "active_password": True}),
        Page("change_password", {**change, "active_password": False}, "first"),
        Page("verify", {**again, "has_webauthn_verify_credential": False}),
    ]
    if has_features := current().SECURITY_TWO_FACTOR:
        pages += [
            Page("register_user", {"register_user_form": RegistrationForm(formdata=None)}),
            Page("recover_username", {"username_recovery_form": form("forgot_password_form")}),
            Page("send_confirmation", {"send_confirmation_form": form("forgot_password_form")}),
            Page("change_email", {**forms("change_email_form"), **me}),
            Page("verify", {**again, "has_webauthn_verify_credential": True}, "or-passkey"),
            *(*_of_code_sign_in(), *_of_second_factors(), *_of_recovery_codes(), *_of_passkeys()),
        ]
    if not with_errors:
        return [*pages, *(_after_posts() if has_features else ())]
    for page in pages:
        _refuse(next(value for value in page.context.values() if isinstance(value, Form)))
    return [replace(page, state=f"{page.state}-with-errors".lstrip("-")) for page in pages]


def _after_posts() -> list[Page]:
    """Return the pages that show a form's success at its own URL."""
    known = {"request": current_app.request_class({"REQUEST_METHOD": "POST"}), "current_user": sample_user()}
    sent = {**forms("change_email_form"), "current_email": RECIPIENT}
    made = {**forms("mf_recovery_codes_form"), "recovery_codes": CODES}
    return [
        Page("change_email", {**sent, **known}, "sent"),
        Page("mf_recovery_codes", {**made, **known}, "made"),
    ]


def _of_code_sign_in() -> list[Page]:
    setting_up, asked = form("us_setup_form"), form("us_signin_form")
    setting_up.chosen_method.choices = setting_up.setup_choices[:2]
    setting_up.delete_method.choices = setting_up.delete_choices[:2]
    asked.identity.data = RECIPIENT
    proving = {
        **forms("us_setup_validate_form"), "us_setup_form": setting_up,
        "authr_qrcode": _qr_code(), "authr_key": KEY, "state": TOKEN, "chosen_method": "authenticator",
        "current_methods_msg": "", "available_methods": METHODS, "setup_methods": METHODS, "active_methods": METHODS,
    }  # fmt: skip
    mailed, signing_in = {"code_methods": ["email"], "code_sent": False}, form("us_signin_form")
    again = {**forms("us_verify_form", "wan_verify_form"), "current_user": sample_user()}
    return [
        Page("us_signin", {"us_signin_form": signing_in, **mailed}),
        Page("us_signin", {"us_signin_form": asked, **mailed}, "code-sent"),
        Page("us_signin", {"us_signin_form": signing_in, "code_methods": []}, "by-app"),
        Page("us_verify", {**again, **mailed, "has_webauthn_verify_credential": True}),
        Page("us_setup", {"us_setup_form": setting_up, **proving, "state": ""}),
        Page("us_setup", proving, "key"),
        Page("us_setup", {**proving, "authr_qrcode": "", "chosen_method": "email"}, "code-by-mail"),
    ]


def _of_second_factors() -> list[Page]:
    setting_up, replacing, chosen = (form("two_factor_setup_form") for _ in range(3))
    setting_up.user, replacing.user = sample_user(), sample_user(tf_primary_method="authenticator")
    chosen.phone.data = "+14155550123"
    offered = [*current().SECURITY_TWO_FACTOR_ENABLED_METHODS]
    code = {**forms("two_factor_verify_code_form"), "problem": None}
    first = {
        "two_factor_setup_form": setting_up, **code, "changing": True, "current_user": sample_user(),
        "two_factor_required": False, "authr_qrcode": _qr_code(), "authr_key": KEY, "state_token": TOKEN,
        "choices": offered, "primary_method": "none", "chosen_method": None,
    }  # fmt: skip
    other = {**first, "two_factor_setup_form": replacing, "choices": [*offered, "disable"]}
    asked = {**code, **first, "two_factor_setup_form": chosen}
    rescue, rescued = form("two_factor_rescue_form"), form("two_factor_rescue_form")
    rescue.help_setup.choices = []
    rescued.help_setup.choices = [("help", "Ask support for help"), ("recovery_code", "")]
    choosing = form("two_factor_select_form")
    choosing.which.choices = [("authenticator", "authenticator"), ("webauthn", "passkey")]
    alone, lost = {**code, "two_factor_rescue_form": rescue}, {**code, "two_factor_rescue_form": rescued}
    return [
        Page("two_factor_setup", first),
        Page("two_factor_setup", {**first, "changing": False, "two_factor_required": True}, "required"),
        Page("two_factor_setup", other, "in-use"),
        Page("two_factor_setup", {**asked, "chosen_method": "authenticator"}, "key"),
        Page("two_factor_setup", {**asked, "chosen_method": "sms"}, "code-by-sms"),
        Page("two_factor_setup", {**asked, "chosen_method": "email"}, "code-by-mail"),
        Page("two_factor_verify_code", {**alone, "chosen_method": "authenticator"}),
        Page("two_factor_verify_code", {**lost, "chosen_method": "email"}, "code-by-mail"),
        Page("two_factor_verify_code", {**lost, "chosen_method": "SMS", "problem": "help"}, "help-requested"),
        Page("two_factor_select", {"two_factor_select_form": choosing}),
    ]


def _qr_code() -> str:
    known = f"otpauth://totp/Sample:alice?issuer=Sample&secret={KEY.replace('-', '')}"
    return str(_security.totp_factory.generate_qrcode("alice", known))


def _of_recovery_codes() -> list[Page]:
    making = {**forms("mf_recovery_codes_form"), "recovery_codes": []}
    owner = sample_user(mf_recovery_codes=CODES)
    return [
        Page("mf_recovery", forms("mf_recovery_form")),
        Page("mf_recovery_codes", {**making, "current_user": sample_user()}),
        Page("mf_recovery_codes", {**making, "current_user": owner}, "some-left"),
    ]


def _of_passkeys() -> list[Page]:
    new = {**forms("wan_register_form", "wan_delete_form"), "registered_credentials": []}
    made = forms("wan_register_response_form")
    signing_in = {**forms("wan_signin_form", "wan_signin_response_form"), "is_secondary": False}
    again = forms("wan_verify_form", "wan_signin_response_form")
    first, asked = ({"credential_options": text, "wan_state": text and TOKEN} for text in ("", PASSKEY))
    second = {**signing_in, "is_secondary": True}
    return [
        Page("wan_register", {**new, **made, **first}),
        Page("wan_register", {**new, **made, **first, "registered_credentials": PASSKEYS}, "some"),
        Page("wan_register", {**made, **new, **asked}, "asked"),
        Page("wan_signin", {**signing_in, **first}),
        Page("wan_signin", {**signing_in, **asked}, "asked"),
        Page("wan_signin", {**second, **first}, "second-factor"),
        Page("wan_signin", {**second, **asked}, "second-factor-asked"),
        Page("wan_verify", {**again, **first}),
        Page("wan_verify", {**again, **asked}, "asked"),
    ]


def _refuse(form: Any) -> None:
    form.form_errors = [_("We couldn't sign you in with those details. Check them and try again.")]
    for field in form:
        if not isinstance(field, HiddenField | SubmitField):
            field.errors = [_("Use at least %(length)s characters. Try a short phrase of several words.", length=15)]  # fmt: skip
