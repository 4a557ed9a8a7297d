"""An SMTP server that accepts all mail and costs next to nothing, in a process of its own: `Relay`."""

import asyncio
import multiprocessing
import socket
import threading
import time
from contextlib import suppress
from multiprocessing.managers import BaseManager
from typing import Any, NamedTuple, Self

from stage import servers

MAIL_BYTES_MAX = 1 << 24
GREETING = b"220 sink ESMTP\r\n"
REPLIES = {
    b"EHLO": b"250-sink\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 33554432\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}


class Mail(NamedTuple):
    """An accepted message."""

    recipient: str
    data: bytes
    at: float  # time.monotonic()


class Sink:
    """The server. `Relay` calls its methods from another process."""

    def __init__(self, port: int, pause: float, distance: float) -> None:
        self.accepted: list[Mail] = []
        self.slow_down(pause, distance)
        listener = socket.create_server(("127.0.0.1", port), backlog=512)
        threading.Thread(target=asyncio.run, args=[self.serve(listener)], daemon=True).start()

    def slow_down(self, pause: float, distance: float) -> None:
        """Set the seconds before it accepts a message, and before each of its replies, as from far away."""
        self.pause, self.distance = pause, distance

    def count(self) -> int:
        return len(self.accepted)

    def mails(self) -> list[Mail]:
        return self.accepted

    def forget(self) -> None:
        self.accepted.clear()

    async def serve(self, listener: socket.socket) -> None:
        smtp = await asyncio.start_server(self.talk, sock=listener, limit=MAIL_BYTES_MAX)
        await smtp.serve_forever()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        recipient, verb = "", b""
        writer.write(GREETING)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while verb != b"QUIT" and (line := await reader.readline()):
                await asyncio.sleep(self.distance)
                verb = line[:4].upper()
                if verb == b"RCPT":
                    recipient = line.partition(b"<")[2].partition(b">")[0].decode()
                writer.write(REPLIES.get(verb, b"250 ok\r\n"))
                if verb == b"DATA":
                    data = await reader.readuntil(b"\r\n.\r\n")
                    await asyncio.sleep(self.distance + self.pause)
                    self.accepted.append(Mail(recipient, data, time.monotonic()))
                    writer.write(b"250 accepted\r\n")
        writer.close()


BaseManager.register("Sink", Sink)


class Relay:
    """The mail server of one measurement. It keeps its port when its state changes.

    up       accepts all mail
    hanging  accepts connections and says nothing
    down     refuses connections
    """

    def __init__(self, state: str = "up", pause: float = 0.0, distance: float = 0.0) -> None:
        self.port = servers.free_port()
        self.manager: Any = None
        self.sink: Any = None
        self.listener: socket.socket | None = None
        self.becomes(state, pause, distance)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def becomes(self, state: str, pause: float = 0.0, distance: float = 0.0) -> None:
        if state == "up" and self.sink:
            self.sink.slow_down(pause, distance)  # keeps connections, as Sparekey's worker keeps its own
            return
        self.close()
        if state == "up":
            self.manager = BaseManager(ctx=multiprocessing.get_context("fork"))
            self.manager.start()
            self.sink = self.manager.Sink(self.port, pause, distance)
        elif state == "hanging":
            self.listener = socket.create_server(("127.0.0.1", self.port), backlog=512)

    def close(self) -> None:
        if self.manager:
            self.manager.shutdown()
        if self.listener:
            self.listener.close()
        self.manager = self.sink = self.listener = None

    def count(self) -> int:
        return self.sink.count() if self.sink else 0

    def mails(self) -> list[Mail]:
        return self.sink.mails()

    def forget(self) -> None:
        self.sink.forget()
