"""The configuration of Flask and its extensions: forced values, and values that follow from settings.

Setting one of FORCED to another value is an error that states the reason. `unsupported.toml` has those
without a value.
"""

from datetime import timedelta
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

import flask_security.core

from .schema import Settings, declared

FORCED: dict[str, tuple[Any, str]] = {
    "SECURITY_RECOVERABLE": (True, "recovery is what Sparekey is for"),
    "SECURITY_RETURN_GENERIC_RESPONSES": (True, "answers must not tell who has an account"),
    "SECURITY_AUTO_LOGIN_AFTER_RESET": (False, "an emailed link must not sign anyone in"),
    "SECURITY_SEND_PASSWORD_RESET_NOTICE_EMAIL": (False, "Sparekey queues the notice itself"),
    "SECURITY_JOIN_USER_ROLES": (False, "the join scans a table at every look-up"),
    "SECURITY_CSRF_IGNORE_UNAUTH_ENDPOINTS": (False, "it lets a form without token through"),
    "SECURITY_CSRF_PROTECT_MECHANISMS": (("basic", "session", "token"), "forms need a token"),
    "SECURITY_PASSWORD_HASH": ("argon2", "it is the one scheme for new hashes"),
    "SECURITY_PASSWORD_SINGLE_HASH": (
        {*flask_security.core._default_config["PASSWORD_SINGLE_HASH"], "foreign"},
        "every new hash is made with SECURITY_PASSWORD_SALT, which is not in the database",
    ),
    "SECURITY_PASSWORD_SCHEMES": (
        ["argon2", "bcrypt", "pbkdf2_sha256", "pbkdf2_sha512", "sha256_crypt", "sha512_crypt", "foreign"],
        "no scheme accepts plain text or a placeholder in the database",
    ),
    "SECURITY_HASHING_SCHEMES": (["hex_sha512"], "only signed tokens use it, and others cost 200 ms"),
    "SECURITY_DEPRECATED_HASHING_SCHEMES": ([], "there is only one scheme"),
    "SECURITY_SEND_PASSWORD_CHANGE_EMAIL": (True, "the owner must be told when someone else makes a change"),
    "SECURITY_LOGOUT_METHODS": (["POST"], "no other site may sign users out"),
    "SECURITY_AUTO_LOGIN_AFTER_CONFIRM": (False, "an emailed link must not sign anyone in"),
    "SECURITY_PASSWORD_COMPLEXITY_CHECKER": (None, "no composition rules (NIST SP 800-63B-4)"),
    "SECURITY_PASSWORDLESS": (False, "an emailed link must not sign anyone in"),
    "SECURITY_OAUTH_ENABLE": (False, "not supported"),
    "SECURITY_LOGIN_WITHOUT_CONFIRMATION": (False, "an unconfirmed address may belong to someone else"),
    "SECURITY_PASSWORD_REQUIRED": (True, "an account without a password cannot recover one"),
    "SECURITY_USERNAME_REQUIRED": (False, "an email address is enough to sign up"),
    "SECURITY_US_MFA_REQUIRED": (["password", "email", "authenticator"], "a second factor comes after each"),
    "SECURITY_CHANGE_USERNAME": (False, "it tells which usernames are taken"),
    "SECURITY_US_SIGNIN_REPLACES_LOGIN": (False, "/login stays; /us-signin is beside it"),
    "SECURITY_TWO_FACTOR_RESCUE_EMAIL": (False, "the mailbox would get around the other factor"),
    "SECURITY_WAN_ALLOW_USER_HINTS": (False, "hints tell who has an account"),
    "SECURITY_API_ENABLED_METHODS": (["session", "token"], "basic would tell by time who has an account"),
    "SECURITY_FRESHNESS_GRACE_PERIOD": (timedelta(0), "a stolen session would renew it with every request"),
    "SECURITY_SUBDOMAIN": (None, "RECOVERY_PUBLIC_URL tells where the service is"),
    "SECURITY_BLUEPRINT_NAME": ("security", "other parts link to its pages by this name"),
    "SECURITY_PASSWORD_NORMALIZE_FORM": ("NFC", "NIST SP 800-63B-4 §3.1.1.2"),
    "SECURITY_POST_RESET_VIEW": ("pages.reset_done", "the page that ends a reset"),
    "SECURITY_CACHE_CONTROL": (None, "every answer is no-store"),
    "SECURITY_INPUT_NORMALIZE_FORM": ("NFKC", "NFKD would split letters from their accents"),
    "SECURITY_DEPRECATED_PASSWORD_SCHEMES": (["auto"], "all but SECURITY_PASSWORD_HASH are deprecated"),
    "SECURITY_SEND_PASSWORD_RESET_EMAIL": (
        True,
        "recovery is by mail; without MAIL_SERVER, by an admin's link",
    ),
    "SECURITY_SEND_REGISTER_EMAIL": (True, "the mailed link sets the password"),
    "SECURITY_USE_REGISTER_V2": (True, "Sparekey has a registration form of its own"),
    "SECURITY_LOGOUT_CSRF": (False, "a form always needs a token, and JSON an origin"),
    "WTF_CSRF_CHECK_DEFAULT": (False, "Sparekey checks every request itself"),
    "SERVER_NAME": (None, "RECOVERY_PUBLIC_URL tells where the service is"),
}


def flask_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration that Flask and its extensions read."""
    config = default_values(settings)
    config |= {name: getattr(settings, name) for name in declared()}
    config |= settings.library
    config |= {name: value for name, (value, _) in FORCED.items()}
    return config | _derived(settings) | _foreign(settings) | _cookies(settings)


def default_values(settings: Settings) -> dict[str, Any]:
    """Return our defaults of libraries' settings, in place of the libraries' own."""
    return {
        "SECURITY_REFRESH_TOKEN_MAX_AGE": settings.REMEMBER_COOKIE_DURATION,
        "SECURITY_WAN_RP_NAME": settings.RECOVERY_SITE_NAME,
        "SECURITY_USERNAME_MIN_LENGTH": 1,
        "SECURITY_USERNAME_MAX_LENGTH": 64,
        "SECURITY_POST_CONFIRM_VIEW": "security.login",
        "SECURITY_CONFIRM_ERROR_VIEW": "security.send_confirmation",
        "SECURITY_POST_CHANGE_EMAIL_VIEW": settings.library.get("SECURITY_POST_LOGIN_VIEW") or "pages.home",
        "SECURITY_CHANGE_EMAIL_ERROR_VIEW": "security.change_email",
    }


def _derived(settings: Settings) -> dict[str, Any]:
    public = urlsplit(settings.RECOVERY_PUBLIC_URL)
    issuer = settings.SECURITY_TOTP_ISSUER or settings.RECOVERY_SITE_NAME
    return {
        **settings.spa_views,
        # Off for Flask-Security alone: recovery/notices.py queues it, like all notices.
        "SECURITY_SEND_PASSWORD_CHANGE_EMAIL": False,
        "APPLICATION_ROOT": public.path + "/",  # Flask-Security's default redirect
        "SERVER_NAME": public.netloc,
        "PREFERRED_URL_SCHEME": public.scheme,
        "MAIL_TIMEOUT": settings.MAIL_TIMEOUT.total_seconds(),
        # It would mark a session as not fresh when its IP address changes, and set its cookie again.
        "SESSION_PROTECTION": None,
        "WTF_CSRF_SECRET_KEY": settings.signing_keys,  # so that open forms survive a rotation of SECRET_KEY
        "WTF_CSRF_TIME_LIMIT": None,  # so that a page may stay open overnight
        "WTF_CSRF_HEADERS": ["X-CSRFToken", "X-CSRF-Token", "X-XSRF-Token"],  # as Flask-Security documents
        "SECURITY_USERNAME_ALLOWED_CHARS": [
            *settings.SECURITY_USERNAME_ALLOWED_CHARS,
            "M",
        ],  # marks of letters
        "SECURITY_TOTP_ISSUER": issuer.replace(":", " "),  # a colon ends the issuer in an otpauth: URL
        "SECURITY_TWO_FACTOR_RESCUE_MAIL": parseaddr(settings.RECOVERY_OPERATOR)[1],
    }


def _foreign(settings: Settings) -> dict[str, Any]:
    """Return what follows from the application's accounts: its salt and normal form, and our schema."""
    if not (accounts := settings.RECOVERY_ACCOUNTS):
        return {}
    schemas = {None: accounts.own_schema} if settings.SQLALCHEMY_DATABASE_URI.startswith("postgresql") else {}
    # Not by the search path, because the application's triggers find their tables by it.
    options = {"execution_options": {"schema_translate_map": schemas}} if schemas else {}
    return {
        "SECURITY_PASSWORD_NORMALIZE_FORM": "NFKD" if accounts.hash == "flask-security" else None,
        "SECURITY_PASSWORD_SALT": settings.RECOVERY_ACCOUNTS_SALT or settings.SECURITY_PASSWORD_SALT,
        "SQLALCHEMY_ENGINE_OPTIONS": {**settings.library.get("SQLALCHEMY_ENGINE_OPTIONS", {}), **options},
    }


def _cookies(settings: Settings) -> dict[str, Any]:
    """Return names and flags of cookies by the public URL's scheme. `__Host-` binds a cookie to its host."""
    is_https = settings.RECOVERY_PUBLIC_URL.startswith("https:")
    prefix = "__Host-" if is_https else ""
    flags = {"secure": is_https, "httponly": True, "samesite": "Lax"}
    strict = {**flags, "samesite": "Strict"}
    return {
        "SESSION_COOKIE_NAME": f"{prefix}sparekey_session",
        "SESSION_COOKIE_PATH": "/",  # required by __Host-
        "SESSION_COOKIE_SECURE": is_https,
        # A link is opened from webmail, and with Strict its redirect would go without the session.
        "SESSION_COOKIE_SAMESITE": "Lax",
        "REMEMBER_COOKIE_NAME": f"{prefix}sparekey_remember",
        "REMEMBER_COOKIE_SECURE": is_https,
        "REMEMBER_COOKIE_SAMESITE": "Lax",
        "RECOVERY_KNOWN_COOKIE": f"{prefix}sparekey_known",
        "RECOVERY_LINK_COOKIE": f"{prefix}sparekey_link",  # a handle follows
        "RECOVERY_REQUEST_COOKIE": f"{prefix}sparekey_request",
        "RECOVERY_LANGUAGE_COOKIE": f"{prefix}sparekey_language",
        "SECURITY_CSRF_COOKIE": {**flags, "httponly": False},  # the scripts of a single-page client read it
        "SECURITY_TWO_FACTOR_VALIDITY_COOKIE_NAME": f"{prefix}sparekey_two_factor",
        "SECURITY_TWO_FACTOR_VALIDITY_COOKIE": strict,
        "SECURITY_REFRESH_TOKEN_COOKIE_NAME": f"{prefix}sparekey_refresh",
        "SECURITY_REFRESH_TOKEN_COOKIE": strict,
    }
