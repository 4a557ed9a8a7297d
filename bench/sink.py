"""An SMTP server that takes all mail and next to no time, in a process of its own: `running`.

It can be slow (a pause before it accepts a mail), hang (it takes connections and says nothing) or be away.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

EHLO = b"250-sink\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-PIPELINING\r\n250 SIZE 33554432\r\n"
END = b"\r\n.\r\n"


@dataclass(frozen=True)
class Mail:
    """What was accepted."""

    recipient: str
    data: bytes


@dataclass
class Box:
    """Where mail goes."""

    port: int
    pipe: Connection | None = None

    def count(self) -> int:
        return int(self._ask("count")) if self.pipe else 0

    def mails(self) -> list[Mail]:
        found: list[Mail] = self._ask("mails") if self.pipe else []
        return found

    def connections(self) -> int:
        return int(self._ask("connections")) if self.pipe else 0

    def slow_down(self, pause: float) -> None:
        """From now on, so many seconds before a mail is accepted."""
        if self.pipe:
            self._ask(pause)

    def forget(self) -> None:
        if self.pipe:
            self._ask("forget")

    def _ask(self, what: str | float) -> Any:
        assert self.pipe is not None
        self.pipe.send(what)
        return self.pipe.recv()


@dataclass
class _Book:
    """What all connections share."""

    pause: float
    distance: float = 0.0
    mails: list[Mail] = field(default_factory=list)
    connections: int = 0


class _Session(asyncio.Protocol):
    """One connection. Commands may come in one piece (RFC 2920)."""

    def __init__(self, book: _Book) -> None:
        self.book = book
        self.buffer, self.in_data, self.recipient = b"", False, ""

    def connection_made(self, transport: Any) -> None:
        self.book.connections += 1
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        if self.book.distance:
            asyncio.get_running_loop().call_later(self.book.distance, self._arrives, data)
        else:
            self._arrives(data)

    def _arrives(self, data: bytes) -> None:
        self.buffer += data
        while self._step():
            pass

    def _step(self) -> bool:
        end = END if self.in_data else b"\r\n"
        text, found, rest = self.buffer.partition(end)
        if not found:
            return False
        self.buffer = rest
        if self.in_data:
            self.in_data = False
            if self.book.pause:
                asyncio.get_running_loop().call_later(self.book.pause, self._accept, text)
            else:
                self._accept(text)
            return True
        verb = text[:4].upper()
        if verb == b"QUIT":
            self.transport.write(b"221 bye\r\n")
            self.transport.close()
            return False
        if verb == b"RCPT":
            self.recipient = text.partition(b"<")[2].partition(b">")[0].decode()
        self.in_data = verb == b"DATA"
        said = {b"EHLO": EHLO, b"HELO": b"250 sink\r\n", b"DATA": b"354 go on\r\n"}
        self.transport.write(said.get(verb, b"250 ok\r\n"))
        return True

    def _accept(self, text: bytes) -> None:
        self.book.mails.append(Mail(self.recipient, text))
        self.transport.write(b"250 taken\r\n")


def _serve(listener: socket.socket, pipe: Connection, book: _Book) -> None:
    asyncio.run(_serve_until_told(listener, pipe, book))


async def _serve_until_told(listener: socket.socket, pipe: Connection, book: _Book) -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def told() -> None:
        try:
            what = pipe.recv()
        except (EOFError, ConnectionError):
            done.set()
            return
        if what == "forget":
            book.mails.clear()
        if isinstance(what, float):
            book.pause = what
        known = {"count": len(book.mails), "mails": book.mails, "connections": book.connections}
        pipe.send(known.get(what))

    loop.add_reader(pipe.fileno(), told)
    server = await loop.create_server(lambda: _Session(book), sock=listener)
    async with server:
        await done.wait()
        loop.remove_reader(pipe.fileno())


@contextmanager
def running(state: str = "up", pause: float = 0.0, port: int = 0, distance: float = 0.0) -> Iterator[Box]:
    """`up`, with a pause in seconds before each mail is accepted; `hanging`; `down`. At a port, if given.
    `distance`: how many seconds whatever is sent takes to it and back."""
    with socket.create_server(("127.0.0.1", port), backlog=512) as listener:
        port = listener.getsockname()[1]
        if state == "hanging":
            yield Box(port)
            return
        if state == "down":
            listener.close()
            yield Box(port)
            return
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(listener, theirs, _Book(pause, distance)), daemon=True
        )
        process.start()
        theirs.close()
        try:
            yield Box(port, ours)
        finally:
            process.terminate()
            process.join()
            ours.close()
