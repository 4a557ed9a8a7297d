"""An application's webhook: a real HTTP server that verifies every event with the scheme's own library."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError
from werkzeug import Request, Response

from .live import answering

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

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        headers, body = dict(request.headers), request.get_data()
        try:
            event = Webhook(SECRET).verify(body, headers)
        except WebhookVerificationError:
            self.calls.append(Call("", "", {"type": "refused"}, ""))  # so that the test notices
            return Response(status=400)(environ, start_response)
        lines = "".join(f"{name}: {value}\n" for name, value in headers.items())
        line = f"{request.method} {environ['REQUEST_URI']} {environ['SERVER_PROTOCOL']}"
        text = f"{line}\n{lines}\n{body.decode()}"
        self.calls.append(Call(headers["Webhook-Id"], headers["Webhook-Signature"], event, text))
        self.on_call()
        while self.hangs.is_set():
            time.sleep(0.02)
        return Response(status=self.status, headers=self.headers)(environ, start_response)


@contextmanager
def receiving(receiver: Receiver | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver. One that has run before has the same port."""
    receiver = receiver or Receiver()
    try:
        with answering(receiver, receiver.port, tls) as receiver.port:
            yield receiver
    finally:
        receiver.hangs.clear()
