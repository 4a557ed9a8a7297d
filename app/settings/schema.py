"""Every setting of Sparekey's own, with its type and limits."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from . import protection, types, urls
from .durations import Duration, PositiveDuration, at_least, at_most

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Kept = Annotated[Duration, *at_least("31 days", "so long people may say that it was not them")]


LEASE_MARGIN = timedelta(seconds=20)  # to write the outcome before another worker may claim the message


class Settings(BaseModel):
    """Every setting with its type and limits. Meanings and defaults are in `config/default.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RECOVERY_SITE_NAME: types.Name
    RECOVERY_PUBLIC_URL: urls.PublicUrl
    RECOVERY_SUPPORT_CONTACT: types.Line
    RECOVERY_LOGO: types.Picture
    RECOVERY_ACCENT: types.Colour
    RECOVERY_TRUSTED_PROXIES: NotNegative
    RECOVERY_TEMPLATE_DIR: types.Directory
    RECOVERY_CLIENTS: urls.Clients
    SECRET_KEY: protection.Secret
    SECRET_KEY_FALLBACKS: protection.Secrets
    SECURITY_PASSWORD_SALT: protection.Secret
    SECURITY_RESET_PASSWORD_WITHIN: Annotated[Duration, *at_most("24 hours", "NIST SP 800-63B-4")]
    SECURITY_USER_IDENTITY_ATTRIBUTES: types.Identities
    SECURITY_PHONE_REGION_DEFAULT: types.Region
    SECURITY_USERNAME_ALLOWED_CHARS: Annotated[types.Words, Field(min_length=1)]
    RECOVERY_USERNAME_ASCII: bool
    BABEL_DEFAULT_LOCALE: types.Language
    RECOVERY_LANGUAGES: types.Languages
    RECOVERY_TRANSLATION_DIR: types.Directory
    BABEL_DEFAULT_TIMEZONE: types.TimeZone
    MAIL_SERVER: urls.MailServer
    MAIL_PORT: types.Port
    MAIL_USE_TLS: bool
    MAIL_USE_SSL: bool
    MAIL_USERNAME: str | None = None
    MAIL_PASSWORD: str | None = None
    RECOVERY_MAIL_CA: types.Certificates
    RECOVERY_MAIL_IN_CLEAR: bool
    MAIL_DEFAULT_SENDER: urls.Sender
    RECOVERY_DKIM_SELECTOR: types.Label
    MAIL_TIMEOUT: PositiveDuration
    RECOVERY_MAIL_COOLDOWN: Duration
    RECOVERY_MAIL_DAILY_CAP: Positive
    RECOVERY_MAIL_HOURLY_MAX: Positive
    RECOVERY_MAIL_ATTEMPTS: Positive
    RECOVERY_MAIL_LEASE: PositiveDuration
    RECOVERY_MAIL_WAITING_MAX: Positive
    SECURITY_PASSWORD_LENGTH_MIN: Annotated[int, Field(ge=8, le=64)]
    RECOVERY_PASSWORD_LENGTH_MAX: Annotated[int, Field(ge=64, le=4096)]
    SECURITY_PASSWORD_CHECK_BREACHED: protection.BreachCheck
    RECOVERY_BREACHES_URL: urls.PublicUrl
    SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS: protection.Argon2Options
    RECOVERY_HASHES_AT_ONCE: NotNegative
    SECURITY_CHANGEABLE: bool
    SECURITY_CHANGE_EMAIL: bool
    SECURITY_CONFIRMABLE: bool
    SECURITY_REGISTERABLE: bool
    SECURITY_USERNAME_RECOVERY: bool
    SECURITY_TRACKABLE: bool
    SECURITY_TWO_FACTOR: bool
    SECURITY_TWO_FACTOR_REQUIRED: bool
    SECURITY_TWO_FACTOR_ENABLED_METHODS: types.Words
    SECURITY_SMS_SERVICE: types.SmsService
    SECURITY_MULTI_FACTOR_RECOVERY_CODES: bool
    SECURITY_UNIFIED_SIGNIN: bool
    SECURITY_US_ENABLED_METHODS: types.Words
    SECURITY_WEBAUTHN: bool
    SECURITY_TOTP_SECRETS: protection.NumberedSecrets
    SECURITY_TOTP_ISSUER: str
    SECURITY_FRESHNESS: Annotated[Duration, *at_most("24 hours", "or the password is asked for too late")]
    SECURITY_FRESHNESS_GRACE_PERIOD: Annotated[Duration, *at_most("1 hour", "likewise")]
    REMEMBER_COOKIE_DURATION: Annotated[Duration, *at_most("30 days", "NIST SP 800-63B-4")]
    RATELIMIT_ENABLED: bool
    RATELIMIT_STORAGE_URI: urls.Storage
    RECOVERY_LIMIT_SOURCE: protection.Rates
    RECOVERY_LIMIT_IDENTITY: protection.Rates
    RECOVERY_LIMIT_LINK: protection.Rates
    RECOVERY_LIMIT_BAD_LINKS: protection.Rates
    MAX_CONTENT_LENGTH: Annotated[int, Field(ge=4096)]
    SQLALCHEMY_DATABASE_URI: urls.Database
    RECOVERY_MACHINES: Positive
    RECOVERY_WORKER_POLL: Annotated[Duration, *at_most("30 seconds", "or /readyz takes it for gone")]
    RECOVERY_READY_MAIL_AGE: PositiveDuration
    RECOVERY_KEEP_LINKS: Kept
    RECOVERY_KEEP_MAILS: Kept
    RECOVERY_KEEP_DEAD_LETTERS: Kept
    RECOVERY_KEEP_EVENTS: Kept
    RECOVERY_METRICS_TOKEN: protection.SecretOrNothing
    RECOVERY_LOG_FORMAT: Literal["text", "json"]
    RECOVERY_OPERATOR: urls.Address
    RECOVERY_SECURITY_TXT: types.ReadableFile
    RECOVERY_SILENCED: types.Words
    RECOVERY_INBOX: bool

    handed_on: dict[str, Any] = Field(default_factory=dict)  # other libraries' settings, by name
    origins: dict[str, str] = Field(default_factory=dict)  # where each value came from

    @property
    def sends_mail(self) -> bool:
        """True if there is anywhere to send it: an admin may hand links out instead."""
        return bool(self.MAIL_SERVER or self.RECOVERY_INBOX)

    @property
    def sending_time(self) -> timedelta:
        """How long after its claim a worker may try to send a message."""
        return self.RECOVERY_MAIL_LEASE - LEASE_MARGIN

    @property
    def is_on_this_machine(self) -> bool:
        """True if the public URL is one of this machine: a demo, or somebody trying things out."""
        return urls.is_loopback(urlsplit(self.RECOVERY_PUBLIC_URL).hostname or "")

    @property
    def signing_keys(self) -> list[str]:
        """Return every valid SECRET_KEY, the newest last: itsdangerous signs with that one."""
        return [*reversed(self.SECRET_KEY_FALLBACKS), self.SECRET_KEY]

    def keys(self, purpose: str) -> list[bytes]:
        """Return 32 bytes for one purpose from each valid secret, the newest first."""
        secrets = [self.SECRET_KEY, *self.SECRET_KEY_FALLBACKS]
        label = f"sparekey {purpose}".encode()
        return [hmac.digest(secret.encode(), label, "sha256") for secret in secrets]


def declared() -> list[str]:
    """Return the names that `default.toml` explains."""
    return [name for name in Settings.model_fields if name.isupper()]
