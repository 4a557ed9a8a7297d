"""A browser or a program, as little of it as the peers need: cookies, forms, one request at a time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from types import TracebackType
from urllib.parse import urlencode, urljoin, urlsplit

import load

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
HOPS_MAX = 5
SECONDS_MAX = 60
# Sparekey and Flask-Security call it csrf_token, Django csrfmiddlewaretoken.
HIDDEN = re.compile(r'<input[^>]*name="(csrf\w+)"[^>]*value="([^"]+)"')


@dataclass(frozen=True)
class Message:
    """A request to be sent."""

    method: str
    path: str
    body: bytes = b""
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came back, and after how many milliseconds."""

    status: int
    text: str
    location: str
    took: float


def posting(path: str, fields: Mapping[str, str], kind: str = JSON, **headers: str) -> Message:
    body = json.dumps(fields) if kind == JSON else urlencode(fields)
    return Message("POST", path, body.encode(), kind, headers)


def hidden_in(page: Answer) -> dict[str, str]:
    return dict(HIDDEN.findall(page.text))


def filled_in(path: str, page: Answer, **fields: str) -> Message:
    """The form of a page that was opened."""
    return posting(path, {**hidden_in(page), **fields}, FORM)


class Visitor:
    """Keeps its cookies and its connection."""

    def __init__(self, port: int) -> None:
        self.line = HTTPConnection("127.0.0.1", port, timeout=SECONDS_MAX)
        self.cookies: dict[str, str] = {}

    def __enter__(self) -> Visitor:
        self.line.connect()  # now, so that no request's time holds it
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.line.close()

    def send(self, message: Message) -> Answer:
        headers = {name.replace("_", "-"): value for name, value in self._with_cookies(message).items()}
        if message.method != "GET":
            headers["Content-Type"] = message.kind
        start = time.perf_counter()
        self.line.request(message.method, message.path, message.body or None, headers)
        answer = self.line.getresponse()
        text = answer.read().decode()
        took = (time.perf_counter() - start) * 1000
        self._keep_cookies(answer)
        return Answer(answer.status, text, answer.getheader("Location", ""), took)

    def raw(self, message: Message) -> bytes:
        """As it travels, with this visitor's cookies, for others to send."""
        return load.request(
            message.method, message.path, message.body, message.kind, **self._with_cookies(message)
        )

    def open(self, path: str) -> tuple[str, Answer]:
        """GET, and wherever it leads. Where that is, and the last answer, with the time of them all."""
        took = 0.0
        for _ in range(HOPS_MAX):
            answer = self.send(Message("GET", path))
            took += answer.took
            if not answer.location:
                return path, Answer(answer.status, answer.text, "", took)
            path = urlsplit(urljoin(path, answer.location)).path
        raise RuntimeError(f"it leads from one page to another: {path}")

    def _with_cookies(self, message: Message) -> dict[str, str]:
        mine = {"Cookie": "; ".join(f"{name}={text}" for name, text in self.cookies.items())}
        return {**message.headers, **(mine if self.cookies else {})}

    def _keep_cookies(self, answer: HTTPResponse) -> None:
        for line in answer.headers.get_all("Set-Cookie") or ():
            name, _, text = line.partition(";")[0].partition("=")
            self.cookies[name] = text
