"""Checks of a deployment: what a demo may do and a service that people rely on must not."""

from __future__ import annotations

from .checks import Finding, Kind, Server, deployment_check
from .schema import Settings

THREADS_MAX = 15  # of one web process: SQLAlchemy's pool holds as many connections


@deployment_check(
    "url-on-this-machine",
    "error",
    "Every link in every mail leads to the machine of whoever opens it.",
    "Nobody but you can reset a password.",
    "Set the address at which users reach Sparekey.",
    "RECOVERY_PUBLIC_URL",
)
def _url_on_this_machine(settings: Settings, _server: Server) -> bool:
    return settings.is_on_this_machine


@deployment_check(
    "inbox-on",
    "error",
    "All mail stays on this machine, on a page that everybody can read.",
    "That is for a demo: whoever reads it can take every account.",
    "Take it out.",
    "RECOVERY_INBOX",
)
def _inbox_on(settings: Settings, _server: Server) -> bool:
    return settings.RECOVERY_INBOX


@deployment_check(
    "debug-on",
    "error",
    "Errors are shown to everybody (FLASK_DEBUG or TESTING).",
    "They show code, settings and data.",
    "Take it out.",
)
def _debug_on(settings: Settings, server: Server) -> bool:
    return server.debug or bool(settings.handed_on.get("TESTING"))


@deployment_check(
    "proxies-undeclared",
    "warning",
    "The public URL is https, and no proxy is declared.",
    "If a proxy speaks TLS for Sparekey, everybody seems to come from it: one limit for all, and no"
    " address in the audit trail.",
    "Set how many proxies stand in front; or silence this if gunicorn speaks TLS itself.",
    "RECOVERY_TRUSTED_PROXIES",
)
def _proxies_undeclared(settings: Settings, _server: Server) -> bool:
    return not settings.RECOVERY_TRUSTED_PROXIES and settings.RECOVERY_PUBLIC_URL.startswith("https:")


@deployment_check(
    "limits-in-memory",
    "warning",
    "There are several web processes, and each counts for itself.",
    "Whoever asks all of them may ask that many times as often.",
    'Name a Redis, such as "redis://127.0.0.1:6379/0".',
    "RATELIMIT_STORAGE_URI",
)
def _limits_in_memory(settings: Settings, server: Server) -> bool:
    return settings.RATELIMIT_STORAGE_URI == "memory://" and (
        server.processes > 1 or settings.RECOVERY_MACHINES > 1
    )


@deployment_check(
    "hashes-undivided",
    "warning",
    "There are several web processes, and each hashes on every core.",
    "Under load they slow each other down, and need more memory.",
    "Divide the machine's cores by the number of processes.",
    "RECOVERY_HASHES_AT_ONCE",
)
def _hashes_undivided(settings: Settings, server: Server) -> bool:
    return not settings.RECOVERY_HASHES_AT_ONCE and server.processes > 1


@deployment_check(
    "threads-many",
    "warning",
    f"A web process has more than {THREADS_MAX} threads.",
    f"It keeps {THREADS_MAX} connections to the database; under load the others wait for one.",
    f"Give gunicorn --threads {THREADS_MAX} or fewer, and more --workers.",
)
def _threads_many(_settings: Settings, server: Server) -> bool:
    return server.threads > THREADS_MAX


@deployment_check(
    "forwarded-from-anybody",
    "warning",
    "gunicorn believes forwarding headers of everybody (forwarded_allow_ips is *).",
    "Sparekey does not need it: RECOVERY_TRUSTED_PROXIES says what is believed.",
    "Take --forwarded-allow-ips and FORWARDED_ALLOW_IPS out.",
)
def _forwarded_from_anybody(_settings: Settings, server: Server) -> bool:
    return server.forwarded_allow_ips == "*"


@deployment_check(
    "no-operator",
    "warning",
    "Nobody is told of people who say that a change was not theirs.",
    "The log says so, but who reads it in time?",
    "Set an address that somebody reads.",
    "RECOVERY_OPERATOR",
)
def _no_operator(settings: Settings, _server: Server) -> bool:
    return settings.sends_mail and not settings.RECOVERY_OPERATOR


@deployment_check(
    "no-support-contact",
    "warning",
    "Pages and mails do not say whom to ask for help.",
    "Whoever has lost the mailbox, too, does not know how to go on.",
    "Set a mail address, a telephone number or a URL.",
    "RECOVERY_SUPPORT_CONTACT",
)
def _no_support_contact(settings: Settings, _server: Server) -> bool:
    return settings.sends_mail and not settings.RECOVERY_SUPPORT_CONTACT


@deployment_check(
    "no-security-txt",
    "info",
    "There is no /.well-known/security.txt.",
    "Whoever finds a weakness does not know whom to tell (RFC 9116).",
    "Write one, and name the file.",
    "RECOVERY_SECURITY_TXT",
)
def _no_security_txt(settings: Settings, _server: Server) -> bool:
    return not settings.RECOVERY_SECURITY_TXT


SECRETS_READABLE = Kind(
    "secrets-readable",
    "warning",
    "{name} stands in a file that everybody on this machine can read.",
    "Whoever has it can make sessions, send your mail, or read your database.",
    "chmod 600 {path}, and give it to the user that Sparekey runs as.",
)


def of_secret_files(server: Server) -> list[Finding]:
    """Return a finding for each secret in a file that everybody on the machine can read."""
    return [
        SECRETS_READABLE.found(where=path, setting=name, name=name, path=path)
        for name, path in server.open_secrets
    ]
