"""Configuration checks of valid settings that are unwise or incomplete. `findings.toml` has the texts."""

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

GREYLISTING_DELAY = timedelta(minutes=10)  # RFC 6647 §5
SOLE_FACTOR_LENGTH_MIN = 15  # NIST SP 800-63B-4 §3.1.1.2
THREADS_MAX = 15  # the size of SQLAlchemy's connection pool, with its overflow
TLS_MODES = ("require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Server:
    """The web processes, as far as a check can see them."""

    processes: int = 1
    threads: int = 1
    forwarded_allow_ips: str = ""
    debug: bool = False
    open_secrets: tuple[
        tuple[str, str], ...
    ] = ()  # settings with the files that every user of the machine can read


def check_settings(settings: Settings) -> list[Finding]:
    """Return the findings that matter for every start."""
    return [*_mail(settings), *_times(settings), *_sign_in(settings), *_other_machines(settings)]


def check_deployment(settings: Settings, server: Server) -> list[Finding]:
    """Return the findings that matter for a public deployment only."""
    return [*_public_site(settings, server), *_server(settings, server)]


def _mail(settings: Settings) -> Iterator[Finding]:
    if not settings.sends_mail:
        yield KINDS["no-mail"].found()
        if not settings.RECOVERY_SUPPORT_CONTACT:
            yield KINDS["nobody-to-ask"].found()
    else:
        sender_domain = parseaddr(settings.MAIL_DEFAULT_SENDER)[1].rpartition("@")[2]
        if not settings.is_local and is_loopback(sender_domain):
            yield KINDS["sender-unreal"].found()
        is_secure = settings.MAIL_USE_TLS or settings.MAIL_USE_SSL or is_loopback(settings.MAIL_SERVER)
        if settings.RECOVERY_MAIL_IN_CLEAR and not is_secure:
            yield KINDS["relay-in-clear"].found()


def _times(settings: Settings) -> Iterator[Finding]:
    link_life = settings.SECURITY_RESET_PASSWORD_WITHIN
    if link_life < GREYLISTING_DELAY:
        yield KINDS["link-life-short"].found()
    if link_life <= settings.RECOVERY_MAIL_COOLDOWN:
        yield KINDS["cooldown-outlasts-link"].found()
    if not settings.RECOVERY_MAIL_COOLDOWN:
        yield KINDS["no-cooldown"].found()
    if link_life <= settings.RECOVERY_READY_MAIL_AGE:
        yield KINDS["alarm-too-late"].found()


def _sign_in(settings: Settings) -> Iterator[Finding]:
    has_two_factors = settings.SECURITY_TWO_FACTOR and settings.SECURITY_TWO_FACTOR_REQUIRED
    if settings.SECURITY_PASSWORD_LENGTH_MIN < SOLE_FACTOR_LENGTH_MIN and not has_two_factors:
        yield KINDS["password-length"].found(least=SOLE_FACTOR_LENGTH_MIN)
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
    addresses = (url.host, url.query.get("host"), url.query.get("hostaddr"))
    hosts = [host for address in addresses if address for host in str(address).split(",")]
    is_local = all(host.startswith("/") or is_loopback(host) for host in hosts)
    has_tls = url.query.get("sslmode") in TLS_MODES
    return url.get_backend_name() == "postgresql" and not is_local and not has_tls


def _client_urls(settings: Settings) -> Iterator[str]:
    """Yield URLs on the sites where browsers run single-page clients."""
    for client in settings.RECOVERY_CLIENTS.values():
        yield from (url for url in (*client.origins, client.reset_view) if url and url.startswith("http"))
    if host := settings.library.get("SECURITY_REDIRECT_HOST"):
        yield f"{urlsplit(settings.RECOVERY_PUBLIC_URL).scheme}://{host}"


def _site_of(url: str) -> tuple[str, list[str]]:
    """Return the scheme and the last two labels of the domain, which approximate a browser's site.

    Browsers know public suffixes such as co.uk as well.
    """
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").split(".")[-2:]


def _public_site(settings: Settings, server: Server) -> Iterator[Finding]:
    if settings.is_local:
        yield KINDS["url-on-this-machine"].found()
    if settings.RECOVERY_PUBLIC_URL.startswith("https:") and not settings.RECOVERY_TRUSTED_PROXIES:
        yield KINDS["proxies-undeclared"].found()
    if settings.RECOVERY_INBOX:
        yield KINDS["inbox-on"].found()
    if server.debug or settings.library.get("TESTING"):
        yield KINDS["debug-on"].found()
    if settings.sends_mail and not settings.RECOVERY_OPERATOR:
        yield KINDS["no-operator"].found()
    if settings.sends_mail and not settings.RECOVERY_SUPPORT_CONTACT:
        yield KINDS["no-support-contact"].found()
    if not settings.RECOVERY_SECURITY_TXT:
        yield KINDS["no-security-txt"].found()


def _server(settings: Settings, server: Server) -> Iterator[Finding]:
    is_in_memory = settings.RATELIMIT_STORAGE_URI == "memory://"
    if is_in_memory and (server.processes > 1 or settings.RECOVERY_MACHINES > 1):
        yield KINDS["limits-in-memory"].found()
    if server.processes > 1 and not settings.RECOVERY_HASHES_AT_ONCE:
        yield KINDS["hashes-undivided"].found()
    if server.threads > THREADS_MAX:
        yield KINDS["threads-many"].found(most=THREADS_MAX)
    if server.forwarded_allow_ips == "*":
        yield KINDS["forwarded-from-anybody"].found()
    for name, path in server.open_secrets:
        yield KINDS["secrets-readable"].found(where=path, setting=name, name=name, path=path)
