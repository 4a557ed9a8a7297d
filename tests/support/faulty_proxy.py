"""A faulty proxy for tests of `manage.py doctor`: WSGI middleware that makes one defect in the app's responses."""

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

from werkzeug.datastructures import Headers
from werkzeug.test import run_wsgi_app

Environ = dict[str, Any]


@dataclass
class Response:
    status: int
    headers: Headers
    body: bytes = b""


Forward = Callable[[Environ], Response]
Defect = Callable[[Forward, Environ], Response]
Edit = Callable[[Response, Environ], None]


class FaultyProxy:
    """WSGI middleware that answers with its defect."""

    def __init__(self, wsgi: Any) -> None:
        self.wsgi = wsgi
        self.defect: Defect = no_defect

    def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
        response = self.defect(self.forward, environ)
        if "Content-Length" in response.headers and environ["REQUEST_METHOD"] != "HEAD":
            response.headers["Content-Length"] = str(len(response.body))
        start_response(f"{response.status} text", list(response.headers))
        return [response.body]

    def forward(self, environ: Environ) -> Response:
        parts, status, headers = run_wsgi_app(self.wsgi, environ, buffered=True)
        return Response(int(status.split()[0]), headers, b"".join(parts))


def no_defect(forward: Forward, environ: Environ) -> Response:
    return forward(environ)


def together(*defects: Defect) -> Defect:
    """Make several defects, of which each sees what the next has made of the response."""
    return lambda forward, environ: reduce(lambda it, defect: partial(defect, it), defects, forward)(environ)


def page(body: str, status: int = 200, type: str = "text/html", **headers: str) -> Response:
    all_headers = Headers({"Content-Type": type, "Cache-Control": "no-store", **headers})
    return Response(status, all_headers, body.encode())


def instead(pattern: str, body: str, status: int = 200, type: str = "text/html", **headers: str) -> Defect:
    """Answer with another page where the pattern matches the path."""
    return lambda forward, environ: (
        page(body, status, type, **headers) if re.search(pattern, environ["PATH_INFO"]) else forward(environ)
    )


def edited(edit: Edit, at: str = "") -> Defect:
    """Edit the app's response where `at` matches the path."""

    def defect(forward: Forward, environ: Environ) -> Response:
        request, response = dict(environ), forward(environ)
        if re.search(at, request["PATH_INFO"]):
            edit(response, request)
        return response

    return defect


def header(name: str, value: str | None, at: str = "") -> Defect:
    """Set a header, or remove it."""

    def edit(response: Response, _: Environ) -> None:
        response.headers.pop(name, None)
        if value is not None:
            response.headers[name] = value

    return edited(edit, at)


def header_part(name: str, old: str, new: str, at: str = "") -> Defect:
    """Replace a part of a header."""

    def edit(response: Response, _: Environ) -> None:
        values = [value.replace(old, new) for value in response.headers.getlist(name)]
        response.headers.setlist(name, values)

    return edited(edit, at)


def body(old: str, new: str, at: str = "") -> Defect:
    """Replace a pattern in the body."""

    def edit(response: Response, _: Environ) -> None:
        response.body = re.sub(old, new, response.body.decode()).encode()

    return edited(edit, at)


def request_variable(name: str, value: str | None) -> Defect:
    """Forward the request with another variable, or without it."""

    def defect(forward: Forward, environ: Environ) -> Response:
        if name in environ:
            del environ[name]
            environ.update({name: value} if value is not None else {})
        return forward(environ)

    return defect


def close_connection(at: str) -> Defect:
    def defect(forward: Forward, environ: Environ) -> Response:
        if re.search(at, environ["PATH_INFO"]):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return forward(environ)

    return defect
