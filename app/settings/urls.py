"""The types of URLs, hosts and addresses, each beside its validator."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from email.utils import getaddresses
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import idna
import limits
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from .types import JsonText, Line, describe, must, or_nothing

# Schemes that a browser acts on itself: a link must never lead there.
NO_SCHEMES = ("about", "blob", "data", "file", "ftp", "javascript", "vbscript", "view-source", "ws", "wss")
DEFAULT_PORTS = {"https": 443, "http": 80}
DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, as browsers write an Origin."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def public_url(value: str) -> str:
    """In the form browsers give it: lower case, ASCII host, no port that goes without saying."""
    try:
        url = urlsplit(value)
        host = "[::1]" if url.hostname == "::1" else idna.encode(url.hostname or "", uts46=True).decode()
        port = "" if url.port in (None, DEFAULT_PORTS[url.scheme]) else f":{url.port}"
    except (KeyError, ValueError):  # of idna, too
        host = port = ""
    if not host or "@" in value or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", url.path):
        raise ValueError("give a whole URL, such as https://id.example.com")
    if url.query or url.fragment:
        raise ValueError("a URL without ? and #")
    if url.scheme == "http" and not is_loopback(host.strip("[]")):
        raise ValueError("must be https: whoever reads a link in transit has the account")
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"


def client_url(value: str) -> str:
    """https, http on this machine, or an app's own scheme (myapp://reset); a query is kept."""
    if "#" in value or re.search(r"\s", value):
        raise ValueError("a URL without # and blanks")
    scheme = value.partition(":")[0].lower()
    if scheme in ("http", "https"):
        address, mark, query = value.partition("?")
        return public_url(address) + mark + query
    if scheme in NO_SCHEMES or not re.fullmatch(r"[a-z][a-z0-9+.-]*:/.+", value):
        raise ValueError("give a whole https URL, or one of your app's own scheme, such as myapp://reset")
    return value


def origin(value: str) -> str:
    url = public_url(value)
    if url != origin_of(url):
        raise ValueError("an origin is scheme, host and port alone, such as https://app.example.com")
    return url


def is_host(value: str) -> bool:
    try:
        return bool(idna.encode(value, uts46=True))
    except UnicodeError:  # of idna, too
        return False


def host(value: str) -> str:
    if not is_host(value) and ":" not in value:  # or an IPv6 address
        raise ValueError("give a host name, such as smtp.example.com")
    return value


def sender(value: str) -> str:
    addresses = [address for _, address in getaddresses([value])]
    local, _, domain = addresses[0].rpartition("@") if len(addresses) == 1 else ("", "", "")
    if not re.fullmatch(r"[!-?A-~]+", local) or not is_host(domain):
        raise ValueError('give an address, such as no-reply@example.com or "Example <no-reply@example.com>"')
    return value


def database_uri(value: str) -> str:
    """Plain postgresql:// means the driver we ship, psycopg 3."""
    uri = re.sub("^postgres(ql)?:", "postgresql+psycopg:", value)
    if uri.count("@") > 1:
        raise ValueError("write @ in a user or password as %40")
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in DRIVERS:
        raise ValueError("give sqlite:///file.db or postgresql://user:password@host/name")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("give a file: each process would have a database of its own")
    return uri


def storage_uri(value: str) -> str:
    if value.count("@") > 1:
        raise ValueError("write @ in a user or password as %40")
    with suppress(Exception):  # whatever the library thinks of it
        if value == "memory://" or re.match(r"(redis|rediss|redis\+unix)://.", value):
            limits.storage.storage_from_string(value)  # connects to nothing yet
            return value
    raise ValueError("give memory:// or redis://host:6379/0")


PublicUrl = Annotated[
    str,
    AfterValidator(public_url),
    describe("a whole https URL; http on this machine only", pattern="^https?://"),
]
ClientUrl = Annotated[
    str, AfterValidator(client_url), describe("a whole https URL, or one of your app's own scheme")
]
Origin = Annotated[
    str, AfterValidator(origin), describe("scheme, host and port alone", pattern="^https?://[^/]+$")
]
MailServer = Annotated[str, or_nothing(host), describe("a host name or an IP address, or nothing")]
Sender = Annotated[Line, AfterValidator(sender), describe('an address, or "Name <address>"')]
Address = Annotated[str, or_nothing(sender), describe("an address, or nothing")]
Database = Annotated[
    str,
    AfterValidator(database_uri),
    describe("sqlite:///file.db or postgresql://user:password@host/name", pattern="^(sqlite|postgres)"),
]
Storage = Annotated[
    str,
    AfterValidator(storage_uri),
    describe("memory:// or redis://host:6379/0", pattern="^(memory|redis)"),
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
Clients = Annotated[
    dict[ClientName, ClientTable],
    JsonText,
    must("the names browser and default are taken", {"browser", "default"}.isdisjoint),
]
