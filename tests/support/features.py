"""The optional features: their settings, and their set-up in the database."""

import json
from datetime import UTC, datetime
from typing import Any

from app.accounts.models import User

from .site import OLD_PASSWORD, Site, Visitor

PHONE = "+14155550123"  # alice's
TOTP = {"SECURITY_TOTP_SECRETS": {"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"}}
CONFIRMATION = {"SECURITY_CONFIRMABLE": True}
REGISTRATION = {**CONFIRMATION, "SECURITY_REGISTERABLE": True, "SECURITY_USERNAME_ENABLE": True}
SECOND_FACTOR = {
    **TOTP,
    "SECURITY_TWO_FACTOR": True,
    "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["authenticator", "email", "sms"],
    "SECURITY_SMS_SERVICE": "file",
}
RECOVERY_CODES = {
    **SECOND_FACTOR,
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES": True,
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS": ["cmVjb3ZlcnkgY29kZXMga2V5IHRoYXQgaXMgMzIgYiE="],
}
CODE_SIGN_IN = {**TOTP, "SECURITY_UNIFIED_SIGNIN": True}
PASSKEYS = {"SECURITY_WEBAUTHN": True}
SETTINGS_BY_FEATURE: dict[str, dict[str, Any]] = {
    "registration": {**CONFIRMATION, "SECURITY_REGISTERABLE": True},
    "confirmation": CONFIRMATION,
    "change of password": {"SECURITY_CHANGEABLE": True},
    "change of address": {"SECURITY_CHANGE_EMAIL": True},
    "username recovery": {"SECURITY_USERNAME_RECOVERY": True},
    "usernames": {"SECURITY_USERNAME_ENABLE": True},
    "second address": {"RECOVERY_SECOND_ADDRESS": True},
    "tracking": {"SECURITY_TRACKABLE": True},
    "second factor": SECOND_FACTOR,
    "recovery codes": RECOVERY_CODES,
    "code sign-in": CODE_SIGN_IN,
    "passkeys": PASSKEYS,
    "reset codes": {"RECOVERY_CODE": True},
}
ALL_FEATURES = {name: value for feature in SETTINGS_BY_FEATURE.values() for name, value in feature.items()}

# The features that send mail, at a public URL with a path.
PUBLIC_URL = "https://id.example.com/auth"
MAIL_FEATURES = {
    "RECOVERY_PUBLIC_URL": PUBLIC_URL, **CONFIRMATION, "SECURITY_CHANGE_EMAIL": True, "SECURITY_USERNAME_RECOVERY": True,
    **TOTP, "SECURITY_TOTP_ISSUER": "Sparekey", "SECURITY_TWO_FACTOR": True, "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["email"],
}  # fmt: skip


def confirm_addresses(site: Site) -> Site:
    """Confirm email address of every account."""
    site.change(User, User.id > 0, confirmed_at=datetime.now(UTC).replace(tzinfo=None))
    return site


def set_up_factor(site: Site, method: str = "authenticator") -> str:
    """Give alice a second factor that no mail reports, and return the secret of its codes."""
    secret = new_secret(site)
    site.change(tf_primary_method=method, tf_totp_secret=secret, tf_phone_number=PHONE)
    return secret


def set_up_code_sign_in(site: Site, identity: str = "alice") -> str:
    """Let an account sign in with codes by mail, which no mail reports. Return the secret of its codes."""
    secret = new_secret(site)
    site.change(User, User.username == identity, us_totp_secrets=json.dumps({"email": secret}))
    return secret


def new_secret(site: Site) -> str:
    with site.app.app_context():
        return str(site.app.extensions["security"].totp_factory.generate_totp_secret())


def one_time_code(site: Site, secret: str) -> str:
    with site.app.app_context():
        return str(site.app.extensions["security"].totp_factory.generate_totp_password(secret))


def enter_password(site: Site, password: str = OLD_PASSWORD) -> Visitor:
    """Return alice's browser, where the second factor is still to come."""
    alice = site.visitor()
    alice.submit("/login", identity="alice", password=password)
    assert not alice.is_signed_in()
    return alice
