"""Cross-field rules: each value is valid, and together they are not.

A rule yields the name of the setting to change, and the reason.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from . import account_rules
from .features import by_feature
from .schema import Settings
from .sources import TRANSLATIONS
from .urls import VIEW_PAIRS

Violations = Iterator[tuple[str, str]]

LOCAL_ONLY = "allowed only with a RECOVERY_PUBLIC_URL on this machine"
SHOWS_ERRORS = f"shows errors to everyone: {LOCAL_ONLY}"


def find_violations(settings: Settings) -> Violations:
    """Yield the setting and the reason for every rule that is broken. A rule ends at a wrong setting."""
    rules = (_site, _secrets, _languages, _mail, _without_mail, _default_client, _views, _sign_up)
    others = (_codes, _recovery_codes_and_passkeys, account_rules.find_violations)
    for rule in (*rules, *others):
        with suppress(AttributeError):
            yield from rule(settings)


def _site(settings: Settings) -> Violations:
    if settings.library.get("TESTING") and not settings.is_local:
        yield "TESTING", SHOWS_ERRORS
    if settings.RECOVERY_INBOX and not settings.is_local:
        yield "RECOVERY_INBOX", f"shows all mail to everyone: {LOCAL_ONLY}"
    if settings.RECOVERY_CHALLENGE != "off" and not settings.RATELIMIT_ENABLED:
        yield "RECOVERY_CHALLENGE", "needs RATELIMIT_ENABLED, which remembers the solutions that were used"
    if settings.RECOVERY_LOGO_DARK and not settings.RECOVERY_LOGO:
        yield "RECOVERY_LOGO_DARK", "needs RECOVERY_LOGO, of which it is the picture for dark mode"
    if settings.MAX_CONTENT_LENGTH < 4096 + 24 * settings.RECOVERY_PASSWORD_LENGTH_MAX:
        yield "MAX_CONTENT_LENGTH", "too small for a form with passwords of RECOVERY_PASSWORD_LENGTH_MAX"


def _secrets(settings: Settings) -> Violations:
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    if settings.SECURITY_PASSWORD_SALT in keys:
        yield "SECURITY_PASSWORD_SALT", "must not be the same as SECRET_KEY"
    if settings.RECOVERY_METRICS_TOKEN in (settings.SECURITY_PASSWORD_SALT, *keys):
        yield "RECOVERY_METRICS_TOKEN", "must not be the same as another secret"
    if bool(settings.RECOVERY_WEBHOOK_URL) != bool(settings.RECOVERY_WEBHOOK_SECRET):
        yield "RECOVERY_WEBHOOK_SECRET", "set this together with RECOVERY_WEBHOOK_URL, or set neither"
    for name in ("SECURITY_REFRESH_TOKEN_MAX_AGE", "SECURITY_TOKEN_MAX_AGE"):
        if (age := settings.library.get(name)) and age > settings.REMEMBER_COOKIE_DURATION:
            yield name, "not longer than REMEMBER_COOKIE_DURATION"


def _languages(settings: Settings) -> Violations:
    folders = [TRANSLATIONS, *map(Path, filter(None, [settings.RECOVERY_TRANSLATION_DIR]))]
    available = {"en", *(path.stem for folder in folders for path in folder.glob("*.po"))}
    if missing := [f"{name}.po" for name in settings.RECOVERY_LANGUAGES if name not in available]:
        reason = f"no file {' and no '.join(missing)} in RECOVERY_TRANSLATION_DIR"
        yield "RECOVERY_LANGUAGES", f"{reason}; there is {', '.join(sorted(available))}"
    if settings.BABEL_DEFAULT_LOCALE not in settings.RECOVERY_LANGUAGES:
        yield "BABEL_DEFAULT_LOCALE", "must be one of RECOVERY_LANGUAGES"


def _mail(settings: Settings) -> Violations:
    if settings.MAIL_USE_TLS and settings.MAIL_USE_SSL:
        yield "MAIL_USE_SSL", "choose one of MAIL_USE_TLS and MAIL_USE_SSL"
    url, client = settings.RECOVERY_MAIL_OAUTH_URL, settings.RECOVERY_MAIL_OAUTH_CLIENT_ID
    proof = settings.RECOVERY_MAIL_OAUTH_CLIENT_SECRET or settings.RECOVERY_MAIL_OAUTH_REFRESH_TOKEN
    if len({bool(value) for value in (url, client, proof)}) > 1:
        others = "_CLIENT_ID, and _CLIENT_SECRET or _REFRESH_TOKEN"
        yield "RECOVERY_MAIL_OAUTH_URL", f"set this together with {others}, or set none of them"
    if bool(settings.MAIL_USERNAME) != bool(settings.MAIL_PASSWORD) + bool(url):
        yield (
            "MAIL_USERNAME",
            "set this together with MAIL_PASSWORD (or RECOVERY_MAIL_OAUTH_URL), or set neither",
        )
    # Ten steps: connect, greeting, EHLO, STARTTLS, EHLO, login, MAIL, RCPT, DATA and the mail itself.
    if settings.sending_time < 10 * settings.MAIL_TIMEOUT:
        yield "RECOVERY_MAIL_LEASE", "too short: at least 20 seconds and ten times MAIL_TIMEOUT"
    if not any(settings.library.get(f"SECURITY_EMAIL_{part}", True) for part in ("PLAINTEXT", "HTML")):
        yield "SECURITY_EMAIL_PLAINTEXT", "an email needs text or HTML (SECURITY_EMAIL_HTML)"
    if settings.sends_in_clear and settings.MAIL_USERNAME:
        yield "MAIL_USE_TLS", "needed, or MAIL_USE_SSL: the password would travel in the clear"
    elif settings.sends_in_clear and not settings.RECOVERY_MAIL_IN_CLEAR:
        needed = "needed, or MAIL_USE_SSL"
        yield "MAIL_USE_TLS", f"{needed}: links would travel in the clear (RECOVERY_MAIL_IN_CLEAR)"


def _without_mail(settings: Settings) -> Violations:
    if settings.sends_mail:
        return
    for name in ("MAIL_USERNAME", *by_feature("needs_mail")):
        if getattr(settings, name):
            yield name, "needs mail, and MAIL_SERVER is empty"
    codes = "codes by email need mail, and MAIL_SERVER is empty"
    if settings.SECURITY_TWO_FACTOR and "email" in settings.SECURITY_TWO_FACTOR_ENABLED_METHODS:
        yield "SECURITY_TWO_FACTOR_ENABLED_METHODS", codes
    if settings.SECURITY_UNIFIED_SIGNIN and "email" in settings.SECURITY_US_ENABLED_METHODS:
        yield "SECURITY_US_ENABLED_METHODS", codes


def _default_client(settings: Settings) -> Violations:
    if settings.library.get("SECURITY_REDIRECT_BEHAVIOR") != "spa":
        return
    features = (True, settings.SECURITY_CONFIRMABLE, settings.SECURITY_CHANGE_EMAIL)
    for pair, is_on in zip(VIEW_PAIRS, features, strict=True):
        for name in (f"SECURITY_{view.upper()}" for view in pair):
            if is_on and not settings.library.get(name):
                yield name, 'where links land: needed with SECURITY_REDIRECT_BEHAVIOR = "spa"'


def _views(settings: Settings) -> Violations:
    """Views outside of the public URL that Flask-Security would answer with an error 500."""
    own, public = settings.library, urlsplit(settings.RECOVERY_PUBLIC_URL).netloc
    base = own.get("SECURITY_REDIRECT_BASE_DOMAIN")
    allowed: set[str | None] = {public, ""}
    for sub in own.get("SECURITY_REDIRECT_ALLOWED_SUBDOMAINS", []) if base else []:
        allowed.add(base if sub == "." else f"{sub}.{base}")
    for name in sorted(own):
        host = urlsplit(str(own[name])).netloc
        is_inside = own.get("SECURITY_REDIRECT_ALLOW_SUBDOMAINS") and host.endswith(f".{public}")
        if re.fullmatch("SECURITY_POST_(LOGIN|LOGOUT|VERIFY|REGISTER)_VIEW", name) and not (
            host in allowed or is_inside
        ):
            yield name, "on another host: allow it in SECURITY_REDIRECT_BASE_DOMAIN and _ALLOWED_SUBDOMAINS"


def _sign_up(settings: Settings) -> Violations:
    identities = settings.SECURITY_USER_IDENTITY_ATTRIBUTES
    if settings.SECURITY_REGISTERABLE and not settings.SECURITY_CONFIRMABLE:
        yield (
            "SECURITY_REGISTERABLE",
            "needs SECURITY_CONFIRMABLE, so that no one signs up with someone else's address",
        )
    if settings.SECURITY_REGISTERABLE and "email" not in identities:
        yield "SECURITY_REGISTERABLE", "needs email in SECURITY_USER_IDENTITY_ATTRIBUTES"
    if settings.library.get("SECURITY_USERNAME_ENABLE") and "username" not in identities:
        yield "SECURITY_USERNAME_ENABLE", "needs username in SECURITY_USER_IDENTITY_ATTRIBUTES"
    if settings.SECURITY_USERNAME_RECOVERY and [*identities] == ["username"]:
        yield "SECURITY_USERNAME_RECOVERY", "needs another kind in SECURITY_USER_IDENTITY_ATTRIBUTES"


def _codes(settings: Settings) -> Violations:
    if settings.SECURITY_UNIFIED_SIGNIN and not settings.SECURITY_TOTP_SECRETS:
        yield "SECURITY_UNIFIED_SIGNIN", "needs SECURITY_TOTP_SECRETS"
    if settings.SECURITY_TWO_FACTOR_REQUIRED and not settings.SECURITY_TWO_FACTOR:
        yield "SECURITY_TWO_FACTOR_REQUIRED", "needs SECURITY_TWO_FACTOR"
    if not settings.SECURITY_TWO_FACTOR:
        return
    if not settings.SECURITY_TOTP_SECRETS:
        yield "SECURITY_TWO_FACTOR", "needs SECURITY_TOTP_SECRETS"
    has_sms = "sms" in settings.SECURITY_TWO_FACTOR_ENABLED_METHODS
    if has_sms and not settings.SECURITY_SMS_SERVICE:
        yield "SECURITY_SMS_SERVICE", "needed with the method sms: who sends SMS (docs/features.md)"
    if has_sms and settings.SECURITY_SMS_SERVICE == "file" and not settings.is_local:
        yield "SECURITY_SMS_SERVICE", '"file" is for a RECOVERY_PUBLIC_URL on this machine'


def _recovery_codes_and_passkeys(settings: Settings) -> Violations:
    codes, keys = "SECURITY_MULTI_FACTOR_RECOVERY_CODES", "SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS"
    if settings.SECURITY_MULTI_FACTOR_RECOVERY_CODES and not settings.library.get(keys):
        yield codes, f"needs {keys}"
    if settings.SECURITY_MULTI_FACTOR_RECOVERY_CODES and not settings.SECURITY_TOTP_SECRETS:
        yield codes, "needs SECURITY_TOTP_SECRETS"
    has_factor = settings.SECURITY_TWO_FACTOR or settings.SECURITY_WEBAUTHN
    if settings.SECURITY_MULTI_FACTOR_RECOVERY_CODES and not has_factor:
        yield codes, "needs SECURITY_TWO_FACTOR or SECURITY_WEBAUTHN"
    url = urlsplit(settings.RECOVERY_PUBLIC_URL)
    if settings.SECURITY_WEBAUTHN and re.fullmatch(r"[\d.]+|.*:.*", url.hostname or ""):
        yield "SECURITY_WEBAUTHN", "needs a name in RECOVERY_PUBLIC_URL: an IP address has no passkeys"
    if settings.SECURITY_WEBAUTHN and url.scheme == "http" and url.hostname != "localhost":
        yield "SECURITY_WEBAUTHN", "needs https in RECOVERY_PUBLIC_URL: browsers ask for it"
