"""What is wrong with settings only together: each is good, and both at once are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import kinds

if TYPE_CHECKING:
    from .settings import Settings

IDENTITIES = ("email", "username", "us_phone_number")

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
        **_broken_for_mail(settings),
        **_broken_for_flask_security(settings),
        ("SECURITY_USER_IDENTITY_ATTRIBUTES", f"each of {', '.join(IDENTITIES)} at most once"): (
            set(asked) - set(IDENTITIES) or len(asked) != len(set(asked))
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
            settings.handed_on.get("TESTING") and not kinds.is_loopback(host)
        ),
        ("SQLALCHEMY_DATABASE_URI", "SQLite serves one machine; for RECOVERY_MACHINES take PostgreSQL"): (
            settings.RECOVERY_MACHINES > 1 and settings.SQLALCHEMY_DATABASE_URI.startswith("sqlite")
        ),
        ("RECOVERY_INBOX", "shows all mail to everybody: only with a RECOVERY_PUBLIC_URL on this machine"): (
            settings.RECOVERY_INBOX and not kinds.is_loopback(host)
        ),
    }


def _broken_for_mail(settings: Settings) -> dict[tuple[str, str], Any]:
    tls = settings.MAIL_USE_TLS or settings.MAIL_USE_SSL
    is_here = settings.RECOVERY_INBOX or kinds.is_loopback(settings.MAIL_SERVER)
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
        **{
            (name, "needs mail, and MAIL_SERVER is empty"): settings.as_config().get(name)
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


def _broken_for_features(settings: Settings) -> dict[tuple[str, str], Any]:
    methods = settings.SECURITY_TWO_FACTOR_ENABLED_METHODS
    by_sms, service = settings.SECURITY_TWO_FACTOR and "sms" in methods, settings.SECURITY_SMS_SERVICE
    codes, kept = settings.SECURITY_MULTI_FACTOR_RECOVERY_CODES, "SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS"
    two, unified, passkeys = (
        settings.SECURITY_TWO_FACTOR,
        settings.SECURITY_UNIFIED_SIGNIN,
        settings.SECURITY_WEBAUTHN,
    )
    by_unified = set(settings.SECURITY_US_ENABLED_METHODS)
    url = urlsplit(settings.RECOVERY_PUBLIC_URL)
    host, sealed = url.hostname or "", settings.SECURITY_TOTP_SECRETS
    return {
        ("SECURITY_REGISTERABLE", "needs SECURITY_CONFIRMABLE, or anybody signs up anybody's address"): (
            settings.SECURITY_REGISTERABLE and not settings.SECURITY_CONFIRMABLE
        ),
        ("SECURITY_TWO_FACTOR", "needs SECURITY_TOTP_SECRETS"): two and not sealed,
        ("SECURITY_UNIFIED_SIGNIN", "needs SECURITY_TOTP_SECRETS"): unified and not sealed,
        ("SECURITY_TWO_FACTOR_ENABLED_METHODS", f"one or more of {', '.join(SECOND_FACTORS)}"): (
            two and not (methods and set(methods) <= set(SECOND_FACTORS))
        ),
        ("SECURITY_US_ENABLED_METHODS", f"password, and of {', '.join(US_CODES)} what you like"): (
            unified and not {"password"} <= by_unified <= {"password", *US_CODES}
        ),
        ("SECURITY_SMS_SERVICE", "says who sends SMS: needed with the method sms (docs/features.md)"): (
            by_sms and not service
        ),
        ("SECURITY_SMS_SERVICE", '"file" is for a RECOVERY_PUBLIC_URL on this machine'): (
            by_sms and service == "file" and not kinds.is_loopback(host)
        ),
        ("SECURITY_MULTI_FACTOR_RECOVERY_CODES", f"needs {kept}"): codes and not settings.handed_on.get(kept),
        ("SECURITY_MULTI_FACTOR_RECOVERY_CODES", "needs SECURITY_TWO_FACTOR or SECURITY_WEBAUTHN"): (
            codes and not (two or passkeys)
        ),
        ("SECURITY_WEBAUTHN", "needs a name in RECOVERY_PUBLIC_URL: browsers have no passkeys for numbers"): (
            passkeys and kinds.is_ip_address(host)
        ),
        ("SECURITY_WEBAUTHN", "needs https in RECOVERY_PUBLIC_URL: browsers ask for it"): (
            passkeys and url.scheme == "http" and host != "localhost"
        ),
    }


def _broken_for_flask_security(settings: Settings) -> dict[tuple[str, str], Any]:
    of_fst = settings.handed_on.get
    spa = of_fst("SECURITY_REDIRECT_BEHAVIOR") == "spa"
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
        ("SECURITY_REDIRECT_BEHAVIOR", 'give "spa", or leave it out'): (
            of_fst("SECURITY_REDIRECT_BEHAVIOR") not in (None, "spa")
        ),
    }
