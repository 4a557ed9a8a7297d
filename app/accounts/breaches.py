"""A client of the breach service: the range API of Have I Been Pwned, or a mirror of it.

The service learns five characters of a password's SHA-1, and pads its answers to one size. No request waits
longer than WAIT_SECONDS. After a failure a circuit breaker stays open for BREAKER_SECONDS.
"""

import hashlib
import logging
import re
import threading
import time
from concurrent.futures import Future
from http.client import HTTPException
from urllib.request import Request

from ..settings import current
from ..web import outgoing

log = logging.getLogger(__name__)

WAIT_SECONDS = 2
BREAKER_SECONDS = 60
ANSWER_BYTES_MAX = 1_000_000  # about a thousand lines of 40 bytes are usual
_LINE = re.compile(r"([0-9A-Fa-f]{35}):(\d+)")


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
        return _start(url).result(WAIT_SECONDS).get(digest[5:], 0)
    except (OSError, HTTPException, ValueError) as error:
        _Breaker.open_until = time.monotonic() + BREAKER_SECONDS
        reason = getattr(error, "reason", error)
        log.warning("breach service (RECOVERY_BREACHES_URL) skipped for %s s: %s", BREAKER_SECONDS, reason)
        raise BreachesUnknown from error


def _start(url: str) -> Future[dict[str, int]]:
    """Fetch in a daemon thread: a resolver has no timeout, and no process should wait for it to stop."""
    future: Future[dict[str, int]] = Future()

    def fetch() -> None:
        try:
            future.set_result(fetch_range(url))
        except Exception as error:  # raised again where the result is read
            future.set_exception(error)

    threading.Thread(target=fetch, name="breaches", daemon=True).start()
    return future


def fetch_range(url: str) -> dict[str, int]:
    """Return counts by the rest of the digest, in upper case.

    Raises OSError, HTTPException or ValueError for anything but a complete answer.
    """
    request = Request(url, headers={"Add-Padding": "true", "User-Agent": "Sparekey"})  # noqa: S310  # the setting's type allows https, or this machine
    with outgoing.send(request, time.monotonic() + WAIT_SECONDS) as answer:
        text = answer.read(ANSWER_BYTES_MAX).decode("ascii")
        if answer.length:
            raise ValueError("cut off, or too long")
    lines = [_LINE.fullmatch(line) for line in text.split()]
    if not lines or not all(lines):
        raise ValueError("no list of digests")
    return {line[1].upper(): int(line[2]) for line in lines if line}
