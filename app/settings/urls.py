"""Validators of URLs, hosts and connection strings."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import idna
import limits
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

# Schemes that a browser acts on itself: a link must never lead there.
NO_SCHEMES = ("about", "blob", "data", "file", "ftp", "javascript", "vbscript", "view-source", "ws", "wss")
DEFAULT_PORTS = {"https": 443, "http": 80}
DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")


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


def public_url(value: str) -> str:
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
    origin = public_url(value)
    if origin != origin_of(origin):
        raise ValueError("an origin is scheme, host and port alone, such as https://app.example.com")
    return origin


def is_host(value: str) -> bool:
    try:
        return bool(idna.encode(value, uts46=True))
    except (idna.IDNAError, UnicodeError):
        return False


def host(value: str) -> str:
    if not is_host(value) and ":" not in value:  # or an IPv6 address
        raise ValueError("give a host name, such as smtp.example.com")
    return value


def database_uri(value: str) -> str:
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


def storage_uri(value: str) -> str:
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
