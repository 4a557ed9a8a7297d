"""The base URL of a deployment, parsed and normalized."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


def parse(url: str) -> SplitResult:
    """Return the parts without default port and trailing slash, the host in ASCII. Raises ValueError."""
    parts = urlsplit(url if url.isprintable() else "")
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.port == 0:
        raise ValueError("the address must start with https:// (or http://) and a host")
    if parts.username is not None or parts.query or parts.fragment or " " in url:
        raise ValueError("the address must end with its host, port or path")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    host = in_brackets(host)
    is_default = parts.port in (None, DEFAULT_PORTS[parts.scheme])
    netloc = host if is_default else f"{host}:{parts.port}"
    return parts._replace(netloc=netloc, path=parts.path.rstrip("/"))


def is_same(url: str, other: str) -> bool:
    """True if two URLs are the same after normalization."""
    try:
        return parse(url) == parse(other)
    except ValueError:
        return False


def in_brackets(host: str) -> str:
    """Return the host as a URL writes it, with an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
