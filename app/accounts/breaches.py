"""A client of the breach service: the range API of Have I Been Pwned, or a mirror of it.

The service learns five characters of a password's SHA-1, and pads its answers to one size. No request waits
longer than WAIT_SECONDS. After a failure a circuit breaker stays open for BREAKER_SECONDS.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..settings import current

log = logging.getLogger(__name__)

WAIT_SECONDS = 2
BREAKER_SECONDS = 60
ANSWER_BYTES_MAX = 1_000_000  # about a thousand lines of 40 bytes are usual
_LINE = re.compile(r"([0-9A-Fa-f]{35}):(\d+)")
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="breaches")


class BreachesUnknown(Exception):
    """The breach service failed, now or within the last BREAKER_SECONDS."""


class _Breaker:
    """The circuit breaker of this process."""

    open_until = 0.0  # by time.monotonic()


def count_breaches(password: str) -> int:
    """Return how often the password occurs in breaches. Raises BreachesUnknown."""
    if time.monotonic() < _Breaker.open_until:
        raise BreachesUnknown
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
    url = f"{current().RECOVERY_BREACHES_URL.rstrip('/')}/range/{digest[:5]}"
    try:
        # In a thread, because a resolver has no timeout.
        return _threads.submit(fetch_range, url).result(timeout=WAIT_SECONDS).get(digest[5:], 0)
    except (OSError, HTTPException, ValueError) as error:
        _Breaker.open_until = time.monotonic() + BREAKER_SECONDS
        reason = getattr(error, "reason", error)
        log.warning("breach service (RECOVERY_BREACHES_URL) skipped for %s s: %s", BREAKER_SECONDS, reason)
        raise BreachesUnknown from error


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None  # urllib then raises HTTPError


def fetch_range(url: str) -> dict[str, int]:
    """Return counts by the rest of the digest, in upper case.

    Raises OSError, HTTPException or ValueError for anything but a complete answer.
    """
    request = Request(url, headers={"Add-Padding": "true", "User-Agent": "Sparekey"})  # noqa: S310  # the setting's type allows https, or this machine
    with build_opener(_NoRedirects).open(request, timeout=WAIT_SECONDS) as answer:
        text = answer.read(ANSWER_BYTES_MAX).decode("ascii")
        if answer.length:
            raise ValueError("cut off, or too long")
    lines = [_LINE.fullmatch(line) for line in text.split()]
    if not lines or not all(lines):
        raise ValueError("no list of digests")
    return {line[1].upper(): int(line[2]) for line in lines if line}
