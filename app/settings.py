"""The settings: what an admin may set, checked once, each value knowing where it came from.

A default stands in `config/default.toml` and nowhere else, with its meaning. Types and limits are
declared below. Other SECURITY_* names go to Flask-Security, typed by its own defaults. All that is
wrong is reported at once.
"""

from __future__ import annotations

import difflib
import hmac
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import flask_security.core
from flask import current_app
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from . import contradictions, kinds, layers
from .errors import Problem, SettingsError

EXIT_REFUSED = 3  # gunicorn stops at this code; at any other it would start the worker again

# Set by Sparekey, since the product rests on them: value, and why it can not be changed.
FIXED: dict[str, tuple[Any, str]] = {
    "SECURITY_RECOVERABLE": (True, "recovery is what Sparekey is for"),
    "SECURITY_RETURN_GENERIC_RESPONSES": (True, "answers must not tell who has an account"),
    "SECURITY_AUTO_LOGIN_AFTER_RESET": (False, "a mailed link must not sign anybody in"),
    "SECURITY_SEND_PASSWORD_RESET_NOTICE_EMAIL": (False, "Sparekey queues the notice itself"),
    "SECURITY_JOIN_USER_ROLES": (False, "the join scans a table at every look-up"),
    "SECURITY_CSRF_IGNORE_UNAUTH_ENDPOINTS": (False, "it lets a form without token through"),
    "SECURITY_CSRF_PROTECT_MECHANISMS": (("basic", "session", "token"), "forms need a token"),
    "SECURITY_PASSWORD_HASH": ("argon2", "it is the one scheme new hashes are made with"),
    "SECURITY_PASSWORD_SINGLE_HASH": (
        {*flask_security.core._default_config["PASSWORD_SINGLE_HASH"], "foreign"},
        "every new hash is made with SECURITY_PASSWORD_SALT, which is not in the database",
    ),
    "SECURITY_PASSWORD_SCHEMES": (
        ["argon2", "bcrypt", "pbkdf2_sha256", "pbkdf2_sha512", "sha256_crypt", "sha512_crypt", "foreign"],
        "no scheme that a stored mark or a plain text could pass for",
    ),
    "SECURITY_HASHING_SCHEMES": (["hex_sha512"], "it stands in signed tokens only; others cost 200 ms"),
    "SECURITY_DEPRECATED_HASHING_SCHEMES": ([], "there is one"),
    "SECURITY_SEND_PASSWORD_CHANGE_EMAIL": (True, "whoever did not change it must hear of it"),
    "SECURITY_LOGOUT_METHODS": (["POST"], "no other site may sign anybody out"),
    "SECURITY_AUTO_LOGIN_AFTER_CONFIRM": (False, "a mailed link must not sign anybody in"),
    "SECURITY_PASSWORD_COMPLEXITY_CHECKER": (None, "no composition rules (NIST SP 800-63B-4)"),
    "SECURITY_PASSWORDLESS": (False, "a mailed link must not sign anybody in"),
    "SECURITY_OAUTH_ENABLE": (False, "not supported"),
    "SECURITY_LOGIN_WITHOUT_CONFIRMATION": (False, "an address that nobody confirmed may be anybody's"),
    "SECURITY_PASSWORD_REQUIRED": (True, "an account without a password can not recover one"),
    "SECURITY_USERNAME_REQUIRED": (False, "an address is enough: that a name is taken is told by mail only"),
    "SECURITY_US_MFA_REQUIRED": (
        ["password", "email", "authenticator"],
        "whatever one signs in with, the second factor comes after it",
    ),
    "SECURITY_CHANGE_USERNAME": (False, "it tells which usernames are taken"),
    "SECURITY_US_SIGNIN_REPLACES_LOGIN": (False, "/login stays; /us-signin is beside it"),
    "SECURITY_TWO_FACTOR_RESCUE_EMAIL": (
        False,
        "whoever reads the mailbox would get around the other factor",
    ),
    "SECURITY_WAN_ALLOW_USER_HINTS": (False, "hints tell who has an account"),
    "SECURITY_API_ENABLED_METHODS": (["session", "token"], "basic would tell by time who has an account"),
    "SECURITY_SUBDOMAIN": (None, "RECOVERY_PUBLIC_URL says where the service is"),
    "SECURITY_BLUEPRINT_NAME": ("security", "other parts ask for its pages by this name"),
    "SECURITY_PASSWORD_NORMALIZE_FORM": ("NFC", "NIST SP 800-63B-4 §3.1.1.2"),
    "SECURITY_EMAIL_VALIDATOR_ARGS": ({"check_deliverability": False}, "no DNS in a request"),
    "SECURITY_POST_RESET_VIEW": ("pages.reset_done", "the page that ends a reset"),
    "SECURITY_CACHE_CONTROL": (None, "every answer is no-store"),
    "WTF_CSRF_CHECK_DEFAULT": (False, "Sparekey checks every request itself"),
    "SERVER_NAME": (None, "RECOVERY_PUBLIC_URL says where the service is"),
}

# Settings of Flask and its extensions that are handed on, and their kinds.
HANDED_ON: dict[str, Any] = {
    "MAIL_SSL_CERTFILE": kinds.ReadableFile,
    "MAIL_SSL_KEYFILE": kinds.ReadableFile,
    "PERMANENT_SESSION_LIFETIME": Annotated[kinds.Pause, kinds.AtMost("30 days", "NIST SP 800-63B-4")],
    "SQLALCHEMY_ECHO": bool,
    "SQLALCHEMY_ENGINE_OPTIONS": kinds.Table,
    "TESTING": bool,
}

# A list that Flask-Security has no default for.
AS_JSON = ("SECURITY_MULTI_FACTOR_RECOVERY_CODES_KEYS",)

_TEMPLATE = re.compile(r"_TEMPLATE(_|$)")

_Kept = Annotated[kinds.Duration, kinds.AtLeast("31 days", "so long people may say that it was not them")]


class Settings(BaseModel):
    """Every setting with its kind and limits. Meanings and defaults are in `config/default.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RECOVERY_SITE_NAME: kinds.Name
    RECOVERY_PUBLIC_URL: kinds.PublicUrl
    RECOVERY_SUPPORT_CONTACT: kinds.Line
    RECOVERY_LOGO: kinds.Picture
    RECOVERY_ACCENT: kinds.Colour
    RECOVERY_TRUSTED_PROXIES: Annotated[int, Field(ge=0)]
    RECOVERY_TEMPLATE_DIR: kinds.Directory
    RECOVERY_CLIENTS: kinds.Clients
    SECRET_KEY: kinds.Secret
    SECRET_KEY_FALLBACKS: kinds.Secrets
    SECURITY_PASSWORD_SALT: kinds.Secret
    SECURITY_RESET_PASSWORD_WITHIN: Annotated[kinds.Duration, kinds.AtMost("24 hours", "NIST SP 800-63B-4")]
    SECURITY_USER_IDENTITY_ATTRIBUTES: Annotated[kinds.Words, Field(min_length=1)]
    SECURITY_PHONE_REGION_DEFAULT: kinds.Region
    SECURITY_USERNAME_ALLOWED_CHARS: Annotated[kinds.Words, Field(min_length=1)]
    RECOVERY_USERNAME_ASCII: bool
    BABEL_DEFAULT_LOCALE: kinds.Language
    RECOVERY_LANGUAGES: kinds.Languages
    RECOVERY_TRANSLATION_DIR: kinds.Directory
    BABEL_DEFAULT_TIMEZONE: kinds.TimeZone
    MAIL_SERVER: kinds.MailServer
    MAIL_PORT: kinds.Port
    MAIL_USE_TLS: bool
    MAIL_USE_SSL: bool
    MAIL_USERNAME: str | None = None
    MAIL_PASSWORD: str | None = None
    RECOVERY_MAIL_CA: kinds.Certificates
    RECOVERY_MAIL_IN_CLEAR: bool
    MAIL_DEFAULT_SENDER: kinds.Sender
    RECOVERY_DKIM_SELECTOR: kinds.Label
    MAIL_TIMEOUT: kinds.Pause
    RECOVERY_MAIL_COOLDOWN: kinds.Duration
    RECOVERY_MAIL_DAILY_CAP: Annotated[int, Field(ge=1)]
    RECOVERY_MAIL_HOURLY_MAX: Annotated[int, Field(ge=1)]
    RECOVERY_MAIL_ATTEMPTS: Annotated[int, Field(ge=1)]
    RECOVERY_MAIL_LEASE: kinds.Pause
    RECOVERY_MAIL_WAITING_MAX: Annotated[int, Field(ge=1)]
    SECURITY_PASSWORD_LENGTH_MIN: Annotated[int, Field(ge=8, le=64)]
    RECOVERY_PASSWORD_LENGTH_MAX: Annotated[int, Field(ge=64, le=4096)]
    SECURITY_PASSWORD_CHECK_BREACHED: kinds.BreachCheck
    RECOVERY_BREACHES_URL: kinds.PublicUrl
    SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS: kinds.Argon2Options
    RECOVERY_HASHES_AT_ONCE: Annotated[int, Field(ge=0)]
    SECURITY_CHANGEABLE: bool
    SECURITY_CHANGE_EMAIL: bool
    SECURITY_CONFIRMABLE: bool
    SECURITY_REGISTERABLE: bool
    SECURITY_USERNAME_RECOVERY: bool
    SECURITY_TRACKABLE: bool
    SECURITY_TWO_FACTOR: bool
    SECURITY_TWO_FACTOR_REQUIRED: bool
    SECURITY_TWO_FACTOR_ENABLED_METHODS: kinds.Words
    SECURITY_SMS_SERVICE: str
    SECURITY_MULTI_FACTOR_RECOVERY_CODES: bool
    SECURITY_UNIFIED_SIGNIN: bool
    SECURITY_US_ENABLED_METHODS: kinds.Words
    SECURITY_WEBAUTHN: bool
    SECURITY_TOTP_SECRETS: kinds.NumberedSecrets
    SECURITY_TOTP_ISSUER: str
    SECURITY_FRESHNESS: Annotated[
        kinds.Duration, kinds.AtMost("24 hours", "or the password is asked for too late")
    ]
    SECURITY_FRESHNESS_GRACE_PERIOD: Annotated[kinds.Duration, kinds.AtMost("1 hour", "likewise")]
    REMEMBER_COOKIE_DURATION: Annotated[kinds.Duration, kinds.AtMost("30 days", "NIST SP 800-63B-4")]
    RATELIMIT_ENABLED: bool
    RATELIMIT_STORAGE_URI: kinds.Storage
    RECOVERY_LIMIT_SOURCE: kinds.Rates
    RECOVERY_LIMIT_IDENTITY: kinds.Rates
    RECOVERY_LIMIT_LINK: kinds.Rates
    RECOVERY_LIMIT_BAD_LINKS: kinds.Rates
    MAX_CONTENT_LENGTH: Annotated[int, Field(ge=4096)]
    SQLALCHEMY_DATABASE_URI: kinds.Database
    RECOVERY_MACHINES: Annotated[int, Field(ge=1)]
    RECOVERY_WORKER_POLL: Annotated[
        kinds.Duration, kinds.AtMost("30 seconds", "or /readyz takes it for gone")
    ]
    RECOVERY_READY_MAIL_AGE: kinds.Pause
    RECOVERY_KEEP_LINKS: _Kept
    RECOVERY_KEEP_MAILS: _Kept
    RECOVERY_KEEP_DEAD_LETTERS: _Kept
    RECOVERY_KEEP_EVENTS: _Kept
    RECOVERY_METRICS_TOKEN: kinds.SecretOrNothing
    RECOVERY_LOG_FORMAT: Literal["text", "json"]
    RECOVERY_OPERATOR: kinds.Address
    RECOVERY_BURSTS: kinds.Counts
    RECOVERY_SECURITY_TXT: kinds.ReadableFile
    RECOVERY_SILENCED: kinds.Words
    RECOVERY_INBOX: bool

    handed_on: dict[str, Any] = Field(default_factory=dict)  # other libraries' settings, by name
    origins: dict[str, str] = Field(default_factory=dict)  # where each value came from

    def as_config(self) -> dict[str, Any]:
        """What Flask and its extensions read: our names, the handed-on ones and the fixed ones."""
        ours = {name: getattr(self, name) for name in declared()}
        fixed = {name: value for name, (value, _) in FIXED.items()}
        return {**ours, **self.handed_on, **fixed}

    @property
    def sends_mail(self) -> bool:
        """Whether there is anywhere to send it: an admin may hand links out instead."""
        return bool(self.MAIL_SERVER or self.RECOVERY_INBOX)

    @property
    def is_on_this_machine(self) -> bool:
        """True if the public URL is one of this machine: a demo, or somebody trying things out."""
        return kinds.is_loopback(urlsplit(self.RECOVERY_PUBLIC_URL).hostname or "")

    def keys(self, purpose: str) -> list[bytes]:
        """One key for one purpose from each valid secret, the newest first: 32 bytes each."""
        secrets = [self.SECRET_KEY, *self.SECRET_KEY_FALLBACKS]
        label = f"sparekey {purpose}".encode()
        return [hmac.digest(secret.encode(), label, "sha256") for secret in secrets]


@dataclass(frozen=True)
class Reading:
    """Everything a look at the configuration finds; `settings` only when nothing is wrong."""

    found: layers.Layers
    problems: list[Problem]
    settings: Settings | None


def declared() -> list[str]:
    """The names that `default.toml` explains."""
    return [name for name in Settings.model_fields if name.isupper()]


def of_flask_security() -> dict[str, Any]:
    """Flask-Security's own settings, with its defaults."""
    return {f"SECURITY_{key}": default for key, default in flask_security.core._default_config.items()}


def current() -> Settings:
    """The settings of the app whose context is active."""
    settings: Settings = current_app.extensions["recovery_settings"]
    return settings


def load(environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """The checked settings. Raises SettingsError with every problem found."""
    reading = examine(environ, **overrides)
    if reading.settings is None:
        raise SettingsError(reading.problems)
    return reading.settings


@contextmanager
def in_plain_words(code: int = EXIT_REFUSED) -> Iterator[None]:
    """For command lines and WSGI servers: a refused configuration is a few plain lines, and an exit code."""
    try:
        yield
    except SettingsError as error:
        print("Sparekey can not start:", file=sys.stderr)
        for problem in error.problems:
            # Some of it was written by others, and may move a terminal's cursor.
            print("  " + "".join(c if c.isprintable() else "�" for c in str(problem)), file=sys.stderr)
        sys.exit(code)


def examine(environ: Mapping[str, str] = os.environ, **overrides: Any) -> Reading:
    """Merge the layers and check every value. Never raises for what an admin wrote."""
    found = layers.read(environ, overrides)
    problems = list(found.problems)
    ours, handed_on = {}, {}
    for name, value in found.values.items():
        if name in declared():
            ours[name] = value
            continue
        try:
            handed_on[name] = _handed_on(name, value)
        except ValueError as error:
            problems.append(Problem(name, found.origin_of(name), str(error)))
    settings = None
    try:
        settings = Settings(**ours, handed_on=handed_on, origins=found.origins)
        if not found.problems:  # or half of a pair may be what could not be read
            problems += _contradictions(settings, found)
        problems += _debugging(settings, environ)
    except ValidationError as error:
        problems += _problems_in(error, found)
    problems.sort(key=lambda problem: problem.name)
    return Reading(found, problems, None if problems else settings)


def _problems_in(error: ValidationError, found: layers.Layers) -> Iterator[Problem]:
    for detail in error.errors(include_input=False, include_url=False):
        name = str(detail["loc"][0])
        if name == "RECOVERY_CLIENTS":
            place = ".".join(str(part) for part in detail["loc"] if part != "[key]")
            yield Problem(place, found.origin_of(name), kinds.in_words(detail))
        elif detail["type"] != "missing":
            yield Problem(name, found.origin_of(name), kinds.in_words(detail))
        elif not found.problems:  # or it may stand in the file that could not be read
            yield Problem(name, "not set", _needed(name))


def _needed(name: str) -> str:
    if name in ("SECRET_KEY", "SECURITY_PASSWORD_SALT"):
        return (
            f"needed: name a file with it in FLASK_{name}_FILE, or give it as FLASK_{name}; {kinds.MAKE_ONE}"
        )
    return f"needed: set it in your file, or as FLASK_{name}"


def _handed_on(name: str, value: Any) -> Any:
    """A setting that is not ours: the value for its library. Raises ValueError for a bad one."""
    if name in FIXED:
        if _plain(value) != _plain(FIXED[name][0]):
            raise ValueError(f"can not be set: {FIXED[name][1]}")
        return FIXED[name][0]
    if name in HANDED_ON:
        return _as(HANDED_ON[name], value)
    of_fst = of_flask_security()
    if name not in of_fst:
        aside = "; settings stand outside of [sections]" if isinstance(value, dict) else ""
        raise ValueError(unknown(name) + aside)
    if name in AS_JSON:
        value = kinds.parse_json_text(value)
    return _of_flask_security(name, of_fst[name], value)


def _of_flask_security(name: str, default: Any, value: Any) -> Any:
    if _TEMPLATE.search(name):
        raise ValueError("can not be set: put a file into RECOVERY_TEMPLATE_DIR instead")
    if name.endswith(("_URL", "_URL_PREFIX")) and value and not str(value).startswith("/"):
        raise ValueError("must start with a slash")
    if callable(default):
        raise ValueError("a function of Flask-Security's: can not be set")
    return _as(kind_like(default), value)


def unknown(name: str) -> str:
    """What to say of a setting that there is not: the nearest that there is."""
    known = [*declared(), *HANDED_ON, *of_flask_security()]
    near = difflib.get_close_matches(name.upper(), known, 1, cutoff=0.75)
    return "unknown setting" + (f"; did you mean {near[0]}?" if near else "")


def normal(name: str, value: Any) -> Any:
    """The value as the app has it, whatever layer it came from; as it is, when it is a wrong one."""
    with suppress(ValueError):
        if name in declared():
            return _as(Settings.model_fields[name].rebuild_annotation(), value)
        return _handed_on(name, value)
    return value


def kind_like(default: Any) -> Any:
    """The kind of value that Flask-Security's own default is of; anything where that tells nothing."""
    if isinstance(default, timedelta):
        return kinds.Duration
    if isinstance(default, dict):
        return kinds.Table
    if isinstance(default, (list, set, tuple)):
        return kinds.Items
    return type(default) if type(default) in (bool, int, str) else Any


def _as(kind: Any, value: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        [first, *_] = error.errors(include_input=False)
        raise ValueError(kinds.in_words(first)) from None


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value.lower() if value.lower() in ("true", "false") else value)
    return list(value) if isinstance(value, tuple) else value


def is_debugging(environ: Mapping[str, str] = os.environ) -> bool:
    """As Flask reads it."""
    return environ.get("FLASK_DEBUG", "").lower() not in ("", "0", "false", "no")


def _debugging(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Flask's own variable, which is no setting."""
    if is_debugging(environ) and not kinds.is_loopback(urlsplit(settings.RECOVERY_PUBLIC_URL).hostname or ""):
        message = "shows errors to everybody: only with a RECOVERY_PUBLIC_URL on this machine"
        yield Problem("FLASK_DEBUG", "FLASK_DEBUG", message)


def _contradictions(settings: Settings, found: layers.Layers) -> Iterator[Problem]:
    for (name, message), is_broken in contradictions.among(settings).items():
        if is_broken:
            yield Problem(name, found.origin_of(name), message)
