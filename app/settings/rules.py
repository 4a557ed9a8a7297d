"""Rules that settings break only together: each value is valid, and all of them at once are not.

A rule yields the name of the setting to change, and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from .schema import Settings
from .sources import TRANSLATIONS
from .urls import is_loopback

Broken = Iterator[tuple[str, str]]

SHOWS_ERRORS = "shows errors to everybody: only with a RECOVERY_PUBLIC_URL on this machine"
SPA = 'needed with SECURITY_REDIRECT_BEHAVIOR = "spa"'
NEEDS_MAIL = (
    "MAIL_USERNAME",
    "RECOVERY_OPERATOR",
    "SECURITY_CHANGE_EMAIL",
    "SECURITY_CONFIRMABLE",
    "SECURITY_REGISTERABLE",
    "SECURITY_USERNAME_RECOVERY",
)


def broken(settings: Settings) -> Broken:
    """Yield the setting and the reason for every rule that is broken."""
    for rule in (_site, _secrets, _languages, _mail, _without_mail, _default_client, _sign_up):
        yield from rule(settings)
    for rule in (_second_factor, _unified_sign_in, _recovery_codes_and_passkeys):
        yield from rule(settings)


def _site(settings: Settings) -> Broken:
    if settings.handed_on.get("TESTING") and not settings.is_on_this_machine:
        yield "TESTING", SHOWS_ERRORS
    if settings.RECOVERY_INBOX and not settings.is_on_this_machine:
        yield "RECOVERY_INBOX", "shows all mail to everybody: only with a RECOVERY_PUBLIC_URL on this machine"
    if settings.RECOVERY_MACHINES > 1 and settings.SQLALCHEMY_DATABASE_URI.startswith("sqlite"):
        yield "SQLALCHEMY_DATABASE_URI", "SQLite serves one machine; for RECOVERY_MACHINES take PostgreSQL"
    if settings.MAX_CONTENT_LENGTH < 4096 + 24 * settings.RECOVERY_PASSWORD_LENGTH_MAX:
        yield "MAX_CONTENT_LENGTH", "too small for a form with passwords of RECOVERY_PASSWORD_LENGTH_MAX"


def _secrets(settings: Settings) -> Broken:
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    if settings.SECURITY_PASSWORD_SALT in keys:
        yield "SECURITY_PASSWORD_SALT", "must not be the same as SECRET_KEY"
    if settings.RECOVERY_METRICS_TOKEN in (settings.SECURITY_PASSWORD_SALT, *keys):
        yield "RECOVERY_METRICS_TOKEN", "must not be the same as another secret"
    for name in ("SECURITY_REFRESH_TOKEN_MAX_AGE", "SECURITY_TOKEN_MAX_AGE"):
        if (age := settings.handed_on.get(name)) and age > settings.REMEMBER_COOKIE_DURATION:
            yield name, "not longer than REMEMBER_COOKIE_DURATION"


def _languages(settings: Settings) -> Broken:
    folders = [TRANSLATIONS, *map(Path, filter(None, [settings.RECOVERY_TRANSLATION_DIR]))]
    known = {"en", *(path.stem for folder in folders for path in folder.glob("*.po"))}
    if unknown := [f"{name}.po" for name in settings.RECOVERY_LANGUAGES if name not in known]:
        there = ", ".join(sorted(known))
        reason = f"no file {' and no '.join(unknown)} in RECOVERY_TRANSLATION_DIR; there is {there}"
        yield "RECOVERY_LANGUAGES", reason
    if settings.BABEL_DEFAULT_LOCALE not in settings.RECOVERY_LANGUAGES:
        yield "BABEL_DEFAULT_LOCALE", "must be one of RECOVERY_LANGUAGES"


def _mail(settings: Settings) -> Broken:
    if settings.MAIL_USE_TLS and settings.MAIL_USE_SSL:
        yield "MAIL_USE_SSL", "choose one of MAIL_USE_TLS and MAIL_USE_SSL"
    if bool(settings.MAIL_USERNAME) != bool(settings.MAIL_PASSWORD):
        yield "MAIL_USERNAME", "set both of MAIL_USERNAME and MAIL_PASSWORD, or neither"
    # Connect, greeting, EHLO, STARTTLS, EHLO, login, MAIL, RCPT, DATA and the mail itself, each in time.
    if settings.sending_time < 10 * settings.MAIL_TIMEOUT:
        needed = "at least 20 seconds and ten times MAIL_TIMEOUT"
        yield "RECOVERY_MAIL_LEASE", f"too short for a slow relay: {needed}"
    goes_away = settings.MAIL_SERVER and not (settings.RECOVERY_INBOX or is_loopback(settings.MAIL_SERVER))
    if goes_away and not (settings.MAIL_USE_TLS or settings.MAIL_USE_SSL):
        needed = "needed, or MAIL_USE_SSL"
        if settings.MAIL_USERNAME:
            yield "MAIL_USE_TLS", f"{needed}: the password would travel in the clear"
        elif not settings.RECOVERY_MAIL_IN_CLEAR:
            yield "MAIL_USE_TLS", f"{needed}: links would travel in the clear (RECOVERY_MAIL_IN_CLEAR)"


def _without_mail(settings: Settings) -> Broken:
    if settings.sends_mail:
        return
    for name in NEEDS_MAIL:
        if getattr(settings, name):
            yield name, "needs mail, and MAIL_SERVER is empty"
    codes = "codes by email need mail, and MAIL_SERVER is empty"
    if settings.SECURITY_TWO_FACTOR and "email" in settings.SECURITY_TWO_FACTOR_ENABLED_METHODS:
        yield "SECURITY_TWO_FACTOR_ENABLED_METHODS", codes
    if settings.SECURITY_UNIFIED_SIGNIN and "email" in settings.SECURITY_US_ENABLED_METHODS:
        yield "SECURITY_US_ENABLED_METHODS", codes


def _default_client(settings: Settings) -> Broken:
    behavior = settings.handed_on.get("SECURITY_REDIRECT_BEHAVIOR")
    if behavior not in (None, "spa"):
        yield "SECURITY_REDIRECT_BEHAVIOR", 'give "spa", or leave it out'
    if behavior != "spa":
        return
    views = {"RESET": f"where links land: {SPA}", "RESET_ERROR": f"where bad links land: {SPA}"}
    if settings.SECURITY_CONFIRMABLE:
        views |= {"POST_CONFIRM": SPA, "CONFIRM_ERROR": SPA}
    if settings.SECURITY_CHANGE_EMAIL:
        views |= {"POST_CHANGE_EMAIL": SPA, "CHANGE_EMAIL_ERROR": SPA}
    for view, reason in views.items():
        if not settings.handed_on.get(f"SECURITY_{view}_VIEW"):
            yield f"SECURITY_{view}_VIEW", reason


def _sign_up(settings: Settings) -> Broken:
    identities = settings.SECURITY_USER_IDENTITY_ATTRIBUTES
    if settings.SECURITY_REGISTERABLE and not settings.SECURITY_CONFIRMABLE:
        yield "SECURITY_REGISTERABLE", "needs SECURITY_CONFIRMABLE, or anybody signs up anybody's address"
    if settings.SECURITY_REGISTERABLE and "email" not in identities:
        yield "SECURITY_REGISTERABLE", "needs email in SECURITY_USER_IDENTITY_ATTRIBUTES"
    if settings.handed_on.get("SECURITY_USERNAME_ENABLE") and "username" not in identities:
        yield "SECURITY_USERNAME_ENABLE", "needs username in SECURITY_USER_IDENTITY_ATTRIBUTES"


def _second_factor(settings: Settings) -> Broken:
    if settings.SECURITY_TWO_FACTOR_REQUIRED and not settings.SECURITY_TWO_FACTOR:
        yield "SECURITY_TWO_FACTOR_REQUIRED", "needs SECURITY_TWO_FACTOR"
    if not settings.SECURITY_TWO_FACTOR:
        return
    methods = set(settings.SECURITY_TWO_FACTOR_ENABLED_METHODS)
    if not settings.SECURITY_TOTP_SECRETS:
        yield "SECURITY_TWO_FACTOR", "needs SECURITY_TOTP_SECRETS"
    if not methods or methods - {"authenticator", "email", "sms"}:
        yield "SECURITY_TWO_FACTOR_ENABLED_METHODS", "one or more of authenticator, email, sms"
    if "sms" in methods and not settings.SECURITY_SMS_SERVICE:
        yield "SECURITY_SMS_SERVICE", "says who sends SMS: needed with the method sms (docs/features.md)"
    if "sms" in methods and settings.SECURITY_SMS_SERVICE == "file" and not settings.is_on_this_machine:
        yield "SECURITY_SMS_SERVICE", '"file" is for a RECOVERY_PUBLIC_URL on this machine'


def _unified_sign_in(settings: Settings) -> Broken:
    if not settings.SECURITY_UNIFIED_SIGNIN:
        return
    if not settings.SECURITY_TOTP_SECRETS:
        yield "SECURITY_UNIFIED_SIGNIN", "needs SECURITY_TOTP_SECRETS"
    # Not SMS, because sending it at once would tell who has an account.
    if (
        not {"password"}
        <= set(settings.SECURITY_US_ENABLED_METHODS)
        <= {"password", "authenticator", "email"}
    ):
        yield "SECURITY_US_ENABLED_METHODS", "password, and of authenticator, email what you like"


def _recovery_codes_and_passkeys(settings: Settings) -> Broken:
    codes, keys = "SECURITY_MULTI_FACTOR_RECOVERY_CODES", "SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS"
    if settings.SECURITY_MULTI_FACTOR_RECOVERY_CODES and not settings.handed_on.get(keys):
        yield codes, f"needs {keys}"
    has_factor = settings.SECURITY_TWO_FACTOR or settings.SECURITY_WEBAUTHN
    if settings.SECURITY_MULTI_FACTOR_RECOVERY_CODES and not has_factor:
        yield codes, "needs SECURITY_TWO_FACTOR or SECURITY_WEBAUTHN"
    url = urlsplit(settings.RECOVERY_PUBLIC_URL)
    if settings.SECURITY_WEBAUTHN and re.fullmatch(r"[\d.]+|.*:.*", url.hostname or ""):
        needed = "needs a name in RECOVERY_PUBLIC_URL: browsers have no passkeys for numbers"
        yield "SECURITY_WEBAUTHN", needed
    if settings.SECURITY_WEBAUTHN and url.scheme == "http" and url.hostname != "localhost":
        yield "SECURITY_WEBAUTHN", "needs https in RECOVERY_PUBLIC_URL: browsers ask for it"
