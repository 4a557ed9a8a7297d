"""An application's webhook: a real HTTP server that verifies every event with the scheme's own library."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from .live import serving

SECRET = "whsec_kQ3b7HfXo1Zt9vYcRw5uJ2mNsEaL8pDg"


@dataclass
class Call:
    """A POST, of which the signature was right."""

    id: str
    signature: str
    event: dict[str, Any]
    text: str  # the whole request
    at: float = field(default_factory=time.time)

    @property
    def type(self) -> str:
        return str(self.event["type"])


class Receiver:
    """The calls so far, and the answer to the next ones."""

    def __init__(self) -> None:
        self.port = 0
        self.calls: list[Call] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.hangs = threading.Event()  # until it is cleared
        self.on_call: Callable[[], None] = lambda: None  # before the answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/sparekey/"

    @property
    def settings(self) -> dict[str, str]:
        return {"RECOVERY_WEBHOOK_URL": self.url, "RECOVERY_WEBHOOK_SECRET": SECRET}

    def types(self) -> list[str]:
        """Return the types of all events, each event once, sorted."""
        return sorted(call.type for call in {call.id: call for call in self.calls}.values())


class Handler(BaseHTTPRequestHandler):
    """Answers a POST. Its server has the receiver."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        event = Webhook(SECRET).verify(body, dict(self.headers.items()))
        text = f"{self.requestline}\n{self.headers}{body.decode()}"
        id, signature = self.headers["webhook-id"], self.headers["webhook-signature"]
        receiver.calls.append(Call(id, signature, event, text))
        receiver.on_call()
        while receiver.hangs.is_set():
            time.sleep(0.02)
        self.send_response(receiver.status)
        for name, value in receiver.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError):  # the caller's deadline, or its death
            super().handle()


class Server(ThreadingHTTPServer):
    """Serves one receiver, over TLS if it has a context."""

    def __init__(self, receiver: Receiver, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", receiver.port), Handler)
        self.receiver, self.tls = receiver, tls
        receiver.port = self.server_port

    def get_request(self) -> Any:
        connection, address = super().get_request()
        return (self.tls.wrap_socket(connection, server_side=True) if self.tls else connection), address

    def handle_error(self, *_: Any) -> None:
        self.receiver.calls.append(Call("", "", {"type": "refused"}, ""))  # so that the test notices


@contextmanager
def receiving(receiver: Receiver | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver. One that has run before has the same port."""
    receiver = receiver or Receiver()
    try:
        with serving(Server(receiver, tls)):
            yield receiver
    finally:
        receiver.hangs.clear()
