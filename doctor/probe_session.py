"""A probe session: the requests of one scan, the answers it keeps, and the interface of a check.

A check yields its findings. When it yields nothing, the report shows its `passed` text.
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
import string
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import click

from .findings import Finding, Kind
from .http_client import Answer, NoAnswer, Wire

# No one can ever own this domain (RFC 6761).
EVIL = "doctor.invalid"
POSTS_A_MINUTE = 29  # by default, RECOVERY_LIMIT_SOURCE refuses the 31st
UNCOUNTED = ("csrf_failed", "origin_not_allowed")  # refused before any limit counts them
WHAT_MAX = 500  # characters of a finding's text, which may quote the server

BROKEN_OFF = Kind(
    "no-answer",
    "error",
    "A request got no readable answer: {why}.",
    "The same happens to users, and this check is incomplete.",
    "Read the logs of the proxy and of gunicorn at this time.",
)


@dataclass(frozen=True)
class Passed:
    what: str


@dataclass(frozen=True)
class Skipped:
    what: str
    why: str


Result = Finding | Passed | Skipped


@dataclass
class Visit:
    """The deployment, and the command's options. `pages`: right answers by page; `strange`: the others."""

    wire: Wire
    identity: str | None = None
    samples: int = 12
    http_port: int | None = None
    pages: dict[str, Answer] = field(default_factory=dict)
    strange: list[Answer] = field(default_factory=list)
    posts: list[float] = field(default_factory=list)

    @property
    def is_here(self) -> bool:
        """True if the deployment is on this machine, as the demo is."""
        return _is_loopback(self.wire.host)

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return self.wire.ask(method, path, _dashed(headers))

    def post_json(self, path: str, body: Any, **headers: str) -> Answer:
        given = {"Content-Type": "application/json", "Accept": "application/json", **_dashed(headers)}
        return self._post(path, json.dumps(body).encode(), given)

    def post_form(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        given = {"Content-Type": "application/x-www-form-urlencoded", **_dashed(headers)}
        return self._post(path, urlencode(fields).encode(), given)

    def submit(self, path: str, **fields: str) -> Answer:
        """Open a page, and post its form as a browser does."""
        page = self.get(path)
        found = re.search(r'name="csrf_token"[^>]{0,200}value="([^"]+)"', page.text)
        headers = {"Cookie": cookies_of(page), "Referer": f"{self.wire.url}{path}", "Origin": self.origin}
        return self.post_form(path, {"csrf_token": found[1] if found else "", **fields}, **headers)

    @property
    def origin(self) -> str:
        return f"{self.wire.parts.scheme}://{self.wire.parts.netloc}"

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        self._pace()
        answer = self.wire.ask("POST", path, headers, body)
        if not any(code in answer.text for code in UNCOUNTED):
            self.posts.append(time.monotonic())
        return answer

    def _pace(self) -> None:
        """Wait, to stay below the rate limits."""
        self.posts = self.posts[-POSTS_A_MINUTE:]
        if len(self.posts) == POSTS_A_MINUTE and (wait := self.posts[0] + 60.5 - time.monotonic()) > 0:
            click.echo(
                f"Waiting {wait:.0f} seconds, because the rate limits would refuse the next request.",
                err=True,
            )
            time.sleep(wait)


@dataclass(frozen=True)
class Check:
    passed: str
    look: Callable[[Visit], Iterator[Result]]

    def run(self, visit: Visit) -> list[Result]:
        said: list[Result] = []
        try:
            said.extend(self.look(visit))
        except NoAnswer as error:
            said.append(BROKEN_OFF.found(why=error, where=f"“{self.passed}”"))
        return said or [Passed(self.passed)]


def merged(found: list[Finding]) -> list[Finding]:
    """Merge equal findings of several places into one."""
    places: dict[Finding, list[str]] = {}
    for one in found:
        short = one.what if len(one.what) <= WHAT_MAX else f"{one.what[:WHAT_MAX]}…"
        places.setdefault(replace(one, what=short, where=""), []).append(one.where)
    return [replace(one, where=", ".join(dict.fromkeys(filter(None, at)))) for one, at in places.items()]


def cookies_of(answer: Answer) -> str:
    return "; ".join(cookie.partition(";")[0] for cookie in answer.every("Set-Cookie"))


def made_up(like: str | None) -> str:
    """Return a random identity that no user has, of the kind and length of another one."""
    name, at, domain = (like or f"@{EVIL}").rpartition("@")
    length = max(12, len(name if at else domain))
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(length)) + (at and f"@{domain}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
