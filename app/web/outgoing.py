"""HTTP calls to other services. Each ends at a deadline, and follows no redirect."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from typing import Any
from urllib.request import BaseHandler, HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener


@contextmanager
def send(request: Request, ends_at: float, *handlers: type[BaseHandler]) -> Iterator[HTTPResponse]:
    """Yield the answer. At `ends_at`, by time.monotonic(), its socket shuts down, even while it is read.

    Raises OSError, such as TimeoutError, or HTTPError for an answer other than 2xx, or HTTPException.
    """
    with ExitStack() as resources:
        opener = build_opener(_NoRedirects, _Deadline(ends_at, resources), *handlers)
        timeout = max(ends_at - time.monotonic(), 0.001)
        try:
            yield resources.enter_context(opener.open(request, timeout=timeout))
        finally:
            if time.monotonic() >= ends_at:  # an answer that was cut off may look complete
                raise TimeoutError("the answer took too long")


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None  # urllib then raises HTTPError


class _Deadline(HTTPSHandler, HTTPHandler):
    """A handler that shuts its socket down in time, because a drip of bytes prevents read timeouts."""

    def __init__(self, ends_at: float, resources: ExitStack) -> None:
        super().__init__()
        self.ends_at, self.resources = ends_at, resources

    def do_open(self, http_class: Any, req: Request, **arguments: Any) -> Any:
        def connection(*args: Any, **kwargs: Any) -> Any:
            made = http_class(*args, **kwargs)
            made._create_connection = self._connect  # the only place before TLS
            return made

        return super().do_open(connection, req, **arguments)

    def _connect(self, *arguments: Any) -> socket.socket:
        def shut_down() -> None:
            with suppress(OSError):  # it may have ended
                same.shutdown(socket.SHUT_RDWR)

        connected = socket.create_connection(*arguments)
        same = self.resources.enter_context(connected.dup())  # TLS detaches the original
        timer = threading.Timer(self.ends_at - time.monotonic(), shut_down)
        timer.daemon = True
        timer.start()
        self.resources.callback(timer.cancel)
        return connected
