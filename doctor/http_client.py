"""An HTTP client with full control of headers: one request, one answer, no redirects followed.

Each answer is limited to SECONDS and BODY_MAX, and a scan to REQUESTS_MAX requests.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead, RemoteDisconnected
from typing import Any
from urllib.parse import SplitResult, urlsplit

SECONDS = 10.0  # for each answer, from the first byte to the last
BODY_MAX = 1_000_000  # bytes
REQUESTS_MAX = 400
FAILURES_MAX = 5  # then no more requests are made
AGENT = "sparekey-doctor"


class NoAnswer(Exception):  # named for the fact, as a refusal is
    """No readable answer; the text is the reason."""


class BadCertificate(NoAnswer):
    """A certificate that browsers refuse."""


@dataclass(frozen=True)
class Answer:
    """A request and its answer. `seconds`: the time to the last byte, without connecting."""

    asked: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> dict[str, Any]:
        """The body as an object; empty if it is not one."""
        with suppress(ValueError, RecursionError):
            if isinstance(found := json.loads(self.body), dict):
                return found
        return {}

    def every(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str:
        return ", ".join(self.every(name))


class Wire:
    """A connection to one deployment. Raises ValueError for an invalid address or certificate file."""

    def __init__(self, url: str, ca: str | None = None) -> None:
        self.parts = _parts(url)
        self.url = self.parts.geturl()
        self.by_tls = self.parts.scheme == "https"
        self.host = self.parts.hostname or ""
        self.port = self.parts.port or (443 if self.by_tls else 80)
        self.context = ssl.create_default_context() if self.by_tls else None
        if self.context and ca:
            self.context.load_verify_locations(ca)
        self.asked = self.failed = 0
        self.kept: HTTPConnection | None = None

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        at_root: bool = False,
    ) -> Answer:
        """Send a request. `path` starts behind the URL's own path, or at the root. Raises NoAnswer."""
        self._count()
        target = path if at_root else f"{self.parts.path}{path}"
        given = {"Host": self.parts.netloc, "User-Agent": AGENT, "Accept": "text/html", **(headers or {})}
        kept, self.kept = self.kept, None
        try:
            if kept is not None:
                with suppress(ConnectionError, ssl.SSLError):  # the server may close it at any time
                    return self._exchange(kept, method, target, given, body)
            return self._exchange(self._connection(self.context), method, target, given, body)
        except (OSError, HTTPException, ValueError) as error:
            self.failed += 1
            raise self._in_words(error) from None

    def close(self) -> None:
        if self.kept is not None:
            self.kept.close()

    def _exchange(
        self, connection: HTTPConnection, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> Answer:
        with _in_time(connection):
            if connection.sock is None:
                connection.connect()
            start = time.perf_counter()
            _send(connection, method, target, headers, body)
            response = connection.getresponse()
            said = response.read(BODY_MAX + 1)
            seconds = time.perf_counter() - start
            if len(said) > BODY_MAX:
                raise _TooLong
            if response.length:  # bytes of Content-Length are missing
                raise IncompleteRead(said)
        if response.isclosed() and not response.will_close:
            self.kept = connection
        else:
            connection.close()
        return Answer(f"{method} {target}", response.status, tuple(response.getheaders()), said, seconds)

    def seconds_of_certificate(self) -> float:
        """Return the remaining life of the certificate. Raises NoAnswer."""
        ends = self._shake_hands(self.context).get("notAfter", "")
        return ssl.cert_time_to_seconds(str(ends)) - time.time()

    def takes_old_tls(self) -> bool | None:
        """True if TLS 1.0 or 1.1 is accepted; None if this machine does not support them."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with warnings.catch_warnings():  # for a test only
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
                context.set_ciphers("ALL:@SECLEVEL=0")
        except (ssl.SSLError, ValueError):
            return None
        try:
            self._shake_hands(context)
        except NoAnswer as error:
            return None if "NO_PROTOCOLS" in str(error) or "NO_CIPHERS" in str(error) else False
        return True

    def _shake_hands(self, context: ssl.SSLContext | None) -> Mapping[str, Any]:
        self._count()
        connection = self._connection(context)
        try:
            with _in_time(connection):
                connection.connect()
                assert isinstance(connection.sock, ssl.SSLSocket)
                return connection.sock.getpeercert() or {}
        except OSError as error:
            raise self._in_words(error) from None
        finally:
            connection.close()

    def _connection(self, context: ssl.SSLContext | None) -> HTTPConnection:
        if context is None:
            return HTTPConnection(self.host, self.port, timeout=SECONDS)
        return HTTPSConnection(self.host, self.port, timeout=SECONDS, context=context)

    def _count(self) -> None:
        if self.failed >= FAILURES_MAX:
            raise NoAnswer(f"{FAILURES_MAX} requests got no answer, and no more were made")
        if self.asked >= REQUESTS_MAX:
            raise NoAnswer(f"the limit of {REQUESTS_MAX} requests is reached")
        self.asked += 1

    def _in_words(self, error: Exception) -> NoAnswer:
        if isinstance(error, ssl.SSLCertVerificationError):
            return BadCertificate(error.verify_message)
        if isinstance(error, TimeoutError):
            return NoAnswer(f"no complete answer within {SECONDS:g} seconds")
        for kind, words in _WORDS.items():
            if isinstance(error, kind):
                return NoAnswer(words.format(host=self.host, port=self.port))
        return NoAnswer(str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error))


class _TooLong(ValueError):
    """An answer longer than BODY_MAX, perhaps endless."""


_WORDS: dict[type[Exception], str] = {
    socket.gaierror: "DNS has no {host}",
    ConnectionRefusedError: "port {port} of {host} is closed",
    RemoteDisconnected: "the connection was closed without an answer",
    ConnectionResetError: "the connection was reset",
    _TooLong: f"its answer is longer than {BODY_MAX:,} bytes",
    IncompleteRead: "the answer ended before its end",
    UnicodeError: "{host} is not a host name",
    HTTPException: "the server does not speak HTTP",
    ValueError: "the server does not speak HTTP",
}


def _parts(url: str) -> SplitResult:
    """Parse an address, without a slash at the end. Raises ValueError."""
    parts = urlsplit(url if url.isprintable() else "")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("the address must start with https:// (or http://) and a host")
    if parts.username is not None or parts.query or parts.fragment or " " in url:
        raise ValueError("the address must end with its host, port or path")
    host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]
    netloc = host if parts.port in (None, usual) else f"{host}:{parts.port}"
    return parts._replace(netloc=netloc, path=parts.path.rstrip("/"))


def same_address(one: str, other: str) -> bool:
    """True if two addresses are the same in any spelling."""
    try:
        return _parts(one) == _parts(other)
    except ValueError:
        return False


def _send(connection: HTTPConnection, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
    connection.putrequest(method, target or "/", skip_host=True, skip_accept_encoding=True)
    if body or method == "POST":
        headers = {**headers, "Content-Length": str(len(body))}
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body or None)


@contextmanager
def _in_time(connection: HTTPConnection) -> Iterator[None]:
    """Raise TimeoutError after SECONDS, because the socket's own timeout starts again with each byte."""
    over = threading.Event()

    def cut() -> None:
        over.set()
        with suppress(OSError, AttributeError):
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(SECONDS, cut)
    timer.start()
    try:
        yield
    except BaseException:
        connection.close()
        if over.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
    if over.is_set():
        connection.close()
        raise TimeoutError
