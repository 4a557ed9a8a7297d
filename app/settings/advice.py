"""Checks of settings that are valid, but unwise or wrong together. `findings.toml` has the texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parseaddr
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from .findings import KINDS, Finding
from .schema import Settings
from .urls import is_loopback

MAIL_DELAY = timedelta(minutes=10)  # greylisting relays let a mail wait for as long (RFC 6647 §5)
LENGTH_ALONE = 15  # of a password that is the only factor (NIST SP 800-63B-4 §3.1.1.2)
THREADS_MAX = 15  # of one web process: SQLAlchemy's pool holds as many connections
TLS_MODES = ("require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Server:
    """The processes that serve pages, as far as they are known beside the settings."""

    processes: int = 1
    threads: int = 1
    forwarded_allow_ips: str = ""
    debug: bool = False
    open_secrets: tuple[tuple[str, str], ...] = ()  # settings, and files of theirs that everybody can read


def of_settings(settings: Settings) -> list[Finding]:
    """Return the findings for every start."""
    return [*_mail(settings), *_times(settings), *_sign_in(settings), *_other_machines(settings)]


def of_deployment(settings: Settings, server: Server) -> list[Finding]:
    """Return the findings for a deployment that people rely on. A demo may do more."""
    return [*_public_site(settings, server), *_server(settings, server)]


def _mail(settings: Settings) -> Iterator[Finding]:
    if not settings.sends_mail:
        yield KINDS["no-mail"].found()
        if not settings.RECOVERY_SUPPORT_CONTACT:
            yield KINDS["nobody-to-ask"].found()
    else:
        sender_domain = parseaddr(settings.MAIL_DEFAULT_SENDER)[1].rpartition("@")[2]
        if not settings.is_on_this_machine and is_loopback(sender_domain):
            yield KINDS["sender-unreal"].found()
        is_secure = settings.MAIL_USE_TLS or settings.MAIL_USE_SSL or is_loopback(settings.MAIL_SERVER)
        if settings.RECOVERY_MAIL_IN_CLEAR and not is_secure:
            yield KINDS["relay-in-clear"].found()


def _times(settings: Settings) -> Iterator[Finding]:
    link_life = settings.SECURITY_RESET_PASSWORD_WITHIN
    if link_life < MAIL_DELAY:
        yield KINDS["link-life-short"].found()
    if link_life <= settings.RECOVERY_MAIL_COOLDOWN:
        yield KINDS["cooldown-outlasts-link"].found()
    if not settings.RECOVERY_MAIL_COOLDOWN:
        yield KINDS["no-cooldown"].found()
    if link_life <= settings.RECOVERY_READY_MAIL_AGE:
        yield KINDS["alarm-too-late"].found()


def _sign_in(settings: Settings) -> Iterator[Finding]:
    has_two_factors = settings.SECURITY_TWO_FACTOR and settings.SECURITY_TWO_FACTOR_REQUIRED
    if settings.SECURITY_PASSWORD_LENGTH_MIN < LENGTH_ALONE and not has_two_factors:
        yield KINDS["password-length"].found(least=LENGTH_ALONE)
    if settings.SECURITY_TWO_FACTOR and "email" in settings.SECURITY_TWO_FACTOR_ENABLED_METHODS:
        yield KINDS["second-factor-by-mail"].found()
    if "username" in settings.SECURITY_USER_IDENTITY_ATTRIBUTES and not settings.RECOVERY_USERNAME_ASCII:
        yield KINDS["usernames-look-alike"].found()
    if not settings.RATELIMIT_ENABLED:
        yield KINDS["limits-off"].found()
    if settings.SECRET_KEY_FALLBACKS:
        yield KINDS["old-keys"].found()


def _other_machines(settings: Settings) -> Iterator[Finding]:
    if _is_database_in_clear(settings.SQLALCHEMY_DATABASE_URI):
        yield KINDS["database-in-clear"].found()
    limits = urlsplit(settings.RATELIMIT_STORAGE_URI)
    if limits.scheme == "redis" and not is_loopback(limits.hostname or ""):
        yield KINDS["redis-in-clear"].found()
    own_site = _site_of(settings.RECOVERY_PUBLIC_URL)
    if any(_site_of(url) != own_site for url in _client_urls(settings)):
        yield KINDS["client-on-another-site"].found()


def _is_database_in_clear(uri: str) -> bool:
    url = make_url(uri)
    places = (url.host, url.query.get("host"), url.query.get("hostaddr"))
    hosts = [host for place in places if place for host in str(place).split(",")]
    is_near = all(host.startswith("/") or is_loopback(host) for host in hosts)
    is_by_tls = url.query.get("sslmode") in TLS_MODES
    return url.get_backend_name() == "postgresql" and not is_near and not is_by_tls


def _client_urls(settings: Settings) -> Iterator[str]:
    """Yield where browsers run single-page clients."""
    for client in settings.RECOVERY_CLIENTS.values():
        yield from (url for url in (*client.origins, client.reset_view) if url and url.startswith("http"))
    if host := settings.handed_on.get("SECURITY_REDIRECT_HOST"):
        yield f"{urlsplit(settings.RECOVERY_PUBLIC_URL).scheme}://{host}"


def _site_of(url: str) -> tuple[str, list[str]]:
    """Return nearly what browsers take for the site: the scheme, and a domain of two labels.

    They know of suffixes such as co.uk, too, so some sites of theirs are one here.
    """
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").split(".")[-2:]


def _public_site(settings: Settings, server: Server) -> Iterator[Finding]:
    if settings.is_on_this_machine:
        yield KINDS["url-on-this-machine"].found()
    if settings.RECOVERY_PUBLIC_URL.startswith("https:") and not settings.RECOVERY_TRUSTED_PROXIES:
        yield KINDS["proxies-undeclared"].found()
    if settings.RECOVERY_INBOX:
        yield KINDS["inbox-on"].found()
    if server.debug or settings.handed_on.get("TESTING"):
        yield KINDS["debug-on"].found()
    if settings.sends_mail and not settings.RECOVERY_OPERATOR:
        yield KINDS["no-operator"].found()
    if settings.sends_mail and not settings.RECOVERY_SUPPORT_CONTACT:
        yield KINDS["no-support-contact"].found()
    if not settings.RECOVERY_SECURITY_TXT:
        yield KINDS["no-security-txt"].found()


def _server(settings: Settings, server: Server) -> Iterator[Finding]:
    counts_apart = settings.RATELIMIT_STORAGE_URI == "memory://"
    if counts_apart and (server.processes > 1 or settings.RECOVERY_MACHINES > 1):
        yield KINDS["limits-in-memory"].found()
    if server.processes > 1 and not settings.RECOVERY_HASHES_AT_ONCE:
        yield KINDS["hashes-undivided"].found()
    if server.threads > THREADS_MAX:
        yield KINDS["threads-many"].found(most=THREADS_MAX)
    if server.forwarded_allow_ips == "*":
        yield KINDS["forwarded-from-anybody"].found()
    for name, path in server.open_secrets:
        yield KINDS["secrets-readable"].found(where=path, setting=name, name=name, path=path)
