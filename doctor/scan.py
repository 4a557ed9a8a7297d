"""A scan: its requests and responses, and the interface of a check.

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

from .findings import KINDS, Finding
from .http_client import Client, NoResponse, Response

ATTACKER_HOST = "doctor.invalid"  # no one can register it (RFC 6761)
POSTS_PER_MINUTE = 29  # RECOVERY_LIMIT_SOURCE refuses the 31st by default
UNCOUNTED_ERRORS = ("csrf_failed", "origin_not_allowed")  # refused before a rate limit counts the request
TEXT_MAX = 500  # characters of a finding's text, part of which may come from the server


@dataclass(frozen=True)
class Passed:
    """A check that found no defect."""

    text: str


@dataclass(frozen=True)
class Skipped:
    """A check that could not run. Its fields are the keys in the JSON report."""

    what: str
    why: str


Result = Finding | Passed | Skipped


@dataclass
class Scan:
    """The deployment under test, the options of the command, and the responses that several checks use.

    `pages` has the responses with an expected status, by page; `unexpected` has the others.
    """

    client: Client
    identity: str | None = None
    samples: int = 12
    http_port: int | None = None
    pages: dict[str, Response] = field(default_factory=dict)
    unexpected: list[Response] = field(default_factory=list)
    counted_posts: list[float] = field(default_factory=list)  # when rate limits counted one

    @property
    def is_local(self) -> bool:
        """True if the deployment is on this machine, as the demo is."""
        return _is_loopback(self.client.host)

    @property
    def origin(self) -> str:
        return f"{self.client.parts.scheme}://{self.client.parts.netloc}"

    @property
    def foreign_origins(self) -> list[str]:
        """Origins of no client: foreign ones, and those that a careless comparison takes for this one."""
        (scheme, host), suffixes = self.client.parts[:2], [self.client.parts.netloc]
        while "." in (parent := suffixes[-1].partition(".")[2]):
            suffixes.append(parent)
        origins = [f"https://{ATTACKER_HOST}", "null", f"{scheme}://{self.client.host}.{ATTACKER_HOST}"]
        origins += [f"{scheme}://doctor{joint}{host}" for host in suffixes for joint in (".", "-")]
        origins += [f"{scheme}://{host.replace('.', '-', 1)}", f"http://{host}"]
        return [origin for origin in origins if origin != self.origin]

    def get(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Response:
        return self.client.request(method, path, headers)

    def post_json(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Response:
        defaults = {"Content-Type": "application/json", "Accept": "application/json"}
        return self._post(path, json.dumps(body).encode(), {**defaults, **(headers or {})})

    def post_form(
        self, path: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Response:
        defaults = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._post(path, urlencode(fields).encode(), {**defaults, **(headers or {})})

    def submit(self, path: str, **fields: str) -> Response:
        """Open a page and post its form, as a browser does."""
        page = self.get(path)
        token = re.search(r'name="csrf_token"[^>]{0,200}value="([^"]+)"', page.text)
        headers = {
            "Cookie": cookie_header(page),
            "Referer": f"{self.client.url}{path}",
            "Origin": self.origin,
        }
        return self.post_form(path, {"csrf_token": token[1] if token else "", **fields}, headers)

    def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        self._wait_for_rate_limit()
        response = self.client.request("POST", path, headers, body)
        if not any(code in response.text for code in UNCOUNTED_ERRORS):
            self.counted_posts.append(time.monotonic())
        return response

    def _wait_for_rate_limit(self) -> None:
        self.counted_posts = self.counted_posts[-POSTS_PER_MINUTE:]
        if len(self.counted_posts) < POSTS_PER_MINUTE:
            return
        wait = self.counted_posts[0] + 60.5 - time.monotonic()
        if wait > 0:
            click.echo(f"Waiting {wait:.0f} seconds to stay below the rate limits.", err=True)
            time.sleep(wait)


@dataclass(frozen=True)
class Check:
    """A check: a function that yields findings, and the text of the report if it yields nothing."""

    passed: str
    function: Callable[[Scan], Iterator[Result]]

    def run(self, scan: Scan) -> list[Result]:
        results: list[Result] = []
        try:
            results.extend(self.function(scan))
        except NoResponse as error:
            results.append(KINDS["no-answer"].found(why=error, where=f"“{self.passed}”"))
        return results or [Passed(self.passed)]


def merge(findings: list[Finding]) -> list[Finding]:
    """Merge equal findings of several places, and shorten long texts."""
    places: dict[Finding, list[str]] = {}
    for finding in findings:
        text = finding.what if len(finding.what) <= TEXT_MAX else f"{finding.what[:TEXT_MAX]}…"
        places.setdefault(replace(finding, what=text, where=""), []).append(finding.where)
    return [
        replace(finding, where=", ".join(dict.fromkeys(filter(None, wheres))))
        for finding, wheres in places.items()
    ]


def cookie_header(response: Response) -> str:
    """Return the Cookie header of a browser that got this response."""
    return "; ".join(cookie.partition(";")[0] for cookie in response.header_values("Set-Cookie"))


def random_identity(like: str | None = None) -> str:
    """Return an identity without an account, of the kind and length of another one.

    By default it is an address at a domain without mail (RFC 2606), which is not refused as malformed.
    """
    name, at, domain = (like or "@example.com").rpartition("@")
    length = max(12, len(name if at else domain))
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(length)) + (at and f"@{domain}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
