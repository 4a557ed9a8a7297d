"""Flask-Security's settings that take some care to honor, each at a value other than its default.

A group is one site: its settings do not contradict each other. The names lack SECURITY_.
"""

import tomllib
from typing import Any

from .features import CODE_SIGN_IN, REGISTRATION, TOTP
from .site import ROOT

SPA_TOML = "config/spa.toml"

FEATURES = {**REGISTRATION, "SECURITY_USERNAME_RECOVERY": True, "SECURITY_CHANGE_EMAIL": True}
BREACHES = {"SECURITY_PASSWORD_CHECK_BREACHED": "best-effort", "SECURITY_PASSWORD_BREACHED_COUNT": 3}
SPA = {
    "REDIRECT_BEHAVIOR": "spa",
    "REDIRECT_HOST": "app.example.com",
    "RESET_VIEW": "/reset-password",
    "RESET_ERROR_VIEW": "/reset-problem",
    "POST_CONFIRM_VIEW": "/#/confirmed",
    "CONFIRM_ERROR_VIEW": "/#/problem",
    "POST_CHANGE_EMAIL_VIEW": "/?v=1#/changed",
    "CHANGE_EMAIL_ERROR_VIEW": "/problem?of=change",
}
ELSEWHERE = {"SECURITY_REDIRECT_BASE_DOMAIN": "example.com", "SECURITY_REDIRECT_ALLOWED_SUBDOMAINS": ["app"]}
GROUPS: dict[str, dict[str, Any]] = {
    "pages": {
        "ANONYMOUS_USER_DISABLED": True,
        "CHANGE_EMAIL_ERROR_VIEW": "/change-email?again=1",
        "CONFIRM_ERROR_VIEW": "/confirm?again=1",
        "DEFAULT_REMEMBER_ME": True,
        "EMAIL_HTML": False,
        "EMAIL_SUBJECT_CONFIRM": "Confirm, please",
        "EMAIL_SUBJECT_PASSWORD_NOTICE": "It was changed",
        "EMAIL_SUBJECT_PASSWORD_RESET": "A link",
        "EMAIL_SUBJECT_REGISTER": "Hello",
        "EMAIL_SUBJECT_USERNAME_RECOVERY": "Your name",
        "FLASH_MESSAGES": False,
        "PASSWORD_BREACHED_COUNT": 3,
        "POST_CHANGE_EMAIL_VIEW": "/login?changed=1",
        "POST_CONFIRM_VIEW": "/login?confirmed=1",
        "POST_LOGIN_VIEW": "/?in=1",
        "POST_LOGOUT_VIEW": "/?out=1",
        "POST_REGISTER_VIEW": "/?registered=1",
        "TOTP_SECRETS": TOTP["SECURITY_TOTP_SECRETS"],
        "USERNAME_MAX_LENGTH": 20,
        "USERNAME_MIN_LENGTH": 3,
    },
    "clients": {
        **SPA,
        "CSRF_HEADER": "X-Mine",
        "EMAIL_PLAINTEXT": False,
        "TOKEN_AUTHENTICATION_HEADER": "X-Auth",
        "USER_IDENTITY_ATTRIBUTES": ["username", "email"],
        "US_EMAIL_SUBJECT": "A code",
    },
    "elsewhere": {
        "POST_LOGIN_VIEW": "https://app.example.com/in",
        "POST_LOGOUT_VIEW": "https://app.example.com/out",
        "POST_REGISTER_VIEW": "https://app.example.com/welcome",
        "POST_CONFIRM_VIEW": "https://app.example.com/confirmed",
        "POST_CHANGE_EMAIL_VIEW": "https://app.example.com/changed",
    },
}
NEEDED = {"pages": BREACHES, "clients": CODE_SIGN_IN, "elsewhere": ELSEWHERE}  # besides FEATURES


def named(settings: dict[str, Any]) -> dict[str, Any]:
    return {f"SECURITY_{name}": value for name, value in settings.items()}


def settings_of(group: str, *names: str) -> dict[str, Any]:
    """Return the settings of a site with a group of settings, or with these of it."""
    if group == SPA_TOML:
        values = tomllib.loads((ROOT / SPA_TOML).read_text())
        mail = [name for name in values if name.startswith("MAIL_")]
        return {**FEATURES, **named(SPA), **{name: values[name] for name in values.keys() - {*mail}}}
    chosen = {name: GROUPS[group][name] for name in names or GROUPS[group]}
    if chosen.keys() & SPA.keys() and group == "clients":
        chosen |= SPA
    return {**FEATURES, **NEEDED[group], **named(chosen)}
