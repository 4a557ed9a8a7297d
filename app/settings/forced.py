"""The configuration of Flask and its extensions: values that are forced, or follow from other settings.

An admin who sets one of FORCED to another value is refused with the reason.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import flask_security.core

from .schema import Settings, declared

FORCED: dict[str, tuple[Any, str]] = {
    "SECURITY_RECOVERABLE": (True, "recovery is what Sparekey is for"),
    "SECURITY_RETURN_GENERIC_RESPONSES": (True, "answers must not tell who has an account"),
    "SECURITY_AUTO_LOGIN_AFTER_RESET": (False, "a mailed link must not sign anybody in"),
    "SECURITY_SEND_PASSWORD_RESET_NOTICE_EMAIL": (False, "Sparekey queues the notice itself"),
    "SECURITY_JOIN_USER_ROLES": (False, "the join scans a table at every look-up"),
    "SECURITY_CSRF_IGNORE_UNAUTH_ENDPOINTS": (False, "it lets a form without token through"),
    "SECURITY_CSRF_PROTECT_MECHANISMS": (("basic", "session", "token"), "forms need a token"),
    "SECURITY_PASSWORD_HASH": ("argon2", "it is the one scheme new hashes are made with"),
    "SECURITY_PASSWORD_SINGLE_HASH": (
        {*flask_security.core._default_config["PASSWORD_SINGLE_HASH"], "foreign"},
        "every new hash is made with SECURITY_PASSWORD_SALT, which is not in the database",
    ),
    "SECURITY_PASSWORD_SCHEMES": (
        ["argon2", "bcrypt", "pbkdf2_sha256", "pbkdf2_sha512", "sha256_crypt", "sha512_crypt", "foreign"],
        "no scheme that a stored mark or a plain text could pass for",
    ),
    "SECURITY_HASHING_SCHEMES": (["hex_sha512"], "it stands in signed tokens only; others cost 200 ms"),
    "SECURITY_DEPRECATED_HASHING_SCHEMES": ([], "there is one"),
    "SECURITY_SEND_PASSWORD_CHANGE_EMAIL": (True, "whoever did not change it must hear of it"),
    "SECURITY_LOGOUT_METHODS": (["POST"], "no other site may sign anybody out"),
    "SECURITY_AUTO_LOGIN_AFTER_CONFIRM": (False, "a mailed link must not sign anybody in"),
    "SECURITY_PASSWORD_COMPLEXITY_CHECKER": (None, "no composition rules (NIST SP 800-63B-4)"),
    "SECURITY_PASSWORDLESS": (False, "a mailed link must not sign anybody in"),
    "SECURITY_OAUTH_ENABLE": (False, "not supported"),
    "SECURITY_LOGIN_WITHOUT_CONFIRMATION": (False, "an address that nobody confirmed may be anybody's"),
    "SECURITY_PASSWORD_REQUIRED": (True, "an account without a password can not recover one"),
    "SECURITY_USERNAME_REQUIRED": (False, "an address is enough: that a name is taken is told by mail only"),
    "SECURITY_US_MFA_REQUIRED": (
        ["password", "email", "authenticator"],
        "whatever one signs in with, the second factor comes after it",
    ),
    "SECURITY_CHANGE_USERNAME": (False, "it tells which usernames are taken"),
    "SECURITY_US_SIGNIN_REPLACES_LOGIN": (False, "/login stays; /us-signin is beside it"),
    "SECURITY_TWO_FACTOR_RESCUE_EMAIL": (
        False,
        "whoever reads the mailbox would get around the other factor",
    ),
    "SECURITY_WAN_ALLOW_USER_HINTS": (False, "hints tell who has an account"),
    "SECURITY_API_ENABLED_METHODS": (["session", "token"], "basic would tell by time who has an account"),
    "SECURITY_SUBDOMAIN": (None, "RECOVERY_PUBLIC_URL says where the service is"),
    "SECURITY_BLUEPRINT_NAME": ("security", "other parts ask for its pages by this name"),
    "SECURITY_PASSWORD_NORMALIZE_FORM": ("NFC", "NIST SP 800-63B-4 §3.1.1.2"),
    "SECURITY_EMAIL_VALIDATOR_ARGS": ({"check_deliverability": False}, "no DNS in a request"),
    "SECURITY_POST_RESET_VIEW": ("pages.reset_done", "the page that ends a reset"),
    "SECURITY_CACHE_CONTROL": (None, "every answer is no-store"),
    "WTF_CSRF_CHECK_DEFAULT": (False, "Sparekey checks every request itself"),
    "SERVER_NAME": (None, "RECOVERY_PUBLIC_URL says where the service is"),  # as `derived` does
}


def as_config(settings: Settings) -> dict[str, Any]:
    """Return what Flask and its extensions read."""
    defaults = {  # an admin may replace them
        "SECURITY_REFRESH_TOKEN_MAX_AGE": settings.REMEMBER_COOKIE_DURATION,
        "SECURITY_WAN_RP_NAME": settings.RECOVERY_SITE_NAME,
        "SECURITY_INPUT_NORMALIZE_FORM": "NFKC",  # NFKD would split letters from their accents
        "SECURITY_USERNAME_MIN_LENGTH": 1,
        "SECURITY_USERNAME_MAX_LENGTH": 64,
    }
    own = {name: getattr(settings, name) for name in declared()}
    forced = {name: value for name, (value, _) in FORCED.items()}
    return {**defaults, **own, **settings.handed_on, **forced, **_derived(settings), **_cookies(settings)}


def _derived(settings: Settings) -> dict[str, Any]:
    public = urlsplit(settings.RECOVERY_PUBLIC_URL)
    issuer = settings.SECURITY_TOTP_ISSUER or settings.RECOVERY_SITE_NAME
    return {
        "APPLICATION_ROOT": public.path + "/",  # Flask-Security goes there when nothing else is said
        "SERVER_NAME": public.netloc,
        "PREFERRED_URL_SCHEME": public.scheme,
        "MAIL_TIMEOUT": settings.MAIL_TIMEOUT.total_seconds(),
        # It marks a session whose address changes as not fresh, and would set the cookie again for that.
        "SESSION_PROTECTION": None,
        "WTF_CSRF_SECRET_KEY": settings.signing_keys,  # open forms survive a rotation of SECRET_KEY
        "WTF_CSRF_TIME_LIMIT": None,  # a page may stay open overnight: a token lives as long as its session
        "WTF_CSRF_HEADERS": ["X-CSRFToken", "X-CSRF-Token", "X-XSRF-Token"],  # as Flask-Security says
        "SECURITY_TOTP_ISSUER": issuer.replace(":", " "),  # a colon ends the issuer in an otpauth: URL
        "SECURITY_TWO_FACTOR_RESCUE_MAIL": settings.RECOVERY_OPERATOR,
    }


def _cookies(settings: Settings) -> dict[str, Any]:
    """Names and flags follow the public URL's scheme: __Host- binds a cookie to this very host."""
    is_https = settings.RECOVERY_PUBLIC_URL.startswith("https:")
    prefix = "__Host-" if is_https else ""
    flags = {"secure": is_https, "httponly": True, "samesite": "Lax"}
    strict = {**flags, "samesite": "Strict"}
    return {
        "SESSION_COOKIE_NAME": f"{prefix}sparekey_session",
        "SESSION_COOKIE_PATH": "/",  # __Host- asks for it
        "SESSION_COOKIE_SECURE": is_https,
        "SESSION_COOKIE_HTTPONLY": True,
        # A link is opened from webmail, and with Strict the redirect that follows would go without it.
        "SESSION_COOKIE_SAMESITE": "Lax",
        "REMEMBER_COOKIE_NAME": f"{prefix}sparekey_remember",
        "REMEMBER_COOKIE_SECURE": is_https,
        "REMEMBER_COOKIE_HTTPONLY": True,
        "REMEMBER_COOKIE_SAMESITE": "Lax",
        "RECOVERY_KNOWN_COOKIE": f"{prefix}sparekey_known",
        "RECOVERY_LANGUAGE_COOKIE": f"{prefix}sparekey_language",
        "SECURITY_CSRF_COOKIE": {**flags, "httponly": False},  # scripts of a single-page client read it
        "SECURITY_TWO_FACTOR_VALIDITY_COOKIE_NAME": f"{prefix}sparekey_two_factor",
        "SECURITY_TWO_FACTOR_VALIDITY_COOKIE": strict,
        "SECURITY_REFRESH_TOKEN_COOKIE_NAME": f"{prefix}sparekey_refresh",
        "SECURITY_REFRESH_TOKEN_COOKIE": strict,
    }
