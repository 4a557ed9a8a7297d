"""The checks of settings that are valid, but unwise or wrong together. Each is a pure function.

`ALWAYS` is looked at by every start, and errors among it stop that start; `DEPLOYED` only by
`check --deploy`, since a demo may do what a deployment must not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from . import brand, kinds
from .findings import Finding, Kind
from .settings import Settings

MAIL_DELAY = timedelta(minutes=10)  # greylisting relays let a mail wait for as long (RFC 6647 §5)
THREADS_MAX = 15  # of one web process: SQLAlchemy's pool holds as many connections
LENGTH_ALONE = 15  # of a password that is the only factor (NIST SP 800-63B-4 §3.1.1.2)
TLS_MODES = ("require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Server:
    """What is known of the processes that serve pages, beside the settings."""

    processes: int = 1
    threads: int = 1
    forwarded_allow_ips: str = ""
    debug: bool = False
    open_secrets: tuple[tuple[str, str], ...] = ()  # settings, and files of theirs that everybody can read


Rule = tuple[Kind, Callable[[Settings, Server], Any]]

ALWAYS: list[Rule] = [
    (
        Kind(
            "no-mail",
            "warning",
            "No mail is sent (MAIL_SERVER is empty).",
            "Nobody can recover an account alone: you hand each link out (manage.py users reset-link).",
            "Name a relay; or silence this.",
            "MAIL_SERVER",
        ),
        lambda it, _: not it.sends_mail,
    ),
    (
        Kind(
            "nobody-to-ask",
            "error",
            "No mail is sent, and the page for a forgotten password does not know whom to ask for a link.",
            "Whoever has forgotten a password can do nothing.",
            "Set a mail address, a telephone number or a URL; or name a relay (MAIL_SERVER).",
            "RECOVERY_SUPPORT_CONTACT",
        ),
        lambda it, _: not it.sends_mail and not it.RECOVERY_SUPPORT_CONTACT,
    ),
    (
        Kind(
            "sender-unreal",
            "error",
            "Mail is sent from an address that no mail can go to.",
            "Relays refuse such mail, or take it for spam.",
            "Set the address that your relay lets you send from.",
            "MAIL_DEFAULT_SENDER",
        ),
        lambda it, _: it.sends_mail and not is_here(it) and kinds.is_loopback(_sender_domain(it)),
    ),
    (
        Kind(
            "password-length",
            "warning",
            f"Passwords may have fewer than {LENGTH_ALONE} characters.",
            "Where the password is the only factor, NIST SP 800-63B-4 asks for so many.",
            f"Set {LENGTH_ALONE} or more, or ask for a second factor (SECURITY_TWO_FACTOR_REQUIRED).",
            "SECURITY_PASSWORD_LENGTH_MIN",
        ),
        lambda it, _: (
            it.SECURITY_PASSWORD_LENGTH_MIN < LENGTH_ALONE
            and not (it.SECURITY_TWO_FACTOR and it.SECURITY_TWO_FACTOR_REQUIRED)
        ),
    ),
    (
        Kind(
            "link-life-short",
            "warning",
            "Links may have expired before their mail is there.",
            "Relays that see a sender for the first time often let the mail wait for 10 minutes.",
            'Set "15 minutes" or more; "1 hour" is usual.',
            "SECURITY_RESET_PASSWORD_WITHIN",
        ),
        lambda it, _: it.SECURITY_RESET_PASSWORD_WITHIN < MAIL_DELAY,
    ),
    (
        Kind(
            "cooldown-outlasts-link",
            "warning",
            "Somebody whose link has expired may have to wait for another one.",
            "Within the cool-down an account gets one mail, and its link has ended before that is over.",
            "Set it shorter than SECURITY_RESET_PASSWORD_WITHIN.",
            "RECOVERY_MAIL_COOLDOWN",
        ),
        lambda it, _: it.RECOVERY_MAIL_COOLDOWN >= it.SECURITY_RESET_PASSWORD_WITHIN,
    ),
    (
        Kind(
            "no-cooldown",
            "warning",
            "Anybody can have any account mailed again and again, up to RECOVERY_MAIL_DAILY_CAP.",
            "A flooded mailbox hides what matters, and relays block who floods.",
            'Set "5 minutes".',
            "RECOVERY_MAIL_COOLDOWN",
        ),
        lambda it, _: not it.RECOVERY_MAIL_COOLDOWN,
    ),
    (
        Kind(
            "accent-pale",
            "warning",
            "Text in RECOVERY_ACCENT would be too pale to be read.",
            "Links are drawn in a darker shade of it, maybe none of your brand's (WCAG 2.2 SC 1.4.3).",
            f"Take a darker one: with a contrast of {brand.TEXT_CONTRAST}:1 to {brand.LIGHT}.",
            "RECOVERY_ACCENT",
        ),
        lambda it, _: brand.contrast(it.RECOVERY_ACCENT, brand.LIGHT) < brand.TEXT_CONTRAST,
    ),
    (
        Kind(
            "alarm-too-late",
            "warning",
            "/readyz says that mail is late when requests are dropped already.",
            "A request that waits longer than a link works is dropped: its mail would come as a surprise.",
            "Set it shorter than SECURITY_RESET_PASSWORD_WITHIN.",
            "RECOVERY_READY_MAIL_AGE",
        ),
        lambda it, _: it.RECOVERY_READY_MAIL_AGE >= it.SECURITY_RESET_PASSWORD_WITHIN,
    ),
    (
        Kind(
            "limits-off",
            "warning",
            "Nobody is slowed down.",
            "Passwords can be guessed as fast as this machine hashes.",
            "Set true.",
            "RATELIMIT_ENABLED",
        ),
        lambda it, _: not it.RATELIMIT_ENABLED,
    ),
    (
        Kind(
            "usernames-look-alike",
            "warning",
            "Usernames may hold letters of several scripts.",
            "Two that look the same can be two accounts.",
            "Set true, unless your users need other letters.",
            "RECOVERY_USERNAME_ASCII",
        ),
        lambda it, _: not it.RECOVERY_USERNAME_ASCII and "username" in it.SECURITY_USER_IDENTITY_ATTRIBUTES,
    ),
    (
        Kind(
            "relay-in-clear",
            "warning",
            "Mail goes to the relay without TLS.",
            "Whoever sees it pass can open every link.",
            "Set MAIL_USE_TLS; or silence this if the way is yours alone.",
            "RECOVERY_MAIL_IN_CLEAR",
        ),
        lambda it, _: (
            it.RECOVERY_MAIL_IN_CLEAR
            and it.sends_mail
            and not (it.MAIL_USE_TLS or it.MAIL_USE_SSL or kinds.is_loopback(it.MAIL_SERVER))
        ),
    ),
    (
        Kind(
            "database-in-clear",
            "warning",
            "The database is on another machine, and TLS to it is not asked for.",
            "Whoever sees it pass reads password hashes and what people typed.",
            "Add ?sslmode=verify-full to the URI.",
            "SQLALCHEMY_DATABASE_URI",
        ),
        lambda it, _: _is_database_in_clear(it.SQLALCHEMY_DATABASE_URI),
    ),
    (
        Kind(
            "redis-in-clear",
            "warning",
            "Redis is on another machine, without TLS.",
            "Whoever can reach it can clear all limits.",
            "Take rediss:// with a password; or silence this if the way is yours alone.",
            "RATELIMIT_STORAGE_URI",
        ),
        lambda it, _: (
            it.RATELIMIT_STORAGE_URI.startswith("redis://")
            and not kinds.is_loopback(urlsplit(it.RATELIMIT_STORAGE_URI).hostname or "")
        ),
    ),
    (
        Kind(
            "old-keys",
            "info",
            "Earlier secret keys are still valid.",
            "Whoever knows one can make sessions until it is taken out.",
            "Take each out 30 days after it was replaced: no session is older (REMEMBER_COOKIE_DURATION).",
            "SECRET_KEY_FALLBACKS",
        ),
        lambda it, _: it.SECRET_KEY_FALLBACKS,
    ),
    (
        Kind(
            "second-factor-by-mail",
            "warning",
            "The second factor may be a code by mail, which goes where the link for a new password goes.",
            "Whoever reads somebody's mailbox has both.",
            'Take "email" out.',
            "SECURITY_TWO_FACTOR_ENABLED_METHODS",
        ),
        lambda it, _: it.SECURITY_TWO_FACTOR and "email" in it.SECURITY_TWO_FACTOR_ENABLED_METHODS,
    ),
    (
        Kind(
            "client-on-another-site",
            "info",
            "A client is on another site than RECOVERY_PUBLIC_URL.",
            "Browsers send no session cookie (SameSite=Lax) from one site to another.",
            "Let it sign in with Flask-Security's auth token (docs/spa.md), or serve both under one domain.",
            "RECOVERY_CLIENTS",
        ),
        lambda it, _: any(not _is_same_site(url, it.RECOVERY_PUBLIC_URL) for url in _urls_of_clients(it)),
    ),
]

DEPLOYED: list[Rule] = [
    (
        Kind(
            "url-on-this-machine",
            "error",
            "Every link in every mail leads to the machine of whoever opens it.",
            "Nobody but you can reset a password.",
            "Set the address at which users reach Sparekey.",
            "RECOVERY_PUBLIC_URL",
        ),
        lambda it, _: is_here(it),
    ),
    (
        Kind(
            "inbox-on",
            "error",
            "All mail stays on this machine, on a page that everybody can read.",
            "That is for a demo: whoever reads it can take every account.",
            "Take it out.",
            "RECOVERY_INBOX",
        ),
        lambda it, _: it.RECOVERY_INBOX,
    ),
    (
        Kind(
            "debug-on",
            "error",
            "Errors are shown to everybody (FLASK_DEBUG or TESTING).",
            "They show code, settings and data.",
            "Take it out.",
        ),
        lambda it, server: server.debug or it.handed_on.get("TESTING"),
    ),
    (
        Kind(
            "proxies-undeclared",
            "warning",
            "The public URL is https, and no proxy is declared.",
            "If a proxy speaks TLS for Sparekey, everybody seems to come from it: one limit for all, and no"
            " address in the audit trail.",
            "Set how many proxies stand in front; or silence this if gunicorn speaks TLS itself.",
            "RECOVERY_TRUSTED_PROXIES",
        ),
        lambda it, _: not it.RECOVERY_TRUSTED_PROXIES and it.RECOVERY_PUBLIC_URL.startswith("https:"),
    ),
    (
        Kind(
            "limits-in-memory",
            "warning",
            "There are several web processes, and each counts for itself.",
            "Whoever asks all of them may ask that many times as often.",
            'Name a Redis, such as "redis://127.0.0.1:6379/0".',
            "RATELIMIT_STORAGE_URI",
        ),
        lambda it, server: (
            it.RATELIMIT_STORAGE_URI == "memory://" and (server.processes > 1 or it.RECOVERY_MACHINES > 1)
        ),
    ),
    (
        Kind(
            "hashes-undivided",
            "warning",
            "There are several web processes, and each hashes on every core.",
            "Under load they slow each other down, and need more memory.",
            "Divide the machine's cores by the number of processes.",
            "RECOVERY_HASHES_AT_ONCE",
        ),
        lambda it, server: not it.RECOVERY_HASHES_AT_ONCE and server.processes > 1,
    ),
    (
        Kind(
            "threads-many",
            "warning",
            f"A web process has more than {THREADS_MAX} threads.",
            f"It keeps {THREADS_MAX} connections to the database; under load the others wait for one.",
            f"Give gunicorn --threads {THREADS_MAX} or fewer, and more --workers.",
        ),
        lambda _, server: server.threads > THREADS_MAX,
    ),
    (
        Kind(
            "forwarded-from-anybody",
            "warning",
            "gunicorn believes forwarding headers of everybody (forwarded_allow_ips is *).",
            "Sparekey does not need it: RECOVERY_TRUSTED_PROXIES says what is believed.",
            "Take --forwarded-allow-ips and FORWARDED_ALLOW_IPS out.",
        ),
        lambda _, server: server.forwarded_allow_ips == "*",
    ),
    (
        Kind(
            "no-operator",
            "warning",
            "Nobody is told of bursts, and of people who say that a change was not theirs.",
            "The log says so, but who reads it in time?",
            "Set an address that somebody reads.",
            "RECOVERY_OPERATOR",
        ),
        lambda it, _: it.sends_mail and not it.RECOVERY_OPERATOR,
    ),
    (
        Kind(
            "no-support-contact",
            "warning",
            "Pages and mails do not say whom to ask for help.",
            "Whoever has lost the mailbox, too, does not know how to go on.",
            "Set a mail address, a telephone number or a URL.",
            "RECOVERY_SUPPORT_CONTACT",
        ),
        lambda it, _: it.sends_mail and not it.RECOVERY_SUPPORT_CONTACT,
    ),
    (
        Kind(
            "no-security-txt",
            "info",
            "There is no /.well-known/security.txt.",
            "Whoever finds a weakness does not know whom to tell (RFC 9116).",
            "Write one, and name the file.",
            "RECOVERY_SECURITY_TXT",
        ),
        lambda it, _: not it.RECOVERY_SECURITY_TXT,
    ),
]

SECRETS_READABLE = Kind(
    "secrets-readable",
    "warning",
    "{name} stands in a file that everybody on this machine can read.",
    "Whoever has it can make sessions, send your mail, or read your database.",
    "chmod 600 {path}, and give it to the user that Sparekey runs as.",
)

KINDS = [*(kind for kind, _ in (*ALWAYS, *DEPLOYED)), SECRETS_READABLE]


def of_settings(settings: Settings) -> list[Finding]:
    """What every start looks at."""
    return [kind.found() for kind, is_so in ALWAYS if is_so(settings, Server())]


def of_deployment(settings: Settings, server: Server) -> list[Finding]:
    """What `check --deploy` looks at besides."""
    found = [kind.found() for kind, is_so in DEPLOYED if is_so(settings, server)]
    return found + [
        SECRETS_READABLE.found(where=path, setting=name, name=name, path=path)
        for name, path in server.open_secrets
    ]


def is_here(settings: Settings) -> bool:
    """Whether the public URL is one of this machine: a demo, or somebody trying things out."""
    return kinds.is_loopback(urlsplit(settings.RECOVERY_PUBLIC_URL).hostname or "")


def _sender_domain(settings: Settings) -> str:
    return parseaddr(settings.MAIL_DEFAULT_SENDER)[1].rpartition("@")[2]


def _is_database_in_clear(uri: str) -> bool:
    url = make_url(uri)
    asked = [url.host, *(url.query.get(name, "") for name in ("host", "hostaddr"))]
    hosts = [host for text in asked if text for host in str(text).split(",")]
    is_near = all(host.startswith("/") or kinds.is_loopback(host) for host in hosts)
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
