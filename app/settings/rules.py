"""What is wrong with settings only together: each is good, and both at once are not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet

from . import sources, types
from .urls import is_ip_address, is_loopback

if TYPE_CHECKING:
    from .schema import Settings

# Ways to a code. SMS is none to sign in with: sending it at once would tell who has an account.
SECOND_FACTORS, US_CODES = ("authenticator", "email", "sms"), ("authenticator", "email")
# What is of no use where no mail is sent.
NEED_MAIL = (
    "MAIL_USERNAME",
    "RECOVERY_OPERATOR",
    "SECURITY_CHANGE_EMAIL",
    "SECURITY_CONFIRMABLE",
    "SECURITY_REGISTERABLE",
    "SECURITY_USERNAME_RECOVERY",
)
# Where Flask-Security's own links lead single-page clients.
CONFIRM_VIEWS = ("SECURITY_POST_CONFIRM_VIEW", "SECURITY_CONFIRM_ERROR_VIEW")
CHANGE_VIEWS = ("SECURITY_POST_CHANGE_EMAIL_VIEW", "SECURITY_CHANGE_EMAIL_ERROR_VIEW")
CODES_BY_MAIL = {
    "SECURITY_TWO_FACTOR": "SECURITY_TWO_FACTOR_ENABLED_METHODS",
    "SECURITY_UNIFIED_SIGNIN": "SECURITY_US_ENABLED_METHODS",
}


def among(settings: Settings) -> dict[tuple[str, str], Any]:
    """Settings by name, with what to say, and whether it is so."""
    host = urlsplit(settings.RECOVERY_PUBLIC_URL).hostname or ""
    asked = settings.SECURITY_USER_IDENTITY_ATTRIBUTES
    secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return {
        **_broken_for_languages(settings),
        **_broken_for_mail(settings),
        **_broken_for_flask_security(settings),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", f"each of {', '.join(types.IDENTITIES)} at most once"): (
            set(asked) - set(types.IDENTITIES) or len(asked) != len(set(asked))
        ),
        ("SECURITY_PASSWORD_SALT", "must not be the same as SECRET_KEY"): (
            settings.SECURITY_PASSWORD_SALT in secrets
        ),
        ("RECOVERY_METRICS_TOKEN", "must not be the same as another secret"): (
            settings.RECOVERY_METRICS_TOKEN in (settings.SECURITY_PASSWORD_SALT, *secrets)
        ),
        **{
            (name, "not longer than REMEMBER_COOKIE_DURATION"): (
                (age := settings.handed_on.get(name)) and age > settings.REMEMBER_COOKIE_DURATION
            )
            for name in ("SECURITY_REFRESH_TOKEN_MAX_AGE", "SECURITY_TOKEN_MAX_AGE")
        },
        ("MAX_CONTENT_LENGTH", "too small for a form with passwords of RECOVERY_PASSWORD_LENGTH_MAX"): (
            settings.MAX_CONTENT_LENGTH < 4096 + 24 * settings.RECOVERY_PASSWORD_LENGTH_MAX
        ),
        ("TESTING", "shows errors to everybody: only with a RECOVERY_PUBLIC_URL on this machine"): (
            settings.handed_on.get("TESTING") and not is_loopback(host)
        ),
        ("SQLALCHEMY_DATABASE_URI", "SQLite serves one machine; for RECOVERY_MACHINES take PostgreSQL"): (
            settings.RECOVERY_MACHINES > 1 and settings.SQLALCHEMY_DATABASE_URI.startswith("sqlite")
        ),
        ("RECOVERY_INBOX", "shows all mail to everybody: only with a RECOVERY_PUBLIC_URL on this machine"): (
            settings.RECOVERY_INBOX and not is_loopback(host)
        ),
    }


def _broken_for_languages(settings: Settings) -> dict[tuple[str, str], Any]:
    folders = [sources.TRANSLATIONS, *map(Path, filter(None, [settings.RECOVERY_TRANSLATION_DIR]))]
    there = {"en", *(path.stem for folder in folders for path in folder.glob("*.po"))}
    unknown = [name for name in settings.RECOVERY_LANGUAGES if name not in there]
    return {
        (
            "RECOVERY_LANGUAGES",
            f"no file {' and no '.join(f'{name}.po' for name in unknown)} in RECOVERY_TRANSLATION_DIR;"
            f" there is {', '.join(sorted(there))}",
        ): unknown,
        ("RECOVERY_LANGUAGES", "each at most once"): (
            len(settings.RECOVERY_LANGUAGES) != len(set(settings.RECOVERY_LANGUAGES))
        ),
        ("BABEL_DEFAULT_LOCALE", "must be one of RECOVERY_LANGUAGES"): (
            settings.BABEL_DEFAULT_LOCALE not in settings.RECOVERY_LANGUAGES
        ),
    }


def _broken_for_mail(settings: Settings) -> dict[tuple[str, str], Any]:
    tls = settings.MAIL_USE_TLS or settings.MAIL_USE_SSL
    is_here = settings.RECOVERY_INBOX or is_loopback(settings.MAIL_SERVER)
    in_clear = settings.sends_mail and not (tls or is_here)
    return {
        ("MAIL_USE_SSL", "choose one of MAIL_USE_TLS and MAIL_USE_SSL"): (
            settings.MAIL_USE_TLS and settings.MAIL_USE_SSL
        ),
        ("MAIL_USERNAME", "set both of MAIL_USERNAME and MAIL_PASSWORD, or neither"): (
            bool(settings.MAIL_USERNAME) != bool(settings.MAIL_PASSWORD)
        ),
        ("MAIL_USE_TLS", "needed, or MAIL_USE_SSL: the password would travel in the clear"): (
            settings.MAIL_USERNAME and in_clear
        ),
        (
            "MAIL_USE_TLS",
            "needed, or MAIL_USE_SSL: links would travel in the clear (RECOVERY_MAIL_IN_CLEAR)",
        ): (in_clear and not settings.MAIL_USERNAME and not settings.RECOVERY_MAIL_IN_CLEAR),
        # Connect, greeting, EHLO, STARTTLS, EHLO, login, MAIL, RCPT, DATA and the mail itself, each in time.
        (
            "RECOVERY_MAIL_LEASE",
            "too short for a slow relay: at least 20 seconds and ten times MAIL_TIMEOUT",
        ): settings.sending_time < 10 * settings.MAIL_TIMEOUT,
        **{
            (name, "needs mail, and MAIL_SERVER is empty"): getattr(settings, name)
            for name in NEED_MAIL
            if not settings.sends_mail
        },
        **{
            (name, "codes by email need mail, and MAIL_SERVER is empty"): not settings.sends_mail
            and getattr(settings, feature)
            and "email" in getattr(settings, name)
            for feature, name in CODES_BY_MAIL.items()
        },
    }


def _is_fernet_key(key: Any) -> bool:
    try:
        Fernet(key)
    except (TypeError, ValueError):
        return False
    return True


def _broken_for_features(settings: Settings) -> dict[tuple[str, str], Any]:
    asked = settings.SECURITY_USER_IDENTITY_ATTRIBUTES
    url, passkeys = urlsplit(settings.RECOVERY_PUBLIC_URL), settings.SECURITY_WEBAUTHN
    host = url.hostname or ""
    return {
        **_broken_for_codes(settings),
        ("SECURITY_REGISTERABLE", "needs SECURITY_CONFIRMABLE, or anybody signs up anybody's address"): (
            settings.SECURITY_REGISTERABLE and not settings.SECURITY_CONFIRMABLE
        ),
        ("SECURITY_REGISTERABLE", "needs email in SECURITY_USER_IDENTITY_ATTRIBUTES"): (
            settings.SECURITY_REGISTERABLE and "email" not in asked
        ),
        ("SECURITY_USERNAME_ENABLE", "needs username in SECURITY_USER_IDENTITY_ATTRIBUTES"): (
            settings.handed_on.get("SECURITY_USERNAME_ENABLE") and "username" not in asked
        ),
        ("SECURITY_WEBAUTHN", "needs a name in RECOVERY_PUBLIC_URL: browsers have no passkeys for numbers"): (
            passkeys and is_ip_address(host)
        ),
        ("SECURITY_WEBAUTHN", "needs https in RECOVERY_PUBLIC_URL: browsers ask for it"): (
            passkeys and url.scheme == "http" and host != "localhost"
        ),
    }


def _broken_for_codes(settings: Settings) -> dict[tuple[str, str], Any]:
    two, unified = settings.SECURITY_TWO_FACTOR, settings.SECURITY_UNIFIED_SIGNIN
    methods, by_unified = (
        settings.SECURITY_TWO_FACTOR_ENABLED_METHODS,
        {*settings.SECURITY_US_ENABLED_METHODS},
    )
    no_secrets = not settings.SECURITY_TOTP_SECRETS
    return {
        **_broken_for_sms(settings),
        **_broken_for_recovery_codes(settings),
        ("SECURITY_TWO_FACTOR_REQUIRED", "needs SECURITY_TWO_FACTOR"): (
            settings.SECURITY_TWO_FACTOR_REQUIRED and not two
        ),
        ("SECURITY_US_TOKEN_VALIDITY", "in seconds, from 30 to 600"): (
            not 30 <= settings.handed_on.get("SECURITY_US_TOKEN_VALIDITY", 120) <= 600
        ),
        ("SECURITY_TWO_FACTOR", "needs SECURITY_TOTP_SECRETS"): two and no_secrets,
        ("SECURITY_UNIFIED_SIGNIN", "needs SECURITY_TOTP_SECRETS"): unified and no_secrets,
        ("SECURITY_TWO_FACTOR_ENABLED_METHODS", f"one or more of {', '.join(SECOND_FACTORS)}"): (
            two and not (methods and {*methods} <= {*SECOND_FACTORS})
        ),
        ("SECURITY_US_ENABLED_METHODS", f"password, and of {', '.join(US_CODES)} what you like"): (
            unified and not {"password"} <= by_unified <= {"password", *US_CODES}
        ),
    }


def _broken_for_sms(settings: Settings) -> dict[tuple[str, str], Any]:
    service, host = settings.SECURITY_SMS_SERVICE, urlsplit(settings.RECOVERY_PUBLIC_URL).hostname or ""
    is_used = settings.SECURITY_TWO_FACTOR and "sms" in settings.SECURITY_TWO_FACTOR_ENABLED_METHODS
    rules = {
        "says who sends SMS: needed with the method sms (docs/features.md)": is_used and not service,
        'nothing, "file", or "module:Class" (docs/features.md)': (
            service not in ("", "file") and ":" not in service
        ),
        '"file" is for a RECOVERY_PUBLIC_URL on this machine': (
            is_used and service == "file" and not is_loopback(host)
        ),
    }
    return {("SECURITY_SMS_SERVICE", message): is_broken for message, is_broken in rules.items()}


def _broken_for_recovery_codes(settings: Settings) -> dict[tuple[str, str], Any]:
    name = "SECURITY_MULTI_FACTOR_RECOVERY_CODES"
    is_on, keys = settings.SECURITY_MULTI_FACTOR_RECOVERY_CODES, settings.handed_on.get(f"{name}_KEYS") or ()
    factors = settings.SECURITY_TWO_FACTOR or settings.SECURITY_WEBAUTHN
    return {
        (name, f"needs {name}_KEYS"): is_on and not keys,
        (name, "needs SECURITY_TWO_FACTOR or SECURITY_WEBAUTHN"): is_on and not factors,
        (f"{name}_KEYS", "each must be a Fernet key (docs/features.md)"): not all(map(_is_fernet_key, keys)),
    }


def _broken_for_flask_security(settings: Settings) -> dict[tuple[str, str], Any]:
    of_fst = settings.handed_on.get
    spa = of_fst("SECURITY_REDIRECT_BEHAVIOR") == "spa"
    confirms, changes = settings.SECURITY_CONFIRMABLE, settings.SECURITY_CHANGE_EMAIL
    return {
        ("RECOVERY_CLIENTS", "the names browser and default are taken"): (
            {"browser", "default"} & settings.RECOVERY_CLIENTS.keys()
        ),
        ("SECURITY_RESET_VIEW", 'where links land: needed with SECURITY_REDIRECT_BEHAVIOR = "spa"'): (
            spa and not of_fst("SECURITY_RESET_VIEW")
        ),
        (
            "SECURITY_RESET_ERROR_VIEW",
            'where bad links land: needed with SECURITY_REDIRECT_BEHAVIOR = "spa"',
        ): (spa and not of_fst("SECURITY_RESET_ERROR_VIEW")),
        **_broken_for_features(settings),
        **{
            (name, 'needed with SECURITY_REDIRECT_BEHAVIOR = "spa"'): spa and is_on and not of_fst(name)
            for is_on, names in ((confirms, CONFIRM_VIEWS), (changes, CHANGE_VIEWS))
            for name in names
        },
        ("SECURITY_REDIRECT_BEHAVIOR", 'give "spa", or leave it out'): (
            of_fst("SECURITY_REDIRECT_BEHAVIOR") not in (None, "spa")
        ),
    }
