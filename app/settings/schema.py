"""The settings schema: every setting of Sparekey's own, with its type and limits."""

import hmac
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from phonenumbers import SUPPORTED_REGIONS
from pydantic import BaseModel, BeforeValidator, Field

from . import accounts, secrets, types, urls
from .identities import IdentityKinds

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Retention = Annotated[types.Duration, *types.at_least("31 days", "an owner can object for so long")]
LEASE_MARGIN = timedelta(seconds=20)  # to write the outcome before another worker may claim the message


class Settings(BaseModel, frozen=True, extra="forbid"):
    """Every setting with its type and limits. Meanings and defaults are in `config/default.toml`."""

    RECOVERY_SITE_NAME: Annotated[types.Line, types.must("must not be empty", str.strip)]
    RECOVERY_PUBLIC_URL: urls.PublicUrl
    RECOVERY_SUPPORT_CONTACT: types.Line
    RECOVERY_LOGO: types.Image
    RECOVERY_LOGO_DARK: types.Image
    RECOVERY_ACCENT: types.Color
    RECOVERY_TRUSTED_PROXIES: NotNegative
    RECOVERY_TEMPLATE_DIR: types.Directory
    RECOVERY_CLIENTS: urls.Clients
    RECOVERY_AUTH: Literal["", "id", "email", "username"]
    SECRET_KEY: secrets.Secret
    SECRET_KEY_FALLBACKS: Annotated[list[secrets.Secret], types.JsonText]
    SECURITY_PASSWORD_SALT: secrets.Secret
    SECURITY_RESET_PASSWORD_WITHIN: Annotated[types.Duration, *types.at_most("24 hours", "NIST SP 800-63B-4")]
    RECOVERY_CODE: bool
    SECURITY_USER_IDENTITY_ATTRIBUTES: IdentityKinds
    SECURITY_PHONE_REGION_DEFAULT: Annotated[
        str, *types.expect("a country of ISO 3166, such as US, GB or DE", SUPPORTED_REGIONS.__contains__)
    ]
    SECURITY_USERNAME_ALLOWED_CHARS: Annotated[types.TextList, Field(min_length=1)]
    RECOVERY_USERNAME_ASCII: bool
    RECOVERY_SPECIAL_USE_DOMAINS: Annotated[list[types.SpecialUseDomain], types.JsonText]
    BABEL_DEFAULT_LOCALE: types.Language
    RECOVERY_LANGUAGES: Annotated[list[types.Language], types.JsonText, Field(min_length=1), types.Unique]
    RECOVERY_TRANSLATION_DIR: types.Directory
    BABEL_DEFAULT_TIMEZONE: types.TimeZone
    MAIL_SERVER: urls.HostOrEmpty
    MAIL_PORT: Annotated[int, Field(ge=1, le=65535), BeforeValidator(str)]  # str refuses true
    MAIL_USE_TLS: bool
    MAIL_USE_SSL: bool
    MAIL_USERNAME: str | None = None
    MAIL_PASSWORD: str | None = None
    RECOVERY_MAIL_OAUTH_URL: urls.Endpoint
    RECOVERY_MAIL_OAUTH_CLIENT_ID: types.Line
    RECOVERY_MAIL_OAUTH_CLIENT_SECRET: str
    RECOVERY_MAIL_OAUTH_SCOPE: types.Line
    RECOVERY_MAIL_OAUTH_REFRESH_TOKEN: str
    RECOVERY_MAIL_CA: Annotated[str, types.or_empty(types.check_certificates)]
    RECOVERY_MAIL_IN_CLEAR: bool
    MAIL_DEFAULT_SENDER: urls.Sender
    RECOVERY_MAIL_REPLY_TO: urls.SenderOrEmpty
    RECOVERY_MAIL_EHLO: types.HostLabel
    RECOVERY_DKIM_SELECTOR: types.Selector
    MAIL_TIMEOUT: types.PositiveDuration
    RECOVERY_MAIL_COOLDOWN: types.Duration
    RECOVERY_MAIL_DAILY_CAP: Positive
    RECOVERY_MAIL_HOURLY_MAX: Positive
    RECOVERY_MAIL_ATTEMPTS: Positive
    RECOVERY_MAIL_LEASE: types.PositiveDuration
    RECOVERY_MAIL_WAITING_MAX: Positive
    SECURITY_PASSWORD_LENGTH_MIN: Annotated[int, Field(ge=8, le=64)]
    RECOVERY_PASSWORD_LENGTH_MAX: Annotated[int, Field(ge=64, le=4096)]
    SECURITY_PASSWORD_CHECK_BREACHED: types.BreachCheck
    RECOVERY_BREACHES_URL: urls.PublicUrl
    SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS: secrets.Argon2Options
    RECOVERY_HASHES_AT_ONCE: NotNegative
    RECOVERY_PASSWORDLESS: Literal["explain", "allow", "silent"]
    RECOVERY_SIGN_IN_HELP: types.Line
    RECOVERY_SECOND_ADDRESS: bool
    RECOVERY_INVITATION_WITHIN: Annotated[types.Duration, *types.at_most("30 days", "emails are forwarded")]
    SECURITY_CHANGEABLE: bool
    SECURITY_CHANGE_EMAIL: bool
    SECURITY_CONFIRMABLE: bool
    SECURITY_REGISTERABLE: bool
    SECURITY_USERNAME_RECOVERY: bool
    SECURITY_TRACKABLE: bool
    SECURITY_TWO_FACTOR: bool
    SECURITY_TWO_FACTOR_REQUIRED: bool
    SECURITY_TWO_FACTOR_ENABLED_METHODS: types.SecondFactors
    SECURITY_SMS_SERVICE: Annotated[
        str, Field(pattern="^$|^file$|:", description='nothing, "file", or "module:Class" (docs/features.md)')
    ]
    SECURITY_MULTI_FACTOR_RECOVERY_CODES: bool
    SECURITY_UNIFIED_SIGNIN: bool
    SECURITY_US_ENABLED_METHODS: types.SignInMethods
    SECURITY_WEBAUTHN: bool
    SECURITY_TOTP_SECRETS: secrets.NumberedSecrets
    SECURITY_TOTP_ISSUER: types.Line
    SECURITY_FRESHNESS: Annotated[types.Duration, *types.at_most("5 minutes", "a session may be stolen")]
    REMEMBER_COOKIE_DURATION: Annotated[types.Duration, *types.at_most("30 days", "NIST SP 800-63B-4")]
    RATELIMIT_ENABLED: bool
    RATELIMIT_STORAGE_URI: urls.StorageUri
    RECOVERY_LIMIT_SOURCE: types.Rates
    RECOVERY_LIMIT_IDENTITY: types.Rates
    RECOVERY_LIMIT_LINK: types.Rates
    RECOVERY_LIMIT_BAD_LINKS: types.Rates
    RECOVERY_CHALLENGE: Literal["off", "under-load", "always"]
    RECOVERY_CHALLENGE_SOURCE: types.Rates
    RECOVERY_CHALLENGE_TOTAL: types.Rates
    MAX_CONTENT_LENGTH: Annotated[int, Field(ge=4096)]
    SQLALCHEMY_DATABASE_URI: urls.DatabaseUri
    RECOVERY_ACCOUNTS: accounts.Accounts
    RECOVERY_ACCOUNTS_SALT: str
    RECOVERY_WORKER_POLL: Annotated[types.Duration, *types.at_most("30 seconds", "or /readyz misses it")]
    RECOVERY_READY_MAIL_AGE: types.PositiveDuration
    RECOVERY_KEEP_LINKS: Retention
    RECOVERY_KEEP_MAILS: Retention
    RECOVERY_KEEP_DEAD_LETTERS: Retention
    RECOVERY_KEEP_EVENTS: Retention
    RECOVERY_METRICS_TOKEN: Annotated[str, types.or_empty(secrets.check_secret)]
    RECOVERY_WEBHOOK_URL: urls.Endpoint
    RECOVERY_WEBHOOK_SECRET: secrets.WebhookSecret
    RECOVERY_LOG_FORMAT: Literal["text", "json"]
    RECOVERY_OPERATOR: urls.SenderOrEmpty
    RECOVERY_SECURITY_TXT: types.File
    RECOVERY_EXTENSIONS: Annotated[list[types.Reference], types.JsonText]
    RECOVERY_CLASSES: Annotated[dict[str, types.Reference], types.JsonText]
    RECOVERY_SILENCED: types.TextList
    RECOVERY_INBOX: bool

    # The source of each value. The alias is no name that a setting can have.
    origins: dict[str, str] = Field(alias="(origins)", default_factory=dict)

    @property
    def library(self) -> dict[str, Any]:
        """Return the settings of other libraries that an admin has set, by name."""
        return {name: getattr(self, name) for name in self.model_fields_set - Settings.model_fields.keys()}

    @property
    def sends_mail(self) -> bool:
        """True if mail is sent at all. Without a relay, admins hand links out."""
        return bool(self.MAIL_SERVER or self.RECOVERY_INBOX)

    @property
    def sends_in_clear(self) -> bool:
        """True if mail goes to another machine without TLS."""
        is_remote = self.MAIL_SERVER and not (self.RECOVERY_INBOX or urls.is_loopback(self.MAIL_SERVER))
        return bool(is_remote) and not (self.MAIL_USE_TLS or self.MAIL_USE_SSL)

    @property
    def spa_views(self) -> dict[str, str]:
        """The whole URLs of the views of the client "default", by setting. Empty without "spa"."""
        own, names = self.library, [f"SECURITY_{view.upper()}" for pair in urls.VIEW_PAIRS for view in pair]
        if own.get("SECURITY_REDIRECT_BEHAVIOR") != "spa":
            return {}
        host = own.get("SECURITY_REDIRECT_HOST")
        return {k: urls.absolute_view(own[k], self.RECOVERY_PUBLIC_URL, host) for k in names if own.get(k)}

    @property
    def sending_time(self) -> timedelta:
        """The time after its claim in which a worker may send a message."""
        return self.RECOVERY_MAIL_LEASE - LEASE_MARGIN

    @property
    def ehlo_name(self) -> str:
        """The host in EHLO, or an IP address in brackets (RFC 5321 §4.1.3)."""
        host = self.RECOVERY_MAIL_EHLO or urlsplit(self.RECOVERY_PUBLIC_URL).hostname or ""
        with suppress(ValueError):
            return f"[{'IPv6:' if ip_address(host).version == 6 else ''}{host}]"
        return host

    @property
    def is_local(self) -> bool:
        """True if the public URL leads to this machine: a demo, or a trial."""
        return urls.is_loopback(urlsplit(self.RECOVERY_PUBLIC_URL).hostname or "")

    @property
    def signing_keys(self) -> list[str]:
        """Return every valid SECRET_KEY. The newest is the last, because itsdangerous signs with that one."""
        return [*reversed(self.SECRET_KEY_FALLBACKS), self.SECRET_KEY]

    def derive_keys(self, purpose: str) -> list[bytes]:
        """Return a key of 32 bytes for one purpose from each valid SECRET_KEY, the newest first."""
        valid, label = (self.SECRET_KEY, *self.SECRET_KEY_FALLBACKS), f"sparekey {purpose}".encode()
        return [hmac.digest(secret.encode(), label, "sha256") for secret in valid]


def declared() -> list[str]:
    """Return the names that `default.toml` explains."""
    return [name for name in Settings.model_fields if name.isupper()]
