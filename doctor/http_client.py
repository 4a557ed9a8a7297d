"""An HTTP client with full control of headers and paths. It follows no redirects.

Attack requests need paths and headers that other clients normalize or refuse. Each response is limited to
SECONDS and BODY_MAX, and a scan to REQUESTS_MAX requests.
"""

from __future__ import annotations

import copy
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead, RemoteDisconnected
from typing import Any

from . import base_url

SECONDS = 10.0  # for each response, from the first byte to the last
BODY_MAX = 1_000_000  # bytes
REQUESTS_MAX = 500
FAILURES_MAX = 5  # after these, the client sends no more requests
USER_AGENT = "sparekey-doctor"


class NoResponse(Exception):
    """No readable response. The text has the reason."""


class CertificateRefused(NoResponse):
    """A certificate that browsers refuse."""


@dataclass(frozen=True)
class Response:
    """A response. `request` is its method and path; `seconds` excludes connecting."""

    request: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object, or an empty one if the body is anything else."""
        with suppress(ValueError, RecursionError):
            if isinstance(value := json.loads(self.body), dict):
                return value
        return {}

    def header_values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str:
        """Return the values of all headers of this name, joined by commas."""
        return ", ".join(self.header_values(name))


class Client:
    """A client of one deployment. Raises ValueError for a bad URL, OSError for bad certificates in `ca`."""

    def __init__(self, url: str, ca: str | None = None) -> None:
        self.parts = base_url.parse(url)
        self.url = self.parts.geturl()
        self.uses_tls = self.parts.scheme == "https"
        self.host = self.parts.hostname or ""
        self.port = self.parts.port or base_url.DEFAULT_PORTS[self.parts.scheme]
        self.context = ssl.create_default_context() if self.uses_tls else None
        if self.context and ca:
            self.context.load_verify_locations(ca)
        self.requests = self.failures = 0
        self._source: tuple[str, int] | None = None
        self._idle: HTTPConnection | None = None

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        at_root: bool = False,
    ) -> Response:
        """Send a request. `path` is relative to the base URL, or to its host. Raises NoResponse."""
        self._count()
        target = path if at_root else f"{self.parts.path}{path}"
        defaults = {"Host": self.parts.netloc, "User-Agent": USER_AGENT, "Accept": "text/html"}
        headers = {**defaults, **(headers or {})}
        idle, self._idle = self._idle, None
        try:
            if idle is not None:
                with suppress(ConnectionError, ssl.SSLError):  # a server may close an idle connection
                    return self._exchange(idle, method, target, headers, body)
            return self._exchange(self._connection(self.context), method, target, headers, body)
        except (OSError, HTTPException, ValueError) as error:
            self.failures += 1
            raise self._explain(error) from None

    def peer_certificate(self, context: ssl.SSLContext | None) -> Mapping[str, Any]:
        """Return the certificate that a new connection shows; it is empty if `context` does not verify it.

        Raises NoResponse.
        """
        self._count()
        connection = self._connection(context)
        try:
            with _deadline(connection):
                connection.connect()
                assert isinstance(connection.sock, ssl.SSLSocket)
                return connection.sock.getpeercert() or {}
        except OSError as error:
            raise self._explain(error) from None
        finally:
            connection.close()

    def connecting_from(self, address: str) -> Client:
        """Return a client of the same deployment that connects from another address of this machine.

        "0.0.0.0" is any of its IPv4 addresses, "::" any of its IPv6 addresses.
        """
        client = copy.copy(self)
        client._source, client._idle = (address, 0), None
        return client

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()

    def _count(self) -> None:
        if self.failures >= FAILURES_MAX:
            raise NoResponse(f"{FAILURES_MAX} requests got no response, and the doctor sends no more")
        if self.requests >= REQUESTS_MAX:
            raise NoResponse(f"the limit of {REQUESTS_MAX} requests is reached")
        self.requests += 1

    def _connection(self, context: ssl.SSLContext | None) -> HTTPConnection:
        if context is None:
            return HTTPConnection(self.host, self.port, SECONDS, self._source)
        return HTTPSConnection(
            self.host, self.port, timeout=SECONDS, source_address=self._source, context=context
        )

    def _exchange(
        self, connection: HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        with _deadline(connection):
            if connection.sock is None:
                connection.connect()
            start = time.perf_counter()
            _send(connection, method, target, headers, body)
            response = connection.getresponse()
            content = response.read(BODY_MAX + 1)
            seconds = time.perf_counter() - start
            if len(content) > BODY_MAX:
                raise _TooLong
            if response.length:  # of the bytes that Content-Length announced
                raise IncompleteRead(content)
        if response.isclosed() and not response.will_close:
            self._idle = connection
        else:
            connection.close()
        return Response(f"{method} {target}", response.status, tuple(response.getheaders()), content, seconds)

    def _explain(self, error: Exception) -> NoResponse:
        if isinstance(error, ssl.SSLCertVerificationError):
            return CertificateRefused(error.verify_message)
        if isinstance(error, TimeoutError):
            return NoResponse(f"no complete response within {SECONDS:g} seconds")
        for kind, text in _REASONS.items():
            if isinstance(error, kind):
                return NoResponse(text.format(host=self.host, port=self.port))
        return NoResponse(str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error))


class _TooLong(ValueError):
    """A body longer than BODY_MAX."""


_REASONS: dict[type[Exception], str] = {
    socket.gaierror: "the host {host} does not exist in DNS",
    ConnectionRefusedError: "nothing listens on port {port} of {host}",
    RemoteDisconnected: "the server closed the connection without a response",
    ConnectionResetError: "the server reset the connection",
    _TooLong: f"the response is longer than {BODY_MAX:,} bytes",
    IncompleteRead: "the response is incomplete",
    UnicodeError: "{host} is not a valid host name",
    HTTPException: "the server does not speak HTTP",
    ValueError: "the server does not speak HTTP",
}


def _send(
    connection: HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> None:
    connection.putrequest(method, target or "/", skip_host=True, skip_accept_encoding=True)
    if body or method == "POST":
        headers = {**headers, "Content-Length": str(len(body))}
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body or None)


@contextmanager
def _deadline(connection: HTTPConnection) -> Iterator[None]:
    """Close the connection after SECONDS and raise TimeoutError.

    The socket's own timeout restarts with each byte, so that a slow server could hold it forever.
    """
    is_over = threading.Event()

    def shut_down() -> None:
        is_over.set()
        with suppress(OSError, AttributeError):
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(SECONDS, shut_down)
    timer.start()
    try:
        yield
    except BaseException:
        connection.close()
        if is_over.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
    if is_over.is_set():
        connection.close()
        raise TimeoutError
