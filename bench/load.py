"""A client that takes next to nothing itself: a number of connections, each with one request at a time.

One thread and plain sockets, since whatever the client takes is missing to the server on a small machine.
"""

from __future__ import annotations

import re
import selectors
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PATIENCE_SECONDS = 30.0  # after the end, for what is under way


@dataclass
class Load:
    """What came back."""

    waits: list[float] = field(default_factory=list)  # milliseconds, of what came back in time
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    unanswered: int = 0

    @property
    def per_second(self) -> float:
        return len(self.waits) / self.seconds

    @property
    def median(self) -> float:
        return statistics.median(self.waits) if self.waits else float("inf")

    @property
    def p99(self) -> float:
        enough = len(self.waits) > 1
        return statistics.quantiles(self.waits, n=100)[98] if enough else self.median


def request(
    method: str, path: str, body: bytes = b"", kind: str = "application/json", **headers: str
) -> bytes:
    """An HTTP/1.1 request as it travels. Headers by their names, with _ for -."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if method != "GET":
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Connection:
    def __init__(self, port: int) -> None:
        self.port, self.answer, self.since = port, b"", 0.0
        self.socket: socket.socket | None = None

    def asks_next(self, selector: selectors.BaseSelector, requests: Iterator[bytes]) -> bool:
        """Send the next one. False: there is none."""
        what = next(requests, None)
        if what is not None:
            self.ask(selector, what)
        return what is not None

    def ask(self, selector: selectors.BaseSelector, what: bytes) -> None:
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(self.socket, selectors.EVENT_READ, self)
        self.answer, self.since = b"", time.perf_counter()
        self.socket.sendall(what)

    def read(self, selector: selectors.BaseSelector) -> int | None:
        """The status, once all of an answer is there; 0: it was hung up on."""
        assert self.socket is not None
        try:
            more = self.socket.recv(65536)
        except ConnectionError:
            more = b""
        self.answer += more
        end = self.answer.find(b"\r\n\r\n")
        length = LENGTH.search(self.answer, 0, end) if end >= 0 else None
        whole = end + 4 + int(length[1]) if length else None
        is_whole = len(self.answer) >= whole if whole is not None else not more
        if not is_whole and more:
            return None
        closes = not more or b"\r\nconnection: close" in self.answer[:end].lower()
        if closes:
            self.close(selector)
        return int(self.answer[9:12]) if is_whole and end >= 0 else 0

    def close(self, selector: selectors.BaseSelector) -> None:
        if self.socket is not None:
            selector.unregister(self.socket)
            self.socket.close()
            self.socket = None


def send(
    port: int,
    requests: Iterator[bytes],
    *,
    connections: int = 8,
    seconds: float = 5.0,
    patience: float = PATIENCE_SECONDS,
) -> Load:
    """As many requests as are answered within so many seconds, or as there are. What is under way at the end
    is waited for, and counts in the waits: or a server that hangs would look fast."""
    load, start = Load(), time.perf_counter()
    lines = [_Connection(port) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for line in lines:
            load.unanswered += line.asks_next(selector, requests)
        while load.unanswered and time.perf_counter() - start < seconds + patience:
            for key, _ in selector.select(1.0):
                _take(key.data, load, selector, requests, until=start + seconds)
        load.seconds = time.perf_counter() - start
        for line in lines:
            line.close(selector)
    return load


def _take(
    line: _Connection, load: Load, selector: selectors.BaseSelector, requests: Iterator[bytes], until: float
) -> None:
    """What has come on one line; and once that is an answer, the next request."""
    status = line.read(selector)
    if status is None:
        return
    now = time.perf_counter()
    load.waits.append((now - line.since) * 1000)
    load.statuses[status] += 1
    load.unanswered -= 1
    if now < until and line.asks_next(selector, requests):
        load.unanswered += 1
    else:
        line.close(selector)  # or the server's hanging up would be read as one more answer
