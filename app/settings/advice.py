"""Checks of settings that are valid, but unwise or wrong together. Every start looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from email.utils import parseaddr
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from .checks import check
from .schema import Settings
from .urls import is_loopback

MAIL_DELAY = timedelta(minutes=10)  # greylisting relays let a mail wait for as long (RFC 6647 §5)
LENGTH_ALONE = 15  # of a password that is the only factor (NIST SP 800-63B-4 §3.1.1.2)
TLS_MODES = ("require", "verify-ca", "verify-full")


@check(
    "no-mail",
    "warning",
    "No mail is sent (MAIL_SERVER is empty).",
    "Nobody can recover an account alone: you hand each link out (manage.py users reset-link).",
    "Name a relay; or silence this.",
    "MAIL_SERVER",
)
def _no_mail(settings: Settings) -> bool:
    return not settings.sends_mail


@check(
    "nobody-to-ask",
    "error",
    "No mail is sent, and the page for a forgotten password does not know whom to ask for a link.",
    "Whoever has forgotten a password can do nothing.",
    "Set a mail address, a telephone number or a URL; or name a relay (MAIL_SERVER).",
    "RECOVERY_SUPPORT_CONTACT",
)
def _nobody_to_ask(settings: Settings) -> bool:
    return not settings.sends_mail and not settings.RECOVERY_SUPPORT_CONTACT


@check(
    "sender-unreal",
    "error",
    "Mail is sent from an address that no mail can go to.",
    "Relays refuse such mail, or take it for spam.",
    "Set the address that your relay lets you send from.",
    "MAIL_DEFAULT_SENDER",
)
def _sender_unreal(settings: Settings) -> bool:
    return settings.sends_mail and not settings.is_on_this_machine and is_loopback(_sender_domain(settings))


@check(
    "password-length",
    "warning",
    f"Passwords may have fewer than {LENGTH_ALONE} characters.",
    "Where the password is the only factor, NIST SP 800-63B-4 asks for so many.",
    f"Set {LENGTH_ALONE} or more, or ask for a second factor (SECURITY_TWO_FACTOR_REQUIRED).",
    "SECURITY_PASSWORD_LENGTH_MIN",
)
def _password_length(settings: Settings) -> bool:
    return settings.SECURITY_PASSWORD_LENGTH_MIN < LENGTH_ALONE and not (
        settings.SECURITY_TWO_FACTOR and settings.SECURITY_TWO_FACTOR_REQUIRED
    )


@check(
    "link-life-short",
    "warning",
    "Links may have expired before their mail is there.",
    "Relays that see a sender for the first time often let the mail wait for 10 minutes.",
    'Set "15 minutes" or more; "1 hour" is usual.',
    "SECURITY_RESET_PASSWORD_WITHIN",
)
def _link_life_short(settings: Settings) -> bool:
    return settings.SECURITY_RESET_PASSWORD_WITHIN < MAIL_DELAY


@check(
    "cooldown-outlasts-link",
    "warning",
    "Somebody whose link has expired may have to wait for another one.",
    "Within the cool-down an account gets one mail, and its link has ended before that is over.",
    "Set it shorter than SECURITY_RESET_PASSWORD_WITHIN.",
    "RECOVERY_MAIL_COOLDOWN",
)
def _cooldown_outlasts_link(settings: Settings) -> bool:
    return settings.RECOVERY_MAIL_COOLDOWN >= settings.SECURITY_RESET_PASSWORD_WITHIN


@check(
    "no-cooldown",
    "warning",
    "Anybody can have any account mailed again and again, up to RECOVERY_MAIL_DAILY_CAP.",
    "A flooded mailbox hides what matters, and relays block who floods.",
    'Set "5 minutes".',
    "RECOVERY_MAIL_COOLDOWN",
)
def _no_cooldown(settings: Settings) -> bool:
    return not settings.RECOVERY_MAIL_COOLDOWN


@check(
    "alarm-too-late",
    "warning",
    "/readyz says that mail is late when requests are dropped already.",
    "A request that waits longer than a link works is dropped: its mail would come as a surprise.",
    "Set it shorter than SECURITY_RESET_PASSWORD_WITHIN.",
    "RECOVERY_READY_MAIL_AGE",
)
def _alarm_too_late(settings: Settings) -> bool:
    return settings.RECOVERY_READY_MAIL_AGE >= settings.SECURITY_RESET_PASSWORD_WITHIN


@check(
    "limits-off",
    "warning",
    "Nobody is slowed down.",
    "Passwords can be guessed as fast as this machine hashes.",
    "Set true.",
    "RATELIMIT_ENABLED",
)
def _limits_off(settings: Settings) -> bool:
    return not settings.RATELIMIT_ENABLED


@check(
    "usernames-look-alike",
    "warning",
    "Usernames may hold letters of several scripts.",
    "Two that look the same can be two accounts.",
    "Set true, unless your users need other letters.",
    "RECOVERY_USERNAME_ASCII",
)
def _usernames_look_alike(settings: Settings) -> bool:
    return not settings.RECOVERY_USERNAME_ASCII and "username" in settings.SECURITY_USER_IDENTITY_ATTRIBUTES


@check(
    "relay-in-clear",
    "warning",
    "Mail goes to the relay without TLS.",
    "Whoever sees it pass can open every link.",
    "Set MAIL_USE_TLS; or silence this if the way is yours alone.",
    "RECOVERY_MAIL_IN_CLEAR",
)
def _relay_in_clear(settings: Settings) -> bool:
    return (
        settings.RECOVERY_MAIL_IN_CLEAR
        and settings.sends_mail
        and not (settings.MAIL_USE_TLS or settings.MAIL_USE_SSL or is_loopback(settings.MAIL_SERVER))
    )


@check(
    "database-in-clear",
    "warning",
    "The database is on another machine, and TLS to it is not asked for.",
    "Whoever sees it pass reads password hashes and what people typed.",
    "Add ?sslmode=verify-full to the URI.",
    "SQLALCHEMY_DATABASE_URI",
)
def _database_in_clear(settings: Settings) -> bool:
    return _is_database_in_clear(settings.SQLALCHEMY_DATABASE_URI)


@check(
    "redis-in-clear",
    "warning",
    "Redis is on another machine, without TLS.",
    "Whoever can reach it can clear all limits.",
    "Take rediss:// with a password; or silence this if the way is yours alone.",
    "RATELIMIT_STORAGE_URI",
)
def _redis_in_clear(settings: Settings) -> bool:
    return settings.RATELIMIT_STORAGE_URI.startswith("redis://") and not is_loopback(
        urlsplit(settings.RATELIMIT_STORAGE_URI).hostname or ""
    )


@check(
    "old-keys",
    "info",
    "Earlier secret keys are still valid.",
    "Whoever knows one can make sessions until it is taken out.",
    "Take each out 30 days after it was replaced: no session is older (REMEMBER_COOKIE_DURATION).",
    "SECRET_KEY_FALLBACKS",
)
def _old_keys(settings: Settings) -> bool:
    return bool(settings.SECRET_KEY_FALLBACKS)


@check(
    "second-factor-by-mail",
    "warning",
    "The second factor may be a code by mail, which goes where the link for a new password goes.",
    "Whoever reads somebody's mailbox has both.",
    'Take "email" out.',
    "SECURITY_TWO_FACTOR_ENABLED_METHODS",
)
def _second_factor_by_mail(settings: Settings) -> bool:
    return settings.SECURITY_TWO_FACTOR and "email" in settings.SECURITY_TWO_FACTOR_ENABLED_METHODS


@check(
    "client-on-another-site",
    "info",
    "A client is on another site than RECOVERY_PUBLIC_URL.",
    "Browsers send no session cookie (SameSite=Lax) from one site to another.",
    "Let it sign in with Flask-Security's auth token (docs/spa.md), or serve both under one domain.",
    "RECOVERY_CLIENTS",
)
def _client_on_another_site(settings: Settings) -> bool:
    return any(not _is_same_site(url, settings.RECOVERY_PUBLIC_URL) for url in _urls_of_clients(settings))


def _sender_domain(settings: Settings) -> str:
    return parseaddr(settings.MAIL_DEFAULT_SENDER)[1].rpartition("@")[2]


def _is_database_in_clear(uri: str) -> bool:
    url = make_url(uri)
    asked = [url.host, *(url.query.get(name, "") for name in ("host", "hostaddr"))]
    hosts = [host for text in asked if text for host in str(text).split(",")]
    is_near = all(host.startswith("/") or is_loopback(host) for host in hosts)
    is_by_tls = url.query.get("sslmode") in TLS_MODES
    return url.get_backend_name() == "postgresql" and not is_near and not is_by_tls


def _urls_of_clients(settings: Settings) -> Iterator[str]:
    """Where single-page clients are, as far as browsers go there."""
    for client in settings.RECOVERY_CLIENTS.values():
        yield from (url for url in (*client.origins, client.reset_view) if url and url.startswith("http"))
    if host := settings.handed_on.get("SECURITY_REDIRECT_HOST"):
        yield f"{urlsplit(settings.RECOVERY_PUBLIC_URL).scheme}://{host}"


def _is_same_site(one: str, other: str) -> bool:
    """Nearly as browsers see it: the same scheme, and a domain of two labels in common. They know of suffixes
    such as co.uk, too; this may therefore say yes where a browser says no."""
    sites = [(url.scheme, (url.hostname or "").split(".")[-2:]) for url in (urlsplit(one), urlsplit(other))]
    return sites[0] == sites[1]
