"""An SMTP server that accepts all mail and costs next to nothing, in a process of its own: `Relay`."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from stage import servers

DATA_END = b"\r\n.\r\n"
MAIL_BYTES_MAX = 1 << 24
GREETING, WELCOME = (
    b"220 sink ESMTP\r\n",
    b"250-sink\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 33554432\r\n",
)


class Mail(NamedTuple):
    """An accepted message."""

    recipient: str
    data: bytes
    at: float  # time.monotonic()


@dataclass
class Server:
    """The server process. `Relay.ask` calls its methods by name."""

    pause: float  # seconds before it accepts a message
    distance: float  # seconds before each of its replies, as with a server far away
    accepted: list[Mail] = field(default_factory=list)

    def count(self) -> int:
        return len(self.accepted)

    def mails(self) -> list[Mail]:
        return self.accepted

    def forget(self) -> None:
        self.accepted.clear()

    def slow_down(self, pause: float, distance: float) -> None:
        self.pause, self.distance = pause, distance

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        recipient, replies = "", {b"EHLO": WELCOME, b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}
        writer.write(GREETING)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                await asyncio.sleep(self.distance)
                verb = line[:4].upper()
                if verb == b"RCPT":
                    recipient = line.partition(b"<")[2].partition(b">")[0].decode()
                writer.write(replies.get(verb, b"250 ok\r\n"))
                if verb == b"DATA":
                    data = await reader.readuntil(DATA_END)
                    await asyncio.sleep(self.distance + self.pause)
                    self.accepted.append(Mail(recipient, data, time.monotonic()))
                    writer.write(b"250 accepted\r\n")
                if verb == b"QUIT":
                    break
        writer.close()


def serve(listener: socket.socket, pipe: Connection, server: Server) -> None:
    """Serve, and answer the questions of the other process, until that one ends this one."""

    def answer() -> None:
        name, arguments = pipe.recv()
        pipe.send(getattr(server, name)(*arguments))

    async def run() -> None:
        asyncio.get_running_loop().add_reader(pipe.fileno(), answer)
        smtp = await asyncio.start_server(server.talk, sock=listener, limit=MAIL_BYTES_MAX)
        await smtp.serve_forever()

    asyncio.run(run())


class Relay:
    """The mail server of one measurement. It keeps its port when its state changes.

    up       accepts all mail
    hanging  accepts connections and says nothing
    down     refuses connections
    """

    def __init__(self, state: str = "up", pause: float = 0.0, distance: float = 0.0) -> None:
        self.port = servers.free_port()
        self.listener: socket.socket | None = None
        self.process: Any = None
        self.pipe: Connection | None = None
        self.becomes(state, pause, distance)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def becomes(self, state: str, pause: float = 0.0, distance: float = 0.0) -> None:
        if state == "up" and self.pipe:
            self.ask("slow_down", pause, distance)  # keeps connections, as Sparekey's worker keeps its own
            return
        self.close()
        if state != "down":
            self.listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        if state == "up":
            self.pipe, theirs = multiprocessing.Pipe()
            arguments = (self.listener, theirs, Server(pause, distance))
            fork = multiprocessing.get_context("fork")
            self.process = fork.Process(target=serve, args=arguments, daemon=True)
            self.process.start()
            theirs.close()

    def close(self) -> None:
        if self.pipe:
            self.process.kill()
            self.process.join()
            self.pipe.close()
        if self.listener:
            self.listener.close()
        self.process = self.pipe = self.listener = None

    def ask(self, name: str, *arguments: float) -> Any:
        """Call a method of the server; without one, nothing has come."""
        if self.pipe is None:
            return 0
        self.pipe.send((name, arguments))
        return self.pipe.recv()

    def count(self) -> int:
        return int(self.ask("count"))

    def mails(self) -> list[Mail]:
        return list(self.ask("mails"))

    def forget(self) -> None:
        self.ask("forget")
