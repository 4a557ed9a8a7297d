"""A client of the breach service: the range API of Have I Been Pwned, or a mirror of it.

The service learns five characters of a password's SHA-1, and pads its answers to one size. No request waits
longer than WAIT_SECONDS. After a failure a circuit breaker stays open for BREAKER_SECONDS.
"""

import hashlib
import logging
import re
import time
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
    request = Request(url, headers={"Add-Padding": "true", "User-Agent": "Sparekey"})  # noqa: S310  # the setting's type allows https, or this machine
    try:
        text = outgoing.call(request, WAIT_SECONDS, ANSWER_BYTES_MAX).decode("ascii")
        lines = [_LINE.fullmatch(line) for line in text.split()]
        if not lines or not all(lines):
            raise ValueError("no list of digests")
    except (OSError, HTTPException, ValueError) as error:
        _Breaker.open_until = time.monotonic() + BREAKER_SECONDS
        reason = getattr(error, "reason", error)
        log.warning("breach service (RECOVERY_BREACHES_URL) skipped for %s s: %s", BREAKER_SECONDS, reason)
        raise BreachesUnknown from error
    return {line[1].upper(): int(line[2]) for line in lines if line}.get(digest[5:], 0)
