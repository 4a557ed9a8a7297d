"""Setting types: URLs, origins, hosts, mail addresses, and the table of front ends."""

import ipaddress
import re
from contextlib import suppress
from email.utils import getaddresses
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import idna
import limits
from pydantic import AfterValidator, BaseModel, Field, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from .types import JsonText, Line, must, or_empty

# Browsers handle these schemes themselves, so a redirect must never lead there.
UNSAFE_SCHEMES = re.compile("about|blob|data|file|ftp|javascript|vbscript|view-source|wss?")
DEFAULT_PORTS = {"https": 443, "http": 80}
DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")
AT_SIGN_HINT = ", with %40 for @ in a user or password"
EXPECTED_ADDRESS = 'give an address, such as no-reply@example.com or "Example <no-reply@example.com>"'


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, as browsers write an Origin."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def normalize_url(value: str) -> str:
    """Return a URL as browsers write it: lower case, ASCII host, no default port. Raises ValueError."""
    try:
        url = urlsplit(value)
        host = "[::1]" if url.hostname == "::1" else idna.encode(url.hostname or "", uts46=True).decode()
        port = "" if url.port in (None, DEFAULT_PORTS[url.scheme]) else f":{url.port}"
    except (KeyError, ValueError):  # idna's errors are ValueErrors
        host = port = ""
    if not host or "@" in value or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", url.path):
        raise ValueError("give a whole URL, such as https://id.example.com")
    if url.query or url.fragment:
        raise ValueError("a URL without ? and #")
    if url.scheme == "http" and not is_loopback(host.strip("[]")):
        raise ValueError("must be https, because anyone on the way can read http")
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"


def normalize_client_url(value: str) -> str:
    """Return a URL with https, with http on this machine, or with an app's own scheme. Keep ? and #."""
    if re.search(r"[\s\\]", value):
        raise ValueError("a URL without blanks and backslashes")
    scheme = value.partition(":")[0].lower()
    if scheme in ("http", "https"):
        address = re.split("[?#]", value, maxsplit=1)[0]
        return normalize_url(address) + "/" * address.endswith("/") + value.removeprefix(address)
    if UNSAFE_SCHEMES.fullmatch(scheme) or not re.fullmatch(r"[a-z][a-z0-9+.-]*:/.+", value):
        raise ValueError("give a whole https URL, or one of your app's own scheme, such as myapp://reset")
    return value


def normalize_view(value: str) -> str:
    """Return a view of Flask-Security: a path, a URL, or the name of an endpoint. Raises ValueError."""
    is_local = re.fullmatch(r"(/(?![/\\])[^\s\\]*)?|\.?\w+(\.\w+)*", value)
    return value if is_local else normalize_client_url(value)


def absolute_view(view: str, public_url: str, host: str | None) -> str:
    """Return a whole URL, on `host` if given (SECURITY_REDIRECT_HOST). Only a loopback host keeps http."""
    public, parts = urlsplit(public_url), urlsplit(view)
    host = host or parts.netloc or public.netloc
    scheme = parts.scheme or public.scheme
    if scheme == "http" and not is_loopback(urlsplit(f"//{host}").hostname or ""):
        scheme = "https"
    return parts._replace(scheme=scheme, netloc=host).geturl()


def normalize_origin(value: str) -> str:
    url = normalize_url(value)
    if url != origin_of(url):
        raise ValueError("an origin is scheme, host and port alone, such as https://app.example.com")
    return url


def is_host(value: str) -> bool:
    """True for a host name or an IPv4 address. Raises ValueError for a name that DNS does not allow."""
    return bool(idna.encode(value, uts46=True))


def is_address(value: str) -> bool:
    """True for a host, with or without a port. Raises ValueError for an impossible one."""
    parts = urlsplit(f"//{value}")
    return parts.netloc == value and "@" not in value and parts.port != 0 and is_host(parts.hostname or "")


def is_sender(value: str) -> bool:
    """True for one address, with or without a display name. Raises ValueError for an impossible domain."""
    [(_, address)] = getaddresses([value])
    local, _, domain = address.rpartition("@")
    return bool(re.fullmatch(r"[!-?A-~]+", local) and is_host(domain))


def normalize_database_uri(value: str) -> str:
    """Return a database URI with psycopg 3 as the driver of PostgreSQL. Raises ValueError."""
    uri = re.sub("^postgres(ql)?:", "postgresql+psycopg:", value)
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in DRIVERS or uri.count("@") > 1:
        raise ValueError(f"give sqlite:///file.db or postgresql://user:password@host/name{AT_SIGN_HINT}")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("give a file: each process would have a database of its own")
    return uri


def is_storage(uri: str) -> bool:
    """True if the `limits` library accepts the URI. It does not connect yet."""
    with suppress(Exception):  # the library raises errors of several kinds
        is_supported = uri == "memory://" or re.match(r"(redis|rediss|redis\+unix)://.", uri)
        return bool(is_supported and uri.count("@") <= 1 and limits.storage.storage_from_string(uri))
    return False


PublicUrl = Annotated[str, AfterValidator(normalize_url), Field(json_schema_extra={"pattern": "^https?://"})]
# With its final slash, because servers tell the two apart.
Endpoint = Annotated[str, or_empty(lambda value: normalize_url(value) + "/" * value.endswith("/"))]
ClientUrl = Annotated[str, AfterValidator(normalize_client_url)]
View = Annotated[str, AfterValidator(normalize_view)]
Origin = Annotated[str, AfterValidator(normalize_origin)]
DatabaseUri = Annotated[
    str, AfterValidator(normalize_database_uri), Field(json_schema_extra={"pattern": "^(sqlite|postgres)"})
]
StorageUri = Annotated[str, must(f"give memory:// or redis://host:6379/0{AT_SIGN_HINT}", is_storage)]
HostOrEmpty = Annotated[
    str,
    must(
        "give a host name, such as smtp.example.com",
        lambda value: not value or (ipaddress.IPv6Address if value.count(":") > 1 else is_host)(value),
    ),
]
Sender = Annotated[Line, must(EXPECTED_ADDRESS, is_sender)]
SenderOrEmpty = Annotated[Line, must(EXPECTED_ADDRESS, lambda value: not value or is_sender(value))]


# Views on which mailed links land: those that work, and others. Flask-Security's settings are named alike.
VIEW_PAIRS = (
    ("reset_view", "reset_error_view"),
    ("post_confirm_view", "confirm_error_view"),
    ("post_change_email_view", "change_email_error_view"),
)


class ClientTable(BaseModel, frozen=True, extra="forbid"):
    """A named front end in RECOVERY_CLIENTS."""

    reset_view: ClientUrl | None = None
    reset_error_view: ClientUrl | None = None
    post_reset_view: ClientUrl | None = None
    post_confirm_view: ClientUrl | None = None
    confirm_error_view: ClientUrl | None = None
    post_change_email_view: ClientUrl | None = None
    change_email_error_view: ClientUrl | None = None
    origins: Annotated[list[Origin], Field(default_factory=list)]
    token_in: Literal["query", "fragment"] = "query"  # noqa: S105  # a place, not a password

    @model_validator(mode="after")
    def _has_both_views(self) -> Self:
        for view, error_view in VIEW_PAIRS:
            if (getattr(self, view) is None) != (getattr(self, error_view) is None):
                raise ValueError(f"set both of {view} and {error_view}, or neither for the built-in pages")
        if self.token_in == "fragment" and "#" in (self.reset_view or ""):  # noqa: S105  # a place
            raise ValueError('a reset_view with # takes the token behind it: leave token_in = "fragment" out')
        return self


ClientName = Annotated[
    str,
    must(
        "lower-case letters, digits, - and _, starting with a letter",
        re.compile("[a-z][a-z0-9_-]{0,39}").fullmatch,
    ),
]
Clients = Annotated[
    dict[ClientName, ClientTable],
    JsonText,
    must("the names browser and default are taken", {"browser", "default"}.isdisjoint),
]
