"""The settings: three layers of values, checked once, each knowing where it came from.

    config/default.toml  <  the file in RECOVERY_CONFIG  <  FLASK_<NAME>  <  FLASK_<NAME>_FILE

A default stands in `default.toml` and nowhere else. What an admin may set is declared below;
other SECURITY_* names go to Flask-Security, typed by its own defaults. All that is wrong is
reported at once.
"""

from __future__ import annotations

import difflib
import hmac
import ipaddress
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import flask_security.core
from flask import current_app
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from .errors import Problem, SettingsError

ROOT = Path(__file__).resolve().parent.parent
DEFAULTS = ROOT / "config" / "default.toml"

SECRET_LENGTH_MIN = 22  # random URL-safe characters that hold 128 bits (ASVS 11.5.1)
LINK_LIFE_MAX = timedelta(hours=24)  # NIST SP 800-63B-4 §4.2.1.2, codes sent by mail
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
    "SECURITY_PASSWORD_NORMALIZE_FORM": ("NFC", "NIST SP 800-63B-4 §3.1.1.2"),
    "SECURITY_EMAIL_VALIDATOR_ARGS": ({"check_deliverability": False}, "no DNS in a request"),
    "SECURITY_POST_RESET_VIEW": ("pages.reset_done", "the page that ends a reset"),
    "SECURITY_CACHE_CONTROL": (None, "every answer is no-store"),
    "WTF_CSRF_CHECK_DEFAULT": (False, "Flask-Security's decorators check"),
    "SERVER_NAME": (None, "RECOVERY_PUBLIC_URL says where the service is"),
}

# Names of Flask and its extensions that are handed on as they are.
HANDED_ON = {
    "MAIL_SSL_CERTFILE",
    "MAIL_SSL_KEYFILE",
    "PERMANENT_SESSION_LIFETIME",
    "RATELIMIT_STORAGE_URI",
    "REMEMBER_COOKIE_DURATION",
    "SQLALCHEMY_ECHO",
    "SQLALCHEMY_ENGINE_OPTIONS",
    "TESTING",
}

# FLASK_ variables that Flask reads itself.
OF_FLASK = re.compile(r"FLASK_(APP|DEBUG|ENV_FILE|SKIP_DOTENV|RUN_\w+)")

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_PLACEHOLDER = re.compile(r"(?i)change.?(me|this)|replace.?(me|this)|placeholder|your.?secret")


def _parse_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week)s?", str(value).strip())
    if not match:
        raise ValueError('give a number and a unit, such as "30 minutes"')
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def _parse_json_text(value: Any) -> Any:
    """The environment has text only: lists and tables are written as JSON there."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("write it as JSON in the environment") from None
    return value


def _strong(value: str) -> str:
    hint = 'make one with: python -c "import secrets; print(secrets.token_urlsafe())"'
    if _PLACEHOLDER.search(value):
        raise ValueError(f"this is a placeholder; {hint}")
    if len(value) < SECRET_LENGTH_MIN or len(set(value)) < SECRET_LENGTH_MIN // 3:
        raise ValueError(f"too weak, at least {SECRET_LENGTH_MIN} random characters; {hint}")
    return value


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _public_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("https", "http") or not url.hostname or url.username:
        raise ValueError("give a whole URL, such as https://id.example.com")
    if url.query or url.fragment:
        raise ValueError("a URL without ? and #")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError("must be https: whoever reads a link in transit has the account")
    return value.rstrip("/")


def _one_line(value: str) -> str:
    if any(ord(character) < 32 for character in value):
        raise ValueError("one line, without control characters")
    return value


def _sender(value: str) -> str:
    address = parseaddr(value)[1]
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
        raise ValueError('give an address, such as no-reply@example.com or "Example <no-reply@example.com>"')
    return value


def _readable_file(value: str) -> str:
    if value and not os.access(value, os.R_OK):
        raise ValueError("no such file, or it can not be read")
    return value


def _at_most(limit: timedelta, why: str) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if not timedelta(0) < value <= limit:
            raise ValueError(f"more than nothing, at most {limit.total_seconds() / 3600:g} hours ({why})")
        return value

    return AfterValidator(check)


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]
Secret = Annotated[str, AfterValidator(_strong)]
Line = Annotated[str, AfterValidator(_one_line)]
Words = Annotated[list[str], BeforeValidator(_parse_json_text)]
Table = Annotated[dict[str, Any], BeforeValidator(_parse_json_text)]


class Settings(BaseModel):
    """Every setting with its type and limits. Meanings and defaults are in `config/default.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    RECOVERY_SITE_NAME: Line
    RECOVERY_PUBLIC_URL: Annotated[str, AfterValidator(_public_url)]
    RECOVERY_SUPPORT_CONTACT: Line
    RECOVERY_TRUSTED_PROXIES: Annotated[int, Field(ge=0)]
    SECRET_KEY: Secret
    SECRET_KEY_FALLBACKS: Annotated[list[Secret], BeforeValidator(_parse_json_text)]
    SECURITY_PASSWORD_SALT: Secret
    SECURITY_RESET_PASSWORD_WITHIN: Annotated[Duration, _at_most(LINK_LIFE_MAX, "NIST SP 800-63B-4")]
    SECURITY_USER_IDENTITY_ATTRIBUTES: Annotated[Words, Field(min_length=1)]
    SECURITY_PHONE_REGION_DEFAULT: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    SECURITY_USERNAME_ALLOWED_CHARS: Words
    RECOVERY_USERNAME_ASCII: bool
    MAIL_SERVER: Line
    MAIL_PORT: Annotated[int, Field(ge=1, le=65535)]
    MAIL_USE_TLS: bool
    MAIL_USE_SSL: bool
    MAIL_USERNAME: str | None = None
    MAIL_PASSWORD: str | None = None
    RECOVERY_MAIL_CA: Annotated[str, AfterValidator(_readable_file)]
    MAIL_DEFAULT_SENDER: Annotated[Line, AfterValidator(_sender)]
    MAIL_TIMEOUT: Duration
    RECOVERY_MAIL_COOLDOWN: Duration
    RECOVERY_MAIL_DAILY_CAP: Annotated[int, Field(ge=1)]
    RECOVERY_MAIL_ATTEMPTS: Annotated[int, Field(ge=1)]
    RECOVERY_MAIL_LEASE: Duration
    SECURITY_PASSWORD_LENGTH_MIN: Annotated[int, Field(ge=8)]
    RECOVERY_PASSWORD_LENGTH_MAX: Annotated[int, Field(ge=64, le=4096)]
    SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS: Table
    SECURITY_CHANGEABLE: bool
    SECURITY_CONFIRMABLE: bool
    SECURITY_REGISTERABLE: bool
    RATELIMIT_ENABLED: bool
    MAX_CONTENT_LENGTH: Annotated[int, Field(ge=4096)]
    SQLALCHEMY_DATABASE_URI: str
    RECOVERY_WORKER_POLL: Duration
    RECOVERY_READY_MAIL_AGE: Duration
    RECOVERY_INBOX: bool

    handed_on: dict[str, Any] = Field(default_factory=dict)  # other libraries' settings, by name
    origins: dict[str, str] = Field(default_factory=dict)  # name -> file or variable

    def as_config(self) -> dict[str, Any]:
        """What Flask and its extensions read: our names, the handed-on ones and the fixed ones."""
        ours = {name: getattr(self, name) for name in Settings.model_fields if name.isupper()}
        fixed = {name: value for name, (value, _) in FIXED.items()}
        return {**ours, "SQLALCHEMY_DATABASE_URI": self.database, **self.handed_on, **fixed}

    @property
    def database(self) -> str:
        """The URI with the driver we ship: plain postgresql:// means psycopg 3."""
        scheme, colon, rest = self.SQLALCHEMY_DATABASE_URI.partition(":")
        return (
            {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}.get(scheme, scheme)
            + colon
            + rest
        )

    def keys(self, purpose: str) -> list[bytes]:
        """One key for one purpose from each valid secret, the newest first: 32 bytes each."""
        secrets = [self.SECRET_KEY, *self.SECRET_KEY_FALLBACKS]
        label = f"sparekey {purpose}".encode()
        return [hmac.digest(secret.encode(), label, "sha256") for secret in secrets]


def current() -> Settings:
    """The settings of the app whose context is active."""
    settings: Settings = current_app.extensions["recovery_settings"]
    return settings


def load(environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """Merge the layers and check them. Raises SettingsError with every problem found.

    `overrides` come last, for tests and the demo.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, name, value in _layers(environ, overrides, problems):
        values[name], origins[name] = value, origin

    declared = {name: value for name, value in values.items() if name in Settings.model_fields}
    handed_on = {}
    for name in values.keys() - declared.keys():
        try:
            handed_on[name] = _handed_on(name, values[name])
        except ValueError as error:
            problems.append(Problem(name, origins[name], str(error)))
    try:
        settings = Settings(**declared, handed_on=handed_on, origins=origins)
        problems += _contradictions(settings)
    except ValidationError as error:
        problems += [
            _problem(str(detail["loc"][0]), origins, detail["type"], detail["msg"])
            for detail in error.errors(include_input=False, include_url=False, include_context=False)
        ]
    if problems:
        raise SettingsError(sorted(problems, key=lambda problem: problem.name))
    return settings


def load_or_exit(code: int = EXIT_REFUSED) -> Settings:
    """For command lines and WSGI servers: a refused configuration is a few plain lines."""
    try:
        return load()
    except SettingsError as error:
        _exit(error, code)


def _exit(error: SettingsError, code: int) -> NoReturn:
    print("Sparekey can not start:", file=sys.stderr)
    for problem in error.problems:
        print(f"  {problem}", file=sys.stderr)
    sys.exit(code)


def _layers(
    environ: Mapping[str, str], overrides: Mapping[str, Any], problems: list[Problem]
) -> Iterator[tuple[str, str, Any]]:
    yield from _from_file(DEFAULTS, problems)
    if path := environ.get("RECOVERY_CONFIG"):
        yield from _from_file(Path(path), problems)
    variables = {name: text for name, text in environ.items() if name.startswith("FLASK_")}
    for variable, text in variables.items():
        if not OF_FLASK.fullmatch(variable) and not variable.endswith("_FILE"):
            yield variable, variable.removeprefix("FLASK_"), text
    for variable, text in variables.items():
        if not OF_FLASK.fullmatch(variable) and variable.endswith("_FILE"):
            name = variable.removeprefix("FLASK_").removesuffix("_FILE")
            try:
                yield variable, name, Path(text).read_text().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                problems.append(Problem(name, variable, f"can not read {text}: {error}"))
    for name, value in overrides.items():
        yield "given by the program", name, value


def _from_file(path: Path, problems: list[Problem]) -> Iterator[tuple[str, str, Any]]:
    shown = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        problems.append(Problem("RECOVERY_CONFIG", shown, f"can not read the file: {error}"))
        return
    for name, value in content.items():
        yield shown, name, value


def _handed_on(name: str, value: Any) -> Any:
    """A setting that is not ours: the value for its library. Raises ValueError for a bad one."""
    if name in FIXED:
        if _plain(value) != _plain(FIXED[name][0]):
            raise ValueError(f"can not be set: {FIXED[name][1]}")
        return FIXED[name][0]
    if name in HANDED_ON:
        return value
    of_fst = {f"SECURITY_{key}": default for key, default in flask_security.core._default_config.items()}
    if name not in of_fst:
        near = difflib.get_close_matches(name, [*Settings.model_fields, *HANDED_ON, *of_fst], n=1)
        raise ValueError("unknown setting" + (f"; did you mean {near[0]}?" if near else ""))
    return _typed_like(of_fst[name], value)


def _typed_like(default: Any, value: Any) -> Any:
    """A value of the type that Flask-Security's own default has."""
    if isinstance(default, timedelta):
        return _parse_duration(value)
    if isinstance(default, (list, dict, set, tuple)):
        return _parse_json_text(value)
    if type(default) not in (bool, int, str):
        return value
    try:
        return TypeAdapter(type(default)).validate_python(value)
    except ValidationError as error:
        raise ValueError(error.errors(include_input=False)[0]["msg"]) from None


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    return list(value) if isinstance(value, tuple) else value


def _contradictions(settings: Settings) -> Iterator[Problem]:
    """What is wrong only together."""

    def problem(name: str, message: str) -> Problem:
        return Problem(name, settings.origins.get(name, "not set"), message)

    known = {"email", "username", "us_phone_number"}
    if unknown := set(settings.SECURITY_USER_IDENTITY_ATTRIBUTES) - known:
        yield problem(
            "SECURITY_USER_IDENTITY_ATTRIBUTES",
            f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}",
        )
    if settings.SECRET_KEY == settings.SECURITY_PASSWORD_SALT:
        yield problem("SECURITY_PASSWORD_SALT", "must not be the same as SECRET_KEY")
    if settings.MAIL_USE_TLS and settings.MAIL_USE_SSL:
        yield problem("MAIL_USE_SSL", "choose one of MAIL_USE_TLS and MAIL_USE_SSL")
    if bool(settings.MAIL_USERNAME) != bool(settings.MAIL_PASSWORD):
        yield problem("MAIL_USERNAME", "set both of MAIL_USERNAME and MAIL_PASSWORD, or neither")
    in_clear = settings.MAIL_USERNAME and not (settings.MAIL_USE_TLS or settings.MAIL_USE_SSL)
    if in_clear and not is_loopback(settings.MAIL_SERVER):
        yield problem("MAIL_USE_TLS", "needed, or MAIL_USE_SSL: the password would travel in the clear")
    host = urlsplit(settings.RECOVERY_PUBLIC_URL).hostname or ""
    if settings.RECOVERY_INBOX and not is_loopback(host):
        yield problem(
            "RECOVERY_INBOX",
            f"shows every mail to every visitor: only with a RECOVERY_PUBLIC_URL on this machine, not {host}",
        )


def _problem(name: str, origins: Mapping[str, str], kind: str, message: str) -> Problem:
    if kind == "missing":
        return Problem(name, "not set", f"needed; set it in your file or as FLASK_{name}")
    return Problem(name, origins.get(name, "not set"), message.removeprefix("Value error, "))
