"""Configuration checks of valid settings that are unwise or incomplete. `findings.toml` has the texts."""

import re
from datetime import timedelta
from email.utils import parseaddr
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from .features import by_feature
from .findings import KINDS, Finding
from .schema import Settings
from .urls import is_loopback

GREYLISTING_DELAY = timedelta(minutes=10)  # RFC 6647 §5
SOLE_FACTOR_LENGTH_MIN = 15  # NIST SP 800-63B-4 §3.1.1.2
THREADS_MIN = 128  # of a web process, because 112 requests may wait for a password hash (accounts/hashing.py)
# Ports by the start of TLS: with STARTTLS, or at once. The ports above 1024 are those of mail providers.
STARTTLS_PORTS, TLS_PORTS = (25, 587, 2525, 2587), (465, 2465)
TLS_MODES = ("require", "verify-ca", "verify-full")


def check_settings(settings: Settings) -> list[Finding]:
    """Return the findings that matter for every start."""
    link_life, sends_mail = settings.SECURITY_RESET_PASSWORD_WITHIN, settings.sends_mail
    sender_domain = parseaddr(settings.MAIL_DEFAULT_SENDER)[1].rpartition("@")[2]
    is_password_short = settings.SECURITY_PASSWORD_LENGTH_MIN < SOLE_FACTOR_LENGTH_MIN
    needs_two_factors = settings.SECURITY_TWO_FACTOR and settings.SECURITY_TWO_FACTOR_REQUIRED
    mails_codes = settings.SECURITY_TWO_FACTOR and "email" in settings.SECURITY_TWO_FACTOR_ENABLED_METHODS
    has_usernames = "username" in settings.SECURITY_USER_IDENTITY_ATTRIBUTES
    storage = urlsplit(settings.RATELIMIT_STORAGE_URI)
    conditions = {
        "no-mail": not sends_mail,
        "nobody-to-ask": not sends_mail and not settings.RECOVERY_SUPPORT_CONTACT,
        "sender-unreal": sends_mail and not settings.is_local and is_loopback(sender_domain),
        "relay-in-clear": settings.sends_in_clear,
        "port-wants-tls": settings.MAIL_USE_TLS and settings.MAIL_PORT in TLS_PORTS,
        "port-wants-starttls": settings.MAIL_USE_SSL and settings.MAIL_PORT in STARTTLS_PORTS,
        "link-life-short": link_life < GREYLISTING_DELAY,
        "cooldown-outlasts-link": link_life <= settings.RECOVERY_MAIL_COOLDOWN,
        "no-cooldown": not settings.RECOVERY_MAIL_COOLDOWN,
        "alarm-too-late": link_life <= settings.RECOVERY_READY_MAIL_AGE,
        "password-length": is_password_short and not needs_two_factors,
        "second-factor-by-mail": mails_codes,
        "usernames-look-alike": has_usernames and not settings.RECOVERY_USERNAME_ASCII,
        "auth-by-name": settings.RECOVERY_AUTH in ("email", "username"),
        "limits-off": not settings.RATELIMIT_ENABLED,
        "old-keys": bool(settings.SECRET_KEY_FALLBACKS),
        "database-in-clear": _is_database_in_clear(settings.SQLALCHEMY_DATABASE_URI),
        "redis-in-clear": storage.scheme == "redis" and not is_loopback(storage.hostname or ""),
    }
    findings = _findings(conditions)
    for name in sorted(settings.library):
        if feature := missing_feature(settings, name):
            findings.append(KINDS["setting-without-feature"].found(setting=name, name=name, feature=feature))
    return findings


def check_deployment(
    settings: Settings, *, processes: int = 1, threads: int = THREADS_MIN, debug: bool = False
) -> list[Finding]:
    """Return the findings that matter for a public deployment only."""
    is_https, has_several = settings.RECOVERY_PUBLIC_URL.startswith("https:"), processes > 1
    counts_in_memory = settings.RATELIMIT_STORAGE_URI == "memory://"
    return _findings(
        {
            "url-on-this-machine": settings.is_local,
            "inbox-on": settings.RECOVERY_INBOX,
            "debug-on": debug or bool(settings.library.get("TESTING")),
            "proxies-undeclared": is_https and not settings.RECOVERY_TRUSTED_PROXIES,
            "limits-in-memory": counts_in_memory and has_several,
            "hashes-undivided": has_several and not settings.RECOVERY_HASHES_AT_ONCE,
            "threads-few": threads < THREADS_MIN,
            "no-operator": settings.sends_mail and not settings.RECOVERY_OPERATOR,
            "no-support-contact": settings.sends_mail and not settings.RECOVERY_SUPPORT_CONTACT,
            "no-security-txt": not settings.RECOVERY_SECURITY_TXT,
        }
    )


def _findings(conditions: dict[str, bool]) -> list[Finding]:
    """Return a finding of each kind whose condition is met."""
    kinds = [KINDS[id] for id, is_met in conditions.items() if is_met]
    return [kind.found(least=SOLE_FACTOR_LENGTH_MIN, threads=THREADS_MIN) for kind in kinds]


def missing_feature(settings: Settings, name: str) -> str | None:
    """Return the feature without which a setting has no effect, if that is off."""
    for feature, beginnings in by_feature("settings").items():
        if name != feature and re.match(f"SECURITY_({beginnings})", name) and not getattr(settings, feature):
            return feature
    return None


def _is_database_in_clear(uri: str) -> bool:
    url = make_url(uri)
    addresses = (url.host, url.query.get("host"), url.query.get("hostaddr"))
    hosts = [host for address in addresses if address for host in str(address).split(",")]
    is_local = all(host.startswith("/") or is_loopback(host) for host in hosts)
    has_tls = url.query.get("sslmode") in TLS_MODES
    return url.get_backend_name() == "postgresql" and not is_local and not has_tls
