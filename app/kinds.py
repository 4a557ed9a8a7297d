"""Kinds of values that settings have, each with its limits and a remedy for what is wrong.

A ValueError's text is shown to the admin; it never repeats the value, which may be a secret.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import ssl
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from email.utils import getaddresses
from functools import cache
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import idna
import limits
import phonenumbers
from babel import Locale, UnknownLocaleError
from babel.dates import get_timezone
from passlib.context import CryptContext
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

IDENTITIES = ("email", "username", "us_phone_number")  # what an account may be asked for by
SECRET_LENGTH_MIN = 22  # random URL-safe characters that hold 128 bits (ASVS 11.5.1)
MAKE_ONE = 'make one with: python -c "import secrets; print(secrets.token_urlsafe())"'

PICTURES = ("svg", "png", "webp", "jpg", "jpeg")  # by their endings

# What pydantic finds, in plain words.
WORDS = {
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "int_parsing": "give a whole number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "string_type": "give text, in quotes",
    "list_type": "give a list",
    "dict_type": "give a table",
    "missing": "needed",
    "extra_forbidden": "unknown setting",
    "literal_error": "give {expected}",
    "string_pattern_mismatch": "lower-case letters, digits, - and _, starting with a letter",
    "too_short": "give at least {min_length}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
}

# Schemes that a browser acts on itself: a link must never lead there.
NO_SCHEMES = ("about", "blob", "data", "file", "ftp", "javascript", "vbscript", "view-source", "ws", "wss")

DEFAULT_PORTS = {"https": 443, "http": 80}
DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")
DURATION_DAYS_MAX = 366

# OWASP's Password Storage Cheat Sheet: memory in KiB and passes that are enough together.
ARGON2_LEAST = ((47104, 1), (19456, 2), (12288, 3), (9216, 4), (7168, 5))

_DURATION = r"(\d+(?:\.\d+)?)\s*(second|minute|hour|day|week)s?"
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_PLACEHOLDER = re.compile(r"(?i)change.?(me|this)|replace.?(me|this)|placeholder|your.?secret")


def in_words(detail: Any) -> str:
    """What one of pydantic's findings means."""
    words = WORDS.get(detail["type"], str(detail["msg"]).removeprefix("Value error, "))
    return words.format(**detail.get("ctx", {})) if detail["type"] in WORDS else words


def parse_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(_DURATION, str(value).strip())
    if not match:
        raise ValueError(
            'give a number and a unit (seconds, minutes, hours, days, weeks), such as "30 minutes"'
        )
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > DURATION_DAYS_MAX * 86400:
        raise ValueError(f"at most {DURATION_DAYS_MAX} days")
    return timedelta(seconds=seconds)


class _Limit(ABC):
    """What a duration must be, in words and as a check."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        return {**schema, "description": f"{schema['description']}; {self}"}

    def check(self, value: timedelta) -> timedelta:
        if not self.is_met_by(value):
            raise ValueError(str(self))
        return value

    @abstractmethod
    def is_met_by(self, value: timedelta) -> bool: ...


@dataclass(frozen=True)
class AtMost(_Limit):
    """The longest that a duration may be, as text, and why."""

    longest: str
    why: str

    def __str__(self) -> str:
        return f"more than nothing, at most {self.longest} ({self.why})"

    def is_met_by(self, value: timedelta) -> bool:
        return timedelta(0) < value <= parse_duration(self.longest)


@dataclass(frozen=True)
class AtLeast(_Limit):
    """The shortest that a duration may be, as text, and why."""

    shortest: str
    why: str

    def __str__(self) -> str:
        return f"at least {self.shortest} ({self.why})"

    def is_met_by(self, value: timedelta) -> bool:
        return value >= parse_duration(self.shortest)


def parse_json_text(value: Any) -> Any:
    """The environment has text only: lists and tables are written as JSON there."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("write it as JSON in the environment") from None
    return value


def is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("more than nothing")
    return value


def _strong(value: str) -> str:
    if _PLACEHOLDER.search(value):
        raise ValueError(f"this is a placeholder; {MAKE_ONE}")
    if len(value) < SECRET_LENGTH_MIN or len(set(value)) < SECRET_LENGTH_MIN // 3:
        raise ValueError(f"too weak: give at least {SECRET_LENGTH_MIN} random characters; {MAKE_ONE}")
    return value


def _public_url(value: str) -> str:
    """In the form browsers give it: lower case, ASCII host, no port that goes without saying."""
    try:
        url = urlsplit(value)
        host = idna.encode(url.hostname or "", uts46=True).decode() if url.hostname != "::1" else "[::1]"
        port = "" if url.port in (None, DEFAULT_PORTS[url.scheme]) else f":{url.port}"
    except (KeyError, ValueError, idna.IDNAError):
        host = port = ""
    if not host or "@" in value or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", url.path):
        raise ValueError("give a whole URL, such as https://id.example.com")
    if url.query or url.fragment:
        raise ValueError("a URL without ? and #")
    if url.scheme == "http" and not is_loopback(host.strip("[]")):
        raise ValueError("must be https: whoever reads a link in transit has the account")
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, as browsers write an Origin."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _client_url(value: str) -> str:
    """https, http on this machine, or an app's own scheme (myapp://reset); a query is kept."""
    if "#" in value or re.search(r"\s", value):
        raise ValueError("a URL without # and blanks")
    scheme = value.partition(":")[0].lower()
    if scheme in ("http", "https"):
        address, mark, query = value.partition("?")
        return _public_url(address) + mark + query
    if scheme in NO_SCHEMES or not re.fullmatch(r"[a-z][a-z0-9+.-]*:/.+", value):
        raise ValueError("give a whole https URL, or one of your app's own scheme, such as myapp://reset")
    return value


def _origin(value: str) -> str:
    origin = _public_url(value)
    if origin != origin_of(origin):
        raise ValueError("an origin is scheme, host and port alone, such as https://app.example.com")
    return origin


def _region(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("give a country of ISO 3166 in capitals, such as US, GB or DE")
    return value


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _one_line(value: str) -> str:
    if "=?" in value:
        raise ValueError("no encoded words (=?...?=): mail decodes them, line ends among them")
    if any(ord(character) < 32 for character in value) or len(value.splitlines()) > 1:
        raise ValueError("one line, without control characters")
    return value


def _sender(value: str) -> str:
    addresses = [address for _, address in getaddresses([value])]
    local, _, domain = addresses[0].rpartition("@") if len(addresses) == 1 else ("", "", "")
    if not re.fullmatch(r"[!-?A-~]+", local) or not _is_host(domain):
        raise ValueError('give an address, such as no-reply@example.com or "Example <no-reply@example.com>"')
    return value


def _is_host(value: str) -> bool:
    try:
        return bool(idna.encode(value, uts46=True))
    except (idna.IDNAError, UnicodeError):
        return False


def _host(value: str) -> str:
    if not _is_host(value) and ":" not in value:  # or an IPv6 address
        raise ValueError("give a host name, such as smtp.example.com")
    return value


def _readable(value: str) -> str:
    if value and not (os.path.isfile(value) and os.access(value, os.R_OK)):
        raise ValueError("no such file, or it can not be read")
    return value


def _directory(value: str) -> str:
    path = os.path.abspath(value) if value else ""
    if path and not (os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)):
        raise ValueError(f"there is no directory {path}, or it can not be read")
    return path


def _certificates(value: str) -> str:
    try:
        if _readable(value):  # the machine's own take a moment to read, and are not asked about
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
    except ssl.SSLError:
        raise ValueError("the file holds no certificates (PEM)") from None
    return value


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("give a whole number")
    return value


def _database(value: str) -> str:
    """Plain postgresql:// means the driver we ship, psycopg 3."""
    scheme, colon, rest = value.partition(":")
    uri = (
        {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}.get(scheme, scheme)
        + colon
        + rest
    )
    try:
        dialect = make_url(uri).get_backend_name()
    except (ArgumentError, ValueError):
        dialect = ""
    if uri.count("@") > 1:
        raise ValueError("write @ in a user or password as %40")
    if dialect == "sqlite" and make_url(uri).database in (None, "", ":memory:"):
        raise ValueError("give a file: each process would have a database of its own")
    if dialect not in ("sqlite", "postgresql") or make_url(uri).drivername not in DRIVERS:
        raise ValueError("give sqlite:///file.db or postgresql://user:password@host/name")
    return uri


def _argon2(options: dict[str, Any]) -> dict[str, Any]:
    if options.keys() != {"argon2__memory_cost", "argon2__rounds", "argon2__parallelism"}:
        raise ValueError("give argon2__memory_cost, argon2__rounds and argon2__parallelism, and nothing else")
    if not all(type(number) is int for number in options.values()):
        raise ValueError("give whole numbers")
    memory, rounds = options["argon2__memory_cost"], options["argon2__rounds"]
    if not any(memory >= least and rounds >= passes for least, passes in ARGON2_LEAST):
        sets = ", ".join(f"{least} with {passes}" for least, passes in ARGON2_LEAST)
        raise ValueError(f"weaker than OWASP allows; at least one of (memory in KiB with rounds): {sets}")
    try:
        _try_argon2(memory, rounds, options["argon2__parallelism"])
    except (TypeError, ValueError, KeyError, Warning) as error:
        raise ValueError(f"argon2 does not take this: {error}") from None
    return options


@cache  # it costs a hash, and what worked once works again
def _try_argon2(memory: int, rounds: int, lanes: int) -> None:
    options = {"argon2__memory_cost": memory, "argon2__rounds": rounds, "argon2__parallelism": lanes}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # passlib mends what is out of bounds, and the dummy hash is not
        CryptContext(schemes=["argon2"], **options).hash("tried once")


def _rates(value: str) -> str:
    try:
        is_some = all(item.amount > 0 for item in limits.parse_many(value))
    except ValueError:
        is_some = False
    if not is_some:
        raise ValueError('give rates such as "30 per minute; 300 per hour"') from None
    return value


def _storage(value: str) -> str:
    if value.count("@") > 1:
        raise ValueError("write @ in a user or password as %40")
    fits = value == "memory://" or bool(re.match(r"(redis|rediss|redis\+unix)://.", value))
    try:
        limits.storage.storage_from_string(value if fits else "memory://")  # connects to nothing yet
    except Exception:  # whatever the library thinks of it
        fits = False
    if not fits:
        raise ValueError("give memory:// or redis://host:6379/0")
    return value


def _breach_check(value: Any) -> Any:
    if isinstance(value, str) and value.lower() in ("false", ""):
        return False
    return value


# The events that may come in bursts (audit.py has them all).
COUNTED = """
    requested mail_sent mail_dropped mail_given_up mail_retried mail_discarded opened refused password_refused
    redeemed registered password_changed address_changed revoked not_me admin
""".split()  # noqa: SIM905  # reads as a list


def _label(value: str) -> str:
    if value and not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?", value):
        raise ValueError("give the name alone, such as s1: what stands before ._domainkey")
    return value


def language(value: str) -> str:
    """As Babel names it: pt-br is pt_BR. Raises ValueError."""
    try:
        return str(Locale.parse(value, sep="-" if "-" in value else "_"))
    except (UnknownLocaleError, ValueError):
        raise ValueError("give a language such as de, or one of a country, such as pt_BR") from None


def _time_zone(value: str) -> str:
    try:
        get_timezone(value)
    except LookupError:
        raise ValueError("give a time zone such as UTC or Europe/Berlin") from None
    return value


def _picture(value: str) -> str:
    if _readable(value) and value.rpartition(".")[2].lower() not in PICTURES:
        raise ValueError(f"give a picture that browsers show: one of {', '.join(PICTURES)}")
    return value


def _counts(value: dict[str, Any]) -> dict[str, int]:
    if unknown := value.keys() - set(COUNTED):
        raise ValueError(f"no such events: {', '.join(sorted(unknown))}; there are {', '.join(COUNTED)}")
    if not all(type(count) is int and count >= 0 for count in value.values()):
        raise ValueError("give a whole number for each kind of event")
    return value


def _says(words: str, **more: Any) -> Any:
    """What an admin's editor, and `config explain`, say about a kind."""
    return Field(description=words, json_schema_extra=more or None)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{_DURATION}$",
            "description": 'a number and a unit, such as "30 minutes"',
        }
    ),
]
Pause = Annotated[Duration, AfterValidator(_positive)]
Line = Annotated[str, AfterValidator(_one_line), _says("one line of text")]
Name = Annotated[Line, AfterValidator(_not_empty), _says("one line of text, not empty")]
Words = Annotated[list[str], BeforeValidator(parse_json_text), _says("a list of texts")]
Items = Annotated[list[Any], BeforeValidator(parse_json_text), _says("a list")]
Table = Annotated[dict[str, Any], BeforeValidator(parse_json_text), _says("a table")]
Secret = Annotated[
    str, AfterValidator(_strong), _says(f"at least {SECRET_LENGTH_MIN} random characters; {MAKE_ONE}")
]
SecretOrNothing = Annotated[
    str,
    AfterValidator(lambda value: value and _strong(value)),
    _says(f"at least {SECRET_LENGTH_MIN} random characters, or nothing; {MAKE_ONE}"),
]
Secrets = Annotated[list[Secret], BeforeValidator(parse_json_text), _says("a list of secrets")]
NumberedSecrets = Annotated[
    dict[Annotated[str, Field(pattern="^[0-9]+$")], Secret],
    BeforeValidator(parse_json_text),
    _says('numbered secrets, such as { "1" = "..." }'),
]
PublicUrl = Annotated[
    str,
    AfterValidator(_public_url),
    _says("a whole https URL; http on this machine only", pattern="^https?://"),
]
MailServer = Annotated[
    str,
    AfterValidator(lambda value: value and _host(value)),
    _says("a host name or an IP address, or nothing"),
]
Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(_not_bool)]
Sender = Annotated[Line, AfterValidator(_sender), _says('an address, or "Name <address>"')]
Address = Annotated[
    str, AfterValidator(lambda value: value and _sender(value)), _says("an address, or nothing")
]
Region = Annotated[
    str, AfterValidator(_region), _says("a country of ISO 3166, such as US", pattern="^[A-Z]{2}$")
]
Label = Annotated[str, AfterValidator(_label), _says("a DNS label, or nothing")]
ReadableFile = Annotated[str, AfterValidator(_readable), _says("the path of a file, or nothing")]
Directory = Annotated[str, AfterValidator(_directory), _says("the path of a directory, or nothing")]
Picture = Annotated[str, AfterValidator(_picture), _says("the path of a picture, or nothing")]
Colour = Annotated[
    str,
    Field(pattern="^#[0-9a-fA-F]{6}$"),
    _says('a colour as HTML writes it, such as "#0b6e66"'),
]
Language = Annotated[str, AfterValidator(language), _says("a language, such as de or pt_BR")]
Languages = Annotated[
    list[Language], BeforeValidator(parse_json_text), Field(min_length=1), _says("a list of languages")
]
TimeZone = Annotated[str, AfterValidator(_time_zone), _says("a time zone, such as Europe/Berlin")]
Certificates = Annotated[str, AfterValidator(_certificates), _says("the path of a PEM file, or nothing")]
Database = Annotated[
    str,
    AfterValidator(_database),
    _says("sqlite:///file.db or postgresql://user:password@host/name", pattern="^(sqlite|postgres)"),
]
Argon2Options = Annotated[
    Table, AfterValidator(_argon2), _says("memory in KiB, rounds and parallelism, at least as OWASP advises")
]
BreachCheck = Annotated[Literal[False, "best-effort", "strict"], BeforeValidator(_breach_check)]
Rates = Annotated[str, AfterValidator(_rates), _says('rates, such as "30 per minute; 300 per hour"')]
Storage = Annotated[
    str, AfterValidator(_storage), _says("memory:// or redis://host:6379/0", pattern="^(memory|redis)")
]
Counts = Annotated[
    dict[str, Any],
    BeforeValidator(parse_json_text),
    AfterValidator(_counts),
    _says(f"a whole number for kinds of events: {', '.join(COUNTED)}"),
]
ClientUrl = Annotated[
    str, AfterValidator(_client_url), _says("a whole https URL, or one of your app's own scheme")
]
Origin = Annotated[
    str, AfterValidator(_origin), _says("scheme, host and port alone", pattern="^https?://[^/]+$")
]


class ClientTable(BaseModel):
    """One named front end in RECOVERY_CLIENTS."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reset_view: ClientUrl | None = None
    reset_error_view: ClientUrl | None = None
    post_reset_view: ClientUrl | None = None
    origins: Annotated[list[Origin], Field(default_factory=list)]
    token_in: Literal["query", "fragment"] = "query"  # noqa: S105  # a place, not a password

    @model_validator(mode="after")
    def _has_both_views(self) -> Self:
        if (self.reset_view is None) != (self.reset_error_view is None):
            raise ValueError("set both of reset_view and reset_error_view, or neither for the built-in pages")
        return self


ClientName = Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,39}$")]
Clients = Annotated[dict[ClientName, ClientTable], BeforeValidator(parse_json_text)]
